"""What keeps a task to its limits: looks at the trees of running tasks often, and the more often the nearer one is.

A task may hold so much memory (its declared `memory-mb`) and so many processes. Memory can't grow faster than a machine
writes it, so a tree far below its limit needs no look for a while, and one near it needs one each few milliseconds:
that ends a task soon after it crosses its limit, at the price of one small read a process. New processes are looked
for only when the kernel has given out a process id since the last look, and where only their number is limited, only
when it has given out so many that the limit could be near.

Memory is what the processes hold resident. Forked processes share pages, which would count once for each: where the
plain sum is over the limit, the kernel is asked for the proportional share (PSS), which is dearer, before anything is
called too much. Needs `/proc`; elsewhere a watcher sees nothing and says so by `works`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Final

from maos_bot.execution.tree import has_marker, read_proc
from maos_bot.frozen import dataclass

SLOWEST_S: Final = 0.05  # between two looks, however far a tree is from its memory limit
FASTEST_S: Final = 0.002
GLANCE_S: Final = 0.02  # between two glances at how many process ids were given out, where memory has no limit
_CROWD: Final = 0.25  # of the processes a task may have: beyond it the rest may be there in no time
_CROWDED_S: Final = 0.01
_STALE_S: Final = 1.0  # no system gives out all its process ids in that time
_GROWTH_MB_S: Final = 8000.0  # no task takes memory faster than about this
_ASK_S: Final = 0.1  # between two questions for the proportional share, at least
_AIM: Final = 1.15  # a look comes before a tree at full growth could be at so many times its limit
_PAGE_MB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20
_OOM_SCORE: Final = b"500"  # of a thousand: where memory ends, the kernel takes a task before it takes us


@dataclass(frozen=True, slots=True)
class Breach:
    """A tree over a limit: `pid` is its first process, `reason` says what and how much, `members` are all it has.

    One with too many processes is `growing`: it may have more by the time it is killed.
    """

    pid: int
    reason: str
    members: frozenset[int]
    growing: bool


@dataclass(slots=True)
class _Tree:
    """What is known of one running task's processes."""

    root: int
    marker: bytes
    memory_mb: float | None
    processes: int
    members: set[int] = field(default_factory=set)
    counted: int = 1  # members when all processes were listed last,
    counted_at: int = 0  # and the process id that had been given out last by then
    preferred: bool = False
    shared_mb: float = 0.0  # how much the plain sum was above the proportional one when that was asked for
    ask_at: float = 0.0  # what was shared then may not be any more: when to ask again
    used_mb: float = 0.0
    peak_mb: float = 0.0
    due: float = 0.0
    crowded: bool = False
    breached: bool = False


