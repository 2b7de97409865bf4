"""What running a task costs beside the task: 1,000 times `true`, whole process, against make and its peers.

`python -m benchmarks.overhead [--quick] [--json]`. All run in turn, round after round, in the same minute on the same
machine; figures are medians. Ours stores every event in SQLite. A peer that isn't installed is reported as missing.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import emit

TASKS = 1000
SLOW = ("snakemake",)  # left out of --quick
SPAN_S = 45.0


def _maos(folder: Path) -> list[str]:
    lines = "".join(f"  t{number}: {{run: 'true'}}\n" for number in range(TASKS))
    (folder / ".maos.yml").write_text(f"version: 1\nname: overhead\ntasks:\n{lines}")
    return [sys.executable, "-m", "maos_bot", "run", "--quiet", "--limit", "concurrent-agents=8"]


def _make(folder: Path) -> list[str]:
    names = [f"t{number}" for number in range(TASKS)]
    rules = "".join(f"{name}:\n\t@true\n" for name in names)
    (folder / "Makefile").write_text(f"all: {' '.join(names)}\n.PHONY: all {' '.join(names)}\n{rules}")
    return ["make", "-j2"]


def _ninja(folder: Path) -> list[str]:
    builds = "".join(f"build t{number}: r\n" for number in range(TASKS))
    (folder / "build.ninja").write_text(f"rule r\n  command = true\n{builds}")
    return ["ninja", "-j2"]


def _doit(folder: Path) -> list[str]:
    (folder / "dodo.py").write_text(
        "def task_t():\n"
        f"    for number in range({TASKS}):\n"
        "        yield {'name': str(number), 'actions': ['true']}\n"
    )
    return ["doit", "-n", "2"]


def _snakemake(folder: Path) -> list[str]:
    (folder / "Snakefile").write_text(
        f"rule all:\n    input: expand('out/{{n}}', n=range({TASKS}))\n"
        "rule one:\n    output: touch('out/{n}')\n    shell: 'true'\n"
    )
    return ["snakemake", "--cores", "2", "--quiet"]


RUNNERS: dict[str, Callable[[Path], list[str]]] = {
    "maos": _maos,
    "make": _make,
    "ninja": _ninja,
    "doit": _doit,
    "snakemake": _snakemake,
}


def once(name: str) -> float | None:
    """Wall seconds of one whole process from a clean folder; None where the program is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = RUNNERS[name](folder)
        if shutil.which(command[0]) is None:
            return None
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{name} failed with exit code {done.returncode}: {done.stderr[-2000:]}")
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", help="not used")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = [name for name in RUNNERS if not (options.quick and name in SLOW)]
    seen: dict[str, list[float]] = {name: [] for name in names}
    missing: set[str] = set()
    began = time.perf_counter()
    for number in range(5):
        spent = time.perf_counter() - began
        if options.quick and number and spent + spent / number > SPAN_S:
            break
        for name in names:
            took = once(name)
            if took is None:
                missing.add(name)
            else:
                seen[name].append(took)
    wall = {name: statistics.median(times) for name, times in seen.items() if times}
    ratio = wall["maos"] / wall["make"] if "make" in wall else None
    emit(
        {
            "ratio_make": ratio,
            "wall_s": wall,
            "rounds": len(seen["maos"]),
            "tasks": TASKS,
            "missing": sorted(missing),
        },
        options.json,
    )


if __name__ == "__main__":
    main()
