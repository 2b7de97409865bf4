"""What the list of runs shows: filters, the strip of the last runs, the table and the links to older ones."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from maos_bot.model import RunStatus, TaskState
from maos_bot.store.queries import Queries
from maos_bot.store.rows import LOST, RunFilter, RunRow
from web import charts, words

PAGE_SIZE: Final = 50
STRIP_SIZE: Final = 30
STRIP_HEIGHT: Final = 64.0
BASELINE_RUNS: Final = 10  # as many successful runs make the duration that a run is compared with
_BASELINE_WINDOW: Final = 250

STATES: Final = tuple(words.mark(state) for state in (*(str(status) for status in RunStatus), LOST))
SINCES: Final = {
    "": ("Any time", None),
    "24h": ("Last 24 hours", words.DAY),
    "7d": ("Last 7 days", 7 * words.DAY),
    "30d": ("Last 30 days", 30 * words.DAY),
    "90d": ("Last 90 days", 90 * words.DAY),
}


class Args(Protocol):
    """The query string's values, by name."""

    def get(self, key: str, /) -> str | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The filters as they were typed."""

    text: str = ""
    status: str = ""
    branch: str = ""
    pr: str = ""
    since: str = ""
    min: str = ""
    before: str = ""  # the id of the last run of the page before

    @property
    def is_filtered(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self) if field.name != "before")

    def query(self, *, before: str = "") -> dict[str, str]:
        """The shortest query string that leads here, or to the page after run `before`."""
        form = replace(self, before=before)
        return {field.name: getattr(form, field.name) for field in fields(form) if getattr(form, field.name)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One run in the table; unknown figures are None."""

    run_id: str
    name: str
    mark: words.Mark
    trigger: str
    branch: str
    pull_request: int | None
    sha: str
    started_at: float
    duration_s: float | None
    change: str
    change_class: str
    counts: tuple[tuple[words.Mark, int], ...]
    tokens: int
    usd: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StripBar:
    """One run in the strip: colour, outline and mark say its state, the height its duration."""

    run_id: str
    mark: words.Mark
    label: str
    y: float
    height: float
    hollow: bool
    dashed: bool
    crossed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The last runs in one line."""

    ended: int
    succeeded: int
    failed: int
    running: int
    median_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunsPage:
    """Everything that `runs.html` shows."""

    form: Form
    problems: Mapping[str, str]
    lines: tuple[Line, ...]
    bars: tuple[StripBar, ...]
    longest_s: float | None
    summary: Summary | None
    branches: tuple[str, ...]
    first_url: str
    next_url: str
    states: tuple[words.Mark, ...] = STATES
    sinces: tuple[tuple[str, str], ...] = tuple((value, word) for value, (word, _) in SINCES.items())

    @property
    def filtered(self) -> bool:
        return self.form.is_filtered

    @property
    def is_later_page(self) -> bool:
        return bool(self.form.before)


def read_form(args: Args, *, now: float) -> tuple[Form, RunFilter, dict[str, str]]:
    """The form as typed, the filter it means, and what is wrong with it by field, in words."""
    form = Form(**{field.name: (args.get(field.name) or "").strip()[:250] for field in fields(Form)})
    problems: dict[str, str] = {}
    pull_request: int | None = None
    if form.pr:
        digits = form.pr.lstrip("#")
        if digits.isascii() and digits.isdigit() and len(digits) < 12:
            pull_request = int(digits)
        else:
            problems["pr"] = "The pull request is a number, such as 412."
    min_duration = words.parse_duration(form.min) if form.min else None
    if form.min and min_duration is None:
        problems["min"] = "The least duration is a time such as 90s, 2m or 1h 30m."
    since = _since(form.since, now=now)
    if form.since and since is None:
        problems["since"] = "Since is one of the choices, or a day such as 2026-11-24."
    if form.status and form.status not in {mark.state for mark in STATES}:
        problems["status"] = "There is no such state."
    where = RunFilter(
        text=form.text,
        status=form.status or None,
        branch=form.branch or None,
        pull_request=pull_request,
        since=since,
        min_duration_s=min_duration,
    )
    return form, RunFilter() if problems else where, problems


def build(
    queries: Queries,
    *,
    now: float,
    form: Form,
    where: RunFilter,
    problems: Mapping[str, str],
    link: Callable[..., str],
) -> RunsPage | None:
    """The page for one filter; None where the database holds no run at all."""
    latest = queries.runs(limit=STRIP_SIZE)
    if not latest:
        return None
    rows = queries.runs(where, limit=PAGE_SIZE + 1, before=form.before or None)
    shown = rows[:PAGE_SIZE]
    older = queries.runs(RunFilter(status="succeeded"), limit=_BASELINE_WINDOW, before=shown[0].run_id) if shown else []
    durations = [took for row in latest if (took := lasted(row, now)) is not None]
    return RunsPage(
        form=form,
        problems=problems,
        lines=tuple(_line(row, older, now) for row in shown),
        bars=_bars(latest, now),
        longest_s=max(durations, default=None),
        summary=_summary(latest),
        branches=tuple(queries.values("branch")),
        first_url=link(form) if form.before else "",
        next_url=link(form, before=shown[-1].run_id) if len(rows) > PAGE_SIZE else "",
    )


def lasted(row: RunRow, now: float) -> float | None:
    """How long a run took, or has taken so far, in seconds; None where it was lost and nobody knows."""
    if row.wall_s is not None:
        return row.wall_s
    return max(0.0, now - row.started_at) if row.status == RunStatus.RUNNING else None


def trigger_words(event: str, actor: str) -> str:
    """What set a run off, in words."""
    what = "started by hand" if event in {"", "local"} else event.replace("_", " ")
    return f"{what} by {actor}" if actor else what


def counts_of(tasks: Mapping[TaskState, int]) -> tuple[tuple[words.Mark, int], ...]:
    """How many tasks are in each state, with the state's mark, bad news first."""
    order = (TaskState.FAILED, TaskState.TIMED_OUT, TaskState.UPSTREAM_FAILED, TaskState.CANCELLED, *TaskState)
    return tuple((words.mark(state), tasks[state]) for state in dict.fromkeys(order) if tasks.get(state))


