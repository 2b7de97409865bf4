"""The filters of the list of runs, as typed and as they are meant; the list itself as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from maos_bot.model import RunStatus, TaskState
from maos_bot.store.queries import Queries
from maos_bot.store.rows import LOST, RunFilter, RunRow, RunSort
from web import words

STATES: Final = tuple(words.mark(state) for state in (*(str(status) for status in RunStatus), LOST))
SINCES: Final = {
    "": ("Any time", None),
    "24h": ("Last 24 hours", words.DAY),
    "7d": ("Last 7 days", 7 * words.DAY),
    "30d": ("Last 30 days", 30 * words.DAY),
    "90d": ("Last 90 days", 90 * words.DAY),
}
# The order by its name in the address: what it is, by which figure, and whether the least comes first.
SORTS: Final = {
    "": ("Newest", RunSort.STARTED, False),
    "oldest": ("Oldest", RunSort.STARTED, True),
    "longest": ("Longest", RunSort.DURATION, False),
    "shortest": ("Shortest", RunSort.DURATION, True),
    "dearest": ("Highest cost", RunSort.COST, False),
    "cheapest": ("Lowest cost", RunSort.COST, True),
    "tokens": ("Most tokens", RunSort.TOKENS, False),
}
_NOT_FILTERS: Final = frozenset({"before", "sort"})
_AT_A_TIME: Final = 500
_COLUMNS: Final = (
    "run_id", "name", "status", "repository", "branch", "pull_request", "sha", "event", "actor", "mode", "started_at",
    "finished_at", "wall_s", "sequential_s", "saved_s", "predicted_s", "lower_bound_s", "input_tokens",
    "output_tokens", "cache_read_tokens", "cache_write_tokens", "usd", "unpriced", "peak_memory_mb",
    "peak_cpu_percent", "exit_code", "reason",
)  # fmt: skip
_TASK_COLUMNS: Final = tuple(f"tasks_{state}" for state in TaskState)


class Args(Protocol):
    """The query string's values, by name."""

    def get(self, key: str, /) -> str | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The filters as they were typed."""

    text: str = ""
    status: str = ""
    repo: str = ""
    branch: str = ""
    pr: str = ""
    since: str = ""
    min: str = ""
    cost: str = ""
    sort: str = ""
    before: str = ""  # the id of the last run of the page before

    @property
    def is_filtered(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self) if field.name not in _NOT_FILTERS)

    @property
    def order(self) -> tuple[RunSort, bool]:
        """By what, and whether the least comes first."""
        _, sort, ascending = SORTS.get(self.sort, SORTS[""])
        return sort, ascending

    def query(self, *, before: str = "", **changed: str) -> dict[str, str]:
        """The shortest query string that leads here, or to the page after run `before`."""
        form = replace(self, before=before, **changed)
        return {field.name: getattr(form, field.name) for field in fields(form) if getattr(form, field.name)}


def read_form(args: Args, *, now: float) -> tuple[Form, RunFilter, dict[str, str]]:
    """The form as typed, the filter it means, and what is wrong with it by field, in words."""
    form = Form(**{field.name: (args.get(field.name) or "").strip()[:250] for field in fields(Form)})
    problems: dict[str, str] = {}
    pull_request = _pull_request(form.pr)
    if form.pr and pull_request is None:
        problems["pr"] = "The pull request is a number, such as 412."
    min_duration = words.parse_duration(form.min) if form.min else None
    if form.min and min_duration is None:
        problems["min"] = "The least duration is a time such as 90s, 2m or 1h 30m."
    min_usd = words.parse_usd(form.cost) if form.cost else None
    if form.cost and min_usd is None:
        problems["cost"] = "The least cost is an amount such as 0.50."
    since = _since(form.since, now=now)
    if form.since and since is None:
        problems["since"] = "Since is one of the choices, or a day such as 2026-11-24."
    if form.status and form.status not in {mark.state for mark in STATES}:
        problems["status"] = "There is no such state."
    if form.sort not in SORTS:
        problems["sort"] = "There is no such order."
    where = RunFilter(
        text=form.text,
        status=form.status or None,
        repository=form.repo or None,
        branch=form.branch or None,
        pull_request=pull_request,
        since=since,
        min_duration_s=min_duration,
        min_usd=min_usd,
    )
    return form, RunFilter() if problems else where, problems


def every_run(queries: Queries, form: Form, where: RunFilter) -> Iterator[RunRow]:
    """All runs that match, in the form's order, a few hundred at a time."""
    sort, ascending = form.order
    before: str | None = None
    while rows := queries.runs(where, limit=_AT_A_TIME, before=before, sort=sort, ascending=ascending):
        yield from rows
        before = rows[-1].run_id


def as_csv(rows: Iterator[RunRow]) -> Iterator[str]:
    """The runs as CSV, a row each, under a row of names; an unknown figure is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow((*_COLUMNS, *_TASK_COLUMNS))
    for row in rows:
        writer.writerow([_cell(value) for value in as_object(row).values()])
        if buffer.tell() > 16_000:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def as_json(rows: Iterator[RunRow]) -> Iterator[str]:
    """The runs as one JSON object: `{"runs": [...]}`; an unknown figure is null."""
    yield '{"runs": ['
    separator = "\n"
    for row in rows:
        yield separator + json.dumps(as_object(row), ensure_ascii=False)
        separator = ",\n"
    yield "\n]}\n"


def as_object(row: RunRow) -> dict[str, Any]:
    """One run with its figures by name; the cost is None where a price is unknown."""
    found = {name: getattr(row, name) for name in _COLUMNS}
    if row.unpriced:
        found["usd"] = None
    return found | {f"tasks_{state}": row.tasks.get(state, 0) for state in TaskState}


def _cell(value: object) -> object:
    """A text so that a spreadsheet doesn't take it for a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _pull_request(text: str) -> int | None:
    digits = text.lstrip("#")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


def _since(text: str, *, now: float) -> float | None:
    if text in SINCES:
        seconds = SINCES[text][1]
        return None if seconds is None else now - seconds
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
