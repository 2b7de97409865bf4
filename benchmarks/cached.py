"""What a run costs that has nothing to do: a spec whose every task is in the cache, as one process by the clock.

`python -m benchmarks.cached [--quick] [--json]`. Each task has an input of its own and one that all share, makes a
file, and most need another task. `wall_s` is the median of whole `maos run` processes by the clock, nothing having
changed; `restore_wall_s` the same with all outputs deleted before. The first run and `maos --version`, the least any
command can take, stand beside them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._common import compile_product, emit

TASKS = 200


def spec_text(tasks: int) -> str:
    """The spec: task N makes `out/N` from `in/N`, `shared/` and what task N - 7 made."""
    lines = ["version: 1", "name: cached", "tasks:"]
    for number in range(tasks):
        need = f", needs: [t{number - 7}]" if number >= 7 else ""
        run = f"cat in/{number} shared/* > out/{number}; echo made {number}"
        lines.append(f'  t{number}: {{run: "{run}", inputs: [in/{number}, shared/**], outputs: [out/{number}]{need}}}')
    return "\n".join(lines) + "\n"


def make(folder: Path, tasks: int) -> None:
    """The work tree."""
    for name in ("in", "out", "shared"):
        (folder / name).mkdir()
    for number in range(tasks):
        (folder / "in" / str(number)).write_text(f"input {number}\n")
    for number in range(20):
        (folder / "shared" / f"part{number}.txt").write_text("x" * 1000)
    (folder / ".maos.yml").write_text(spec_text(tasks))


def run(folder: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of one `maos run`, and its report."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "maos_bot", "run", "--quiet", "--json"], cwd=folder, capture_output=True, check=False
    )
    wall_s = time.monotonic() - begun
    if done.returncode:
        sys.exit(done.stderr.decode())
    return wall_s, json.loads(done.stdout)


def measure(tasks: int, rounds: int) -> dict[str, float | int]:
    """All figures."""
    compile_product()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, tasks)
        first_s, _ = run(folder)
        noop: list[float] = []
        restored: list[float] = []
        for times, empty in ((noop, False), (restored, True)):
            for _ in range(rounds):
                if empty:
                    shutil.rmtree(folder / "out")
                wall_s, report = run(folder)
                states = {task["state"] for task in report["tasks"].values()}
                if states != {"cached"} or len(list((folder / "out").iterdir())) != tasks:
                    sys.exit(f"not all tasks came from the cache: {states}")
                times.append(wall_s)
        begun = time.monotonic()
        subprocess.run([sys.executable, "-m", "maos_bot", "--version"], capture_output=True, check=True)
        start_s = time.monotonic() - begun
    return {
        "tasks": tasks,
        "wall_s": statistics.median(noop),
        "wall_max_s": max(noop),
        "restore_wall_s": statistics.median(restored),
        "first_wall_s": first_s,
        "start_wall_s": start_s,
        "rounds": rounds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", help="not used")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    emit(measure(TASKS, 5 if options.quick else 15), options.json)


if __name__ == "__main__":
    main()
