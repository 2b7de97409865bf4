"""A schedule as an order: what each task starts after, so that a run can follow it without looking at a clock (pure).

Beside its needs a task gets the tasks whose resources it takes over in the schedule. A run that starts every task as
soon as all of these have ended never exceeds a limit, can't deadlock (every arrow leads forward in time) and, with the
planned durations, ends no later than the schedule: Policella, Smith, Cesta and Oddi, "Generating robust schedules
through temporal flexibility" (ICAPS 2004), call it a partial-order schedule made by chaining.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from maos_bot.planning.problem import Problem

_TICKS: Final = 1_000_000  # a second: instants of one schedule that differ by less are one instant
_ROUNDED: Final = 1  # so many ticks a rounded end may lie behind the rounded start that follows it

Order = Sequence[Sequence[int]]


def order_of(problem: Problem, starts: Sequence[float]) -> Order:
    """For each task those, beside its needs, that must have ended; `starts` (seconds) is a possible schedule.

    Raises `ValueError` where it isn't one.
    """
    graph = problem.graph
    begins = [round(start * _TICKS) for start in starts]
    ends = [begin + round(duration * _TICKS) for begin, duration in zip(begins, graph.durations, strict=True)]
    place = {task: number for number, task in enumerate(graph.order)}
    # Who holds what of each resource, as (end, task, amount); at first nobody (-1) holds all of it.
    holders: list[list[tuple[int, int, int]]] = [[(0, -1, capacity)] for capacity in problem.capacities]
    after: list[Sequence[int]] = [()] * len(graph)
    for task in sorted(range(len(graph)), key=lambda each: (begins[each], ends[each], place[each])):
        needs = set(graph.preds[task])
        found: set[int] = set()
        for resource, amount in problem.classes[problem.class_of[task]]:
            if begins[task] == ends[task]:
                break  # what takes no time holds nothing
            left = amount
            # From those it waits for anyhow, then from those that end last: the others stay for whoever comes earlier.
            known = needs | found
            usable = sorted(
                (each for each in holders[resource] if each[0] <= begins[task] + _ROUNDED),
                key=lambda each: (each[1] not in known, -each[0], each[1]),
            )
            for holder in usable:
                taken = min(left, holder[2])
                holders[resource].remove(holder)
                if holder[2] > taken:
                    holders[resource].append((holder[0], holder[1], holder[2] - taken))
                if holder[1] >= 0 and holder[1] not in known:
                    found.add(holder[1])
                left -= taken
                if not left:
                    break
            if left:
                raise ValueError(f"at {starts[task]} s {problem.resources[resource]} doesn't hold {graph.ids[task]}")
            holders[resource].append((ends[task], task, amount))
        after[task] = sorted(found)
    return after