def _since(text: str, *, now: float) -> float | None:
    if text in SINCES:
        seconds = SINCES[text][1]
        return None if seconds is None else now - seconds
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _line(row: RunRow, older: Sequence[RunRow], now: float) -> Line:
    baseline = _baseline(row, older)
    wall = row.wall_s if row.status == RunStatus.SUCCEEDED else None
    change = words.change(wall, baseline)
    moved = (wall - baseline) / baseline if wall is not None and baseline else 0.0
    return Line(
        run_id=row.run_id,
        name=row.name or row.run_id,
        mark=words.mark(row.status),
        trigger=trigger_words(row.event, row.actor),
        branch=row.branch,
        pull_request=row.pull_request,
        sha=row.sha,
        started_at=row.started_at,
        duration_s=lasted(row, now),
        change=change,
        change_class="slower" if moved >= 0.1 else "faster" if moved <= -0.1 else "muted",
        counts=counts_of(row.tasks),
        tokens=row.tokens,
        usd=None if row.unpriced else row.usd,
    )


def _baseline(row: RunRow, older: Sequence[RunRow]) -> float | None:
    """The median duration of the successful runs of the same name and repository before this one, in seconds."""
    alike = [
        other.wall_s
        for other in older
        if other.wall_s is not None
        and other.started_at < row.started_at
        and (other.name, other.repository) == (row.name, row.repository)
    ]
    return statistics.median(alike[:BASELINE_RUNS]) if alike else None


def _bars(latest: Sequence[RunRow], now: float) -> tuple[StripBar, ...]:
    rows = list(reversed(latest))
    bars = charts.strip([lasted(row, now) for row in rows], height=STRIP_HEIGHT)
    return tuple(
        StripBar(
            run_id=row.run_id,
            mark=words.mark(row.status),
            label=_bar_label(row, now),
            y=bar.y,
            height=bar.height,
            hollow=row.status not in {RunStatus.SUCCEEDED, RunStatus.FAILED},
            dashed=row.status in {RunStatus.RUNNING, LOST},
            crossed=row.status == RunStatus.FAILED,
        )
        for row, bar in zip(rows, bars, strict=True)
    )


def _bar_label(row: RunRow, now: float) -> str:
    what = f"#{row.pull_request} {row.branch}" if row.pull_request is not None else row.branch or row.name
    took = lasted(row, now)
    length = f", {words.duration(took)}" if took is not None else ""
    return f"{words.mark(row.status).word}: {what}{length}, {words.instant(row.started_at)}"


def _summary(latest: Sequence[RunRow]) -> Summary:
    ended = [row for row in latest if row.status != RunStatus.RUNNING]
    good = [row for row in ended if row.status == RunStatus.SUCCEEDED]
    took = [row.wall_s for row in good if row.wall_s is not None]
    return Summary(
        ended=len(ended),
        succeeded=len(good),
        failed=sum(row.status == RunStatus.FAILED for row in ended),
        running=len(latest) - len(ended),
        median_s=statistics.median(took) if took else None,
    )
