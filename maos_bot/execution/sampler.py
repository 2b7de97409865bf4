"""What the running trees use, once a second: memory and CPU of each, from one look at the process table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maos_bot.execution.tree import Table, process_table


@dataclass(frozen=True, slots=True)
class Sample:
    """One tree's resident memory in MiB and its CPU since the sample before, in percent of the whole runner."""

    memory_mb: float
    cpu_percent: float


class Sampler:
    """Give it the first processes that run; it remembers what each had used before."""

    def __init__(self, cpus: float) -> None:
        """`cpus` is how many CPUs the runner has (may be a fraction)."""
        self._cpus = cpus
        self._before: dict[int, tuple[float, float]] = {}  # root -> CPU seconds, when

    def sample(self, begun: Mapping[int, float], now: float) -> dict[int, Sample]:
        """A sample for each root in `begun` (process id -> when it started, on the clock of `now`) that still lives."""
        table = process_table()
        memory = dict.fromkeys(begun, 0.0)
        cpu = dict.fromkeys(begun, 0.0)
        roots: dict[int, int | None] = {}
        for proc in table.values():
            root = _root(proc.pid, table, begun, roots)
            if root is not None:
                memory[root] += proc.memory_mb
                cpu[root] += proc.cpu_s
        samples = {}
        for root, started in begun.items():
            used, since = self._before.get(root, (0.0, started))
            passed = now - since
            if passed > 0 and memory[root] > 0:  # a zombie holds no memory: that tree has ended
                # A member that was not waited for takes its time with it: a sum that shrank says nothing, so 0.
                percent = max(cpu[root] - used, 0.0) / passed / self._cpus * 100
                samples[root] = Sample(memory[root], percent)
        self._before = {root: (cpu[root], now) for root in samples}
        return samples


def _root(pid: int, table: Table, begun: Mapping[int, float], roots: dict[int, int | None]) -> int | None:
    """The root whose tree `pid` is in, by session or by descent; `roots` remembers what was found."""
    path = []
    found: int | None = None
    while pid not in roots:
        proc = table.get(pid)
        if proc is None:
            break
        path.append(pid)
        if pid in begun or proc.session in begun:
            found = pid if pid in begun else proc.session
            break
        roots[pid] = None  # against a loop, which a table read while it changes could hold
        pid = proc.parent
    else:
        found = roots[pid]
    for step in path:
        roots[step] = found
    return found
