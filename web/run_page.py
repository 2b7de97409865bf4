"""What the page of one run shows, from the same `RunReport` that `maos show --json` prints."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from markupsafe import Markup

from maos_bot.model import RunStatus, TaskState
from maos_bot.reporting.report import RunReport, TaskReport
from maos_bot.store.queries import Queries
from maos_bot.store.rows import LOST, Baseline, RunRow
from web import ansi, charts, timeline, words
from web.findings import Findings, findings_of
from web.run_head import RunHead, head_of

FAILURES_SHOWN: Final = 5
LOG_LINES: Final = 14
FOLD: Final = 200  # as many tasks are shown each; more are folded by stage
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
    usd: float | None
    queued_s: float | None
    duration_s: float | None
    estimate_s: float | None
    peak_memory_mb: float | None
    attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which of the tasks are shown: of one stage, in one state, from the `start`th on; all where nothing is asked."""

    stage: int | None = None
    state: str = ""
    start: int = 0

    @property
    def made(self) -> bool:
        return self.stage is not None or bool(self.state)

    def query(self, start: int = 0) -> dict[str, Any]:
        """The query string that leads here, or to other tasks of the same choice."""
        values = {"stage": self.stage, "state": self.state or None, "start": start or None}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The tasks on the page: each of them, or a line for each stage where there are too many."""

    choice: Choice
    total: int
    matching: int
    chart: charts.Timeline
    lanes: tuple[timeline.LaneView, ...]
    bands: tuple[timeline.StageBand, ...]
    stages: tuple[timeline.StageLine, ...]
    tasks: tuple[TaskLine, ...]
    states: tuple[tuple[words.Mark, int], ...]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def band_rows(self) -> int:
        return max((band.row + 1 for band in self.bands), default=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPage:
    """Everything that `run.html` shows; figures as in `maos show --json`."""

    head: RunHead
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
    saved_s: float | None  # of tasks taken from the cache
    mode: str
    because: str
    budget_usd: float | None
    baseline: Baseline | None
    change: str
    findings: Findings
    shown: Shown
    about: tuple[tuple[str, str], ...]


def build(queries: Queries, row: RunRow, report: RunReport, *, now: float, choice: Choice) -> RunPage:
    """The page of a run, as of `now` (seconds since the epoch)."""
    run_id = row.run_id
    figures = replace(report, tasks={}).to_json() | {
        "sequential_s": rounded(report.sequential_s),
        "speedup": rounded(report.speedup),
    }
    failures = report.failures
    usage = figures["usage"]
    baseline = queries.baseline(row)
    return RunPage(
        head=head_of(row),
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
        saved_s=rounded(report.saved_s),
        mode=report.mode,
        because=report.chosen_because,
        budget_usd=report.budget.get("usd"),
        baseline=baseline,
        change=words.change(
            row.wall_s if row.status == RunStatus.SUCCEEDED else None, baseline.wall_s if baseline else None
        ),
        findings=findings_of(report.findings, row),
        shown=_shown(report, choice, live=row.status == RunStatus.RUNNING),
        about=_about(report, row),
    )


def rounded(value: float | None) -> float | None:
    """As figures are rounded in `maos show --json`."""
    return None if value is None else round(value, 6)


def _shown(report: RunReport, choice: Choice, *, live: bool) -> Shown:
    tasks = [
        task
        for task in report.tasks.values()
        if (choice.stage is None or task.stage == choice.stage) and (not choice.state or task.state == choice.state)
    ]
    common: dict[str, Any] = {"choice": choice, "total": len(report.tasks), "matching": len(tasks)}
    common["states"] = words.counts_of(report.counts)
    if len(tasks) > FOLD and not choice.made:
        chart, stages = timeline.stage_lines(report, live=live)
        return Shown(chart=chart, lanes=(), bands=(), stages=stages, tasks=(), before=None, after=None, **common)
    start = min(choice.start, max(0, len(tasks) - 1)) // FOLD * FOLD
    some = tasks[start : start + FOLD]
    chart = timeline.chart_of(report, some, live=live)
    places = {id_: index for index, id_ in enumerate(report.tasks)}
    return Shown(
        chart=chart,
        lanes=timeline.lanes(report, chart),
        bands=timeline.stage_bands(report, chart),
        stages=(),
        tasks=tuple(_task_line(places[task.id], task) for task in some),
        before=choice.query(start - FOLD) if start else None,
        after=choice.query(start + FOLD) if start + FOLD < len(tasks) else None,
        **common,
    )


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


def _task_line(index: int, task: TaskReport) -> TaskLine:
    shown = task.to_json()
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
        usd=shown["usage"]["usd"],
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
