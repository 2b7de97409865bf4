"""What running a task costs beside the task: 1,000 times `true`, 8 wide, the whole process, every event in SQLite.

Beside it, on the same machine and taking turns: GNU make, ninja, doit and snakemake, which store no history. A round
runs each of them once; `wall_s` and `cpu_s` (with all children) are medians over rounds, `ratio_make` is the median of
each round's own ratio to `make -j2`, so that a machine which is busy for a while weighs on both. A peer that isn't
installed is listed under `missing`; one that took longer than there was time for, under `stopped_after_s`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks._common import compile_product, emit

TASKS: Final = 1_000
WIDTH: Final = 8
QUICK_S: Final = 40.0  # `--quick` has to be over in 50
PATIENCE_S: Final = 180.0  # for one run of anything

MAOS: Final = "maos"
MAKE: Final = "make_j2"
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    MAKE: ("make", "-s", "-j2"),
    MAOS: (sys.executable, "-m", "maos_bot", "run", ".maos.yml", f"--limit=concurrent-agents={WIDTH}", "--quiet"),
    "make_j8": ("make", "-s", "-j8"),
    "ninja_j2": ("ninja", "--quiet", "-j2"),
    "ninja_j8": ("ninja", "--quiet", "-j8"),
    "doit_n2": ("doit", "-n", "2"),
    "snakemake_c2": ("snakemake", "--cores", "2", "--quiet", "all"),
}
SLOW: Final = frozenset({"doit_n2", "snakemake_c2"})  # once is enough to see it
LEFT_OVER: Final = (".maos", ".doit.db", ".doit.db.db", ".snakemake", "out", ".ninja_log", ".ninja_deps")


@dataclass(slots=True)
class Figures:
    """The runs of one candidate; `stopped_s` is the time after which one was given up."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    stopped_s: float | None = None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: over in 50 s")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--data", help="not used here; taken because every benchmark takes it")
    parser.add_argument("--tasks", type=int, default=TASKS, help="how many tasks")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maos-bench-") as folder:
        result = measure(Path(folder), tasks=arguments.tasks, quick=arguments.quick)
    emit(result, arguments.json)


def measure(folder: Path, *, tasks: int, quick: bool) -> dict[str, Any]:
    """Run all candidates in turns in `folder` and give the figures."""
    compile_product()
    write_inputs(folder, tasks)
    figures = {name: Figures() for name, command in COMMANDS.items() if shutil.which(command[0])}
    begun = time.monotonic()
    stored = 0
    rounds = 3 if quick else 7
    for number in range(rounds):
        for name, figure in figures.items():
            if name in SLOW and (quick or number >= 3):
                continue
            if quick and number and time.monotonic() - begun > QUICK_S / 2:
                break
            run_once(folder, name, figure, PATIENCE_S)
            if name == MAOS:
                stored = stored_events(folder, tasks)
    if quick:
        for name in sorted(SLOW & figures.keys()):
            run_once(folder, name, figures[name], max(1.0, QUICK_S - (time.monotonic() - begun)))
    walls = {name: statistics.median(figure.wall_s) for name, figure in figures.items() if figure.wall_s}
    ours = figures[MAOS].wall_s
    pairs = list(zip(ours, figures[MAKE].wall_s, strict=False)) if MAKE in figures else []
    return {
        "benchmark": "overhead",
        "tasks": tasks,
        "width": WIDTH,
        "ratio_make": statistics.median(our / make for our, make in pairs) if pairs else None,
        "wall_s": walls,
        "cpu_s": {name: statistics.median(figure.cpu_s) for name, figure in figures.items() if figure.cpu_s},
        "overhead_ms_per_task": (walls[MAOS] - walls[MAKE]) / tasks * 1000 if MAKE in walls else None,
        "events_stored": stored,
        "rounds": {name: len(figure.wall_s) for name, figure in figures.items()},
        "wall_s_all": {name: [round(wall, 4) for wall in figure.wall_s] for name, figure in figures.items()},
        "missing": sorted(COMMANDS.keys() - figures.keys()),
        "stopped_after_s": {name: f.stopped_s for name, f in figures.items() if f.stopped_s is not None},
        "load_average": os.getloadavg()[0],
        "peers": {name: peer_version(name) for name in ("make", "ninja", "doit", "snakemake")},
    }


def write_inputs(folder: Path, tasks: int) -> None:
    """The same work in everybody's words: `tasks` independent tasks that run `true`."""
    names = [f"t{number}" for number in range(tasks)]
    (folder / ".maos.yml").write_text(
        "version: 1\nname: overhead\ntasks:\n" + "".join(f"  {name}: {{run: 'true'}}\n" for name in names)
    )
    rules = "".join(f"{name}:\n\t@true\n" for name in names)
    (folder / "Makefile").write_text(f"all: {' '.join(names)}\n.PHONY: all {' '.join(names)}\n{rules}")
    edges = "".join(f"build {name}: t\n" for name in names)
    (folder / "build.ninja").write_text(f"rule t\n  command = true\n{edges}")
    (folder / "dodo.py").write_text(
        f"def task_t():\n    for number in range({tasks}):\n"
        "        yield {'name': str(number), 'actions': ['true']}\n"
    )
    (folder / "Snakefile").write_text(
        f"rule all:\n    input: expand('out/{{n}}', n=range({tasks}))\n"
        "rule t:\n    output: touch('out/{n}')\n    shell: 'true'\n"
    )


def run_once(folder: Path, name: str, figure: Figures, patience_s: float) -> None:
    """Run one candidate from a clean folder; raises `RuntimeError` where it fails."""
    for left in LEFT_OVER:
        path = folder / left
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with (folder / "output.txt").open("w+b") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            COMMANDS[name], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        code, cpu_s = wait(process, begun + patience_s)
        took = time.perf_counter() - begun
        if code is None:
            figure.stopped_s = round(took, 1)
            return
        if code:
            output.seek(0)
            raise RuntimeError(f"{name} ended with {code}: {output.read()[-2000:].decode(errors='replace')}")
    figure.wall_s.append(took)
    figure.cpu_s.append(cpu_s)


def wait(process: subprocess.Popen[bytes], until: float) -> tuple[int | None, float]:
    """Its exit code, None where time ran out and it was killed; and the CPU seconds of it and its children."""
    pidfd = os.pidfd_open(process.pid)
    try:
        if not select.select([pidfd], [], [], max(0.0, until - time.perf_counter()))[0]:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, 0.0
    finally:
        os.close(pidfd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def stored_events(folder: Path, tasks: int) -> int:
    """How many events the run left in its database; raises `RuntimeError` where any is missing."""
    tables = ("events", "samples", "output")
    every = " union all ".join(f"select seq from {table}" for table in tables)
    with contextlib.closing(sqlite3.connect(f"file:{folder / '.maos' / 'maos.db'}?mode=ro", uri=True)) as database:
        count, last = database.execute(f"select count(*), max(seq) from ({every})").fetchone()
    if count != last or count < 3 * tasks + 2:
        raise RuntimeError(f"{count} events stored of {last}; {3 * tasks + 2} or more were to be expected")
    return int(count)


def peer_version(program: str) -> str:
    """What the program says of itself; `missing` or `unknown` otherwise."""
    if not shutil.which(program):
        return "missing"
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.strip().splitlines()[0] if said.strip() else "unknown"


if __name__ == "__main__":
    main()