class Watcher:
    """Tell it which tasks run; it says which are over a limit and when it wants to look again."""

    def __init__(self) -> None:
        self.works = Path("/proc/self/statm").exists()
        self._ids = _process_ids()
        self._knows_shares = Path("/proc/self/smaps_rollup").exists()
        self._trees: dict[int, _Tree] = {}
        self._owner: dict[int, int] = {}  # member -> first process of its task
        self._known: set[str] = set()  # names in /proc when all were listed last
        self._last_id = 0  # the process id that had been given out last by then
        self._looked_at = float("-inf")

    def add(self, pid: int, *, marker: bytes, memory_mb: float | None, processes: int, now: float) -> None:
        """The task whose first process is `pid` runs, and may hold `memory_mb` MiB (None: no limit) and `processes`."""
        if not self._trees and now - self._looked_at > _STALE_S:
            self._known = set()  # nobody has looked for a while: any name may be another process by now
            self._last_id = 0
        tree = _Tree(root=pid, marker=marker, memory_mb=memory_mb, processes=processes, members={pid}, counted_at=pid)
        tree.due = now + _rest_s(memory_mb, 0.0)
        self._trees[pid] = tree
        self._owner[pid] = pid

    def remove(self, pid: int) -> None:
        """That task has ended."""
        tree = self._trees.pop(pid, None)
        for member in tree.members if tree else ():
            self._owner.pop(member, None)

    def memory_mb(self, pid: int) -> tuple[float, float] | None:
        """What that task held when it was looked at last, and the most it was seen with, in MiB; None is unknown."""
        tree = self._trees.get(pid)
        return (tree.used_mb, tree.peak_mb) if tree and tree.peak_mb else None

    def tree_mb(self, pid: int) -> float:
        """What that task holds now, limited or not, pages that its processes share counted for each; 0 if it ended."""
        self._find_new(_last_id())
        tree = self._trees.get(pid)
        return sum(_resident_mb(member) or 0.0 for member in tree.members) if tree else 0.0

    @property
    def due(self) -> float | None:
        """When `look` is wanted next, on the clock of `now`; None while nothing runs."""
        return min((tree.due for tree in self._trees.values()), default=None)

    @property
    def crowded(self) -> bool:
        """Whether some task has so many processes that it may be a fork bomb."""
        return any(tree.crowded for tree in self._trees.values())

    def look(self, now: float, *, alarmed: Callable[[], None] = lambda: None) -> list[Breach]:
        """Look at the trees that are due; each that is over a limit is named once.

        `alarmed` is called before processes are counted that may be a crowd, which takes the longer the larger it is.
        """
        if not self.works:
            return []
        self._looked_at = now
        due = [tree for tree in self._trees.values() if tree.due <= now and not tree.breached]
        last = _last_id()
        alarm = any(self._may_be_crowded(tree, last) for tree in due)
        if alarm:
            alarmed()
        if alarm or any(tree.memory_mb is not None for tree in due):
            self._find_new(last)
        breaches = []
        for tree in due:
            if not tree.preferred:
                tree.preferred = True
                _prefer_as_victim(tree.root)
            reason = self._inspect(tree, now)
            if reason:
                tree.breached = True
                tree.due = float("inf")
                growing = len(tree.members) > tree.processes
                breaches.append(Breach(tree.root, reason, frozenset(tree.members), growing))
        return breaches

    def _may_be_crowded(self, tree: _Tree, last: int) -> bool:
        """Whether so many process ids were given out that `tree` may be a crowd: else nobody need be counted."""
        return tree.counted + (last - tree.counted_at) % self._ids > tree.processes * _CROWD

    def _inspect(self, tree: _Tree, now: float) -> str:
        """Why `tree` is over a limit; else when to look again is set."""
        used = 0.0
        if tree.memory_mb is None:
            if len(tree.members) > tree.processes * _CROWD:
                self._drop_ended(tree)
                tree.counted = len(tree.members)
        else:
            used = self._measure(tree, now)
            tree.used_mb, tree.peak_mb = used, max(tree.peak_mb, used)
            if used > tree.memory_mb:
                return over_memory(used, tree.memory_mb)
        tree.crowded = len(tree.members) > tree.processes * _CROWD
        if len(tree.members) > tree.processes:
            return f"{len(tree.members)} processes at once of at most {tree.processes}"
        rest = _rest_s(tree.memory_mb, used)
        tree.due = now + (min(rest, _CROWDED_S) if tree.crowded else rest)
        return ""

    def _measure(self, tree: _Tree, now: float) -> float:
        """What `tree` holds, in MiB; drops the members that have ended."""
        sizes: dict[int, float] = {}
        for pid in tuple(tree.members):
            size = _resident_mb(pid)
            if size is not None:
                sizes[pid] = size
            elif pid != tree.root:
                self._forget(tree, pid)
        total, largest = sum(sizes.values()), max(sizes.values(), default=0.0)
        limit = tree.memory_mb or 0.0
        over = len(sizes) > 1 and largest <= limit < total and self._knows_shares
        if over and (total - tree.shared_mb > limit or now >= tree.ask_at):
            begun = time.perf_counter()
            shares = [_proportional_mb(pid, size) for pid, size in sizes.items()]
            tree.shared_mb = max(0.0, total - sum(shares))
            tree.ask_at = now + max(_ASK_S, 20 * (time.perf_counter() - begun))
        return max(largest, total - tree.shared_mb)

    def _drop_ended(self, tree: _Tree) -> None:
        for pid in tuple(tree.members):
            proc = read_proc(str(pid))
            if (proc is None or proc.zombie) and pid != tree.root:
                self._forget(tree, pid)

    def _forget(self, tree: _Tree, pid: int) -> None:
        tree.members.discard(pid)
        tree.shared_mb = 0.0  # it may have been with that one
        self._owner.pop(pid, None)

    def _find_new(self, last: int) -> None:
        """Give each process that came since all were listed last to the task it belongs to."""
        if last == self._last_id:
            return
        self._last_id = last
        names = {name for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - asked many times a second
        fresh = sorted(names - self._known, key=int)  # parents mostly come before their children
        self._known = names
        for name in fresh:
            self._place(name)
        for tree in self._trees.values():
            tree.counted, tree.counted_at = len(tree.members), last

    def _place(self, name: str) -> None:
        before = self._owner.get(int(name))
        if before is not None and before != int(name):  # that one has ended, and its id was given out again
            self._forget(self._trees[before], int(name))
        proc = read_proc(name)
        if proc is None or proc.zombie:
            return
        owner: int | None = None
        if proc.pid in self._trees:
            owner = proc.pid
        elif proc.session in self._trees:
            owner = proc.session
        elif proc.parent in self._owner:
            owner = self._owner[proc.parent]
        elif proc.parent == os.getpid() and proc.session != os.getsid(0):  # an orphan that we were given
            owner = next((root for root, tree in self._trees.items() if has_marker(proc.pid, tree.marker)), None)
        if owner is not None:
            self._owner[proc.pid] = owner
            self._trees[owner].members.add(proc.pid)


def over_memory(used_mb: float, limit_mb: float) -> str:
    """How the end of a task over its memory is put into words."""
    return f"used {used_mb:.0f} MB of {limit_mb:g} MB"


def _rest_s(limit_mb: float | None, used_mb: float) -> float:
    """How long a tree that holds `used_mb` needs no look."""
    if limit_mb is None:
        return GLANCE_S
    return min(SLOWEST_S, max(FASTEST_S, (limit_mb * _AIM - used_mb) / _GROWTH_MB_S))


def _last_id() -> int:
    """The process id that was given out last: the last word of `/proc/loadavg`."""
    with open("/proc/loadavg", "rb") as file:  # noqa: PTH123 - as above
        return int(file.read().rsplit(None, 1)[-1])


def _process_ids() -> int:
    """How many process ids there are; after the last one they begin anew."""
    try:
        return int(Path("/proc/sys/kernel/pid_max").read_bytes())
    except OSError:
        return 2**22  # the most that Linux can be set to


def _resident_mb(pid: int) -> float | None:
    """What process `pid` holds in memory; None where it has ended or is a zombie."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - as above
            pages = int(file.read().split(None, 2)[1])
    except (OSError, IndexError):
        return None
    return pages * _PAGE_MB if pages else None


def _proportional_mb(pid: int, resident_mb: float) -> float:
    """The same, of shared pages only its share; 0 where it has ended, `resident_mb` where it isn't ours to know."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123 - as above
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) / 1024
    except PermissionError:
        return resident_mb
    except OSError:
        pass
    return 0.0


def _prefer_as_victim(pid: int) -> None:
    with contextlib.suppress(OSError):  # it has ended, or the system doesn't let us: then it stays as it is
        Path(f"/proc/{pid}/oom_score_adj").write_bytes(_OOM_SCORE)
