"""The timeline of a run: its report brought into the geometry's terms, and each line of it in words."""

from __future__ import annotations

from dataclasses import dataclass

from maos_bot.reporting.report import RunReport, TaskReport
from web import charts, words


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


def chart_of(report: RunReport, *, live: bool) -> charts.Timeline:
    """The chart of a run, a waterfall; `live` marks the present, and leaves the critical path until there is an end."""
    path = frozenset() if report.running else frozenset(step.task for step in report.critical_path)
    return charts.timeline(
        [_lane_of(task, critical=task.id in path) for task in _by_start(report)],
        wall_s=report.wall_s,
        predicted_s=report.predicted.get("makespan_s"),
        running=live,
    )


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
                time=words.duration(ran[-1].seconds) if ran else words.UNKNOWN,
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


def _by_start(report: RunReport) -> list[TaskReport]:
    """In order of their starts, then the ones to come as planned: a waterfall."""

    def key(item: tuple[int, TaskReport]) -> tuple[bool, float, int]:
        index, task = item
        start = task.started_s if task.started_s is not None else task.predicted_start_s
        return task.started_s is None, start if start is not None else float("inf"), index

    return [task for _, task in sorted(enumerate(report.tasks.values()), key=key)]


def _lane_label(task: TaskReport, row: charts.Row) -> str:
    parts = [f"{task.title}: {words.mark(row.state).word.lower()}"]
    waited = waited_words(task)
    if waited:
        parts.append(waited)
    runs = [segment for segment in row.segments if segment.kind == charts.RUN]
    for segment in runs:
        which = f"attempt {segment.attempt} " if len(runs) > 1 else ""
        parts.append(f"{which}ran {words.duration(segment.seconds)}")
    if task.started_s is not None:
        parts.append(f"from {words.duration(task.started_s)}")
    start, finish = task.predicted_start_s, task.predicted_finish_s
    if start is not None and finish is not None:
        parts.append(f"predicted {words.duration(finish - start)} from {words.duration(start)}")
    if row.critical:
        parts.append("on the critical path")
    return ", ".join(parts)
