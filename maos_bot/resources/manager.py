"""The resource manager of the Python API: who holds what, what is really used, and what to make of it.

It reserves for whoever asks and measures this process with all its children. A run needs none: the dispatcher holds a
run's capacities and the guard enforces them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import psutil

from maos_bot.errors import ConfigError
from maos_bot.frozen import dataclass
from maos_bot.model import AGENTS, CPU, MEMORY, TOKENS, Spec
from maos_bot.resources.ledger import Ledger
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.monitor import History, Point
from maos_bot.resources.pressure import Gauge
from maos_bot.resources.runner import probe
from maos_bot.resources.token_rate import Bucket

SAMPLE_S: Final = 1.0


class ResourceType(StrEnum):
    """What is managed; the values are the limits' names."""

    TOKENS = TOKENS
    MEMORY = MEMORY
    CPU = CPU
    CONCURRENT_AGENTS = AGENTS


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceAllocation:
    """What somebody asks for: tokens (taken from the rate), memory in MiB, CPU in percent of the runner, agents."""

    tokens: float = 0
    memory: float = 0
    cpu: float = 0
    concurrent_agents: float = 0

    @property
    def held(self) -> dict[str, float]:
        """What of it is held until it is released, by limit name; tokens are spent instead."""
        return {MEMORY: self.memory, CPU: self.cpu, AGENTS: self.concurrent_agents}


class ResourceManager:
    """Limits from `config`, else sized to the runner. `config` is None, a mapping of limits by `ResourceType` or name,
    or something with such a mapping as `resource_limits` or `limits`.
    """

    def __init__(self, config: Any = None) -> None:
        overrides = limits_of(config)
        runner = probe()
        limits = resolve_limits(Spec(path="", name="", tasks=()), overrides, runner)
        self._cpus = runner.cpus
        self.limits = {kind: limits[kind.value] for kind in ResourceType}
        values = {kind.value: limit.value for kind, limit in self.limits.items()}
        self._ledger = Ledger({name: value for name, value in values.items() if name != TOKENS})
        rate = values[TOKENS]
        self._tokens = None if rate is None else Bucket(rate, now=time.monotonic())
        self._history = History(values)
        self._gauge = Gauge()
        self._process = psutil.Process()
        self._cpu_before: tuple[float, float] | None = None
        self._monitor: asyncio.Task[None] | None = None

    async def start_monitoring(self, interval_s: float = SAMPLE_S) -> None:
        """Measure now and then every `interval_s` seconds until `stop_monitoring`. A second call does nothing."""
        if self._monitor is None or self._monitor.done():
            self.sample()
            self._monitor = asyncio.get_running_loop().create_task(self._watch(interval_s))

    async def stop_monitoring(self) -> None:
        """Measure no more; raises what went wrong while measuring, if anything did."""
        monitor, self._monitor = self._monitor, None
        if monitor:
            monitor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await monitor

    async def allocate_resources(self, holder: str, allocation: ResourceAllocation) -> bool:
        """Whether `holder` now holds all of `allocation`; else it holds nothing, and `shortage` says why.

        `ValueError` where it holds something already.
        """
        if self.shortage(allocation):
            return False
        self._ledger.allocate(holder, allocation.held)
        if self._tokens:
            self._tokens.take(allocation.tokens, time.monotonic())
        return True

    async def release_resources(self, holder: str) -> bool:
        """Free what `holder` holds; False where it holds nothing."""
        return self._ledger.release(holder)

    def shortage(self, allocation: ResourceAllocation) -> str:
        """Why `allocation` can't be had now, in words; empty where it can."""
        wait = self._tokens.wait_s(allocation.tokens, time.monotonic()) if self._tokens else 0.0
        return self._ledger.shortage(allocation.held) or (f"tokens: refill in {wait:.0f} s" if wait > 0 else "")

    def sample(self) -> Point:
        """Measure this process and all its children, and remember it."""
        now = time.monotonic()
        memory, cpu_s = self._use()
        used = {MEMORY: memory}
        if self._cpu_before and now > self._cpu_before[1]:
            spent = max(0.0, cpu_s - self._cpu_before[0])
            used[CPU] = spent / (now - self._cpu_before[1]) / self._cpus * 100
        self._cpu_before = (cpu_s, now)
        point = Point(
            at=now,
            used=used,
            held={name: self._ledger.held(name) for name in (MEMORY, CPU, AGENTS)},
            left_mb=self._gauge.left_mb(),
            stall_percent=self._gauge.pressure(now).memory_percent,
        )
        self._history.add(point)
        return point

    def get_performance_metrics(self) -> dict[str, Any]:
        """Efficiency, trends, advice, and who holds what; all measured, what isn't known is None."""
        now = time.monotonic()
        return {
            **self._history.summary(),
            "limits": {kind.name.lower(): limit.value for kind, limit in self.limits.items()},
            "available": {
                **{ResourceType(name).name.lower(): self._ledger.free(name) for name in (MEMORY, CPU, AGENTS)},
                "tokens": self._tokens.level(now) if self._tokens else None,
            },
            "allocations": {holder: dict(held) for holder, held in self._ledger.leases.items()},
        }

    async def _watch(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            self.sample()

    def _use(self) -> tuple[float, float]:
        """Memory in MiB and CPU seconds of this process and its children."""
        memory, cpu_s = 0, 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            with contextlib.suppress(psutil.Error), process.oneshot():  # it has ended meanwhile
                memory += process.memory_info().rss
                times = process.cpu_times()
                cpu_s += times.user + times.system
        return memory / 2**20, cpu_s


def limits_of(config: Any) -> dict[str, str | float]:
    """The limits that `config` names, by our names. Raises `ConfigError` for a name that is none."""
    found = config
    for name in ("resource_limits", "limits"):
        if isinstance(config, Mapping) and name in config:
            found = config[name]
            break
        if not isinstance(config, Mapping) and hasattr(config, name):
            found = getattr(config, name)
            break
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{config!r} names no limits", hint="give a mapping of ResourceType to a number")
    return {str(ResourceType(name)) if name in set(ResourceType) else str(name): value for name, value in found.items()}
