"""Starts the first process of a command task's attempt, with a pipe for all that it prints.

A plain command is executed directly; where that can't be, a shell runs it, which has the words for what is wrong. A
`Launcher` does this on threads of its own: the loop goes on while the kernel loads a program.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from maos_bot.execution.environment import Environment
from maos_bot.execution.readers import Watching
from maos_bot.execution.shell import Script, ShellError, plain_command, shell_command
from maos_bot.execution.spawn import spawn
from maos_bot.frozen import dataclass
from maos_bot.model import Task

NICE: Final = 5  # tasks give way to us: who is to hold them to their limits mustn't wait for them
_THREADS: Final = 2  # as many as it takes to keep one program loading while the other thread gets its turn


class StartError(Exception):
    """An attempt that couldn't be started; the message says why, in the user's words."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that was started: its id, its script, the descriptor of its output, and when, by the loop's clock."""

    pid: int
    script: Script
    output: int
    begun: float


def launch(
    task: Task,
    *,
    folder: Path,
    env: Environment,
    new_file: Callable[[str], Path],
    devnull: int,
    argv: tuple[str, ...] = (),
) -> Launched:
    """Start the first process of an attempt of `task` in `folder` with exactly `env`; may be called on any thread.

    `new_file(suffix)` names a temporary file for a script that a shell can't take as an argument. With `argv` that is
    what runs, instead of the task's script. Raises `StartError`.
    """
    pid, output, script = _start(task, folder, env, devnull, new_file, argv)
    begun = time.monotonic()
    with contextlib.suppress(OSError):  # it has ended
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    return Launched(pid, script, output, begun)


def _start(  # noqa: PLR0917 - each is of another kind
    task: Task,
    folder: Path,
    env: Environment,
    devnull: int,
    new_file: Callable[[str], Path],
    argv: tuple[str, ...],
) -> tuple[int, int, Script]:
    command = task.run or ""
    words = () if argv or env.changes_words else plain_command(command, task.shell)
    try:
        if words:
            # Not found, not executable, no program: the shell has the words and the exit code for it.
            with contextlib.suppress(OSError):
                return *spawn(words, folder=folder, env=env, devnull=devnull), Script(words)
        script = Script(argv) if argv else shell_command(command, task.shell, env.path, new_file)
        return *spawn(script.argv, folder=folder, env=env, devnull=devnull), script
    except ShellError as error:
        raise StartError(str(error)) from None
    except (OSError, ValueError) as error:  # no room for a process; a NUL in the command or a variable
        raise StartError(f"could not start: {error}") from error


_Start = Callable[[], Launched]
Then = Callable[[Launched | Exception], None]


class Launcher:
    """Give it what to start with `launch`, get it back on the loop's thread; `close` it when all of that has come."""

    def __init__(self, readers: Watching) -> None:
        """`readers` are told of what has come back; they are closed after this."""
        self._wanted: SimpleQueue[tuple[_Start, Then] | None] = SimpleQueue()
        self._done: deque[Callable[[], None]] = deque()
        self._told = False  # the loop knows that there is something in `_done`
        self._threads: list[threading.Thread] = []
        self._tell = readers.waker(self._deliver)

    def launch(self, start: _Start, then: Then) -> None:
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
