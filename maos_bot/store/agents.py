"""What history says of agents' work: which models' results were accepted, and what a task usually uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from maos_bot.frozen import dataclass
from maos_bot.model import Usage
from maos_bot.store.queries import Queries

ATTEMPTS: Final = 20  # of a task's last ones; older ones are of other models and other texts


@dataclass(frozen=True, kw_only=True, slots=True)
class PastWork:
    """`records`: by kind of task and model, how many `tasks` results there were, how many were `accepted`, and their
    `usd` (None where one has no known price). `usual`: the mean usage of a task's accepted attempts, by task.
    `turns`: the mean number of their turns.
    """

    records: Mapping[str, Mapping[str, Mapping[str, Any]]]
    usual: Mapping[str, Usage]
    turns: Mapping[str, float]


def past_work(queries: Queries, kinds: Mapping[str, str], *, repository: str) -> PastWork:
    """What the last attempts of these tasks came to in `repository`; `kinds` is each task's kind, by its id."""
    counts: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, 0.0, 0])
    usual: dict[str, Usage] = {}
    turns: dict[str, float] = {}
    for task, kind in kinds.items():
        attempts: dict[tuple[int, int], list[tuple[Any, ...]]] = defaultdict(list)
        for row in queries.ask(_ATTEMPTS, (task, repository, ATTEMPTS)):
            attempts[row[0], row[1]].append(row[2:])
            record = counts[kind, row[3]]
            record[0] += 1
            record[1] += row[2] == "succeeded"
            record[2] += row[10]
            record[3] += row[5]
        good = [rows for rows in attempts.values() if rows[0][0] == "succeeded"]
        if good:
            usual[task] = _mean([_usage(rows) for rows in good])
            turns[task] = sum(row[2] for rows in good for row in rows) / len(good)
    records: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for (kind, model), (tasks, accepted, usd, unpriced) in counts.items():
        records[kind][model] = {"tasks": tasks, "accepted": accepted, "usd": None if unpriced else usd}
    return PastWork(records=records, usual=usual, turns=turns)


_ATTEMPTS: Final = (
    "SELECT a.run, a.attempt, a.state, m.name, u.calls, u.unpriced, u.input_tokens, u.output_tokens,"
    " u.cache_read_tokens, u.cache_write_tokens, u.usd FROM ("
    " SELECT run, task, attempt, state FROM attempts WHERE task = (SELECT id FROM names WHERE name = ?)"
    " AND repository = (SELECT id FROM names WHERE name = ?) AND duration_s IS NOT NULL"
    " ORDER BY started_at DESC LIMIT ?"
    ") a JOIN usage u ON u.run = a.run AND u.task = a.task AND u.attempt = a.attempt JOIN names m ON m.id = u.model"
)


def _usage(rows: list[tuple[Any, ...]]) -> Usage:
    """All of one attempt's usage; a row is state, model, calls, unpriced, four kinds of tokens, dollars."""
    return Usage(
        input_tokens=sum(row[4] for row in rows),
        output_tokens=sum(row[5] for row in rows),
        cache_read_tokens=sum(row[6] for row in rows),
        cache_write_tokens=sum(row[7] for row in rows),
        usd=None if any(row[3] for row in rows) else sum(row[8] for row in rows),
    )


def _mean(usages: list[Usage]) -> Usage:
    total, count = sum(usages, Usage()), len(usages)
    return Usage(
        input_tokens=round(total.input_tokens / count),
        output_tokens=round(total.output_tokens / count),
        cache_read_tokens=round(total.cache_read_tokens / count),
        cache_write_tokens=round(total.cache_write_tokens / count),
        usd=None if total.usd is None else total.usd / count,
    )
