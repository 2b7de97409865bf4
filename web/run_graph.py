"""The graph of a run: its tasks in layers, or its groups where there are too many tasks to tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from maos_bot.reporting.report import RunReport, TaskReport
from maos_bot.store.rows import RunRow
from web import layers, timeline, words
from web.run_head import RunHead, head_of

FOLD: Final = 200
_LETTERS: Final = 18  # what fits into a box


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A task, or a group of tasks; `query` leads to the group's tasks on the run's page."""

    id: str
    label: str
    title: str
    note: str
    mark: words.Mark
    critical: bool
    x: float
    y: float
    query: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What one node needs of another; `heavy` on the critical path."""

    path: str
    heavy: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphPage:
    """Everything that `run_graph.html` shows."""

    head: RunHead
    width: float
    height: float
    nodes: tuple[Node, ...]
    lines: tuple[Line, ...]
    folded: str
    tasks: int
    box_width: int = layers.BOX_WIDTH
    box_height: int = layers.BOX_HEIGHT


def build(row: RunRow, report: RunReport) -> GraphPage:
    """The page of the run's graph."""
    groups, folded = _groups(report)
    path = [step.task for step in report.critical_path] if not report.running else []
    group_of = {task.id: id_ for id_, tasks in groups.items() for task in tasks}
    needs = {
        id_: list(dict.fromkeys(group_of[need] for task in tasks for need in task.needs if need in group_of))
        for id_, tasks in groups.items()
    }
    picture = layers.layout(needs)
    on_path = {group_of[task] for task in path}
    hops = {(group_of[a], group_of[b]) for a, b in pairwise(path)}
    at = {box.id: box for box in picture.boxes}
    return GraphPage(
        head=head_of(row),
        width=picture.width + 4,
        height=picture.height + 4,
        nodes=tuple(_node(id_, tasks, at[id_], critical=id_ in on_path) for id_, tasks in groups.items()),
        lines=tuple(Line(path=edge.path, heavy=(edge.source, edge.target) in hops) for edge in picture.edges),
        folded=folded,
        tasks=len(report.tasks),
    )


def _groups(report: RunReport) -> tuple[dict[str, list[TaskReport]], str]:
    """The nodes with their tasks, and how they were folded, in words."""
    if len(report.tasks) <= FOLD:
        return {task.id: [task] for task in report.tasks.values()}, ""
    by_team: dict[str, list[TaskReport]] = {}
    for task in report.tasks.values():
        by_team.setdefault(f"{task.stage}/{task.team}", []).append(task)
    if len(by_team) <= FOLD:
        return by_team, "by stage and team"
    by_stage = {f"{stage}/": tasks for stage, tasks in timeline.by_stage(report).items()}
    if len(by_stage) <= FOLD:
        return by_stage, "by stage"
    tens: dict[str, list[TaskReport]] = {}
    for number, tasks in enumerate(by_stage.values()):
        tens.setdefault(f"{number * FOLD // len(by_stage)}/", []).extend(tasks)
    return tens, "by stages that follow one another"


def _node(id_: str, tasks: Sequence[TaskReport], box: layers.Box, *, critical: bool) -> Node:
    first = tasks[0]
    if len(tasks) == 1:
        label, note, query = first.title, words.duration(first.duration_s) if first.duration_s is not None else "", None
        mark = words.mark(first.state)
    else:
        label = f"Stage {first.stage}" + (f", {first.team}" if first.team and not id_.endswith("/") else "")
        mark = words.mark(timeline.state_of(tasks))
        note, query = words.plural(len(tasks), "task"), {"stage": first.stage}
    short = label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"
    place = ", on the critical path" if critical else ""
    return Node(
        id=first.id,
        label=short,
        title=f"{short}{f' {note}' if note else ''}: {mark.word.lower()}{place}"
        + (f" ({label})" if short != label else ""),
        note=note,
        mark=mark,
        critical=critical,
        x=box.x + 2,
        y=box.y + 2,
        query=query,
    )
