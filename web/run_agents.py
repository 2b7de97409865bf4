"""Who worked in a run: the hierarchy from the run over its teams and their workers to what each of them did.

Which worker did what isn't recorded, only when each attempt ran: each is put on the first worker of its team that was
free, so that there are as many workers as worked side by side. An agent's work that its lead sent back is a round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from maos_bot.model import AGENTS, TEAM_PREFIX, TaskState, Usage
from maos_bot.reporting.report import AttemptReport, RunReport, TaskReport
from maos_bot.store.rows import RunRow
from web import charts, words
from web.run_head import RunHead, head_of

WORKERS_SHOWN: Final = 12  # of each team
PIECES_SHOWN: Final = 400  # of work, in all
NOT_BEGUN_SHOWN: Final = 20
_THINNEST: Final = 0.4  # percent
_SENT_BACK: Final = "not accepted"  # how such an attempt's reason begins


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One attempt in a worker's lane; `x` and `width` in percent of the run."""

    task: str
    attempt: int
    mark: words.Mark
    agent: bool
    label: str
    text: str  # what fits beside its begin
    x: float
    width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """One worker's time; `busy` is the share of the run it worked, None where the run took no time."""

    number: int
    busy: float | None
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """One team's part in the run; `load` is the time its tasks ran over the time the run took: workers at once."""

    name: str
    tasks: int
    agents: int
    counts: tuple[tuple[words.Mark, int], ...]
    slots: float | None
    work_s: float
    waited_s: float
    load: float | None
    sent_back: int
    retries: int
    tokens: int
    usd: float | None
    workers: tuple[Worker, ...]
    more_workers: int
    not_begun: tuple[TaskReport, ...]
    more_not_begun: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentsPage:
    """Everything that `run_agents.html` shows."""

    head: RunHead
    mode: str
    slots: float | None
    load: float | None
    work_s: float
    agents: int
    ticks: tuple[charts.Tick, ...]
    teams: tuple[Team, ...]
    models: tuple[tuple[str, Usage], ...]
    folded: int  # pieces of work that are not drawn


def build(row: RunRow, report: RunReport) -> AgentsPage:
    """The page of the run's teams."""
    teams: dict[str, list[TaskReport]] = {}
    for task in report.tasks.values():
        teams.setdefault(task.team, []).append(task)
    work = sum(_ran_s(task, report) for task in report.tasks.values())
    left = PIECES_SHOWN
    shown = []
    for name, tasks in sorted(teams.items()):
        team = _team(name, tasks, report, room=left)
        left -= sum(len(worker.pieces) for worker in team.workers)
        shown.append(team)
    attempts = sum(len(task.attempt_list) for task in report.tasks.values())
    return AgentsPage(
        head=head_of(row),
        mode=report.mode,
        slots=report.limits.get(AGENTS),
        load=work / report.wall_s if report.wall_s > 0 else None,
        work_s=work,
        agents=sum(task.kind == "agent" for task in report.tasks.values()),
        ticks=charts.ticks(report.wall_s) if report.wall_s > 0 else (),
        teams=tuple(shown),
        models=tuple(sorted(report.usage_by_model.items())),
        folded=attempts - (PIECES_SHOWN - left),
    )


def _team(name: str, tasks: Sequence[TaskReport], report: RunReport, *, room: int) -> Team:
    counts: dict[TaskState, int] = {}
    for task in tasks:
        counts[task.state] = counts.get(task.state, 0) + 1
    usage = sum((task.usage for task in tasks), Usage())
    work = sum(_ran_s(task, report) for task in tasks)
    sent_back = sum(attempt.reason.startswith(_SENT_BACK) for task in tasks for attempt in task.attempt_list)
    lanes = _lanes(tasks, report)
    idle = [task for task in tasks if not task.attempt_list]
    return Team(
        name=name,
        tasks=len(tasks),
        agents=sum(task.kind == "agent" for task in tasks),
        counts=words.counts_of(counts),
        slots=report.limits.get(f"{TEAM_PREFIX}{name}"),
        work_s=work,
        waited_s=sum(attempt.queued_s or 0.0 for task in tasks for attempt in task.attempt_list),
        load=work / report.wall_s if report.wall_s > 0 else None,
        sent_back=sent_back,
        retries=sum(max(0, task.attempts - 1) for task in tasks),
        tokens=usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        usd=usage.usd,
        workers=tuple(_workers(lanes[:WORKERS_SHOWN], report, room=room)),
        more_workers=max(0, len(lanes) - WORKERS_SHOWN),
        not_begun=tuple(idle[:NOT_BEGUN_SHOWN]),
        more_not_begun=max(0, len(idle) - NOT_BEGUN_SHOWN),
    )


_Span = tuple[float, float, TaskReport, AttemptReport]


def _lanes(tasks: Sequence[TaskReport], report: RunReport) -> list[list[_Span]]:
    """The attempts, each in the first lane that is free when it begins."""
    spans = sorted(
        (
            (attempt.started_s, attempt.started_s + _attempt_s(attempt, report), task, attempt)
            for task in tasks
            for attempt in task.attempt_list
            if attempt.started_s is not None
        ),
        key=lambda span: span[:2],
    )
    lanes: list[list[_Span]] = []
    for span in spans:
        lane = next((one for one in lanes if one[-1][1] <= span[0]), None)
        if lane is None:
            lanes.append([span])
        else:
            lane.append(span)
    return lanes


def _workers(lanes: Sequence[Sequence[_Span]], report: RunReport, *, room: int) -> Iterator[Worker]:
    for number, lane in enumerate(lanes, start=1):
        busy = sum(end - start for start, end, _, _ in lane)
        yield Worker(
            number=number,
            busy=min(1.0, busy / report.wall_s) if report.wall_s > 0 else None,
            pieces=tuple(_piece(*span, wall_s=report.wall_s) for span in lane[: max(0, room)]),
        )
        room -= len(lane)


def _piece(start: float, end: float, task: TaskReport, attempt: AttemptReport, *, wall_s: float) -> Piece:
    x = min(100.0, start / wall_s * 100) if wall_s > 0 else 0.0
    width = min(100.0 - x, max(_THINNEST, (end - start) / wall_s * 100)) if wall_s > 0 else 0.0
    mark = words.mark(attempt.state)
    which = f" (attempt {attempt.attempt})" if attempt.attempt > 1 else ""
    why = f": {attempt.reason}" if attempt.reason else ""
    fits = int(width * 1.1)  # letters, on a wide screen
    name = task.title if len(task.title) <= fits else f"{task.title[: fits - 1]}…" if fits > 4 else ""
    return Piece(
        task=task.id,
        attempt=attempt.attempt,
        mark=mark,
        agent=task.kind == "agent",
        label=f"{task.title}{which}, {mark.word.lower()}, {words.duration(end - start)}{why}",
        text=name,
        x=round(x, 3),
        width=round(width, 3),
    )


def _ran_s(task: TaskReport, report: RunReport) -> float:
    return sum(_attempt_s(attempt, report) for attempt in task.attempt_list)


def _attempt_s(attempt: AttemptReport, report: RunReport) -> float:
    if attempt.duration_s is not None:
        return attempt.duration_s
    return max(0.0, report.wall_s - attempt.started_s) if attempt.started_s is not None else 0.0
