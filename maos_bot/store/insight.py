"""Questions over many runs: tasks over time, and what was spent.

Each is answered from an index that carries its figures: the last attempts of a task from `attempts_history`, spending
from the sums of each day, `spend_days` and `spend_pulls`.
"""

# ruff: noqa: S608 - only this module's own words are put into SQL; values are bound

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.store.queries import Queries

TASKS_AT_MOST: Final = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class PastAttempt:
    """One ended attempt of a task; `estimate_s` is what the plan of its run expected."""

    run_id: str
    sha: str
    content: str  # digest of all it depended on; empty where it isn't known
    branch: str
    attempt: int
    state: str
    started_at: float | None
    duration_s: float
    queued_s: float
    usd: float
    unpriced: int
    estimate_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What was used, under one `key`; `unpriced` of the `calls` have no known price and are not in `usd`."""

    key: str
    calls: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    usd: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What the cache of results saved: tasks that were not run again, and the seconds they had taken."""

    tasks: int
    seconds: float


_SUMS: Final = (
    "sum(calls), sum(unpriced), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),"
    " sum(cache_write_tokens), sum(nano_usd) / 1e9"
)
_KEYS: Final[Mapping[str, str]] = {
    "day": "date(day * 86400, 'unixepoch')",
    "model": "model",
    "team": "team",
    "repository": "repository",
    "pull request": "repository || '#' || pull_request",
}
_DAY_S: Final = 86400


def task_names(queries: Queries, repository: str) -> list[str]:
    """The tasks that ever ran in a repository, by name, `TASKS_AT_MOST` of them."""
    # Steps through the index from task to task.
    rows = queries.ask(
        "WITH RECURSIVE wanted(id) AS (SELECT id FROM names WHERE name = ?), step(task) AS ("
        " SELECT (SELECT min(task) FROM attempts WHERE repository = (SELECT id FROM wanted)"
        " AND duration_s IS NOT NULL) UNION ALL"
        " SELECT (SELECT min(task) FROM attempts WHERE repository = (SELECT id FROM wanted) AND task > step.task"
        " AND duration_s IS NOT NULL) FROM step WHERE task IS NOT NULL)"
        " SELECT n.name FROM step JOIN names n ON n.id = step.task ORDER BY n.name LIMIT ?",
        (repository, TASKS_AT_MOST),
    )
    return [row[0] for row in rows]


def task_history(queries: Queries, task: str, repository: str, *, limit: int = 100) -> list[PastAttempt]:
    """The last ended attempts of a task in a repository, newest first."""
    rows = queries.ask(
        "SELECT r.run_id, r.sha, x.content, r.branch, a.attempt, a.state, a.started_at, a.duration_s, a.queued_s,"
        " a.usd, a.unpriced, t.estimate_s FROM ("
        " SELECT run, task, attempt, state, started_at, duration_s, queued_s, usd, unpriced FROM attempts"
        " WHERE repository = (SELECT id FROM names WHERE name = ?) AND task = (SELECT id FROM names WHERE name = ?)"
        " AND duration_s IS NOT NULL ORDER BY started_at DESC LIMIT ?"
        ") a JOIN runs r ON r.id = a.run"
        " JOIN attempts x ON x.run = a.run AND x.task = a.task AND x.attempt = a.attempt"
        " LEFT JOIN tasks t ON t.run = a.run AND t.task = a.task",
        (repository, task, limit),
    )
    return [
        PastAttempt(
            run_id=row[0],
            sha=row[1],
            content=row[2],
            branch=row[3],
            attempt=row[4],
            state=row[5],
            started_at=row[6],
            duration_s=row[7],
            queued_s=row[8],
            usd=row[9],
            unpriced=row[10],
            estimate_s=row[11],
        )
        for row in rows
    ]


def spending(queries: Queries, by: str, *, since: float, repository: str = "", limit: int = 100) -> list[Spent]:
    """What was used by runs that started on the day (UTC) of `since` or later: by `day` (in order), or by `model`,
    `team`, `repository` or `pull request` (dearest first)."""
    table = "spend_pulls" if by == "pull request" else "spend_days"
    conditions = ["day >= ?", "calls > 0"]
    values: list[object] = [int(since // _DAY_S)]
    if repository:
        conditions.append("repository = ?")
        values.append(repository)
    order = "1" if by == "day" else "8 DESC, 1"
    rows = queries.ask(
        f"SELECT {_KEYS[by]}, {_SUMS} FROM {table} WHERE {' AND '.join(conditions)} GROUP BY 1 ORDER BY {order}"
        " LIMIT ?",
        (*values, limit),
    )
    return [
        Spent(
            key=row[0] or "",
            calls=row[1],
            unpriced=row[2],
            input_tokens=row[3],
            output_tokens=row[4],
            cache_read_tokens=row[5],
            cache_write_tokens=row[6],
            usd=row[7],
        )
        for row in rows
    ]


def saved(queries: Queries, *, since: float) -> Saved:
    """What was taken from the cache by runs that started since then."""
    row = queries.ask(
        "SELECT ifnull(sum(tasks_cached), 0), ifnull(sum(saved_s), 0.0) FROM runs"
        " WHERE started_at >= ? AND tasks_cached > 0",
        (since,),
    )[0]
    return Saved(tasks=row[0], seconds=row[1])
