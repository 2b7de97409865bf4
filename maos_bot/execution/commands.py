"""The command tasks of one run: in which folder, with which environment and files each is started, and taken over."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from maos_bot.execution.capture import Capture
from maos_bot.execution.environment import Environment, Shared, child_environment, task_environment
from maos_bot.execution.launch import Launched, Launcher, StartError, Then, launch
from maos_bot.execution.process import CommandAttempt
from maos_bot.execution.readers import Watching, watching
from maos_bot.execution.tree import Family
from maos_bot.model import Outcome, Task


class Commands:
    """Enter it in the loop that runs the tasks; leave it when all have ended."""

    def __init__(self, *, run_id: str, root: Path, environ: Mapping[str, str]) -> None:
        """`environ` is our own environment, from which the tasks' is made."""
        self._shared = Shared({**child_environment(environ), "MAOS_RUN_ID": run_id})
        self._root = root
        self._environ = environ
        self._marker = b"MAOS_RUN_ID=" + os.fsencode(run_id)
        self._family = Family(self._marker)
        self._resources = ExitStack()
        self._launcher: Launcher | None = None
        self._readers: Watching | None = None
        self._devnull = -1
        self._scratch: Path | None = None
        self._scratch_lock = threading.Lock()  # several threads start processes

    def __enter__(self) -> Self:
        self._devnull = os.open(os.devnull, os.O_RDONLY)
        self._resources.callback(os.close, self._devnull)
        self._readers = self._resources.enter_context(watching(asyncio.get_running_loop()))
        self._launcher = Launcher(self._readers)
        self._resources.callback(self._launcher.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()
        self._launcher = self._readers = None

    @property
    def base_env(self) -> Mapping[str, str]:
        """The variables that all tasks get."""
        return self._shared.variables

    def folder(self, task: Task) -> Path:
        """Where `task` runs; raises `StartError` where that is no folder of the repository."""
        if not task.working_directory:
            return self._root
        folder = (self._root / task.working_directory).resolve()
        if not folder.is_relative_to(self._root.resolve()):
            raise StartError(f"working-directory {task.working_directory!r} leads out of the repository")
        if not folder.is_dir():
            raise StartError(f"working-directory {task.working_directory!r} is not a folder")
        return folder

    def launch(self, task: Task, number: int, then: Then) -> None:
        """Start attempt `number` of `task`; `then` gets on the loop's thread what `attempt` takes over, or an error."""

        def started() -> Launched:
            folder = self.folder(task)
            own = {**task_environment(task.env, self._environ), **_own(task, number), "PWD": str(folder)}
            env = Environment(self._shared, own)
            return launch(task, folder=folder, env=env, new_file=self._new_file, devnull=self._devnull)

        if self._launcher is None:
            raise RuntimeError("nothing can be started before or after the run")
        self._launcher.launch(started, then)

    def attempt(
        self,
        task: Task,
        number: int,
        launched: Launched,
        *,
        capture: Capture,
        ended: Callable[[Outcome], None],
        crashed: Callable[[Exception], None],
    ) -> CommandAttempt:
        """Take over what `launch` started."""
        own = "\0".join([f"{name}={value}" for name, value in _own(task, number).items()])
        return CommandAttempt(
            task,
            launched,
            marker=self._marker + b"\0" + os.fsencode(own),
            capture=capture,
            family=self._family,
            ended=ended,
            crashed=crashed,
            readers=self._readers,
        )

    def soon(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop's thread once all that tasks did by now was taken in."""
        if self._readers is None:
            raise RuntimeError("nothing happens before or after the run")
        self._readers.soon(callback)

    def end_strays(self) -> None:
        """Kill what hid from its task; all tasks have ended."""
        self._family.end()

    def _new_file(self, suffix: str) -> Path:
        with self._scratch_lock:
            if self._scratch is None:
                self._scratch = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="maos-")))
        handle, name = tempfile.mkstemp(suffix=suffix, dir=self._scratch)
        os.close(handle)
        return Path(name)


def _own(task: Task, number: int) -> dict[str, str]:
    return {"MAOS_TASK": task.id, "MAOS_ATTEMPT": str(number)}
