"""What the page of one run shows, from the same `RunReport` that `maos show --json` prints."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from maos_bot.model import RunStatus, TaskState
from maos_bot.reporting.report import ReportBuilder, RunReport, TaskReport
from maos_bot.store.queries import Queries
from maos_bot.store.rows import LOST, RunRow
from web import ansi, charts, timeline, words
from web.runs_page import trigger_words

FAILURES_SHOWN: Final = 5
LOG_LINES: Final = 14
_LOG_BYTES: Final = 16 * 1024
_NOT_REACHED: Final = (TaskState.UPSTREAM_FAILED, TaskState.CANCELLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A task that failed, with the end of its log."""

    index: int
    id: str
    title: str
    mark: words.Mark
    reason: str
    allowed: bool
    log: Markup


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One piece of the progress bar, in percent."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a running run is, by tasks."""

    label: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeItem:
    """One duration of the comparison; `share` is percent of the longest."""

    key: str
    name: str
    kind: str
    seconds: float | None
    share: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskLine:
    """One task in the table; figures as in `maos show --json`."""

    index: int
    id: str
    title: str
    mark: words.Mark
    team: str
    stage: int
    note: str
    queued_s: float | None
    duration_s: float | None
    estimate_s: float | None
    peak_memory_mb: float | None
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPage:
    """Everything that `run.html` shows; figures as in `maos show --json`."""

    run_id: str
    name: str
    mark: words.Mark
    live: bool
    last_seq: int
    trigger: str
    branch: str
    sha: str
    pull_request: int | None
    workflow_url: str
    started_at: float | None
    headline: str
    explanation: str
    progress: Progress | None
    failures: tuple[Failure, ...]
    more_failures: int
    times: tuple[TimeItem, ...]
    speedup: float | None
    usd: float | None
    tokens: int
    peak_memory_mb: float | None
    peak_cpu_percent: float | None
    mode: str
    because: str
    chart: charts.Timeline
    lanes: tuple[timeline.LaneView, ...]
    tasks: tuple[TaskLine, ...]
    about: tuple[tuple[str, str], ...]
    spec_text: str


def build(queries: Queries, run_id: str, *, now: float) -> RunPage:
    """The page of the run with this full id, as of `now` (seconds since the epoch)."""
    row = queries.run(run_id)
    report = report_of_run(queries, row, now=now)
    figures = report.to_json()
    failures = report.failures
    chart = timeline.chart_of(report, live=row.status == RunStatus.RUNNING)
    usage = figures["usage"]
    return RunPage(
        run_id=run_id,
        name=report.name or run_id,
        mark=words.mark(row.status),
        live=row.status == RunStatus.RUNNING,
        last_seq=report.last_seq,
        trigger=_trigger(report),
        branch=report.trigger.ref,
        sha=report.trigger.sha,
        pull_request=report.trigger.pull_request,
        workflow_url=_web_address(report.trigger.url),
        started_at=report.started_at,
        headline=headline(report, row),
        explanation=explanation(report, row, now=now),
        progress=_progress(report) if row.status == RunStatus.RUNNING else None,
        failures=tuple(
            Failure(
                index=index,
                id=task.id,
                title=task.title,
                mark=words.mark(task.state),
                reason=task.reason,
                allowed=task.continue_on_error,
                log=last_lines(queries.iter_output(run_id, task.id)),
            )
            for index, task in enumerate(failures[:FAILURES_SHOWN])
        ),
        more_failures=max(0, len(failures) - FAILURES_SHOWN),
        times=_times(figures, running=report.running),
        speedup=figures["speedup"],
        usd=usage["usd"],
        tokens=sum(value for name, value in usage.items() if name.endswith("_tokens")),
        peak_memory_mb=figures["peak"]["memory_mb"],
        peak_cpu_percent=figures["peak"]["cpu_percent"],
        mode=report.mode,
        because=report.chosen_because,
        chart=chart,
        lanes=timeline.lanes(report, chart),
        tasks=tuple(_task_line(index, task, figures) for index, task in enumerate(report.tasks.values())),
        about=_about(report, row),
        spec_text=queries.spec_text(run_id),
    )


