"""How well limits hold: hogs that run past their memory, their neighbours, a fork bomb, and what is left of them.

Each scene is a whole `maos run`. A hog writes memory page by page as fast as it can (or at a given speed) and notes, in
a file that outlives it, how much it has and when it last was under its limit; the end is when the run's events say that
the task ended, which is after its processes were gone. `peak_over_limit` takes the largest of what the hog noted (with
what Python itself held) and what the run measured. Everything is bounded: no hog takes more than `MOST` times its
limit, no bomb more than some 1,000 processes, and all end by themselves after seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks._common import emit
from maos_bot.execution.tree import has_marker, process_table

MOST: Final = 4
PROCESSES: Final = 200
PATIENCE_S: Final = 60.0
NEIGHBOUR_STEPS: Final = 60

HOG: Final = """
import mmap, os, struct, sys, time
note, limit, speed, share, most = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
with open(note, "wb") as file: file.write(bytes(24))
file = open(note, "r+b")
seen = mmap.mmap(file.fileno(), 24)
base = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
chunk = bytes([1]) * (1 << 20)
size = most * limit << 20
held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if speed < 0: held.madvise(mmap.MADV_HUGEPAGE)
over = False
begun = time.time()
for at in range(0, size, 1 << 20):
    held[at:at + (1 << 20)] = chunk
    now = time.time()
    have = base + at + (1 << 20)
    seen[0:8] = struct.pack("d", have / 2**20)
    if not over: seen[8:16] = struct.pack("d", now)
    over = have >= (limit << 20) / share
    if speed > 0: time.sleep(max(0.0, begun + (at >> 20) / speed - now))
time.sleep(10)
"""
NEIGHBOUR: Final = """
import sys, time
steps = []
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    sum(range(300000))
    time.sleep(0.02)
    steps.append(time.perf_counter() - begun)
open(sys.argv[1], "w").write(f"{sum(steps)} {max(steps)}")
"""
BOMB: Final = """b() { [ "$1" -lt 6 ] && for i in 1 2 3; do b $(($1 + 1)) & done; sleep 20; }; b 0"""
SETSID_BOMB: Final = "bash bomb.sh 0"
SETSID_SCRIPT: Final = """[ "$1" -lt 6 ] && for i in 1 2 3; do setsid bash bomb.sh $(($1 + 1)) & done\nsleep 20\n"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one `maos run` left: its end of each task, and the processes that outlived it."""

    ends: Mapping[str, Mapping[str, Any]]
    starts: Mapping[str, float]
    orphans: int


