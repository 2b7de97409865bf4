"""Who worked in a run: the hierarchy from the run over its teams to their tasks, with load and what it cost.

Figures are those of the run's tasks. A review round is an attempt after the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maos_bot.model import AGENTS, TEAM_PREFIX, TaskState, Usage
from maos_bot.reporting.report import RunReport, TaskReport
from maos_bot.store.rows import RunRow
from web import words
from web.run_head import RunHead, head_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """One team's part in the run; `busy` is the time its tasks ran over the time the run took: workers at once."""

    name: str
    tasks: int
    agents: int
    counts: tuple[tuple[words.Mark, int], ...]
    running: int
    slots: float | None
    work_s: float
    waited_s: float
    busy: float | None
    rounds: int
    tokens: int
    usd: float | None
    members: tuple[TaskReport, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentsPage:
    """Everything that `run_agents.html` shows."""

    head: RunHead
    mode: str
    slots: float | None
    busy: float | None
    work_s: float
    teams: tuple[Team, ...]
    models: tuple[tuple[str, Usage], ...]


MEMBERS_SHOWN = 50


def build(row: RunRow, report: RunReport) -> AgentsPage:
    """The page of the run's teams."""
    teams: dict[str, list[TaskReport]] = {}
    for task in report.tasks.values():
        teams.setdefault(task.team, []).append(task)
    work = sum(_ran_s(task) for task in report.tasks.values())
    return AgentsPage(
        head=head_of(row),
        mode=report.mode,
        slots=report.limits.get(AGENTS),
        busy=work / report.wall_s if report.wall_s > 0 else None,
        work_s=work,
        teams=tuple(_team(name, tasks, report) for name, tasks in sorted(teams.items())),
        models=tuple(sorted(report.usage_by_model.items())),
    )


def _team(name: str, tasks: Sequence[TaskReport], report: RunReport) -> Team:
    counts: dict[TaskState, int] = {}
    for task in tasks:
        counts[task.state] = counts.get(task.state, 0) + 1
    usage = sum((task.usage for task in tasks), Usage())
    work = sum(_ran_s(task) for task in tasks)
    return Team(
        name=name,
        tasks=len(tasks),
        agents=sum(task.kind == "agent" for task in tasks),
        counts=words.counts_of(counts),
        running=counts.get(TaskState.RUNNING, 0),
        slots=report.limits.get(f"{TEAM_PREFIX}{name}"),
        work_s=work,
        waited_s=sum(attempt.queued_s or 0.0 for task in tasks for attempt in task.attempt_list),
        busy=work / report.wall_s if report.wall_s > 0 else None,
        rounds=sum(max(0, task.attempts - 1) for task in tasks),
        tokens=usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        usd=usage.usd,
        members=tuple(tasks[:MEMBERS_SHOWN]),
    )


def _ran_s(task: TaskReport) -> float:
    return sum(attempt.duration_s or 0.0 for attempt in task.attempt_list)
