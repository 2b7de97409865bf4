"""The predicted run: the dispatch rules played through with estimated durations (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from maos_bot.frozen import dataclass
from maos_bot.model import ExecutionMode
from maos_bot.planning.dispatch import Dispatcher
from maos_bot.planning.graph import TaskGraph
from maos_bot.planning.order import Order
from maos_bot.planning.problem import Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When each task starts and ends, by number, in seconds from the start of the run."""

    starts: Sequence[float]
    finishes: Sequence[float]

    @property
    def makespan(self) -> float:
        """When the last task ends."""
        return max(self.finishes, default=0.0)


def gates_of(mode: ExecutionMode, graph: TaskGraph, stages: Sequence[int]) -> Sequence[int] | None:
    """The barriers `mode` sets, for `Dispatcher`: none, one for each stage, or one for each task in plan order."""
    if mode is ExecutionMode.SEQUENTIAL:
        gates = [0] * len(graph)
        for position, task in enumerate(graph.order):
            gates[task] = position
        return gates
    return stages if mode is ExecutionMode.PARALLEL else None


def simulate(
    problem: Problem, *, ranks: Sequence[float], gates: Sequence[int] | None = None, after: Order | None = None
) -> Schedule:
    """Play `problem` through; what ends at one instant ends before anything new starts."""
    graph = problem.graph
    durations, succs = graph.durations, graph.succs
    starts, finishes = [0.0] * len(graph), [0.0] * len(graph)
    missing = [len(needs) for needs in graph.preds]
    dispatcher = Dispatcher(problem, ranks=ranks, gates=gates, after=after)
    for task, count in enumerate(missing):
        if not count:
            dispatcher.offer(task, 0.0)
    running: list[tuple[float, int]] = []
    now = 0.0
    while True:
        for task in dispatcher.starts(now):
            starts[task] = now
            finishes[task] = end = now + durations[task]
            heappush(running, (end, task))
        if not running:
            return Schedule(starts=starts, finishes=finishes)
        now = running[0][0]
        while running and running[0][0] <= now:
            task = heappop(running)[1]
            dispatcher.free(task)
            dispatcher.settle(task)
            for successor in succs[task]:
                missing[successor] -= 1
                if not missing[successor]:
                    dispatcher.offer(successor, now)


def simulate_sequential(graph: TaskGraph) -> Schedule:
    """One task at a time in plan order: what `simulate` with a gate for each task gives, without playing it."""
    starts, finishes = [0.0] * len(graph), [0.0] * len(graph)
    now = 0.0
    for task in graph.order:
        starts[task] = now
        finishes[task] = now = now + graph.durations[task]
    return Schedule(starts=starts, finishes=finishes)