def run(folder: Path, tasks: Mapping[str, Mapping[str, Any]], *, slots: int = 8) -> Run:
    """Run `tasks` in `folder` by `maos run`; raises `RuntimeError` where it leaves no events."""
    spec = {
        "version": 1,
        "limits": {"concurrent-agents": slots, "processes-per-task": PROCESSES},
        "defaults": {"shell": "bash"},
        "tasks": tasks,
    }
    (folder / "spec.yml").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "maos_bot", "run", "spec.yml", "--quiet", "--events", "events.ndjson"]
    said = subprocess.run(
        command, cwd=folder, check=False, timeout=PATIENCE_S, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    path = folder / "events.ndjson"
    if said.returncode > 1 or not path.exists():
        raise RuntimeError(f"maos run ended with {said.returncode}: {said.stderr[-2000:]}")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    marker = b"MAOS_RUN_ID=" + rows[0]["run_id"].encode()
    left = [proc for proc in process_table().values() if not proc.zombie and has_marker(proc.pid, marker)]
    return Run(
        ends={row["task"]: row for row in rows if row["type"] == "TaskFinished" and row["final"]},
        starts={row["task"]: row["at"] for row in rows if row["type"] == "TaskStarted"},
        orphans=len(left),
    )


def hog(folder: Path, name: str, *, limit: int, speed: float = 0.0, processes: int = 1) -> dict[str, Any]:
    """A task that takes memory in `processes` processes, each at `speed` MB/s.

    A speed of 0 is as fast as it can with small pages, below 0 with huge ones.
    """
    (folder / "hog.py").write_text(HOG)
    each = [
        f"{sys.executable} hog.py {name}.{number} {limit} {speed:g} {processes} {MOST}" for number in range(processes)
    ]
    script = (
        f"exec {each[0]}" if processes == 1 else "; ".join(f"{line} &" for line in each).replace("&;", "&") + " wait"
    )
    return {"run": script, "resources": {"memory-mb": limit}}


def read_hog(folder: Path, name: str, end: Mapping[str, Any], *, limit: int, processes: int = 1) -> dict[str, float]:
    """From crossing its limit to its end in milliseconds, and its peak over the limit."""
    noted = [struct.unpack("dd", (folder / f"{name}.{n}").read_bytes()[:16]) for n in range(processes)]
    crossed = max(when for _, when in noted)
    if end["state"] != "failed" or not end["reason"].startswith("used ") or not crossed:
        raise RuntimeError(f"{name} ended as {end['state']}: {end['reason']}; it noted {noted}")
    peak = max(sum(held for held, _ in noted), end["peak_memory_mb"] or 0.0)
    return {"crossing_to_end_ms": (end["at"] - crossed) * 1000, "peak_over_limit": peak / limit}


SCENES: Final[Mapping[str, Mapping[str, Any]]] = {
    "fast_512_mb": {"limit": 512},
    "fast_64_mb": {"limit": 64},
    "huge_pages_512_mb": {"limit": 512, "speed": -1.0},
    "slow_128_mb": {"limit": 128, "speed": 200.0},
    "four_processes_256_mb": {"limit": 256, "processes": 4},
}


def alone(folder: Path) -> tuple[dict[str, list[dict[str, float]]], int]:
    """One hog at a time."""
    figures: dict[str, list[dict[str, float]]] = {}
    orphans = 0
    for scene, values in SCENES.items():
        ran = run(folder, {scene: hog(folder, scene, **values)})
        orphans += ran.orphans
        shape = {key: value for key, value in values.items() if key != "speed"}
        figures.setdefault(scene, []).append(read_hog(folder, scene, ran.ends[scene], **shape))
    return figures, orphans


def four_at_once(folder: Path) -> tuple[list[dict[str, float]], dict[str, float], int]:
    """A neighbour by itself, then beside three rounds of four hogs."""
    (folder / "neighbour.py").write_text(NEIGHBOUR)
    neighbour = {"run": f"exec {sys.executable} neighbour.py neighbour.txt {NEIGHBOUR_STEPS}"}
    quiet = run(folder, {"neighbour": neighbour})
    before = _neighbour(folder, quiet)
    tasks: dict[str, Any] = {"neighbour": neighbour}
    names = [f"hog-{turn}-{number}" for turn in range(3) for number in range(4)]
    for name in names:
        tasks[name] = hog(folder, name, limit=128)
        turn, number = name.split("-")[1:]
        if turn != "0":
            tasks[name] |= {"needs": [f"hog-{int(turn) - 1}-{number}"], "when": {"needs": "any"}}
    ran = run(folder, tasks)
    beside = _neighbour(folder, ran)
    figures = [read_hog(folder, name, ran.ends[name], limit=128) for name in names]
    disturbed = {
        "neighbour_alone_s": before[0],
        "neighbour_beside_s": beside[0],
        "neighbour_slowdown": beside[0] / before[0],
        "neighbour_longest_step_alone_ms": before[1] * 1000,
        "neighbour_longest_step_beside_ms": beside[1] * 1000,
    }
    return figures, disturbed, quiet.orphans + ran.orphans


def _neighbour(folder: Path, ran: Run) -> tuple[float, float]:
    end = ran.ends["neighbour"]
    if end["state"] != "succeeded":
        raise RuntimeError(f"the neighbour ended as {end['state']}: {end['reason']}")
    total, longest = (folder / "neighbour.txt").read_text().split()
    return float(total), float(longest)


def bombs(folder: Path) -> tuple[dict[str, dict[str, float]], int]:
    """Two fork bombs, the second of which leaves its session with each process."""
    (folder / "bomb.sh").write_text(SETSID_SCRIPT)
    figures = {}
    orphans = 0
    for name, script in {"fork": BOMB, "setsid": SETSID_BOMB}.items():
        ran = run(folder, {name: {"run": script}, "neighbour": {"run": "sleep 0.5"}})
        end = ran.ends[name]
        words = end["reason"].split()
        if end["state"] != "failed" or words[1:] != ["processes", "at", "once", "of", "at", "most", str(PROCESSES)]:
            raise RuntimeError(f"the bomb {name} ended as {end['state']}: {end['reason']}")
        if ran.ends["neighbour"]["state"] != "succeeded":
            raise RuntimeError(f"the bomb's neighbour: {ran.ends['neighbour']['reason']}")
        figures[name] = {
            "processes": float(words[0]),
            "limit": float(PROCESSES),
            "start_to_end_ms": (end["at"] - ran.starts[name]) * 1000,
        }
        orphans += ran.orphans
    return figures, orphans


def measure(*, rounds: int) -> dict[str, Any]:
    """All scenes `rounds` times; of times and peaks the worst is given beside the median."""
    hogs: dict[str, list[dict[str, float]]] = {}
    disturbed: list[dict[str, float]] = []
    bombed: list[dict[str, dict[str, float]]] = []
    orphans = 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="maos-bench-") as name:
            folder = Path(name)
            figures, left = alone(folder)
            at_once, neighbour, more_left = four_at_once(folder)
            held, bombs_left = bombs(folder)
        for scene, values in {**figures, "four_at_once_128_mb": at_once}.items():
            hogs.setdefault(scene, []).extend(values)
        disturbed.append(neighbour)
        bombed.append(held)
        orphans += left + more_left + bombs_left
    return {
        "benchmark": "limits",
        "crossing_to_end_ms": _worst(hogs, "crossing_to_end_ms"),
        "crossing_to_end_median_ms": _median(hogs, "crossing_to_end_ms"),
        "peak_over_limit": _worst(hogs, "peak_over_limit"),
        "peak_over_limit_median": _median(hogs, "peak_over_limit"),
        **{key: statistics.median(each[key] for each in disturbed) for key in disturbed[0]},
        "bombs": {
            kind: {key: max(each[kind][key] for each in bombed) for key in bombed[0][kind]} for kind in bombed[0]
        },
        "orphans": orphans,
        "rounds": rounds,
    }


def _worst(figures: Mapping[str, Sequence[Mapping[str, float]]], key: str) -> dict[str, float]:
    return {scene: max(each[key] for each in values) for scene, values in figures.items()}


def _median(figures: Mapping[str, Sequence[Mapping[str, float]]], key: str) -> dict[str, float]:
    return {scene: statistics.median(each[key] for each in values) for scene, values in figures.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--data", help="not used here; taken because every benchmark takes it")
    arguments = parser.parse_args()
    emit(measure(rounds=1 if arguments.quick else 5), arguments.json)


if __name__ == "__main__":
    main()
