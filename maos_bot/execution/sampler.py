"""What the running trees use, once a second: memory and CPU of each, from one look at the process table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from maos_bot.events import ResourceSampled
from maos_bot.execution.attempts import Attempt
from maos_bot.execution.guard import Guard
from maos_bot.execution.process import CommandAttempt
from maos_bot.execution.tree import Table, process_table
from maos_bot.frozen import dataclass

SAMPLE_S: Final = 1.0


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

    async def follow(self, running: Mapping[str, Attempt], guard: Guard, tell: Callable[..., object]) -> None:
        """Once a second `tell` what each of the commands `running` uses, and all together: the heartbeat too."""
        while True:
            await asyncio.sleep(SAMPLE_S)
            commands = {task: attempt for task, attempt in running.items() if isinstance(attempt, CommandAttempt)}
            begun = {attempt.pid: attempt.begun for attempt in commands.values()}
            samples = self.sample(begun, asyncio.get_running_loop().time())
            held = {}
            for task, attempt in commands.items():
                if sample := samples.get(attempt.pid):
                    held[task] = memory_mb = guard.memory_mb(attempt) or sample.memory_mb
                    attempt.peak_mb = max(attempt.peak_mb or 0.0, memory_mb)
                    tell(ResourceSampled, task=task, memory_mb=memory_mb, cpu_percent=sample.cpu_percent)
            cpu_percent = sum(sample.cpu_percent for sample in samples.values())
            guard.sampled(held, cpu_percent)
            tell(ResourceSampled, memory_mb=sum(held.values()), cpu_percent=cpu_percent, agents=len(running))

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
