"""The timeline of a run: its report brought into the geometry's terms, and each line of it in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from maos_bot.model import BAD_STATES, TaskState
from maos_bot.reporting.report import RunReport, TaskReport
from web import charts, words

_MOST_BANDS: Final = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneView:
    """One line of the timeline, with its words."""

    index: int
    id: str
    title: str
    mark: words.Mark
    row: charts.Row
    label: str
    time: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StageBand:
    """When a stage's tasks ran; `row` keeps stages that overlap apart."""

    stage: int
    x: float
    width: float
    row: int
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StageLine:
    """All tasks of a stage in one line, for runs with too many tasks to show each."""

    stage: int
    mark: words.Mark
    tasks: int
    counts: tuple[tuple[words.Mark, int], ...]
    row: charts.Row
    label: str
    started_s: float | None
    ended_s: float | None
    work_s: float


def chart_of(report: RunReport, tasks: Sequence[TaskReport], *, live: bool) -> charts.Timeline:
    """The chart of these tasks of a run, a waterfall; `live` marks the present, and leaves the critical path until
    there is an end."""
    path = critical(report)
    return charts.timeline(
        [_lane_of(task, critical=task.id in path) for task in _by_start(tasks)],
        wall_s=report.wall_s,
        predicted_s=report.predicted.get("makespan_s"),
        running=live,
    )


def critical(report: RunReport) -> frozenset[str]:
    """The tasks that made the run as long as it was; none before there is an end."""
    return frozenset() if report.running else frozenset(step.task for step in report.critical_path)


def stage_bands(report: RunReport, chart: charts.Timeline) -> tuple[StageBand, ...]:
    """The spans of the stages, in rows so that none lies on another; none for a run of one stage or of very many."""
    spans = {stage: span for stage, tasks in by_stage(report).items() if (span := _span(tasks, report.wall_s))}
    if not 1 < len(spans) <= _MOST_BANDS:
        return ()
    ends: list[float] = []
    bands = []
    for stage, (start, end) in sorted(spans.items(), key=lambda item: (item[1], item[0])):
        row = next((index for index, until in enumerate(ends) if until <= start), len(ends))
        ends[row : row + 1] = [end]
        x = min(100.0, start / chart.span_s * 100)
        width = max(0.4, min(100.0 - x, (end - start) / chart.span_s * 100))
        label = f"Stage {stage}: {words.duration(end - start)} from {words.duration(start)}"
        bands.append(StageBand(stage=stage, x=round(x, 3), width=round(width, 3), row=row, label=label))
    return tuple(bands)


def by_stage(report: RunReport) -> dict[int, list[TaskReport]]:
    """The tasks of each stage, in order."""
    stages: dict[int, list[TaskReport]] = {}
    for task in report.tasks.values():
        stages.setdefault(task.stage, []).append(task)
    return dict(sorted(stages.items()))


def stage_lines(report: RunReport, *, live: bool) -> tuple[charts.Timeline, tuple[StageLine, ...]]:
    """The chart with a line for each stage, and the lines in words."""
    path = critical(report)
    stages = by_stage(report)
    chart = charts.timeline(
        [
            _stage_lane(stage, tasks, report, critical=not path.isdisjoint(t.id for t in tasks))
            for stage, tasks in stages.items()
        ],
        wall_s=report.wall_s,
        predicted_s=report.predicted.get("makespan_s"),
        running=live,
    )
    lines = []
    for (stage, tasks), row in zip(stages.items(), chart.rows, strict=True):
        span = _span(tasks, report.wall_s)
        counts = words.counts_of(_count(tasks))
        tally = ", ".join(f"{number} {mark.word.lower()}" for mark, number in counts)
        lines.append(
            StageLine(
                stage=stage,
                mark=words.mark(row.state),
                tasks=len(tasks),
                counts=counts,
                row=row,
                label=f"Stage {stage}: {tally}"
                + (f", from {words.duration(span[0])} to {words.duration(span[1])}" if span else ""),
                started_s=span[0] if span else None,
                ended_s=span[1] if span else None,
                work_s=sum(task.duration_s or 0.0 for task in tasks),
            )
        )
    return chart, tuple(lines)


def lanes(report: RunReport, chart: charts.Timeline) -> tuple[LaneView, ...]:
    """The lines of the chart with their words, in its order."""
    places = {id_: index for index, id_ in enumerate(report.tasks)}
    views = []
    for row in chart.rows:
        task = report.tasks[row.id]
        ran = [segment for segment in row.segments if segment.kind == charts.RUN]
        views.append(
            LaneView(
                index=places[row.id],
                id=row.id,
                title=task.title,
                mark=words.mark(row.state),
                row=row,
                label=_lane_label(task, row),
                time=words.duration(_took(task, ran[-1])) if ran else words.UNKNOWN,
            )
        )
    return tuple(views)


