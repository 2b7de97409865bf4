"""The run on the terminal: live progress on a TTY, one block for each task in a log; all on standard error.

In GitHub Actions a block is a fold (`::group::`), and what the task printed stands between `::stop-commands::TOKEN` and
`::TOKEN::`, so that no line of it can issue a workflow command; `##[` is broken up, for the runner parses it anywhere
in a line (runner `ActionCommand.cs`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from maos_bot.events import OutputChunk, RunEvent, RunFinished, RunStarted, TaskFinished, TaskStarted
from maos_bot.model import BAD_STATES, TaskState
from maos_bot.reporting.report import RunReport

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MARKS: Mapping[TaskState, str] = {
    TaskState.SUCCEEDED: "✓",
    TaskState.CACHED: "≡",
    TaskState.FAILED: "✗",
    TaskState.TIMED_OUT: "⏱",
    TaskState.CANCELLED: "■",
    TaskState.SKIPPED: "○",
    TaskState.UPSTREAM_FAILED: "↯",
}
_COLOURS: Mapping[TaskState, str] = {
    TaskState.SUCCEEDED: "green",
    TaskState.CACHED: "cyan",
    TaskState.FAILED: "red",
    TaskState.TIMED_OUT: "red",
    TaskState.CANCELLED: "yellow",
    TaskState.SKIPPED: "dim",
    TaskState.UPSTREAM_FAILED: "dim",
}
_CONTROL = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], None)
del _CONTROL[0x0A], _CONTROL[0x09]


LONGEST_PATH: Final = 12  # tasks of the critical path that are named


class View(Protocol):
    """A sink that shows the run; `close` puts the terminal back."""

    def add(self, event: RunEvent) -> None: ...

    def close(self) -> None: ...


def open_view(
    stream: TextIO, *, report: Callable[[], RunReport], environ: Mapping[str, str], quiet: bool, token: str
) -> View:
    """The view that fits: progress on a TTY, blocks in a log.

    `report` gives the run as it stands, for the last lines; `token` (random) guards output in GitHub Actions.
    """
    actions = environ.get("GITHUB_ACTIONS") == "true"
    if quiet or actions or not stream.isatty() or environ.get("TERM") == "dumb":
        return PlainView(stream, report=report, quiet=quiet, token=token if actions else "")
    return ProgressView(stream, report=report)


def seconds(value: float | None) -> str:
    """A duration as people read it: `0.42 s`, `12.3 s`, `3 m 05 s`, `1 h 02 m`; `-` where unknown."""
    if value is None:
        return "-"
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def page() -> Console:
    """Standard output for tables: as wide as the terminal, and wide enough to cut nothing where it is a pipe."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=200)


def printable(text: str) -> str:
    """`text` without control characters, so that no task can drive the terminal; lines and tabs stay."""
    return text.translate(_CONTROL)


def end_line(event: TaskFinished, start: TaskStarted | None) -> str:
    """One line about an attempt that ended."""
    again = "" if event.final else f", again in {seconds(event.retry_in_s)}"
    waited = ""
    if start is not None and start.queued_s >= 0.1 and start.wait_reason:
        waited = f"  (waited {seconds(start.queued_s)}: {start.wait_reason})"
    why = f"  {event.reason}{again}" if event.reason else again
    took = f"  {seconds(event.duration_s)}" if event.attempt else ""
    return f"{MARKS[event.state]} {event.task}  {event.state.replace('_', ' ')}{took}{printable(why)}{waited}"


