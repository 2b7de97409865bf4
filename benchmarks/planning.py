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
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks._common import emit
from maos_bot.planning.bounds import lower_bound
from maos_bot.planning.improve import improve
from maos_bot.planning.order import order_of
from maos_bot.planning.problem import Problem
from maos_bot.planning.schedule import simulate

SLOTS: Final = 8
BOXES_S: Final = (0.1, 2.0)
SOLVED_S: Final = 2.0
# How many instances each set takes with `--quick`: in all, and with the long box at most; those come last, in turns.
# No further one is begun after `QUICK_S`: a machine that is busy does fewer, and `instances` says how many.
QUICK: Final[Mapping[str, tuple[int, int]]] = {"j30": (60, 16), "j120": (50, 8), "traces": (40, 4)}
QUICK_S: Final = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One problem as plain lists; `best` is None where only the bound is known."""

    name: str
    durations: Sequence[float]
    preds: Sequence[Sequence[int]]
    demands: Sequence[Sequence[float]]
    capacities: Sequence[float]
    best: float | None


Work = tuple[str, Instance, Sequence[float]]  # set, instance, time boxes


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
    found_by: dict[str, dict[str, list[tuple[float, float]]]] = {}
    until = time.monotonic() + (QUICK_S if quick else math.inf)
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for name, best, found in _solved(pool, _work(sets(folder), quick=quick), until):
            for method, (makespan, seconds) in found.items():
                gap = 100 * (makespan / best - 1) if best else 0.0
                found_by.setdefault(name, {}).setdefault(method, []).append((gap, 1000 * seconds))
    figures = {"gap_percent": _gap, "plan_ms": _plan_ms, "instances": len}
    return {
        figure: {
            name: {method: of(pairs) for method, pairs in methods.items()} for name, methods in sorted(found_by.items())
        }
        for figure, of in figures.items()
    } | {"slots_of_traces": SLOTS}


def _gap(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.fmean(gap for gap, _ in pairs)


def _plan_ms(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.fmean(ms for _, ms in pairs)


def _work(found: Mapping[str, Sequence[Instance]], *, quick: bool) -> list[Work]:
    """What is to be solved, in this order: those with a long time box last, so that lack of time costs only them."""
    short: list[Work] = []
    long: list[tuple[int, Work]] = []
    for name, instances in found.items():
        few, patient = QUICK.get(name, (40, 3)) if quick else (len(instances), len(instances))
        chosen = _spread(instances, few)
        slow = _spread(chosen, patient)
        random.Random(name).shuffle(slow)  # so that what time leaves out is of no kind
        names = {each.name for each in slow}
        short += [(name, each, BOXES_S[:1]) for each in chosen if each.name not in names]
        long += [(place, (name, each, BOXES_S)) for place, each in enumerate(slow)]
    return short + [work for _, work in sorted(long, key=lambda item: item[0])]


def _solved(
    pool: ProcessPoolExecutor, work: Sequence[Work], until: float
) -> Iterator[tuple[str, float, dict[str, tuple[float, float]]]]:
    """What `solve` gives for each, as it comes; none is begun after `until`."""
    left = iter(work)
    running: dict[Future[tuple[float, dict[str, tuple[float, float]]]], str] = {}
    while True:
        while len(running) < 2 * (os.cpu_count() or 1) and time.monotonic() < until and (each := next(left, None)):
            name, instance, boxes_s = each
            running[pool.submit(solve, instance, boxes_s)] = name
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), *future.result()


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
