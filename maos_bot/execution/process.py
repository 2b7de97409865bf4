# NOTE for whoever edits this file: time is short; this version (class Orchestrator / CommandAttempt) is now the base the app is wired to.
# Keep its interface, add only what is missing (sampler.py, tests), do not replace it wholesale. Remove this note when done.
"""One attempt of a command task: a process in a session of its own, from its start until nothing of it is left.

No thread belongs to it: output comes through a non-blocking pipe, the end through a pidfd, both on the event loop. A
time-out or a stop ends the whole tree (SIGTERM, after a grace SIGKILL), and so does the end of the first process for
what it left behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from maos_bot.execution.capture import PAUSE_S, Capture, Sink
from maos_bot.execution.environment import child_environment, task_environment
from maos_bot.execution.shell import Script, ShellError, plain_command, shell_command
from maos_bot.execution.tree import Proc, has_marker, members, our_children, process_table, reap, send
from maos_bot.model import Outcome, Task, TaskState
from maos_bot.redact import Redactor

GRACE_S: Final = 3.0  # from SIGTERM to SIGKILL; an action has 7.5 s from SIGINT to SIGTERM
_READ: Final = 64 * 1024  # bytes a turn of the loop, so that one loud task doesn't keep the others waiting
_DRAIN_S: Final = 1.0  # for output that was written before the end
_CHECK_S: Final = 0.05


@dataclass(slots=True)
class Stopper:
    """How a running attempt is told to end: `request` a state and a reason; `hurry` skips the grace."""

    event: asyncio.Event
    state: TaskState = TaskState.CANCELLED
    reason: str = ""
    hurried: bool = False

    def request(self, state: TaskState, reason: str) -> None:
        """Ask for the end; the first reason counts."""
        if not self.event.is_set():
            self.state, self.reason = state, reason
            self.event.set()


class CommandAttempt:
    """Attempt `attempt` of `task`; `run` it once. `peak_mb` may be raised from outside by whoever measures the tree."""

    def __init__(
        self,
        task: Task,
        attempt: int,
        *,
        run_id: str,
        root: Path,
        environ: Mapping[str, str],
        redactor: Redactor,
        sink: Sink,
        known_children: Callable[[], set[int]],
    ) -> None:
        self._task = task
        self._root = root
        self._environ = environ
        self._capture = Capture(redactor, sink)
        self._known_children = known_children
        own = {"MAOS_RUN_ID": run_id, "MAOS_TASK": task.id, "MAOS_ATTEMPT": str(attempt)}
        self._env = {**environ, **task_environment(task.env, os.environ), **own}
        self._marker = b"\0".join(f"{name}={value}".encode() for name, value in own.items())
        self._flush_timer: asyncio.TimerHandle | None = None
        self.stopper = Stopper(asyncio.Event())
        self.pid: int | None = None
        self.peak_mb: float | None = None

    async def run(self) -> Outcome:
        """Run it to its end; every failure of the task is an `Outcome`."""
        folder, problem = self._folder()
        if problem:
            return Outcome(state=TaskState.FAILED, reason=problem)
        began = time.monotonic()
        try:
            script = self._script()
        except ShellError as error:
            return Outcome(state=TaskState.FAILED, reason=str(error), exit_code=127)
        try:
            return await self._run(script, folder, began)
        finally:
            if script.file:
                script.file.unlink(missing_ok=True)

    def members(self) -> list[Proc]:
        """The living processes of this attempt."""
        if self.pid is None:
            return []
        return members(self.pid, process_table(), marked=lambda pid: has_marker(pid, self._marker))

    def _folder(self) -> tuple[Path, str]:
        root = self._root.resolve()
        folder = (root / self._task.working_directory).resolve()
        if not folder.is_relative_to(root):
            return folder, f"working-directory {self._task.working_directory!r} leads out of the repository"
        if not folder.is_dir():
            return folder, f"working-directory {self._task.working_directory!r} is not there"
        return folder, ""

    def _script(self) -> Script:
        command = self._task.run or ""
        words = plain_command(command, self._task.shell, self._env)
        if words:
            return Script(words)
        return shell_command(command, self._task.shell, self._env, _new_file)

    async def _run(self, script: Script, folder: Path, began: float) -> Outcome:
        loop = asyncio.get_running_loop()
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603 - running what the spec says is the point
                script.argv,
                cwd=folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except OSError as error:
            os.close(read_end)
            missing = isinstance(error, FileNotFoundError)
            what = "command not found" if missing else (error.strerror or str(error)).lower()
            return Outcome(
                state=TaskState.FAILED, reason=f"{script.argv[0]}: {what}", exit_code=127 if missing else 126
            )
        finally:
            os.close(write_end)
        self.pid = process.pid
        os.set_blocking(read_end, False)
        closed = loop.create_future()
        loop.add_reader(read_end, self._readable, read_end, closed, loop)
        try:
            exited = _exit_of(process.pid, loop)
            await self._until_exit(exited, began)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = code = os.waitstatus_to_exitcode(status)
            duration = time.monotonic() - began
            await self._end_orphans(process.pid)
            if not closed.done():
                await asyncio.wait([closed], timeout=_DRAIN_S)
        finally:
            loop.remove_reader(read_end)
            os.close(read_end)
            if self._flush_timer:
                self._flush_timer.cancel()
        self._capture.close()
        peak = usage.ru_maxrss / 1024
        state, reason = self._verdict(code)
        return Outcome(
            state=state,
            reason=reason,
            exit_code=code if code >= 0 else 128 - code,
            duration_s=duration,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_memory_mb=peak if self.peak_mb is None else max(peak, self.peak_mb),
            output_bytes=self._capture.total,
            omitted_bytes=self._capture.omitted,
        )

    def _verdict(self, code: int) -> tuple[TaskState, str]:
        if self.stopper.event.is_set():
            return self.stopper.state, self.stopper.reason
        if code == 0:
            return TaskState.SUCCEEDED, ""
        if code < 0:
            return TaskState.FAILED, f"ended by {_signal_name(-code)}"
        return TaskState.FAILED, f"exit code {code}"

    def _readable(self, read_end: int, closed: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> None:
        try:
            data = os.read(read_end, _READ)
        except BlockingIOError:
            return
        if not data:
            loop.remove_reader(read_end)
            if not closed.done():
                closed.set_result(None)
            return
        self._capture.feed(data)
        if self._capture.waiting and self._flush_timer is None:
            self._flush_timer = loop.call_later(PAUSE_S, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        self._capture.flush()

    async def _until_exit(self, exited: asyncio.Future[None], began: float) -> None:
        """Wait for the first process; end the tree where its time is over or a stop was asked for."""
        stop = asyncio.ensure_future(self.stopper.event.wait())
        try:
            left = self._task.timeout_s - (time.monotonic() - began)
            first: list[asyncio.Future[Any]] = [exited, stop]
            await asyncio.wait(first, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return
            self.stopper.request(TaskState.TIMED_OUT, f"ran longer than {self._task.timeout_s:g} s")
            send(self.members(), signal.SIGTERM)
            until = time.monotonic() + GRACE_S
            while time.monotonic() < until and not self.stopper.hurried and not exited.done():
                await asyncio.wait([exited], timeout=_CHECK_S)
            while not exited.done():
                send(self.members(), signal.SIGKILL)
                await asyncio.wait([exited], timeout=_CHECK_S)
        finally:
            stop.cancel()

    async def _end_orphans(self, pid: int) -> None:
        """End what the first process left behind. The scan is made only where something hints at it."""
        adopted = our_children() - self._known_children()
        if not (adopted or _group_lives(pid)):
            return
        left = self.members()
        if not left:
            reap(adopted)
            return
        send(left, signal.SIGTERM)
        until = time.monotonic() + (GRACE_S if self.stopper.event.is_set() else GRACE_S / 3)
        while left and time.monotonic() < until and not self.stopper.hurried:
            await asyncio.sleep(_CHECK_S)
            left = self.members()
        while left:
            send(left, signal.SIGKILL)
            await asyncio.sleep(_CHECK_S / 5)
            left = self.members()
        reap(our_children() - self._known_children())


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What every task starts from: our environment without secrets."""
    return child_environment(environ)


def _exit_of(pid: int, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """A future that is done once `pid` has ended, which is then still to be waited for."""
    done = loop.create_future()
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # an older kernel, or not Linux
        return asyncio.ensure_future(asyncio.to_thread(_wait_for, pid))

    def ended() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        if not done.done():
            done.set_result(None)

    loop.add_reader(pidfd, ended)
    return done


def _wait_for(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _new_file(suffix: str) -> Path:
    handle, name = tempfile.mkstemp(prefix="maos-", suffix=suffix)
    os.close(handle)
    return Path(name)