def waited_words(task: TaskReport) -> str:
    """Why a task waited after its needs were met, and what let it go on; empty where it didn't."""
    if not task.queued_s or task.queued_s < 0.05:
        return ""
    reason = f" ({task.wait_reason})" if task.wait_reason else ""
    freed = f", until {task.freed_by} ended" if task.freed_by else ""
    return f"waited {words.duration(task.queued_s)}{reason}{freed}"


def _lane_of(task: TaskReport, *, critical: bool) -> charts.Lane:
    return charts.Lane(
        id=task.id,
        state=str(task.state),
        ready_s=task.ready_s,
        attempts=tuple(
            charts.AttemptSpan(
                attempt=attempt.attempt,
                started_s=attempt.started_s,
                finished_s=attempt.finished_s,
                state=str(attempt.state),
            )
            for attempt in task.attempt_list
            if attempt.started_s is not None
        ),
        ended_s=task.finished_s,
        predicted_start_s=task.predicted_start_s,
        predicted_finish_s=task.predicted_finish_s,
        critical=critical,
    )


def _stage_lane(stage: int, tasks: Sequence[TaskReport], report: RunReport, *, critical: bool) -> charts.Lane:
    span = _span(tasks, report.wall_s)
    state = state_of(tasks)
    planned = [(t.predicted_start_s, t.predicted_finish_s) for t in tasks]
    starts = [start for start, _ in planned if start is not None]
    ends = [end for _, end in planned if end is not None]
    attempts = (charts.AttemptSpan(attempt=1, started_s=span[0], finished_s=span[1], state=str(state)),) if span else ()
    return charts.Lane(
        id=str(stage),
        state=str(state),
        ready_s=span[0] if span else None,
        attempts=attempts,
        ended_s=span[1] if span else None,
        predicted_start_s=min(starts, default=None),
        predicted_finish_s=max(ends, default=None),
        critical=critical,
    )


def _span(tasks: Iterable[TaskReport], wall_s: float) -> tuple[float, float] | None:
    ran = [task for task in tasks if task.started_s is not None]
    if not ran:
        return None
    return min(t.started_s or 0.0 for t in ran), max(wall_s if t.finished_s is None else t.finished_s for t in ran)


def _count(tasks: Iterable[TaskReport]) -> dict[TaskState, int]:
    counts: dict[TaskState, int] = {}
    for task in tasks:
        counts[task.state] = counts.get(task.state, 0) + 1
    return counts


def state_of(tasks: Sequence[TaskReport]) -> TaskState:
    """One state for many tasks: bad news first, then what still happens."""
    counts = _count(tasks)
    for state in (*BAD_STATES, TaskState.RUNNING, TaskState.UPSTREAM_FAILED, TaskState.CANCELLED, TaskState.READY):
        if counts.get(state):
            return state
    return max(counts, key=lambda state: counts[state]) if counts else TaskState.PENDING


def _by_start(tasks: Iterable[TaskReport]) -> list[TaskReport]:
    """In order of their starts, then the ones to come as planned: a waterfall."""

    def key(item: tuple[int, TaskReport]) -> tuple[bool, float, int]:
        index, task = item
        start = task.started_s if task.started_s is not None else task.predicted_start_s
        return task.started_s is None, start if start is not None else float("inf"), index

    return [task for _, task in sorted(enumerate(tasks), key=key)]


def _took(task: TaskReport, segment: charts.Segment) -> float:
    """What an attempt took as it was measured, which the times of its events come near; so far, as it is drawn."""
    measured = {attempt.attempt: attempt.duration_s for attempt in task.attempt_list}.get(segment.attempt)
    return segment.seconds if measured is None else measured


def _lane_label(task: TaskReport, row: charts.Row) -> str:
    parts = [f"{task.title}: {words.mark(row.state).word.lower()}"]
    waited = waited_words(task)
    if waited:
        parts.append(waited)
    runs = [segment for segment in row.segments if segment.kind == charts.RUN]
    for segment in runs:
        which = f"attempt {segment.attempt} " if len(runs) > 1 else ""
        parts.append(f"{which}ran {words.duration(_took(task, segment))}")
    if task.started_s is not None:
        parts.append(f"from {words.duration(task.started_s)}")
    start, finish = task.predicted_start_s, task.predicted_finish_s
    if start is not None and finish is not None:
        parts.append(f"predicted {words.duration(finish - start)} from {words.duration(start)}")
    if row.critical:
        parts.append("on the critical path")
    return ", ".join(parts)
