"""What no schedule can beat: the lower bound LB2 (pure).

For each resource: the largest, over tasks, of max(head, work of the ancestors / capacity) + duration + max(tail, work
of the descendants / capacity), where heads and tails are themselves propagated with that maximum. Work is duration
times what a task holds. The simple bound (critical path, or all work over capacity) is mostly far weaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from maos_bot.planning.problem import Problem

EXACT_UP_TO: Final = 2_500  # tasks; the sets of all ancestors grow with the square
_BITS: Final = 24  # work is rounded down to this many binary digits of the largest, so the bound stays one

Indexes = Sequence[Sequence[int]]


def lower_bound(problem: Problem, *, exact_up_to: int = EXACT_UP_TO) -> float:
    """The least makespan in seconds that any schedule of `problem` can have.

    Above `exact_up_to` tasks it is the simple bound: the critical path, or all work over capacity.
    """
    graph = problem.graph
    if not len(graph):
        return 0.0
    order, back = graph.order, graph.order[::-1]
    exact = len(graph) <= exact_up_to
    best = graph.span
    for resource, capacity in enumerate(problem.capacities):
        held = [dict(vector).get(resource, 0) for vector in problem.classes]
        if not any(held):
            continue
        shares = [amount / capacity for amount in held]
        work = [duration * shares[c] for duration, c in zip(graph.durations, problem.class_of, strict=True)]
        best = max(best, sum(work))
        if exact:
            heads = _longest(graph.preds, order, graph.durations, _work_behind(graph.preds, order, work))
            tails = _longest(graph.succs, back, graph.durations, _work_behind(graph.succs, back, work))
            best = max(best, *map(sum, zip(heads, graph.durations, tails, strict=True)))
    return best


def _longest(neighbours: Indexes, order: Sequence[int], durations: Sequence[float], least: list[float]) -> list[float]:
    """The longest way to each task, where `least` is what it is at the least."""
    ways = list(least)
    for task in order:
        if neighbours[task]:
            ways[task] = max(ways[task], *[ways[other] + durations[other] for other in neighbours[task]])
    return ways


def _work_behind(neighbours: Indexes, order: Sequence[int], work: Sequence[float]) -> list[float]:
    """The summed `work` of all that can be reached from each task.

    Sets of tasks are the bits of one integer, and each binary digit of the work is such a set too: its share of the
    sum is then one intersection and one count.
    """
    largest = max(work)
    if largest <= 0:
        return [0.0] * len(work)
    step = largest / (2**_BITS - 1)
    scaled = [int(value / step) for value in work]
    digits = zip(*[f"{value:0{_BITS}b}" for value in reversed(scaled)], strict=True)  # the highest first
    planes = [
        (plane, float(2**digit) * step)
        for digit, column in zip(reversed(range(_BITS)), digits, strict=True)
        if (plane := int("".join(column), 2))
    ]
    reach = [0] * len(work)
    totals = [0.0] * len(work)
    for task in order:
        found = 0
        for other in neighbours[task]:
            found |= reach[other] | 1 << other
        reach[task] = found
        if found:
            totals[task] = sum([(found & plane).bit_count() * weight for plane, weight in planes])
    return totals
