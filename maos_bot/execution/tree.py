"""Process trees: which processes belong to a task, also those that tried to leave it, and how to end them.

A task's first process leads a session of its own, so most of its tree is found by session. What called `setsid` is
found by descent, and, once its parent has died and it became our child (we are a "subreaper" on Linux while a run goes
on), by the marker in its environment. Where `/proc` is missing, `psutil` gives the table.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20
_PROC: Final = Path("/proc")
_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)
_GET_CHILD_SUBREAPER: Final = 37
_EXITING: Final = 0x4  # PF_EXITING of the flags in /proc/PID/stat (include/linux/sched.h)
_QUELL_ROUNDS: Final = 50


@dataclass(frozen=True, slots=True)
class Proc:
    """One process: ids, whether all of it is a zombie or about to be one, CPU seconds used, resident memory in MiB."""

    pid: int
    parent: int
    group: int
    session: int
    zombie: bool
    dying: bool
    cpu_s: float
    memory_mb: float


Table = Mapping[int, Proc]


def process_table() -> dict[int, Proc]:
    """Every process we can see, by id."""
    if not (_PROC / "self" / "stat").exists():
        return _psutil_table()
    entries = os.listdir("/proc")  # noqa: PTH208 - names alone: a Path for each would double the time
    return {proc.pid: proc for entry in entries if entry.isdigit() and (proc := read_proc(entry))}


def members(root: int, table: Table, *, marked: Callable[[int], bool] | None = None) -> list[Proc]:
    """The living processes of the tree of `root`: its session, all that descend from it, and orphans of ours that
    `marked` recognises, with their descendants.
    """
    children: dict[int, list[Proc]] = {}
    for proc in table.values():
        children.setdefault(proc.parent, []).append(proc)
    found: dict[int, Proc] = {}
    queue = [proc for proc in table.values() if root in (proc.pid, proc.session)]
    if marked:
        ours = os.getpid()
        queue += [proc for proc in children.get(ours, ()) if proc.session != os.getsid(0) and marked(proc.pid)]
    while queue:
        proc = queue.pop()
        if proc.pid not in found:
            found[proc.pid] = proc
            queue += children.get(proc.pid, ())
    return [proc for proc in found.values() if not proc.zombie]


def send(procs: Iterable[Proc], number: signal.Signals) -> None:
    """Signal each of `procs` that still exists."""
    for proc in procs:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(proc.pid, number)


def quell(procs: Callable[[], Sequence[Proc]]) -> None:
    """Kill a tree that may grow faster than it can be listed, such as a fork bomb.

    A signal to a process group reaches each member at once and keeps it from forking, so groups are signalled, not
    processes. All are stopped first: a parent that outlives its child would start another. `procs` lists the tree, and
    must name only processes whose sessions are the tree's own. What is killed may take a while to be gone.
    """
    for number in (signal.SIGSTOP, signal.SIGKILL):
        reached: set[int] = {0, os.getpgrp()}  # never these
        for _ in range(_QUELL_ROUNDS):
            new = {proc.group for proc in procs()} - reached
            if not new:
                break
            for group in new:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)
            reached |= new


def _is_dying(pid: int) -> bool:
    """Whether process `pid` has been killed and still gives back what it holds; its environment is gone first."""
    proc = read_proc(str(pid))
    return proc is not None and proc.dying


def has_marker(pid: int, marker: bytes) -> bool:
    """Whether the environment that process `pid` started with holds all of `marker` (`NAME=value`, joined by NUL)."""
    try:
        environ = b"\0" + (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # gone, or another user's
        return False
    return all(b"\0" + part + b"\0" in environ for part in marker.split(b"\0"))


class Family:
    """Our own children during a run: which are known, so that an orphan we were given stands out cheaply."""

    def __init__(self, marker: bytes) -> None:
        """`marker` is the part of the environment that all processes of this run have."""
        self._marker = marker
        self._before = our_children()
        self._foreign = set(self._before)
        self.running: set[int] = set()  # first processes of attempts

    def has_strangers(self) -> bool:
        """Whether we have children that may be orphans of this run."""
        strangers = self._unknown()
        mine = {pid for pid in strangers if has_marker(pid, self._marker) or _is_dying(pid)}
        self._foreign |= strangers - mine
        return bool(mine)

    def has_dying(self) -> bool:
        """Whether one of them still gives back what it held."""
        return any(map(_is_dying, self._unknown()))

    def _unknown(self) -> set[int]:
        return our_children() - self.running - self._foreign

    def end(self) -> None:
        """Kill, at the end of the run, every orphan that hid even its environment."""
        session = os.getsid(0)
        strays = [
            proc
            for pid in our_children() - self._before
            if (proc := read_proc(str(pid))) and (proc.session != session or has_marker(pid, self._marker))
        ]
        send(strays, signal.SIGKILL)
        left = {proc.pid for proc in strays}
        for _ in range(50):
            left = reap(left)
            if not left:
                break
            time.sleep(0.002)


def end_marked(marker: bytes, *, within_s: float = 5.0) -> bool:
    """Kill every process whose environment holds `marker`, but not us or those we run under; whether none is left.

    For what a process that died had been running: nobody waits for it any more, and `init` or a subreaper has it.
    """
    until = time.monotonic() + within_s
    killed: set[int] = set()
    while True:
        table = process_table()
        spared = set()
        pid = os.getpid()
        while pid in table and pid not in spared:
            spared.add(pid)
            pid = table[pid].parent
        marked = [
            proc for pid, proc in table.items() if pid not in spared and not proc.zombie and has_marker(pid, marker)
        ]
        left = bool(marked) or any(pid in table and table[pid].dying for pid in killed)
        if not left or time.monotonic() > until:
            return not left
        send(marked, signal.SIGKILL)
        killed |= {proc.pid for proc in marked}
        time.sleep(0.01)


def our_children() -> set[int]:
    """The ids of our main thread's children, among them all that were adopted; empty where the system doesn't say."""
    children = _children_file(os.getpid())
    if children is None:
        return set()
    found = b""  # plain calls of a file that stays open: this is asked at each task's end
    while piece := os.pread(children, 4096, len(found)):
        found += piece
    return {int(pid) for pid in found.split()}


@lru_cache(maxsize=1)
def _children_file(pid: int) -> int | None:
    try:
        return os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


@contextlib.contextmanager
def adopting() -> Iterator[bool]:
    """While this lasts, orphans of our descendants become our children; yields whether the system does that."""
    if not sys.platform.startswith("linux"):
        yield False
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int(0)
    libc.prctl(_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    adopted = libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield adopted
    finally:
        libc.prctl(_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def reap(pids: Collection[int]) -> set[int]:
    """Collect those of our children `pids` that have ended; returns the ids that are still there."""
    left = set()
    for pid in pids:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                left.add(pid)
        except ChildProcessError:
            continue
    return left


def read_proc(pid: str) -> Proc | None:
    """Process `pid` (digits), from `/proc`; None where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
            text = file.read()
    except OSError:  # ended meanwhile
        return None
    field = text[text.rindex(b")") + 2 :].split()
    zombie = field[0] in b"ZX" and int(field[17]) <= 1  # the first thread ends before the last one
    return Proc(
        pid=int(pid),
        parent=int(field[1]),
        group=int(field[2]),
        session=int(field[3]),
        zombie=zombie,
        dying=not zombie and bool(int(field[6]) & _EXITING),
        cpu_s=sum(map(int, field[11:15])) / _TICKS,
        memory_mb=int(field[21]) * _PAGE_MB,
    )


def _psutil_table() -> dict[int, Proc]:
    import psutil

    table = {}
    for process in psutil.process_iter():
        try:
            with process.oneshot():
                times = process.cpu_times()
                table[process.pid] = Proc(
                    pid=process.pid,
                    parent=process.ppid(),
                    group=os.getpgid(process.pid),
                    session=os.getsid(process.pid),
                    zombie=process.status() == psutil.STATUS_ZOMBIE,
                    dying=False,  # nobody says
                    cpu_s=times.user + times.system,
                    memory_mb=process.memory_info().rss / 2**20,
                )
        except (psutil.Error, OSError):
            continue
    return table
