"""Groups and stages: which tasks belong together, and which groups may run side by side (pure).

A group holds tasks of one team on one level of the graph that are alike in complexity. A stage holds groups of one
level; stages stand in the order of the levels, so a task is never staged before or beside what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Estimate, Group, ParallelStrategy, Stage, Task
from maos_bot.planning.estimates import complexity
from maos_bot.planning.graph import TaskGraph


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """What a strategy allows: tasks in a group, groups in a stage, and whether it plans with the slow case (p90).

    The headroom it keeps under the limits stands in `maos_bot.planning.demands.HEADROOM`.
    """

    group_size: int
    groups_at_once: int
    plans_for_slow: bool


PACKING: Final[Mapping[ParallelStrategy, Packing]] = {
    ParallelStrategy.CONSERVATIVE: Packing(group_size=3, groups_at_once=2, plans_for_slow=True),
    ParallelStrategy.BALANCED: Packing(group_size=5, groups_at_once=4, plans_for_slow=False),
    ParallelStrategy.AGGRESSIVE: Packing(group_size=8, groups_at_once=6, plans_for_slow=False),
}

# Complexity below the first is simple, from the second on hard, else usual.
_SIMPLE_BELOW: Final = 0.75
_HARD_FROM: Final = 1.5


def planned_s(expected: Estimate, strategy: ParallelStrategy) -> float:
    """The duration in seconds that `strategy` plans with: conservative p90, else p50."""
    return expected.p90_s if PACKING[strategy].plans_for_slow else expected.p50_s


def make_stages(tasks: Sequence[Task], graph: TaskGraph, strategy: ParallelStrategy) -> list[list[list[int]]]:
    """The stages in order, each a list of groups, each a list of task numbers.

    On a level, the groups with the longest tasks come first: a stage takes as long as its longest way, so groups that
    are alike in length stand in one stage.
    """
    packing = PACKING[strategy]
    durations = graph.durations
    alike: dict[tuple[int, str, int], list[int]] = {}
    known: dict[tuple[str, int], int] = {}
    for number, (task, level) in enumerate(zip(tasks, graph.levels, strict=True)):
        text = task.agent if task.agent is not None else task.run or ""
        size = (task.team, len(text))
        hardness = known.get(size)
        if hardness is None:
            hardness = known[size] = _hardness(task)
        alike.setdefault((level, task.team, hardness), []).append(number)
    by_level: dict[int, list[list[int]]] = {}
    for (level, _, _), members in alike.items():
        members.sort(key=durations.__getitem__, reverse=True)
        groups = by_level.setdefault(level, [])
        groups.extend(members[i : i + packing.group_size] for i in range(0, len(members), packing.group_size))
    stages = []
    for level in sorted(by_level):
        groups = by_level[level]
        groups.sort(key=lambda group: -durations[group[0]])
        at_once = packing.groups_at_once
        stages += [groups[i : i + at_once] for i in range(0, len(groups), at_once)]
    for stage in stages:
        for group in stage:
            group.sort()
    return stages


def name_stages(tasks: Sequence[Task], graph: TaskGraph, stages: Sequence[Sequence[Sequence[int]]]) -> list[Stage]:
    """The stages as the plan shows them; groups and stages are numbered from 0."""
    named = []
    group_id = 0
    for stage_id, groups in enumerate(stages):
        members = []
        for group in groups:
            first = group[0]
            members.append(
                Group(
                    id=group_id,
                    team=tasks[first].team,
                    level=graph.levels[first],
                    tasks=tuple([graph.ids[number] for number in group]),
                )
            )
            group_id += 1
        named.append(Stage(id=stage_id, groups=tuple(members)))
    return named


def places(count: int, stages: Sequence[Sequence[Sequence[int]]]) -> tuple[list[int], list[int]]:
    """The stage and the group of each of `count` tasks, by number, as `name_stages` numbers them."""
    stage_of, group_of = [0] * count, [0] * count
    group_id = 0
    for stage_id, groups in enumerate(stages):
        for group in groups:
            for task in group:
                stage_of[task] = stage_id
                group_of[task] = group_id
            group_id += 1
    return stage_of, group_of


def _hardness(task: Task) -> int:
    value = complexity(task)
    return 0 if value < _SIMPLE_BELOW else 1 if value < _HARD_FROM else 2
