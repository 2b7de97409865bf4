"""What this runner really offers: CPUs, memory and disk as a task would get them, each with the reason.

A container or a CI runner may be allowed less than the machine has: CPU affinity, a cgroup v1 or v2 CPU quota, a memory
limit anywhere up the cgroup hierarchy. The smallest counts. Sources: the kernel's `cgroup-v2.rst` and `cgroup-v1`
documentation.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MIB: Final = 2**20
_UNLIMITED: Final = 2**60  # cgroup v1 writes "no limit" as a huge number of bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """`cpus` may be a fraction; memory in MiB; None is unknown."""

    cpus: float
    cpu_reason: str
    memory_mb: float | None
    memory_reason: str
    available_mb: float | None
    disk_free_mb: float | None


def probe(root: Path = Path(), *, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Runner:
    """Measure this machine; `root` is the folder whose disk is asked; `proc` and `cgroup` are for tests."""
    cpus, cpu_reason = _cpus(proc, cgroup)
    total, available = _memory(proc)
    memory, memory_reason = total, "the machine's memory" if total is not None else "unknown"
    for folder, used_name, limit_name in _memory_files(proc, cgroup):
        limit = _number(folder / limit_name)
        if limit is None or limit >= _UNLIMITED:
            continue
        limit_mb = limit / _MIB
        if memory is None or limit_mb < memory:
            memory, memory_reason = limit_mb, f"the cgroup's memory limit ({limit_name})"
        used = _number(folder / used_name)
        if used is not None:
            left = max(0.0, limit_mb - used / _MIB)
            available = left if available is None else min(available, left)
    return Runner(
        cpus=cpus,
        cpu_reason=cpu_reason,
        memory_mb=memory,
        memory_reason=memory_reason,
        available_mb=available,
        disk_free_mb=shutil.disk_usage(root).free / _MIB if root.exists() else None,
    )


def _cpus(proc: Path, cgroup: Path) -> tuple[float, str]:
    if hasattr(os, "sched_getaffinity"):
        count = float(len(os.sched_getaffinity(0)))
        reason = f"{count:.0f} CPUs may be used (affinity)"
    else:
        count = float(os.cpu_count() or 1)
        reason = f"{count:.0f} CPUs"
    for quota, text in _quotas(proc, cgroup):
        if quota < count:
            count, reason = quota, text
    return count, reason


def _quotas(proc: Path, cgroup: Path) -> Iterator[tuple[float, str]]:
    for folder in _hierarchy(proc, cgroup, ""):
        words = _text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max" and float(words[1]) > 0:
            yield float(words[0]) / float(words[1]), "the cgroup's CPU quota (cpu.max)"
    for folder in _hierarchy(proc, cgroup, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            yield quota / period, "the cgroup's CPU quota (cpu.cfs_quota_us)"


def _memory_files(proc: Path, cgroup: Path) -> Iterator[tuple[Path, str, str]]:
    for folder in _hierarchy(proc, cgroup, ""):
        yield folder, "memory.current", "memory.max"
    for folder in _hierarchy(proc, cgroup, "memory"):
        yield folder, "memory.usage_in_bytes", "memory.limit_in_bytes"


def _hierarchy(proc: Path, cgroup: Path, controller: str) -> Iterator[Path]:
    """Our cgroup's folder and those above it: v2 where `controller` is empty, else v1's."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers.split(",") != [""] if not controller else controller not in controllers.split(","):
            continue
        base = cgroup / controller if controller else cgroup
        folder = base / path.lstrip("/")
        # Inside a container the path may be the host's: then only the mount's root can be read.
        folders = [folder, *folder.parents]
        inside = folders[: folders.index(base) + 1] if base in folders else [base]
        yield from (each for each in inside if each.is_dir())


def _memory(proc: Path) -> tuple[float | None, float | None]:
    values = {}
    for line in _text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            values[name] = float(rest.split()[0]) / 1024
    if not values and sys.platform != "linux":
        import psutil

        memory = psutil.virtual_memory()
        return memory.total / _MIB, memory.available / _MIB
    return values.get("MemTotal"), values.get("MemAvailable")


def _number(path: Path) -> float | None:
    text = _text(path).strip()
    try:
        return float(text)
    except ValueError:  # "max", or nothing there
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # not this cgroup version, or not ours to read: the next source counts
        return ""
