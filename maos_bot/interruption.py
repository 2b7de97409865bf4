"""Being cancelled: a runner sends SIGINT, 7.5 seconds later SIGTERM, and 2.5 seconds after that ends the container.

While tasks run the loop takes the signals and stops the tasks; this notes when the first one came, so that what follows
(comment, checks, summary, outputs, database) fits in what is left. Before the tasks a signal ends the action at once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final

from maos_bot.errors import InterruptedRunError

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
CANCEL_S: Final = 10.0  # from the first signal to the end (runner `ProcessInvoker.cs`)
RESERVE_S: Final = (
    2.5  # of it, for what is written after the last request: by the time of SIGTERM all requests are over
)


class Interruption:
    """Takes the signals inside a `with` block; on the main thread."""

    def __init__(self) -> None:
        self._then: Callable[[float], object] | None = None
        self._deadline: float | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._taken) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what `signal.signal` gave

    def then(self, hurry: Callable[[float], object]) -> None:
        """From now on a signal ends nothing by itself: `hurry` is told the time (monotonic) to be done by."""
        self._then = hurry
        if self._deadline is not None:
            hurry(self._deadline)

    def _taken(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._deadline is None:
            self._deadline = time.monotonic() + CANCEL_S - RESERVE_S
        if self._then is None:
            raise InterruptedRunError(f"interrupted by {signal.Signals(number).name} before any task began")
        self._then(self._deadline)
