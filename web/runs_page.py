"""What the list of runs shows: filters, the strip of the last runs, the table and the links to older ones."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from maos_bot.model import RunStatus
from maos_bot.store.queries import Queries
from maos_bot.store.rows import LOST, Baseline, RunFilter, RunRow, RunSort
from web import charts, words
from web.run_head import trigger_of
from web.run_list import SINCES, SORTS, STATES, Form

PAGE_SIZE: Final = 50
STRIP_SIZE: Final = 30
STRIP_HEIGHT: Final = 64.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One run in the table; unknown figures are None."""

    run_id: str
    name: str
    mark: words.Mark
    repository: str
    trigger: str
    branch: str
    pull_request: int | None
    sha: str
    started_at: float
    duration_s: float | None
    change: str
    change_class: str
    baseline: Baseline | None
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
class Column:
    """The head of a column that the list can be ordered by: where a click leads, and the order it is in now."""

    url: str
    direction: str  # `ascending`, `descending`, or empty


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
    repositories: tuple[str, ...]
    columns: Mapping[str, Column]
    csv_url: str
    json_url: str
    first_url: str
    next_url: str
    sorts: tuple[tuple[str, str], ...] = tuple((value, word) for value, (word, *_) in SORTS.items())
    states: tuple[words.Mark, ...] = STATES
    sinces: tuple[tuple[str, str], ...] = tuple((value, word) for value, (word, _) in SINCES.items())

    @property
    def filtered(self) -> bool:
        return self.form.is_filtered

    @property
    def more_open(self) -> bool:
        """Whether one of the filters is used that are folded away."""
        form = self.form
        return any((form.repo, form.pr, form.min, form.cost, form.sort)) or bool(self.problems)

    @property
    def is_later_page(self) -> bool:
        return bool(self.form.before)


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
    sort, ascending = form.order
    rows = queries.runs(where, limit=PAGE_SIZE + 1, before=form.before or None, sort=sort, ascending=ascending)
    shown = rows[:PAGE_SIZE]
    durations = [took for row in latest if (took := lasted(row, now)) is not None]
    return RunsPage(
        form=form,
        problems=problems,
        lines=tuple(_line(row, queries.baseline(row), now) for row in shown),
        bars=_bars(latest, now),
        longest_s=max(durations, default=None),
        summary=_summary(latest),
        branches=tuple(queries.values("branch")),
        repositories=tuple(queries.values("repository")),
        columns=_columns(form, link),
        csv_url=link(form, kind="csv"),
        json_url=link(form, kind="json"),
        first_url=link(form) if form.before else "",
        next_url=link(form, before=shown[-1].run_id) if len(rows) > PAGE_SIZE else "",
    )


def _columns(form: Form, link: Callable[..., str]) -> dict[str, Column]:
    now_by, ascending = form.order
    columns = {}
    for by, first, second in (
        (RunSort.STARTED, "", "oldest"),
        (RunSort.DURATION, "longest", "shortest"),
        (RunSort.COST, "dearest", "cheapest"),
        (RunSort.TOKENS, "tokens", "tokens"),
    ):
        direction = "" if by != now_by else "ascending" if ascending else "descending"
        columns[str(by)] = Column(
            url=link(form, sort=second if direction == "descending" else first), direction=direction
        )
    return columns


def lasted(row: RunRow, now: float) -> float | None:
    """How long a run took, or has taken so far, in seconds; None where it was lost and nobody knows."""
    if row.wall_s is not None:
        return row.wall_s
    return max(0.0, now - row.started_at) if row.status == RunStatus.RUNNING else None


def _line(row: RunRow, baseline: Baseline | None, now: float) -> Line:
    wall = row.wall_s if row.status == RunStatus.SUCCEEDED else None
    before = baseline.wall_s if baseline else None
    change = words.change(wall, before)
    moved = (wall - before) / before if wall is not None and before else 0.0
    return Line(
        run_id=row.run_id,
        name=row.name or row.run_id,
        mark=words.mark(row.status),
        repository=row.repository,
        trigger=trigger_of(row),
        branch=row.branch,
        pull_request=row.pull_request,
        sha=row.sha,
        started_at=row.started_at,
        duration_s=lasted(row, now),
        change=change,
        change_class="slower" if moved >= 0.1 else "faster" if moved <= -0.1 else "muted",
        baseline=baseline if change != words.UNKNOWN else None,
        counts=words.counts_of(row.tasks),
        tokens=row.tokens,
        usd=None if row.unpriced else row.usd,
    )


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
