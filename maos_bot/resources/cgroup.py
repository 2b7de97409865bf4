"""Where the cgroup files of this process are, v1 and v2, and how to read one.

Sources: the kernel's `cgroup-v2.rst` and `cgroup-v1` documentation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass

UNLIMITED: Final = 2**60  # cgroup v1 writes "no limit" as a huge number of bytes
_MIB: Final = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Cgroups:
    """Which version rules here, and whether we may make groups of our own in it; `reason` says why (not)."""

    version: str  # v1 | v2 | hybrid | none
    writable: bool
    reason: str


def cgroups(proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> Cgroups:
    """What this process's cgroups are. Nothing is changed to find that out."""
    lines = text(proc / "self" / "cgroup").splitlines()
    old = any(line.split(":", 2)[1].strip() not in ("", "name=systemd") for line in lines if line.count(":") >= 2)
    own = next(hierarchy(proc, root, ""), None)
    controllers = text(own / "cgroup.controllers").split() if own else []
    if own is None or not (own / "cgroup.controllers").exists():
        version = "v1" if old else "none"
        return Cgroups(version=version, writable=False, reason="there is no cgroup v2 here")
    version = "hybrid" if old else "v2"
    missing = [name for name in ("memory", "pids") if name not in controllers]
    if missing:
        return Cgroups(
            version=version, writable=False, reason=f"cgroup v2 has no controller for {' and '.join(missing)}"
        )
    if not os.access(own, os.W_OK) or not os.access(own / "cgroup.subtree_control", os.W_OK):
        return Cgroups(version=version, writable=False, reason="our cgroup is not ours to write")
    return Cgroups(version=version, writable=True, reason="our cgroup can be written")


def hierarchy(proc: Path, root: Path, controller: str) -> Iterator[Path]:
    """Our cgroup's folder and those above it, upwards: v2 where `controller` is empty, else v1's."""
    for line in text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers.split(",") != [""] if not controller else controller not in controllers.split(","):
            continue
        if controller:
            base = root / controller
        else:
            beside_v1 = root / "unified"
            base = beside_v1 if (beside_v1 / "cgroup.procs").exists() else root
        folder = base / path.lstrip("/")
        # Inside a container the path may be the host's: then only the mount's root can be read.
        folders = [folder, *folder.parents]
        inside = folders[: folders.index(base) + 1] if base in folders else [base]
        yield from (each for each in inside if each.is_dir())


def memory_files(proc: Path, root: Path) -> Iterator[tuple[Path, str, str]]:
    """Each folder that may limit our memory, with the names of the files for what is used and what is allowed."""
    for folder in hierarchy(proc, root, ""):
        yield folder, "memory.current", "memory.max"
    for folder in hierarchy(proc, root, "memory"):
        yield folder, "memory.usage_in_bytes", "memory.limit_in_bytes"


def memory_left_mb(folder: Path, used_name: str, limit_mb: float) -> float | None:
    """What the cgroup `folder` may still take, in MiB. What is only cached of files counts as free: it is given up."""
    used = number(folder / used_name)
    if used is None:
        return None
    names = (
        ("inactive_file", "active_file")
        if used_name == "memory.current"
        else ("total_inactive_file", "total_active_file")
    )
    cached = 0.0
    for line in text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in names:
            cached += float(value)
    return max(0.0, limit_mb - max(0.0, used - cached) / _MIB)


def number(path: Path) -> float | None:
    """The number a file holds; None for `max` and for a file that isn't there."""
    try:
        return float(text(path).strip())
    except ValueError:
        return None


def text(path: Path) -> str:
    """What a small file holds; empty where it can't be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:  # not this cgroup version, or not ours to read: the next source counts
        return ""
