"""What this runner really offers: CPUs, memory and disk as a task would get them, each with the reason.

A container or a CI runner may be allowed less than the machine has: CPU affinity, a cgroup v1 or v2 CPU quota, a memory
limit anywhere up the cgroup hierarchy. The smallest counts.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.resources.cgroup import UNLIMITED, hierarchy, memory_files, memory_left_mb, number, text

_MIB: Final = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """`cpus` may be a fraction; memory in MiB; None is unknown."""

    cpus: float
    cpu_reason: str
    memory_mb: float | None
    memory_reason: str
    available_mb: float | None
    disk_free_mb: float | None
    processes_free: int | None = None  # how many more the system would let us start
    processes_reason: str = "unknown"


def probe(root: Path = Path(), *, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Runner:
    """Measure this machine; `root` is the folder whose disk is asked; `proc` and `cgroup` are for tests."""
    cpus, cpu_reason = _cpus(proc, cgroup)
    total, available = _memory(proc)
    memory, memory_reason = total, "the machine's memory" if total is not None else "unknown"
    for folder, used_name, limit_name in memory_files(proc, cgroup):
        limit = number(folder / limit_name)
        if limit is None or limit >= UNLIMITED:
            continue
        limit_mb = limit / _MIB
        if memory is None or limit_mb < memory:
            memory, memory_reason = limit_mb, f"the cgroup's memory limit ({limit_name})"
        left = memory_left_mb(folder, used_name, limit_mb)
        if left is not None:
            available = left if available is None else min(available, left)
    processes, processes_reason = _processes(proc, cgroup)
    return Runner(
        cpus=cpus,
        cpu_reason=cpu_reason,
        memory_mb=memory,
        memory_reason=memory_reason,
        available_mb=available,
        disk_free_mb=shutil.disk_usage(root).free / _MIB if root.exists() else None,
        processes_free=processes,
        processes_reason=processes_reason,
    )


def _cpus(proc: Path, cgroup: Path) -> tuple[float, str]:
    if hasattr(os, "sched_getaffinity"):
        count = float(len(os.sched_getaffinity(0)))
        reason = f"{count:.0f} CPUs may be used (affinity)"
    else:
        count = float(os.cpu_count() or 1)
        reason = f"{count:.0f} CPUs"
    for quota, why in _quotas(proc, cgroup):
        if quota < count:
            count, reason = quota, why
    return count, reason


def _quotas(proc: Path, cgroup: Path) -> Iterator[tuple[float, str]]:
    for folder in hierarchy(proc, cgroup, ""):
        words = text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max" and float(words[1]) > 0:
            yield float(words[0]) / float(words[1]), "the cgroup's CPU quota (cpu.max)"
    for folder in hierarchy(proc, cgroup, "cpu"):
        quota, period = number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            yield quota / period, "the cgroup's CPU quota (cpu.cfs_quota_us)"


def _processes(proc: Path, cgroup: Path) -> tuple[int | None, str]:
    ids = number(proc / "sys" / "kernel" / "pid_max")
    running = text(proc / "loadavg").split()
    used = running[3].partition("/")[2] if len(running) > 3 else ""
    least, reason = None, "unknown"
    if ids is not None and used.isdigit():
        least, reason = int(ids) - int(used), f"{ids:.0f} process ids (kernel.pid_max)"
    for controller in ("", "pids"):
        for folder in hierarchy(proc, cgroup, controller):
            most, now = number(folder / "pids.max"), number(folder / "pids.current")
            if most is not None and now is not None and (least is None or most - now < least):
                least, reason = int(most - now), "the cgroup's limit (pids.max)"
    return least, reason


def _memory(proc: Path) -> tuple[float | None, float | None]:
    values = {}
    for line in text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            values[name] = float(rest.split()[0]) / 1024
    if not values and sys.platform != "linux":
        import psutil

        memory = psutil.virtual_memory()
        return memory.total / _MIB, memory.available / _MIB
    return values.get("MemTotal"), values.get("MemAvailable")
