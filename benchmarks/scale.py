"""How planning grows: plan and simulate 1,000 to 100,000 tasks, beside what networkx takes for the graph alone.

Each size runs in a fresh process. `plan_s` is the whole of `make_plan` from tasks in memory: estimates, graph, stages,
the simulated run in three modes, bound and plan. `networkx_s` is the peer, measured in the same process after it: the
same graph as a `DiGraph` with levels and upward ranks, no scheduling. `growth_exponent` is the slope of log time over
log tasks; over these sizes n log n has a slope of 1.11.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import time
from typing import Any

from benchmarks._common import emit, peak_rss_mb
from maos_bot.model import AGENTS, MEMORY, ExecutionMode, Limit, ParallelStrategy, Plan, Task
from maos_bot.planning.planner import make_plan

SIZES = (1_000, 10_000, 100_000)
LAYERS = 50  # levels in a graph, whatever its size
LIMITS = {AGENTS: Limit(value=8, reason="benchmark"), MEMORY: Limit(value=8192, reason="benchmark")}
DEMANDS: tuple[dict[str, float], ...] = ({}, {}, {}, {MEMORY: 256.0}, {MEMORY: 1024.0}, {MEMORY: 4096.0})


def layered(count: int, *, seed: int) -> list[Task]:
    """`count` tasks in about `LAYERS` layers with up to 3 needs each in the layer before; half of them hold memory."""
    rng = random.Random(seed)
    width = max(10, count // LAYERS)
    tasks = []
    for number in range(count):
        layer = number // width * width
        above = range(max(0, layer - width), layer)
        needs = rng.sample(above, rng.randint(0, 3)) if above else []
        tasks.append(
            Task(
                id=f"task-{number}",
                run="true",
                needs=tuple(f"task-{need}" for need in needs),
                team=rng.choice(("frontend", "backend", "qa")),
                estimate_s=rng.lognormvariate(2.0, 1.0),
                demand=rng.choice(DEMANDS),
            )
        )
    return tasks


def measure(count: int) -> dict[str, float]:
    """The figures of one size, in this process."""
    tasks = layered(count, seed=count)
    before = peak_rss_mb()
    began = time.perf_counter()
    plan = make_plan(tasks, limits=LIMITS, mode=ExecutionMode.HYBRID, strategy=ParallelStrategy.BALANCED)
    took = time.perf_counter() - began
    rss = peak_rss_mb()
    span, peer = _networkx(tasks)
    if not math.isclose(span, _span(plan)):
        raise RuntimeError(f"networkx says the critical path takes {span} s, the plan {_span(plan)} s")
    return {
        "plan_s": took,
        "rss_mb": rss,
        "rss_before_mb": before,
        "networkx_s": peer,
        "over_lower_bound_percent": 100 * (plan.predicted.makespan_s / plan.predicted.lower_bound_s - 1),
    }


def _span(plan: Plan) -> float:
    return sum(plan.tasks[task].estimate_s for task in plan.critical_path)


def _networkx(tasks: list[Task]) -> tuple[float, float]:
    """The critical path's length by networkx alone, and the seconds for graph, levels and ranks without the import."""
    import networkx as nx

    began = time.perf_counter()
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from((task.id, {"duration": task.estimate_s}) for task in tasks)
    graph.add_edges_from((need, task.id) for task in tasks for need in task.needs)
    levels = {task: level for level, members in enumerate(nx.topological_generations(graph)) for task in members}
    order = sorted(levels, key=levels.__getitem__, reverse=True)
    ranks: dict[str, float] = {}
    for task in order:
        ranks[task] = graph.nodes[task]["duration"] + max((ranks[other] for other in graph.successors(task)), default=0)
    return max(ranks.values()), time.perf_counter() - began


def main() -> None:
    """Run every size and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each size instead of three")
    parser.add_argument("--data", help="not used: the graphs are made up here")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(measure(arguments.measure)))
        return
    rounds = 1 if arguments.quick else 3
    best = {size: min((_apart(size) for _ in range(rounds)), key=lambda row: row["plan_s"]) for size in SIZES}
    names = next(iter(best.values())).keys()
    result: dict[str, Any] = {name: {str(size): row[name] for size, row in best.items()} for name in names}
    result["growth_exponent"] = _slope([(math.log(size), math.log(row["plan_s"])) for size, row in best.items()])
    result["runs_of_each_size"] = rounds
    emit(result, json=arguments.json)


def _apart(size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale", "--measure", str(size)]
    row: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return row


def _slope(points: list[tuple[float, float]]) -> float:
    """Of the straight line that fits best."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


if __name__ == "__main__":
    main()
