"""What every benchmark says about itself: the machine, the versions, and one JSON object at the end."""

from __future__ import annotations

import compileall
import importlib.metadata
import json
import os
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("maos-bot", "networkx", "pydantic", "sqlite-utils", "flask", "click", "rich", "psutil")


def machine() -> dict[str, Any]:
    """The machine and the versions a figure was measured with; what can't be found out is `unknown`."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: _version(name) for name in PACKAGES},
    }


def compile_product() -> None:
    """Compile the product's modules, as installing a package does; a checkout may hold newer ones, compiled each time.

    To be called by what measures whole processes. Raises `RuntimeError` where one can't be compiled.
    """
    root = Path(__file__).resolve().parent.parent
    if not all(compileall.compile_dir(root / name, quiet=1) for name in ("maos_bot", "web")):
        raise RuntimeError("not all modules could be compiled")


def peak_rss_mb() -> float:
    """The most memory this process has held so far, in MiB (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def emit(result: Mapping[str, Any], json: bool) -> None:  # the flag is called what the user types
    """Print `result` with `machine`: as one line of JSON, or readable."""
    full = {**result, "machine": machine()}
    sys.stdout.write(_dump(full) if json else "\n".join(_lines(full)) + "\n")
    sys.stdout.flush()


def _dump(result: Mapping[str, Any]) -> str:
    return json.dumps(result, allow_nan=False) + "\n"


def _lines(value: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            lines += [f"{indent}{key}", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{key:<24} {f'{item:.4g}' if isinstance(item, float) else item}")
    return lines


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown"
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine() or "unknown"