def report_of_run(queries: Queries, row: RunRow, *, now: float | None) -> RunReport:
    """The report of a stored run; a running one is as long as it has lasted by `now`, a lost one ends where it does."""
    builder = ReportBuilder()
    for event in queries.iter_events(row.run_id, with_output=False):
        builder.add(event)
    return builder.report(now=now if row.status == RunStatus.RUNNING else None)


def headline(report: RunReport, row: RunRow) -> str:
    """The outcome in one line: what failed, or how much succeeded."""
    total = len(report.tasks)
    if row.status == LOST:
        return "Lost: it gave no sign of life any more"
    if report.running:
        going = report.counts.get(TaskState.RUNNING, 0)
        return f"{report.done} of {words.plural(total, 'task')} done, {going} running"
    bad = [task.title for task in report.failures if not task.continue_on_error]
    if bad:
        many = f"{bad[0]} and {words.plural(len(bad) - 1, 'more task')}" if len(bad) > 2 else " and ".join(bad)
        return f"{many} failed"
    if report.status == RunStatus.SUCCEEDED:
        good = sum(task.good for task in report.tasks.values())
        whole = "The one task succeeded" if total == 1 else f"All {total} tasks succeeded"
        return whole if good == total else f"Succeeded: {good} of {words.plural(total, 'task')}"
    return "Stopped before its end" if report.status == RunStatus.CANCELLED else words.mark(report.status).word


def explanation(report: RunReport, row: RunRow, *, now: float) -> str:
    """What a reader asks next, in a sentence or two."""
    if row.status == LOST:
        return (
            f"Its last event came {words.ago(row.last_event_at, now)}. The machine that ran it is gone or stuck; "
            "what it had recorded by then is below."
        )
    if report.running:
        return _time_left(report)
    parts: list[str] = []
    if report.status == RunStatus.SUCCEEDED:
        if (report.speedup or 0.0) > 1.05:
            took, in_turn = words.duration(report.wall_s), words.duration(report.sequential_s)
            parts.append(f"It took {took}; one after another the tasks would have taken {in_turn}.")
    elif report.reason and report.status != RunStatus.FAILED:
        parts.append(f"{report.reason[:1].upper()}{report.reason[1:]}.")
    not_reached = sum(report.counts.get(state, 0) for state in _NOT_REACHED)
    if not_reached:
        how = "stopped or never started" if report.status == RunStatus.CANCELLED else "not reached because of it"
        parts.append(f"{words.plural(not_reached, 'task')} {how}.")
    retried = [task.title for task in report.tasks.values() if task.good and task.attempts > 1]
    if retried:
        parts.append(f"Succeeded on a later attempt: {', '.join(retried[:4])}{', …' if len(retried) > 4 else ''}.")
    if skipped := report.counts.get(TaskState.SKIPPED, 0):
        parts.append(f"{words.plural(skipped, 'task')} skipped.")
    return " ".join(parts)


def _time_left(report: RunReport) -> str:
    planned = report.predicted.get("makespan_s")
    if not planned:
        return ""
    left = planned - report.wall_s
    if left > 0:
        return f"By the plan it ends in about {words.duration(left)}."
    return f"By the plan it would have ended {words.duration(-left)} ago."


def last_lines(pieces: Iterable[str], *, lines: int = LOG_LINES) -> Markup:
    """The last lines of a log, safe to show; memory is bounded whatever the log's length."""
    text, _ = tail(pieces, limit=_LOG_BYTES)
    return ansi.to_markup("\n".join(text.rstrip().split("\n")[-lines:]))


def tail(pieces: Iterable[str], *, limit: int) -> tuple[str, int]:
    """The last `limit` characters or a little more, cut at a line's begin, and how many there are in all."""
    kept: deque[str] = deque()
    size = total = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        total += len(piece)
        while size - len(kept[0]) >= limit:
            size -= len(kept.popleft())
    text = "".join(kept)
    if len(text) > limit:
        text = text[-limit:]
        text = text.partition("\n")[2] or text
    return text, total


