"""Task graphs and schedules as mermaid diagrams (pure).

Node ids are our own (`t0`, `t1`, ...), labels are escaped, and a graph too large to be read, or for GitHub to draw, is
folded to its stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Plan, Task, TaskState
from maos_bot.reporting import words
from maos_bot.reporting.escape import one_line
from maos_bot.reporting.view import RunReport, TaskReport

FOLD_NODES: Final = 60
FOLD_EDGES: Final = 300
GANTT_ROWS: Final = 100
LABEL_CHARACTERS: Final = 48

# Fill, line and text of each class; legible on a light and on a dark page, and never by colour alone (the icons).
_CLASSES: Final = {
    "good": "fill:#dafbe1,stroke:#1a7f37,color:#0b3d1a",
    "bad": "fill:#ffebe9,stroke:#cf222e,color:#5c0b12,stroke-width:3px",
    "busy": "fill:#ddf4ff,stroke:#0969da,color:#06305f",
    "idle": "fill:#f6f8fa,stroke:#6e7781,color:#24292f",
    "lost": "fill:#f6f8fa,stroke:#6e7781,color:#57606a,stroke-dasharray:4 3",
    "path": "stroke-width:3px",
}
_CLASS_OF: Final = {
    TaskState.SUCCEEDED: "good",
    TaskState.CACHED: "good",
    TaskState.FAILED: "bad",
    TaskState.TIMED_OUT: "bad",
    TaskState.RUNNING: "busy",
    TaskState.READY: "idle",
    TaskState.PENDING: "idle",
    TaskState.CANCELLED: "lost",
    TaskState.SKIPPED: "lost",
    TaskState.UPSTREAM_FAILED: "lost",
}
_PLAIN: Final = re.compile(r"[^\w .,()/+=%…·—-]|(?<!\w)_|_(?!\w)")
_BAR_PLAIN: Final = re.compile(r"[^\w .()/+=%…—-]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One task of a diagram. `label` may be any text; `note` is a second line, ours."""

    id: str
    label: str
    note: str = ""
    needs: tuple[str, ...] = ()
    stage: int = 0
    style: str = "idle"
    heavy: bool = False  # on the critical path


