"""One attempt as a process tree: started, read, timed, ended, and measured, without a thread.

The event loop watches two file descriptors for each attempt: the pipe that carries its output and a pidfd that tells
of its end. The first process leads its own session. When it has ended, what it left behind is killed, also what called
`setsid`, and only then does the attempt end; a pipe that a stranger still holds keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maos_bot.execution.capture import PAUSE_S, Capture
from maos_bot.execution.tree import Proc, has_marker, members, our_children, process_table, reap, send
from maos_bot.model import Outcome, TaskState

GRACE_S: Final = 2.0  # from SIGTERM to SIGKILL
_GIVE_UP_S: Final = 2.0  # from SIGKILL to going on without what still doesn't end
_LOOK_S: Final = 0.02  # between two looks at a tree that is being ended
_READ: Final = 64 * 1024  # bytes a wake-up, a pipe's own size: no task can hold the loop
_DRAIN: Final = 64  # reads, at most, of what an ended process left in its pipe

_WORDS: Final = {126: "not executable", 127: "command not found"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What to start, where, with which environment; `marker` is the part of `env` that no other attempt has."""

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    marker: bytes
    timeout_s: float


class Attempt:
    """A running process tree. `ended` is called once, with the outcome; `crashed` with a defect of ours, before it."""

    def __init__(
        self,
        launch: Launch,
        *,
        capture: Capture,
        loop: asyncio.AbstractEventLoop,
        devnull: int,
        known: Callable[[], set[int]],
        ended: Callable[[Outcome], None],
        crashed: Callable[[Exception], None],
    ) -> None:
        """Start it; raises `OSError` where the program can't be. `known` gives our children that are no orphans."""
        self._launch = launch
        self._capture = capture
        self._loop = loop
        self._known = known
        self._ended = ended
        self._crashed = crashed
        self._fd, writer = os.pipe2(os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        try:
            os.set_blocking(self._fd, False)
            self._popen = subprocess.Popen(  # noqa: S603 - running the spec's commands is the purpose
                launch.argv,
                stdin=devnull,
                stdout=writer,
                stderr=writer,
                cwd=launch.cwd,
                env=launch.env,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(writer)
        self.pid = self._popen.pid
        self.peak_memory_mb: float | None = None  # the largest sum over the tree that a sampler saw
        self._begun = loop.time()
        self._open = True  # the pipe
        self._exited = False  # the first process
        self._usage: resource.struct_rusage | None = None  # set when it has been collected
        self._ending: tuple[TaskState, str] | None = None
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        self._adopted: set[int] = set()
        self._flush_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._done = False
        loop.add_reader(self._fd, self._guarded, self._read)
        self._timeout: asyncio.TimerHandle | None = loop.call_later(launch.timeout_s, self._guarded, self._time_out)
        self._pidfd = _open_pidfd(self.pid)
        if self._pidfd is None:
            loop.call_later(_LOOK_S, self._guarded, self._poll)
        else:
            loop.add_reader(self._pidfd, self._guarded, self._first_exited)

    def end(self, state: TaskState, reason: str, *, grace_s: float = GRACE_S) -> None:
        """End the whole tree: SIGTERM now, SIGKILL after `grace_s` (0: at once). A second call can only be quicker."""
        if self._done or self._usage or (self._ending is None and self._has_exited()):
            return
        if self._ending is None:
            self._ending = (state, reason)
            send(self._members(), signal.SIGTERM)
            send(self._members(), signal.SIGCONT)  # a stopped process can't even die of SIGTERM
        kill_at = self._loop.time() + grace_s
        if self._kill_at is None or kill_at < self._kill_at:
            self._kill_at = kill_at
            self._give_up_at = kill_at + _GIVE_UP_S
            self._look_in(0.0 if self._exited else grace_s)

    # What the event loop calls

    def _guarded(self, step: Callable[[], None]) -> None:
        if self._done:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a defect of ours costs this attempt, never the run
            self._crashed(error)
            self._ending = (TaskState.FAILED, f"internal error: {type(error).__name__}: {error}")
            self._abandon()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return
        if not data:
            self._close_pipe()
            return
        self._capture.feed(data)
        if self._flush_timer is None and self._capture.waiting:
            self._flush_timer = self._loop.call_later(PAUSE_S, self._guarded, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        self._capture.flush()

    def _time_out(self) -> None:
        self._timeout = None
        self.end(TaskState.TIMED_OUT, f"timed out after {_seconds(self._launch.timeout_s)}")

    def _poll(self) -> None:
        """Stand in for a pidfd where the system has none."""
        if self._has_exited():
            self._first_exited()
        else:
            self._loop.call_later(_LOOK_S, self._guarded, self._poll)

    def _first_exited(self) -> None:
        self._exited = True
        self._close_pidfd()
        if self._kill_at is not None and self._loop.time() < self._kill_at and self._members():
            self._look_in(_LOOK_S)  # the rest of the tree has the rest of the grace
        else:
            self._collect()

    def _look(self) -> None:
        """See to a tree that is being ended, until nothing of it is left or time is up."""
        self._look_timer = None
        now = self._loop.time()
        left = self._members()
        late = self._give_up_at is not None and now >= self._give_up_at
        if self._usage is None:
            if self._exited and (not left or late or now >= (self._kill_at or 0.0)):
                self._collect()
                return
            if self._kill_at is not None and now >= self._kill_at:
                send(left, signal.SIGKILL)
            if late:
                state, reason = self._ending or (TaskState.FAILED, "")
                self._ending = (state, f"{reason}; its processes could not be killed")
                self._abandon()
                return
        else:
            send(left, signal.SIGKILL)
            self._adopted = reap(self._adopted)
            self._drain()
            if late or not (left or self._open or self._adopted):
                self._finish()
                return
        self._look_in(_LOOK_S)

    # Steps of the end

    def _collect(self) -> None:
        """Take the first process's exit status and usage; kill what it left behind."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # while its id can't have been given to another
        _, status, self._usage = os.wait4(self.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)  # or its destructor would wait for it
        self._drain()
        if not self._open and not (our_children() - self._known()):
            self._finish()
        else:
            self._give_up_at = self._loop.time() + _GIVE_UP_S
            self._look()

    def _drain(self) -> None:
        for _ in range(_DRAIN):
            if not self._open:
                return
            before = self._capture.total
            self._read()
            if self._capture.total == before:
                return

    def _abandon(self) -> None:
        """End by force what can't be ended in order."""
        send(self._members(), signal.SIGKILL)
        if self._usage is None:
            self._popen.poll()
        with contextlib.suppress(Exception):  # it may be what broke; the attempt has its reason already
            self._capture.close()
        self._finish(close=False)

    def _finish(self, *, close: bool = True) -> None:
        for timer in (self._timeout, self._flush_timer, self._look_timer):
            if timer:
                timer.cancel()
        self._close_pipe()
        self._close_pidfd()
        if close:
            self._capture.close()
        self._done = True
        self._ended(self._outcome())

    def _outcome(self) -> Outcome:
        code = self._popen.returncode
        if self._ending:
            state, reason = self._ending
        elif code == 0:
            state, reason = TaskState.SUCCEEDED, ""
        else:
            state, reason = TaskState.FAILED, _failure(code)
        usage = self._usage
        return Outcome(
            state=state,
            reason=reason,
            exit_code=128 - code if code is not None and code < 0 else code,
            duration_s=self._loop.time() - self._begun,
            cpu_s=usage.ru_utime + usage.ru_stime if usage else None,
            peak_memory_mb=self._peak(),
            output_bytes=self._capture.total,
            omitted_bytes=self._capture.omitted,
        )

    def _peak(self) -> float | None:
        """The largest process's peak or the tree's largest sampled sum, whichever is more.

        The kernel counts our own peak into that of a child, from before it became another program: what isn't above
        ours says nothing, and stays unknown.
        """
        own = largest_own_mb()
        measured = self._usage.ru_maxrss / 1024 if self._usage else 0.0
        known = [mb for mb in (self.peak_memory_mb, measured if measured > own + 1.0 else None) if mb is not None]
        return max(known, default=None)

    def _members(self) -> list[Proc]:
        table = process_table()
        marker = self._launch.marker
        known = self._known()
        found = members(self.pid, table, marked=lambda pid: pid not in known and has_marker(pid, marker))
        if self._usage is not None or self._exited:
            us = os.getpid()
            family = {proc.pid for proc in found} | {
                proc.pid for proc in table.values() if proc.session == self.pid and proc.pid != self.pid
            }
            self._adopted |= {pid for pid in family if table[pid].parent == us and pid != self.pid}
        return found

    def _has_exited(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _look_in(self, delay_s: float) -> None:
        if self._look_timer:
            self._look_timer.cancel()
        self._look_timer = self._loop.call_later(delay_s, self._guarded, self._look)

    def _close_pipe(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _close_pidfd(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


def largest_own_mb() -> float:
    """The largest resident memory this process had so far, in MiB (Linux: KiB in `ru_maxrss`)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # an old kernel, or not Linux
        return None


def _failure(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
        return f"killed by signal {-code}"
    words = _WORDS.get(code)
    return f"exit code {code}" + (f": {words}" if words else "")


def _seconds(value: float) -> str:
    return f"{value:g} s" if value < 120 else f"{value / 60:g} min"
