"""Tasks over time: the list of a repository's tasks, and the runs behind one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from maos_bot.store import insight
from maos_bot.store.queries import Queries
from web import charts, words
from web.task_stats import TaskStats, content_of, flaky_contents, stats_of

RUNS_OF_EACH: Final = 100  # attempts of each task that the figures rest on
SHOWN: Final = 100
STRIP: Final = 30
STRIP_HEIGHT: Final = 48.0

# The orders of the list: by which figure, and whether the least comes first. Unknown figures come last.
_ORDERS: Final[Mapping[str, tuple[str, Callable[[TaskStats], Any], bool]]] = {
    "name": ("Task", lambda s: s.task, True),
    "runs": ("Runs", lambda s: s.runs, False),
    "failures": ("Failures", lambda s: s.failure_rate, False),
    "flaky": ("Flaky", lambda s: len(s.flaky), False),
    "p50": ("p50", lambda s: s.p50_s, False),
    "p95": ("p95", lambda s: s.p95_s, False),
    "wait": ("Wait p95", lambda s: s.wait_p95_s, False),
    "cost": ("Cost", lambda s: s.usd, False),
    "error": ("Estimate off by", lambda s: s.estimate_error, False),
}
KINDS: Final = {
    "": "All",
    "failed": "Failed",
    "succeeded": "Succeeded",
    "timed_out": "Timed out",
    "flaky": "Flaky",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TasksPage:
    """Everything that `tasks.html` shows."""

    repository: str
    repositories: tuple[str, ...]
    text: str
    sort: str
    orders: tuple[tuple[str, str], ...]
    tasks: tuple[TaskStats, ...]
    total: int
    runs_of_each: int = RUNS_OF_EACH


@dataclass(frozen=True, kw_only=True, slots=True)
class PastLine:
    """One attempt in the table."""

    run_id: str
    branch: str
    sha: str
    mark: words.Mark
    attempt: int
    started_at: float | None
    duration_s: float
    queued_s: float
    estimate_s: float | None
    usd: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SparkBar:
    """One run in the strip of a task."""

    run_id: str
    mark: words.Mark
    label: str
    y: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskHistoryPage:
    """Everything that `task_history.html` shows."""

    task: str
    repository: str
    kind: str
    kinds: tuple[tuple[str, str], ...]
    stats: TaskStats
    bars: tuple[SparkBar, ...]
    lines: tuple[PastLine, ...]
    attempts: int


def build(queries: Queries, *, repository: str | None, text: str, sort: str) -> TasksPage:
    """The list of a repository's tasks; by default that of the latest run."""
    repositories = tuple(queries.values("repository"))
    if repository is None:
        latest = queries.latest_run_id()
        repository = queries.run(latest).repository if latest else ""
    names = [name for name in insight.task_names(queries, repository) if text.lower() in name.lower()]
    every = [stats_of(name, insight.task_history(queries, name, repository, limit=RUNS_OF_EACH)) for name in names]
    sort = sort if sort in _ORDERS else "name"
    _, figure, ascending = _ORDERS[sort]
    known = sorted((s for s in every if figure(s) is not None), key=figure, reverse=not ascending)
    unknown = [s for s in every if figure(s) is None]
    return TasksPage(
        repository=repository,
        repositories=repositories,
        text=text,
        sort=sort,
        orders=tuple((name, word) for name, (word, *_) in _ORDERS.items()),
        tasks=tuple([*known, *unknown][:SHOWN]),
        total=len(every),
    )


def build_history(queries: Queries, task: str, *, repository: str, kind: str) -> TaskHistoryPage | None:
    """The runs behind one task's figures; None where it never ran there."""
    attempts = insight.task_history(queries, task, repository, limit=RUNS_OF_EACH)
    if not attempts:
        return None
    kind = kind if kind in KINDS else ""
    flaky = set(flaky_contents(attempts))
    shown = [one for one in attempts if not kind or one.state == kind or (kind == "flaky" and content_of(one) in flaky)]
    return TaskHistoryPage(
        task=task,
        repository=repository,
        kind=kind,
        kinds=tuple(KINDS.items()),
        stats=stats_of(task, attempts),
        bars=spark(attempts),
        lines=tuple(
            PastLine(
                run_id=one.run_id,
                branch=one.branch,
                sha=one.sha,
                mark=words.mark(one.state),
                attempt=one.attempt,
                started_at=one.started_at,
                duration_s=one.duration_s,
                queued_s=one.queued_s,
                estimate_s=one.estimate_s,
                usd=None if one.unpriced else one.usd,
            )
            for one in shown
        ),
        attempts=len(attempts),
    )


def spark(attempts: list[insight.PastAttempt]) -> tuple[SparkBar, ...]:
    """The last attempts as a strip, oldest first: height is duration."""
    some = list(reversed(attempts[:STRIP]))
    bars = charts.strip([one.duration_s for one in some], height=STRIP_HEIGHT)
    return tuple(
        SparkBar(
            run_id=one.run_id,
            mark=words.mark(one.state),
            label=f"{words.mark(one.state).word}: {words.duration(one.duration_s)}"
            + (f", {words.instant(one.started_at)}" if one.started_at is not None else ""),
            y=bar.y,
            height=bar.height,
        )
        for one, bar in zip(some, bars, strict=True)
    )