def graph(nodes: Sequence[Node]) -> str:
    """A flowchart of `nodes`; "" where there are none. Large ones are folded by stage."""
    if not nodes:
        return ""
    if len(nodes) > FOLD_NODES or sum(len(node.needs) for node in nodes) > FOLD_EDGES:
        return _folded(nodes)
    names = {node.id: f"t{place}" for place, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    for node in nodes:
        note = f"<br/>{node.note}" if node.note else ""
        lines.append(f'  {names[node.id]}["{label(node.label)}{note}"]')
    lines.extend(f"  {names[need]} --> {names[node.id]}" for need, node in _direct(nodes))
    return "\n".join((*lines, *_styles((names[node.id], node.style, node.heavy) for node in nodes)))


def _direct(nodes: Sequence[Node]) -> list[tuple[str, Node]]:
    """The needs that no other need implies (transitive reduction): the rest of the arrows hide the shape."""
    import networkx as nx

    ids = {node.id for node in nodes}
    whole: nx.DiGraph[str] = nx.DiGraph([(need, node.id) for node in nodes for need in node.needs if need in ids])
    reduced = nx.transitive_reduction(whole)
    return [(need, node) for node in nodes for need in node.needs if reduced.has_edge(need, node.id)]


def graph_of_plan(tasks: Iterable[Task], plan: Plan) -> str:
    """The graph of a plan, its critical path drawn heavy."""
    path = set(plan.critical_path)
    return graph(
        [
            Node(
                id=task.id,
                label=task.title,
                note=words.duration(plan.tasks[task.id].estimate_s),
                needs=task.needs,
                stage=plan.tasks[task.id].stage,
                heavy=task.id in path,
            )
            for task in tasks
        ]
    )


def graph_of_report(report: RunReport) -> str:
    """The graph of a run: states as icon and colour, the observed critical path drawn heavy."""
    path = {step.task for step in report.critical_path}
    return graph(
        [
            Node(
                id=task.id,
                label=f"{words.STATE_ICONS[task.state]} {task.title}",
                note=words.duration(task.duration_s) if task.duration_s is not None else words.STATE_WORDS[task.state],
                needs=task.needs,
                stage=task.stage,
                style=_CLASS_OF[task.state],
                heavy=task.id in path,
            )
            for task in report.tasks.values()
        ]
    )


def gantt(report: RunReport) -> str:
    """What ran when, by team, as a gantt chart; "" where nothing ran. The longest tasks where they are too many."""
    ran = [task for task in report.tasks.values() if task.ran and task.started_s is not None]
    if not ran:
        return ""
    if len(ran) > GANTT_ROWS:
        ran = sorted(ran, key=lambda task: _finish(report, task) - (task.started_s or 0.0))[-GANTT_ROWS:]
    teams: dict[str, list[TaskReport]] = {}
    for task in sorted(ran, key=lambda task: task.started_s or 0.0):
        teams.setdefault(task.team, []).append(task)
    lines = ["gantt", "  dateFormat x", f"  axisFormat {'%H:%M' if report.wall_s >= 5400 else '%M:%S'}"]
    place = 0
    for team, tasks in teams.items():
        lines.append(f"  section {bar_label(team) or 'tasks'}")
        for task in tasks:
            start = round((task.started_s or 0.0) * 1000)
            finish = max(round(_finish(report, task) * 1000), start + 1)
            tag = "crit, " if task.failed else "active, " if task.state is TaskState.RUNNING else "done, "
            lines.append(f"  {bar_label(task.title) or 'task'} :{tag}t{place}, {start}, {finish}")
            place += 1
    return "\n".join(lines)


def label(text: str) -> str:
    """Any text as the inside of a quoted label: what mermaid or HTML might read becomes a character code."""
    return _PLAIN.sub(lambda found: _coded(found.group()), one_line(text, limit=LABEL_CHARACTERS))


def bar_label(text: str) -> str:
    """Any text as the name of a bar or section, where codes aren't understood: odd characters become spaces."""
    return one_line(_BAR_PLAIN.sub(" ", one_line(text, limit=LABEL_CHARACTERS)))


def _coded(character: str) -> str:
    return character if ord(character) > 0x2000 else f"#{ord(character)};"


def _finish(report: RunReport, task: TaskReport) -> float:
    return report.wall_s if task.finished_s is None else task.finished_s


def _folded(nodes: Sequence[Node]) -> str:
    by_stage: dict[int, list[Node]] = {}
    for node in nodes:
        by_stage.setdefault(node.stage, []).append(node)
    order = sorted(by_stage)
    names = {stage: f"s{place}" for place, stage in enumerate(order)}
    stage_of = {node.id: node.stage for node in nodes}
    edges = {
        (stage_of[need], node.stage)
        for node in nodes
        for need in node.needs
        if need in stage_of and stage_of[need] != node.stage
    }
    lines = ["flowchart LR"]
    styles = []
    for place, stage in enumerate(order, start=1):
        members = by_stage[stage]
        lines.append(f'  {names[stage]}["Stage {place}<br/>{_what(members)}"]')
        styles.append((names[stage], _worst(members), False))
    shown = sorted(edges)
    if len(shown) > FOLD_EDGES:  # a chain says as much, and can be drawn
        shown = list(pairwise(order))
    lines.extend(f"  {names[start]} --> {names[end]}" for start, end in shown)
    return "\n".join((*lines, *_styles(styles)))


def _what(nodes: Sequence[Node]) -> str:
    bad = sum(1 for node in nodes if node.style == "bad")
    text = words.number(len(nodes), "task")
    return f"{text}, {bad:,} failed" if bad else text


def _worst(nodes: Iterable[Node]) -> str:
    styles = {node.style for node in nodes}
    return next((style for style in ("bad", "busy", "idle", "lost", "good") if style in styles), "idle")


def _styles(nodes: Iterable[tuple[str, str, bool]]) -> list[str]:
    members: dict[str, list[str]] = {}
    for name, style, heavy in nodes:
        members.setdefault(style, []).append(name)
        if heavy:
            members.setdefault("path", []).append(name)
    return [
        line
        for style, names in members.items()
        for line in (f"  classDef {style} {_CLASSES[style]}", f"  class {','.join(names)} {style}")
    ]
