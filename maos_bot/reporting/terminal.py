"""The view that fits where the run is watched: progress on a TTY, blocks in a log; all on standard error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

from maos_bot.events import RunEvent
from maos_bot.reporting.plain import PlainView
from maos_bot.reporting.view import RunReport


class View(Protocol):
    """A sink that shows the run; `close` puts the terminal back. `go_on` tells of a resumed run what had ended."""

    def add(self, event: RunEvent) -> None: ...

    def go_on(self, *, done: int, bad: int, at: float) -> None: ...

    def close(self) -> None: ...


def open_view(
    stream: TextIO, *, report: Callable[[], RunReport], environ: Mapping[str, str], quiet: bool, token: str
) -> View:
    """The view for `stream`: blocks where it is a log, in GitHub Actions, or with `quiet`; else live progress.

    `report` gives the run as it stands, for the last lines; `token` (random) guards output in GitHub Actions.
    """
    actions = environ.get("GITHUB_ACTIONS") == "true"
    if quiet or actions or not stream.isatty() or environ.get("TERM") == "dumb":
        return PlainView(stream, report=report, quiet=quiet, token=token if actions else "")
    from maos_bot.reporting.progress import ProgressView

    return ProgressView(stream, report=report)
