"""How good plans are: real instances, our schedules beside simpler rules, against the best that is known.

Sets (`--data DIR`; the README beside the data says where they come from): PSPLIB's j30 (against the optimum) and j120
(against the best known makespan), and traces of real workflows on 8 slots (against the lower bound LB2). Methods, all
on the same numbers in the same run:

    sequential        one task at a time
    staged            level after level, with a barrier between (the mode `parallel`)
    fifo              what is ready first starts first
    critical_path     one pass by upward rank, as a run dispatches
    forward_backward  the same, then one forward-backward improvement
    maos_0.1, maos_2  what `maos plan` finds in the default time box, and with `--plan-time 2`
    optimal_2         what `maos plan --optimal --plan-time 2` finds, where OR-tools is installed; wall time, one thread

`gap_percent` is the mean over instances of makespan over best known (or bound), less one. `plan_ms` is the mean time of
a plan. The time box counts the process's own CPU time, so that a busy machine doesn't shrink it; on an idle one that is
the wall time.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from benchmarks.common import emit
from maos_bot.planning.bounds import lower_bound
from maos_bot.planning.improve import improve
from maos_bot.planning.order import order_of
from maos_bot.planning.problem import Problem
from maos_bot.planning.schedule import simulate

SLOTS: Final = 8
BOXES_S: Final = (0.1, 2.0)
SOLVED_S: Final = 2.0
# How many instances each set takes at most with `--quick`, for the short and the long time box, and until when (in
# seconds from the start) it may begin another: a machine that is busy does fewer, and `instances` says how many.
QUICK: Final[Mapping[str, tuple[int, int, float]]] = {
    "j120": (50, 8, 17.0),
    "j30": (60, 16, 33.0),
    "traces": (40, 3, 42.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One problem as plain lists; `best` is None where only the bound is known."""

    name: str
    durations: Sequence[float]
    preds: Sequence[Sequence[int]]
    demands: Sequence[Sequence[float]]
    capacities: Sequence[float]
    best: float | None


def read(path: Path) -> Iterator[Instance]:
    """The instances of a file, in the formats that the data's README describes."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if "dur_ms" in row:
                durations = [value / 1000 for value in row["dur_ms"]]
                demands, capacities = [[1.0]] * len(durations), [float(SLOTS)]
            else:
                durations, demands, capacities = row["durations"], row["demands"], row["capacities"]
            yield Instance(
                name=row["name"],
                durations=durations,
                preds=row["preds"],
                demands=demands,
                capacities=capacities,
                best=row.get("best"),
            )


def sets(folder: Path) -> dict[str, list[Instance]]:
    """Every set below `folder`: each file under `psplib` by its name, all of `traces` together."""
    found: dict[str, list[Instance]] = {}
    for path in sorted(folder.glob("*/*.jsonl*")):
        name = "traces" if path.parent.name == "traces" else path.name.partition(".")[0]
        found.setdefault(name, []).extend(read(path))
    if not found:
        raise SystemExit(f"no instances below {folder}: give the folder with --data")
    return found


def solve(instance: Instance, boxes_s: Sequence[float]) -> tuple[float, dict[str, tuple[float, float]]]:
    """The best that is known (or the bound), and each method's makespan and seconds."""
    problem = Problem.from_numbers(instance.durations, instance.preds, instance.demands, instance.capacities)
    graph = problem.graph
    bound = lower_bound(problem)
    found: dict[str, tuple[float, float]] = {}

    def timed(name: str, plan: Callable[[], float]) -> None:
        began = time.process_time()
        found[name] = (plan(), time.process_time() - began)

    def boxed(seconds: float, rounds: int | None = None) -> float:
        one_pass = simulate(problem, ranks=graph.ranks)
        starts = improve(
            problem, one_pass.starts, lower_bound_s=bound, seconds=seconds, clock=time.process_time, rounds=rounds
        )
        return min(one_pass.makespan, simulate(problem, ranks=graph.ranks, after=order_of(problem, starts)).makespan)

    timed("sequential", lambda: sum(graph.durations))
    timed("staged", lambda: simulate(problem, ranks=graph.ranks, gates=graph.levels).makespan)
    timed("fifo", lambda: simulate(problem, ranks=[-float(task) for task in range(len(graph))]).makespan)
    timed("critical_path", lambda: simulate(problem, ranks=graph.ranks).makespan)
    timed("forward_backward", lambda: boxed(60.0, 1))
    for seconds in boxes_s:
        timed(f"maos_{seconds:g}", lambda seconds=seconds: boxed(seconds))  # type: ignore[misc]
    if SOLVED_S in boxes_s and importlib.util.find_spec("ortools"):
        from maos_bot.planning.optimal import Solver

        one_pass = simulate(problem, ranks=graph.ranks)
        starts = improve(problem, one_pass.starts, lower_bound_s=bound, seconds=0.1, clock=time.process_time)
        timed(
            f"optimal_{SOLVED_S:g}",
            lambda: _makespan(problem, Solver(seconds=SOLVED_S, workers=1)(problem, starts, bound)[0]),
        )
    return instance.best if instance.best is not None else bound, found


def _makespan(problem: Problem, starts: Sequence[float]) -> float:
    return max(start + duration for start, duration in zip(starts, problem.graph.durations, strict=True))


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """All figures."""
    gaps: dict[str, dict[str, float]] = {}
    plan_ms: dict[str, dict[str, float]] = {}
    counts: dict[str, dict[str, int]] = {}
    began = time.monotonic()
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for name, instances in sets(folder).items():
            every = (len(instances), len(instances), math.inf)
            short, long, until_s = QUICK.get(name, (40, 3, 42.0)) if quick else every
            chosen = _spread(instances, short)
            patient = {each.name for each in _spread(chosen, long)}
            work = [(each, BOXES_S if each.name in patient else BOXES_S[:1]) for each in chosen]
            random.Random(name).shuffle(work)
            rows: dict[str, list[tuple[float, float]]] = {}
            for best, found in _solved(pool, work, began + until_s):
                for method, (makespan, seconds) in found.items():
                    rows.setdefault(method, []).append((100 * (makespan / best - 1) if best else 0.0, 1000 * seconds))
            gaps[name] = {method: statistics.fmean(gap for gap, _ in pairs) for method, pairs in rows.items()}
            plan_ms[name] = {method: statistics.fmean(ms for _, ms in pairs) for method, pairs in rows.items()}
            counts[name] = {method: len(pairs) for method, pairs in rows.items()}
    return {"gap_percent": gaps, "plan_ms": plan_ms, "instances": counts, "slots_of_traces": SLOTS}


def _solved(
    pool: ProcessPoolExecutor, work: Sequence[tuple[Instance, Sequence[float]]], until: float
) -> Iterator[tuple[float, dict[str, tuple[float, float]]]]:
    """What `solve` gives for each, as it comes; none is begun after `until`."""
    left = iter(work)
    running = {pool.submit(solve, *each) for each in islice(left, 2 * (os.cpu_count() or 1))}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
            if time.monotonic() < until and (each := next(left, None)) is not None:
                running.add(pool.submit(solve, *each))


def _spread(instances: Sequence[Instance], count: int) -> list[Instance]:
    """`count` of them, evenly from the whole list, which is ordered by kind."""
    step = max(1.0, len(instances) / count)
    return [instances[int(place * step)] for place in range(min(count, len(instances)))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a sample of each set: over in 50 s")
    parser.add_argument("--data", default="data", help="the folder of the instances")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    emit(measure(Path(arguments.data), quick=arguments.quick), arguments.json)


if __name__ == "__main__":
    main()