def _task_line(index: int, task: TaskReport, figures: Mapping[str, Any]) -> TaskLine:
    shown = figures["tasks"][task.id]
    note = task.reason or timeline.waited_words(task)
    if task.retry_in_s is not None:
        note = f"next attempt in {words.duration(task.retry_in_s)}: {task.reason}"
    return TaskLine(
        index=index,
        id=task.id,
        title=task.title,
        mark=words.mark(task.state),
        team=task.team,
        stage=task.stage,
        note=note,
        queued_s=shown["queued_s"],
        duration_s=shown["duration_s"],
        estimate_s=shown["estimate_s"],
        peak_memory_mb=shown["peak_memory_mb"],
        attempts=shown["attempts"],
    )


def _times(figures: Mapping[str, Any], *, running: bool) -> tuple[TimeItem, ...]:
    predicted = figures["predicted"]
    seconds: dict[str, float | None] = {
        "wall_s": figures["wall_s"],
        "makespan_s": predicted.get("makespan_s"),
        "sequential_s": None if running else figures["sequential_s"],
        "lower_bound_s": predicted.get("lower_bound_s"),
    }
    names = {
        "wall_s": ("So far" if running else "This run", "this"),
        "makespan_s": ("Predicted", "plan"),
        "sequential_s": ("One after another", "plan"),
        "lower_bound_s": ("Plan's lower bound", "floor"),
    }
    share = charts.shares(seconds)
    return tuple(
        TimeItem(key=key, name=names[key][0], kind=names[key][1], seconds=value, share=share[key])
        for key, value in seconds.items()
    )


def _progress(report: RunReport) -> Progress:
    total = max(1, len(report.tasks))
    bad = sum(task.ended and not task.good for task in report.tasks.values())
    sizes: Sequence[tuple[str, int]] = (
        ("done", report.done - bad),
        ("bad", bad),
        ("going", report.counts.get(TaskState.RUNNING, 0)),
    )
    parts: list[Part] = []
    x = 0.0
    for kind, number in sizes:
        width = number / total * 100
        if number:
            parts.append(Part(kind=kind, x=round(x, 3), width=round(width, 3)))
        x += width
    return Progress(label=f"{report.done} of {words.plural(len(report.tasks), 'task')} done", parts=tuple(parts))


def _about(report: RunReport, row: RunRow) -> tuple[tuple[str, str], ...]:
    limits = ", ".join(
        f"{name} {value:g}" if value is not None else f"{name} unlimited" for name, value in report.limits.items()
    )
    factor = report.parallelism_factor
    pairs = (
        ("Run", report.run_id),
        ("Repository", report.trigger.repository),
        ("Commit", report.trigger.sha),
        ("Spec", f"{report.spec_path} ({report.spec_digest[:12]})" if report.spec_digest else report.spec_path),
        ("Strategy", report.strategy),
        ("Parallelism factor", f"{factor:.2f}" if factor is not None else ""),
        ("Limits", limits),
        ("Machine", ", ".join(f"{name} {value}" for name, value in report.machine.items())),
        ("Started", words.instant(report.started_at) if report.started_at is not None else ""),
        ("Ended", words.instant(report.finished_at) if report.finished_at is not None else ""),
        ("Exit code", "" if report.exit_code is None else str(report.exit_code)),
        ("Events", f"{row.events}" if row.is_complete else f"{row.events} of {row.last_seq}: some are missing"),
        ("MAOS bot", report.version),
        ("As JSON", f"maos show {report.run_id} --json"),
    )
    return tuple((name, value) for name, value in pairs if value)


def _trigger(report: RunReport) -> str:
    trigger = report.trigger
    if trigger.pull_request is not None and trigger.event.startswith("pull_request"):
        return f"by {trigger.actor}" if trigger.actor else ""  # the number beside it says the rest
    return trigger_words(trigger.event, trigger.actor)


def _web_address(url: str) -> str:
    """The address where it leads to the web: a link must not run anything."""
    return url if url.startswith(("https://", "http://")) else ""
