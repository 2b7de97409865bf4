"""Starts processes on threads of their own: the loop goes on while the kernel loads a program.

What was started is given back on the loop's thread, in the order in which it was.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Final

from maos_bot.execution.process import Launched
from maos_bot.execution.readers import Watching

_THREADS: Final = 2  # as many as it takes to keep one program loading while the other thread gets its turn

Start = Callable[[], Launched]
Then = Callable[[Launched | Exception], None]


class Launcher:
    """Give it what to start with `launch`; `close` it when all of that has come back."""

    def __init__(self, readers: Watching) -> None:
        """`readers` are told of what has come back; they are closed after this."""
        self._wanted: SimpleQueue[tuple[Start, Then] | None] = SimpleQueue()
        self._done: deque[Callable[[], None]] = deque()
        self._told = False  # the loop knows that there is something in `_done`
        self._threads: list[threading.Thread] = []
        self._tell = readers.waker(self._deliver)

    def launch(self, start: Start, then: Then) -> None:
        """Call `start` on another thread, and `then` on the loop's with what it returned or raised."""
        if len(self._threads) < _THREADS:
            thread = threading.Thread(target=self._work, name="maos-launch", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._wanted.put((start, then))

    def close(self) -> None:
        """End the threads."""
        for _ in self._threads:
            self._wanted.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self) -> None:
        while wanted := self._wanted.get():
            start, then = wanted
            result: Launched | Exception
            try:
                result = start()
            except Exception as error:  # noqa: BLE001 - `then` gets it
                result = error
            self._done.append(partial(then, result))
            if not self._told:
                self._told = True
                self._tell()

    def _deliver(self) -> None:
        self._told = False  # first: what comes from now on is told of anew
        while self._done:
            self._done.popleft()()
