"""One attempt of a command task: a process in a session of its own, from its start until nothing of it is left.

No thread and no coroutine belongs to it: the event loop watches the pipe that carries its output, whose end is mostly
the process's too, and, where it lives for longer, a pidfd that tells of its end. A time-out or a stop ends the whole
tree (SIGTERM, after a grace SIGKILL). When the first process has ended, what it left behind is killed, also what called
`setsid`, and only then does the attempt end; a pipe that a stranger still holds keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable, Collection
from typing import ClassVar, Final

from maos_bot.execution.capture import PAUSE_S, Capture
from maos_bot.execution.launch import Launched
from maos_bot.execution.readers import LoopReaders, Watching
from maos_bot.execution.tree import Family, Proc, has_marker, members, process_table, quell, reap, send
from maos_bot.execution.watcher import over_memory
from maos_bot.model import MEMORY, Outcome, Task, TaskState

GRACE_S: Final = 2.0  # from SIGTERM to SIGKILL where a task's time is over
STOP_GRACE_S: Final = 3.0  # the same where the run is stopped: a runner gives us 7.5 s for all of it
_GIVE_UP_S: Final = 2.0  # from SIGKILL to going on without what still doesn't end
_LOOK_S: Final = 0.02  # between two looks at a tree that is being ended
_SOON_S: Final = 0.02  # a process that still runs then has a descriptor to tell of its end; before, its output does
_DYING_S: Final = 0.1  # a process that is killed may need that long to give back its memory
_READ: Final = 64 * 1024  # bytes a turn of the loop, so that one loud task doesn't keep the others waiting
_DRAIN: Final = 64  # reads, at most, of what an ended process left in its pipe
_WORDS: Final = {126: "not executable", 127: "command not found"}


class CommandAttempt:
    """A running attempt of `task`. `ended` is called once, with its outcome; before it `crashed`, for a defect of ours.

    `peak_mb` may be raised from outside by whoever measures the tree.
    """

    _own_peak_mb: ClassVar[float] = 0.0  # ours, as last asked for: it only grows

    def __init__(
        self,
        task: Task,
        launched: Launched,
        *,
        marker: bytes,
        capture: Capture,
        family: Family,
        ended: Callable[[Outcome], None],
        crashed: Callable[[Exception], None],
        readers: Watching | None = None,
    ) -> None:
        """Take over what `launch` started; `marker` is the part of its environment that no other attempt has.

        `readers` tell of its output and its end; by default the loop itself.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._readers = readers or LoopReaders(loop)
        self._timeout_s = task.timeout_s
        self.memory_mb = task.demand.get(MEMORY)  # what its tree may hold; None is no limit
        self.marker = marker
        self._capture = capture
        self._family = family
        self._ended = ended
        self._crashed = crashed
        self.pid, self._script, self._fd, self.begun = launched.pid, launched.script, launched.output, launched.begun
        self.peak_mb: float | None = None
        self._open = True  # the pipe
        self._exited = False  # the first process
        self._lingers = False  # only the pipe is still open, and nobody of the tree is known to hold it
        self._code: int | None = None  # its exit code; below 0 the signal that killed it
        self._collected: tuple[int, resource.struct_rusage] | None = None
        self._usage: resource.struct_rusage | None = None  # of the first process, once it has been waited for
        self._ending: tuple[TaskState, str] | None = None
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        self._adopted: set[int] = set()  # orphans of this tree that became our children
        self._done = False
        family.running.add(self.pid)
        self._readers.add_reader(self._fd, self._guarded, self._read)
        self._timeout: asyncio.TimerHandle | None = loop.call_at(
            self.begun + min(_SOON_S, self._timeout_s), self._guarded, self._stay
        )
        self._flush_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._watched = False  # something tells of the first process's end
        self._pidfd: int | None = None

    def end(self, state: TaskState, reason: str, *, grace_s: float = GRACE_S) -> None:
        """End the whole tree: SIGTERM now, SIGKILL after `grace_s` (0: at once). A second call can only be quicker."""
        if self._done or self._usage or (self._ending is None and self._has_exited()):
            return
        if self._ending is None:
            self._ending = (state, reason)
            tree = self._members()
            send(tree, signal.SIGTERM)
            send(tree, signal.SIGCONT)  # a stopped process can't even die of SIGTERM
        kill_at = self._loop.time() + grace_s
        if self._kill_at is None or kill_at < self._kill_at:
            self._kill_at = kill_at
            self._give_up_at = kill_at + _GIVE_UP_S
            self._look_in(_LOOK_S if self._exited else grace_s)

    def kill(self, state: TaskState, reason: str, *, known: Collection[int] = (), growing: bool = False) -> bool:
        """Kill the whole tree at once: it is over a limit, or in everybody's way. False where it has ended already.

        `known` are processes of it that needn't be looked for; a tree that is `growing` is held before it is killed,
        which takes a while.
        """
        if self._done or self._usage or self._ending or self._has_exited():
            return False
        self._ending = (state, reason)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGSTOP if growing else signal.SIGKILL)
        if growing:
            quell(self._members)
        for pid in known:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._kill_at = self._loop.time()
        self._give_up_at = self._kill_at + _GIVE_UP_S
        self._look_in(_DYING_S)  # what isn't dead by then is looked for; the first process tells of its end itself
        return True

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
            if self._lingers:
                self._settle()
            elif not (self._exited or self._watched):  # most likely it is ending
                if self._has_exited():
                    self._first_exited()
                else:
                    self._watch_exit()
            return
        self._capture.feed(data)
        if self._flush_timer is None and self._capture.waiting:
            self._flush_timer = self._loop.call_later(PAUSE_S, self._guarded, self._flush)

    def _flush(self) -> None:
        self._flush_timer = None
        self._capture.flush()

    def _stay(self) -> None:
        """It isn't one of those that end, and with them their output, before it pays to watch for more."""
        self._timeout = self._loop.call_at(self.begun + self._timeout_s, self._guarded, self._time_out)
        if not (self._exited or self._watched):
            self._watch_exit()

    def _watch_exit(self) -> None:
        self._watched = True
        self._pidfd = _open_pidfd(self.pid)
        if self._pidfd is None:
            self._poll()
        else:
            self._readers.add_once(self._pidfd, self._guarded, self._first_exited)

    def _time_out(self) -> None:
        self._timeout = None
        self.end(TaskState.TIMED_OUT, f"timed out after {_seconds(self._timeout_s)}")

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
        self._lingers = False
        now = self._loop.time()
        left = self._members()
        late = self._give_up_at is not None and now >= self._give_up_at
        if self._usage is None:
            over = self._kill_at is not None and now >= self._kill_at
            if self._exited and (over or not left):
                self._collect()
                return
            if over:
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
            if late or not (left or self._open or self._adopted or self._family.has_dying()):
                self._finish()
                return
        self._look_in(_LOOK_S)

    # Steps of the end

    def _collect(self) -> None:
        """Take the first process's exit status and usage; kill what it left behind."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # while its id can't have been given to another
        status, self._usage = self._collected or os.wait4(self.pid, 0)[1:]
        self._code = os.waitstatus_to_exitcode(status)
        self._family.running.discard(self.pid)
        self._drain()
        self._settle()

    def _settle(self) -> None:
        """The first process is gone: finish, unless something of the tree may be left."""
        self._lingers = False
        strangers = self._family.has_strangers()
        if not (self._open or strangers):
            self._finish()
            return
        self._give_up_at = self._loop.time() + _GIVE_UP_S
        if strangers:
            self._look()
        else:  # most likely a process that is being started holds a copy of the pipe until its program is loaded
            self._lingers = True
            self._look_in(_LOOK_S)

    def _drain(self) -> None:
        for _ in range(_DRAIN):
            before = self._capture.total
            if self._open:
                self._read()
            if self._capture.total == before:
                return

    def _abandon(self) -> None:
        """End by force what can't be ended in order."""
        send(self._members(), signal.SIGKILL)
        if self._usage is None:
            reap((self.pid,))
            self._family.running.discard(self.pid)
        self._finish()

    def _finish(self) -> None:
        self._done = True
        for timer in (self._timeout, self._flush_timer, self._look_timer):
            if timer:
                timer.cancel()
        self._close_pipe()
        self._close_pidfd()
        if self._script.file:
            self._script.file.unlink(missing_ok=True)
        try:
            self._capture.close()
        except Exception as error:  # noqa: BLE001 - as in `_guarded`: the attempt still ends, and the defect is told
            self._crashed(error)
            self._ending = self._ending or (TaskState.FAILED, f"internal error: {type(error).__name__}: {error}")
        self._ended(self._outcome())

    def _outcome(self) -> Outcome:
        code = self._code
        if self._ending:
            state, reason = self._ending
        elif code == 0:
            state, reason = TaskState.SUCCEEDED, ""
        else:
            state, reason = TaskState.FAILED, _failure(code or 0)
        usage, peak = self._usage, self._peak()
        if self.memory_mb is not None and peak is not None and peak > self.memory_mb and self._ending is None:
            # It was over before anybody looked: what a task may do doesn't hang on when it is looked at.
            state, reason = TaskState.FAILED, over_memory(peak, self.memory_mb)
        return Outcome(
            state=state,
            reason=reason,
            exit_code=128 - code if code is not None and code < 0 else code,
            duration_s=self._loop.time() - self.begun,
            cpu_s=usage.ru_utime + usage.ru_stime if usage else None,
            peak_memory_mb=peak,
            output_bytes=self._capture.total,
            omitted_bytes=self._capture.omitted,
        )

    def _peak(self) -> float | None:
        """The largest process's peak or the tree's largest sampled sum, whichever is more; None is unknown.

        The kernel counts our own peak into that of a child, from before it became another program: what isn't above
        ours says nothing about the child.
        """
        measured = self._usage.ru_maxrss / 1024 if self._usage else 0.0
        if measured > CommandAttempt._own_peak_mb + 1.0:
            CommandAttempt._own_peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return max(self.peak_mb or 0.0, measured) if measured > CommandAttempt._own_peak_mb + 1.0 else self.peak_mb

    # Looking at the tree

    def _members(self) -> list[Proc]:
        table = process_table()
        found = members(self.pid, table, marked=lambda pid: has_marker(pid, self.marker))
        us = os.getpid()
        ours = [*found, *(proc for proc in table.values() if proc.session == self.pid)]
        self._adopted |= {proc.pid for proc in ours if proc.parent == us and proc.pid != self.pid}
        return found

    def _has_exited(self) -> bool:
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if self._collected is None:  # a system where looking means collecting
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            self._collected = (status, usage) if pid else None
        return self._collected is not None

    def _look_in(self, delay_s: float) -> None:
        if self._look_timer:
            self._look_timer.cancel()
        self._look_timer = self._loop.call_later(delay_s, self._guarded, self._look)

    def _close_pipe(self) -> None:
        if self._open:
            self._open = False
            self._readers.remove_reader(self._fd)
            os.close(self._fd)

    def _close_pidfd(self) -> None:
        if self._pidfd is not None:
            self._readers.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # an older kernel, or not Linux
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
