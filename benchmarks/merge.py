"""Merging what agents changed: random sets of tasks, each run one at a time, four and eight at once, in random timing.

`differing` counts sets whose result hung on the number of workers though run one by one they had no conflict, `lost`
edits that are neither in the result nor in a kept branch, and `unreported` conflicts that nobody was told of.
`false_conflicts` are conflicts in sets that can have none by their making. Sets in which changes truly conflict are
held to losing and hiding nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks._common import emit
from benchmarks._merge_sets import make_repository, make_set, run_set

AT_ONCE: Final = (1, 4, 8)
_QUICK_S: Final = 20.0  # a run in hand is done to its end, which on a busy machine takes as long again


def measure(*, sets: int, seconds: float | None = None, seed: int = 20261125) -> dict[str, Any]:
    """Run `sets` sets, or fewer where `seconds` are over before: one that is broken off doesn't count."""
    begun = time.monotonic()
    until = math.inf if seconds is None else begun + seconds
    counts = dict.fromkeys(("sets", "tasks", "runs", "conflicting", "differing", "lost", "unreported"), 0)
    counts["false_conflicts"] = 0
    examples: list[str] = []
    with tempfile.TemporaryDirectory(prefix="maos-bench-") as name:
        for number in range(sets):
            if number % 50 == 0:  # kept branches add up
                repository = Path(name) / f"repository-{number}"
                repository.mkdir()
                base = make_repository(repository)
            tasks = make_set(random.Random(seed + number))
            rans = []
            for at_once in AT_ONCE:
                if time.monotonic() > until:
                    break
                rng = random.Random(f"{seed}/{number}/{at_once}")
                work = run_set(repository, base, tasks, at_once=at_once, rng=rng, name=f"r{number}-{at_once}")
                rans.append(asyncio.run(work))
            if len(rans) < len(AT_ONCE):
                break
            counts["sets"] += 1
            counts["tasks"] += len(tasks.order)
            counts["runs"] += len(rans)
            conflict = bool(rans[0].conflicts)
            counts["conflicting"] += conflict
            differs = not conflict and any(each.tree != rans[0].tree or each.conflicts for each in rans)
            counts["differing"] += differs
            counts["lost"] += sum(len(each.lost) for each in rans)
            counts["unreported"] += sum(len(each.unreported) for each in rans)
            impossible = tasks.profile != "conflicting" and any(each.conflicts for each in rans)
            counts["false_conflicts"] += impossible
            if differs or impossible or any(each.lost or each.unreported for each in rans):
                examples.append(f"seed {seed + number}: {tasks.profile}, {len(tasks.order)} tasks")
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "benchmark": "merge",
        **counts,
        "examples": "; ".join(examples[:5]) or "none",
        "wall_s": time.monotonic() - begun,
        "cpu_s": sum(each.ru_utime + each.ru_stime for each in used),
        "cpu_ms_per_task": 1000 * sum(each.ru_utime + each.ru_stime for each in used) / max(1, 3 * counts["tasks"]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"as many sets as fit into {_QUICK_S:g} s")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--data", help="not used here; taken because every benchmark takes it")
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--seed", type=int, default=20261125, help="of the first set; each has the next")
    arguments = parser.parse_args()
    result = measure(sets=arguments.sets, seconds=_QUICK_S if arguments.quick else None, seed=arguments.seed)
    emit(result, arguments.json)


if __name__ == "__main__":
    main()
