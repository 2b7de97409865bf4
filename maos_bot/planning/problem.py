"""A scheduling problem as numbers: a graph, capacities, and what each task holds of them (pure).

Amounts are whole millionths, so that what is taken and given back a hundred thousand times still adds up exactly.
Tasks that hold the same share one demand class: looking for what fits is then a question of classes, not of tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from maos_bot.errors import SpecError, SpecProblem
from maos_bot.model import TEAM_PREFIX, TOKENS, Limit, ParallelStrategy, Task
from maos_bot.planning.demands import bound, demand_of, headroom, shortage
from maos_bot.planning.graph import TaskGraph, build_graph

UNIT: Final = 1_000_000

Vector = tuple[tuple[int, int], ...]  # (resource, amount in millionths), amounts above 0


class Problem:
    """`graph` under `capacities` (millionths, by resource); `classes[class_of[task]]` is what a task holds.

    `kept_free` is what a strategy took off each capacity, for words only. Raises `ValueError` for a demand above its
    capacity, which could never run.
    """

    def __init__(
        self,
        *,
        graph: TaskGraph,
        resources: Sequence[str],
        capacities: Sequence[int],
        class_of: Sequence[int],
        classes: Sequence[Vector],
        kept_free: Sequence[int] = (),
    ) -> None:
        for vector in classes:
            for resource, amount in vector:
                if amount > capacities[resource]:
                    raise ValueError(f"a task wants {amount} of {resources[resource]}: {capacities[resource]}")
        self.graph = graph
        self.resources = resources
        self.capacities = capacities
        self.class_of = class_of
        self.classes = classes
        self.kept_free = kept_free or [0] * len(capacities)

    @classmethod
    def from_numbers(
        cls,
        durations: Sequence[float],
        preds: Sequence[Sequence[int]],
        demands: Sequence[Sequence[float]],
        capacities: Sequence[float],
    ) -> Problem:
        """A problem given as plain lists (as scheduling libraries keep them): `demands[task][resource]`."""
        index: dict[Vector, int] = {}
        class_of = [
            index.setdefault(tuple((r, units(a)) for r, a in enumerate(row) if a > 0), len(index)) for row in demands
        ]
        return cls(
            graph=TaskGraph([str(number) for number in range(len(durations))], preds, durations),
            resources=[f"resource {number}" for number in range(len(capacities))],
            capacities=[units(value) for value in capacities],
            class_of=class_of,
            classes=list(index),
        )

    def shortage(self, resource: int, free: int, wants: int, *, capacity: int | None = None) -> str:
        """Why `wants` of `resource` doesn't fit in `free` of its capacity (or of a lowered `capacity`), in words."""
        return shortage(
            self.resources[resource],
            capacity=(self.capacities[resource] if capacity is None else capacity) / UNIT,
            free=free / UNIT,
            wants=wants / UNIT,
            kept_free=self.kept_free[resource] / UNIT,
        )


def units(amount: float) -> int:
    """`amount` in millionths."""
    return round(amount * UNIT)


def build_problem(
    tasks: Sequence[Task],
    *,
    durations: Sequence[float],
    limits: Mapping[str, Limit],
    strategy: ParallelStrategy,
    spec_path: str = "",
) -> Problem:
    """The problem `tasks` pose under `limits`, as `strategy` uses them.

    Headroom never makes a task impossible: at least the largest single demand stays. Raises `SpecError`, with all
    problems, for a demand above its limit or on a pool nobody declared, and for a broken graph.
    """
    names = [name for name in limits if bound(name, limits) is not None]
    number = {name: position for position, name in enumerate(names)}
    classes: list[Vector] = []
    first_of_class: list[Task] = []
    known: dict[tuple[str, tuple[tuple[str, float], ...]], int] = {}
    class_of = []
    for task in tasks:
        team = task.team if task.team and TEAM_PREFIX + task.team in number else ""
        key = (team, tuple(task.demand.items()) if task.demand else ())
        position = known.get(key)
        if position is None:
            position = known[key] = len(classes)
            demand = demand_of(task, limits)
            classes.append(tuple(sorted((number[name], units(amount)) for name, amount in demand.items())))
            first_of_class.append(task)
        class_of.append(position)
    problems = _impossible(tasks, class_of, first_of_class, limits, spec_path)
    if problems:
        raise SpecError(problems)
    capacities, kept_free = _capacities(names, classes, limits, strategy)
    return Problem(
        graph=build_graph(tasks, durations, spec_path=spec_path),
        resources=names,
        capacities=capacities,
        class_of=class_of,
        classes=classes,
        kept_free=kept_free,
    )


def _capacities(
    names: Sequence[str], classes: Sequence[Vector], limits: Mapping[str, Limit], strategy: ParallelStrategy
) -> tuple[list[int], list[int]]:
    largest = [0] * len(names)
    for vector in classes:
        for resource, amount in vector:
            largest[resource] = max(largest[resource], amount)
    capacities, kept_free = [], []
    for resource, name in enumerate(names):
        full = units(bound(name, limits) or 0.0)
        used = max(largest[resource], round(full * (1.0 - headroom(name, strategy))))
        capacities.append(used)
        kept_free.append(full - used)
    return capacities, kept_free


def _impossible(
    tasks: Sequence[Task],
    class_of: Sequence[int],
    first_of_class: Sequence[Task],
    limits: Mapping[str, Limit],
    spec_path: str,
) -> list[SpecProblem]:
    """What no limit can ever meet, for each task that asks for it."""
    faults: dict[int, list[tuple[str, str]]] = {}
    for position, task in enumerate(first_of_class):
        found = [
            (
                f"demands {amount:g} of {name!r}, which has no limit",
                f"declare the pool under limits: resources: {{{name}: {amount:g}}}",
            )
            for name, amount in task.demand.items()
            if amount > 0 and name != TOKENS and name not in limits
        ]
        for name, amount in demand_of(task, limits).items():
            value = bound(name, limits)
            if value is not None and amount > value:
                why = f"demands {amount:g} of {name}: the limit is {value:g} ({limits[name].reason})"
                found.append((why, _hint(name, amount, value)))
        if found:
            faults[position] = found
    if not faults:
        return []
    return [
        SpecProblem(
            path=spec_path, line=task.line, column=task.column, message=f"task {task.id!r} {message}", hint=hint
        )
        for task, position in zip(tasks, class_of, strict=True)
        for message, hint in faults.get(position, ())
    ]


def _hint(name: str, amount: float, value: float) -> str:
    raised = f"raise the limit {name} to at least {amount:g}"
    return f"ask for at most {value:g}, or {raised}" if value >= 1 else raised