def final_lines(report: RunReport) -> list[str]:
    """The run in a few lines: what failed first, then the figures."""
    lines = [
        f"{MARKS[task.state]} {task.id}: {printable(task.reason) or task.state}"
        for task in report.tasks.values()
        if task.state in BAD_STATES
    ]
    counts = ", ".join(f"{count} {str(state).replace('_', ' ')}" for state, count in report.counts.items())
    speed = f", {report.speedup:.2f} times as fast as one after the other" if report.speedup else ""
    lines.append(f"{report.status}: {counts or 'no task'}; {seconds(report.wall_s)} ({report.mode}{speed})")
    path = [step.task for step in report.critical_path]
    if len(path) > LONGEST_PATH:
        path[LONGEST_PATH // 2 : -LONGEST_PATH // 2] = [f"({len(path) - LONGEST_PATH} more)"]
    if len(path) > 1:
        lines.append(f"critical path: {' > '.join(path)}")
    return lines


class PlainView:
    """A block for each attempt that ended; with `quiet` only for those that failed, and the last lines."""

    def __init__(
        self, stream: TextIO, *, report: Callable[[], RunReport], quiet: bool = False, token: str = ""
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._token = token
        self._report = report
        self._starts: dict[str, TaskStarted] = {}
        self._output: dict[str, list[str]] = {}

    def add(self, event: RunEvent) -> None:
        if isinstance(event, OutputChunk):
            pieces = self._output.setdefault(event.task, [])
            if event.omitted:
                pieces.append(f"\n[... {event.omitted:,} bytes left out ...]\n")
            pieces.append(event.text)
            return
        if isinstance(event, RunStarted):
            if not self._quiet:
                self._write(f"{event.name or event.spec_path}: {len(event.tasks)} tasks, {event.mode}\n")
        elif isinstance(event, TaskStarted):
            self._starts[event.task] = event
        elif isinstance(event, TaskFinished):
            self._ended(event)
        elif isinstance(event, RunFinished):
            self._write("\n".join(self._escaped(line) for line in final_lines(self._report())) + "\n")

    def close(self) -> None:
        self._stream.flush()

    def _ended(self, event: TaskFinished) -> None:
        output = "".join(self._output.pop(event.task, ()))
        start = self._starts.pop(event.task, None)
        bad = event.state in BAD_STATES
        if self._quiet and not bad:
            return
        line = self._escaped(end_line(event, start).replace("\n", " "))
        if not output:
            self._write(f"{line}\n")
            return
        body = printable(output)
        body += "" if body.endswith("\n") else "\n"
        if not self._token:
            self._write(f"{line}\n" + "".join(f"    {text}\n" for text in body.splitlines()))
            return
        guarded = f"::stop-commands::{self._token}\n{self._escaped(body)}::{self._token}::\n"
        if bad:  # a fold would hide what people came for
            self._write(f"{line}\n{guarded}")
        else:
            self._write(f"::group::{line}\n{guarded}::endgroup::\n")

    def _escaped(self, line: str) -> str:
        """Text that holds words of others, without the form of workflow command that may stand inside a line."""
        return line.replace("##[", "##\u200b[") if self._token else line

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class ProgressView:
    """What runs now, with its time and last line of output; what ended scrolls away above."""

    def __init__(self, stream: TextIO, *, report: Callable[[], RunReport]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False)
        self._report = report
        self._starts: dict[str, TaskStarted] = {}
        self._output: dict[str, list[str]] = {}
        self._last: dict[str, str] = {}
        self._total = self._done = 0
        self._lock = threading.Lock()
        self._live = Live(console=self._console, get_renderable=self._picture, refresh_per_second=8, transient=True)
        self._live.start()

    def add(self, event: RunEvent) -> None:
        with self._lock:
            self._follow(event)

    def close(self) -> None:
        self._live.stop()

    def _follow(self, event: RunEvent) -> None:
        if isinstance(event, OutputChunk):
            self._output.setdefault(event.task, []).append(event.text)
            lines = [line for line in printable(event.text).splitlines() if line.strip()]
            if lines:
                self._last[event.task] = lines[-1].strip()
            return
        if isinstance(event, RunStarted):
            self._total = len(event.tasks)
        elif isinstance(event, TaskStarted):
            self._starts[event.task] = event
        elif isinstance(event, TaskFinished):
            self._ended(event)
        elif isinstance(event, RunFinished):
            self._live.stop()
            for line in final_lines(self._report()):
                self._console.print(line, markup=False)

    def _ended(self, event: TaskFinished) -> None:
        self._done += event.final
        start = self._starts.pop(event.task, None)
        output = printable("".join(self._output.pop(event.task, ())))
        self._last.pop(event.task, None)
        self._console.print(end_line(event, start), style=_COLOURS[event.state], markup=False)
        if event.state in BAD_STATES and output.strip():
            for line in output.splitlines()[-40:]:
                self._console.print(f"    {line}", markup=False, soft_wrap=True)

    def _picture(self) -> Table:
        import time

        from rich.table import Table
        from rich.text import Text

        now = time.time()
        table = Table.grid(padding=(0, 2))
        with self._lock:
            for task, start in list(self._starts.items())[:20]:
                last = Text(self._last.get(task, ""), style="dim", no_wrap=True, overflow="ellipsis")
                table.add_row(Text("●", style="blue"), Text(task), Text(seconds(now - start.at)), last)
            more = len(self._starts) - 20
            rest = f", {more} more running" if more > 0 else ""
            table.add_row("", Text(f"{self._done} of {self._total} done{rest}", style="bold"), "", "")
        return table
