"""Questions to the database, answered as dataclasses; the connection can't change anything.

Each question that a list or a page asks is answered from an index: see the tests of this module, which hold the
query plans to it.
"""

# ruff: noqa: S608 - only this module's own words are put into SQL; values are bound

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, Final

from maos_bot.errors import StoreError
from maos_bot.events import ResourceSampled, RunEvent, UsageRecorded
from maos_bot.model import RunStatus, TaskState
from maos_bot.store.codec import event_of
from maos_bot.store.db import connect_read_only, explain
from maos_bot.store.migrations import KINDS
from maos_bot.store.rows import LOST, MAIN_BRANCHES, AttemptRow, Baseline, RunFilter, RunRow, RunSort, StoreStatus
from maos_bot.store.stream import read_decisions, read_stream

LOST_AFTER_S: Final = 30.0

_ALL: Final = RunFilter()
_RUN_FIELDS: Final = tuple(field.name for field in fields(RunRow) if field.name != "tasks")
_RUN_COLUMNS: Final = ", ".join((*_RUN_FIELDS, *(f"tasks_{state}" for state in TaskState)))
_STATES: Final = tuple(TaskState)
_ATTEMPT_FIELDS: Final = tuple(field.name for field in fields(AttemptRow))
# A run that is not over has no duration: it counts as the shortest, so that paging needs no case for NULL.
_SORT_COLUMNS: Final = {
    RunSort.STARTED: "started_at",
    RunSort.DURATION: "ifnull(wall_s, -1)",
    RunSort.COST: "usd",
    RunSort.TOKENS: "tokens",
}
# Named, or SQLite may choose to read all runs and put them in order.
_NEWEST_FIRST: Final = "runs INDEXED BY runs_started ORDER BY started_at DESC, id DESC"
_LATEST: Final = "latest"


class Queries:
    """Read-only questions; `clock` gives the present for telling lost runs. Close it, or use it in a `with`.

    Raises `StoreError` where the database can't be used. An instance belongs to one thread at a time.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._connection = connect_read_only(path)

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def __enter__(self) -> Queries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def runs(
        self,
        where: RunFilter = _ALL,
        *,
        limit: int = 50,
        before: str | None = None,
        sort: RunSort = RunSort.STARTED,
        ascending: bool = False,
    ) -> list[RunRow]:
        """The runs that match, newest (or longest, dearest) first; `before` is the id of the last one already shown."""
        conditions, values = self._conditions(where, sort)
        column = _SORT_COLUMNS[sort]
        order = "ASC" if ascending else "DESC"
        if before is not None:
            condition, more = self._after(column, self.find(before), ascending=ascending)
            conditions.append(condition)
            values += more
        clause = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        rows = self._all(
            f"SELECT {_RUN_COLUMNS} FROM runs {clause}ORDER BY {column} {order}, id {order} LIMIT ?",
            (*values, limit),
        )
        return [self._run_row(row) for row in rows]

    def count_runs(self, where: RunFilter = _ALL) -> int:
        """How many runs match."""
        conditions, values = self._conditions(where)
        clause = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return int(self._all(f"SELECT count(*) FROM runs{clause}", values)[0][0])

    def run(self, run_id: str) -> RunRow:
        """One run, by its id, an unambiguous beginning of it, or `latest`."""
        rows = self._all(f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id = ?", (self.find(run_id),))
        return self._run_row(rows[0])

    def latest_run_id(self) -> str | None:
        """The id of the run that started last; None where there is none."""
        rows = self._all(f"SELECT run_id FROM {_NEWEST_FIRST} LIMIT 1")
        return str(rows[0][0]) if rows else None

    def find(self, run_id: str) -> str:
        """The full id of the run that is meant; raises `StoreError` where none or several are."""
        if run_id == _LATEST:
            latest = self.latest_run_id()
            if latest is None:
                raise StoreError(f"{self._path}: there are no runs yet", hint="make one with `maos run`")
            return latest
        # A range instead of LIKE: it uses the index and takes % and _ as they are.
        rows = self._all(
            "SELECT run_id FROM runs WHERE run_id >= ? AND run_id < ? ORDER BY run_id LIMIT 6",
            (run_id, run_id + "\U0010ffff"),
        )
        found = [str(row[0]) for row in rows]
        if run_id in found:
            return run_id
        if not found or not run_id:
            raise StoreError(f"{self._path}: there is no run {run_id!r}", hint="see `maos history` for those there are")
        if len(found) > 1:
            some = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            raise StoreError(f"{run_id!r} is the beginning of several runs: {some}", hint="give more of the id")
        return found[0]

    def events(self, run_id: str, after_seq: int = 0, with_output: bool = False) -> list[RunEvent]:
        """The stored events of a run with a larger `seq`, in order; its output only where asked for."""
        return list(self.iter_events(run_id, after_seq=after_seq, with_output=with_output))

    def iter_events(
        self, run_id: str, *, after_seq: int = 0, with_output: bool = True, with_talk: bool = True
    ) -> Iterator[RunEvent]:
        """The same, one at a time, for runs too large to hold; without `with_talk` no agent's conversation is in it."""
        full_id = self.find(run_id)
        number = self._number(full_id)
        try:
            yield from read_stream(
                self._connection, number, full_id, after_seq=after_seq, output=with_output, talk=with_talk
            )
        except sqlite3.Error as error:
            raise explain(error, self._path) from error

    def samples(self, run_id: str, task: str = "") -> Iterator[ResourceSampled]:
        """The measurements of all our children together, or of one task's, in order."""
        full_id = self.find(run_id)
        rows = self._rows(
            "SELECT seq, at, memory_mb, cpu_percent, agents, tokens_per_minute FROM samples"
            " WHERE run = ? AND task IS ? ORDER BY seq",
            (self._number(full_id), (self._name(task) or 0) if task else None),
        )
        for seq, at, memory_mb, cpu_percent, agents, tokens_per_minute in rows:
            yield ResourceSampled(
                run_id=full_id,
                seq=seq,
                at=at,
                task=task,
                memory_mb=memory_mb,
                cpu_percent=cpu_percent,
                agents=agents,
                tokens_per_minute=tokens_per_minute,
            )

    def usage_events(self, run_id: str) -> list[UsageRecorded]:
        """The model turns of a run, in order."""
        full_id = self.find(run_id)
        rows = self._rows(
            "SELECT e.seq, e.at, n.name, e.attempt, e.body FROM events e LEFT JOIN names n ON n.id = e.task"
            " WHERE e.run = ? AND e.kind = ? ORDER BY e.seq",
            (self._number(full_id), KINDS["UsageRecorded"]),
        )
        found = []
        for seq, at, task, attempt, body in rows:
            event = event_of("UsageRecorded", run_id=full_id, seq=seq, at=at, task=task, attempt=attempt, body=body)
            if isinstance(event, UsageRecorded):
                found.append(event)
        return found

    def last_seq(self, run_id: str) -> int:
        """The `seq` of the last stored event: what a poller compares to see whether there is news."""
        rows = self._all("SELECT last_seq FROM runs WHERE run_id = ?", (run_id,))
        return int(rows[0][0]) if rows else 0

    def output(self, run_id: str, task: str, attempt: int | None = None) -> str:
        """What an attempt (by default the last with output) printed; an empty text where that is nothing.

        A line `[... N bytes omitted ...]` stands where the size cap cut something out.
        """
        return "".join(self.iter_output(run_id, task, attempt))

    def iter_output(self, run_id: str, task: str, attempt: int | None = None) -> Iterator[str]:
        """The same in pieces."""
        number = self._number(self.find(run_id))
        name = self._name(task)
        if attempt is None:
            rows = self._all("SELECT max(attempt) FROM output WHERE run = ? AND task = ?", (number, name))
            attempt = rows[0][0]
        ends_line = True
        for omitted, text in self._rows(
            "SELECT omitted, text FROM output WHERE run = ? AND task = ? AND attempt = ? ORDER BY seq",
            (number, name, attempt),
        ):
            if omitted:
                line = f"[... {omitted} bytes omitted ...]\n"
                yield line if ends_line else "\n" + line
            yield text
            ends_line = text.endswith("\n") if text else ends_line

    def attempts(self, run_id: str, task: str | None = None) -> list[AttemptRow]:
        """The attempts of a run (or of one of its tasks), by task in the spec's order."""
        full_id = self.find(run_id)
        return list(self.iter_attempts(full_id, task))

    def iter_attempts(self, run_id: str, task: str | None = None) -> Iterator[AttemptRow]:
        """The same, one at a time."""
        condition = "" if task is None else " AND a.task = ?"
        values: list[object] = [self._number(self.find(run_id))]
        if task is not None:
            values.append(self._name(task))
        rows = self._rows(
            "SELECT r.run_id, n.name, a.attempt, a.state, a.reason, a.queued_s, a.wait_reason, coalesce(f.name, ''),"
            " a.started_at, a.finished_at, a.duration_s, a.exit_code, a.cpu_s, a.peak_memory_mb, a.output_bytes,"
            " a.omitted_bytes, a.tokens, a.usd, a.unpriced"
            " FROM attempts a JOIN runs r ON r.id = a.run JOIN names n ON n.id = a.task"
            " LEFT JOIN tasks t ON t.run = a.run AND t.task = a.task LEFT JOIN names f ON f.id = a.freed_by"
            f" WHERE a.run = ?{condition} ORDER BY t.position, a.attempt",
            values,
        )
        for row in rows:
            record: dict[str, Any] = dict(zip(_ATTEMPT_FIELDS, row, strict=True))
            record["state"] = TaskState(record["state"])
            yield AttemptRow(**record)

    def durations(
        self,
        tasks: Iterable[str],
        *,
        repository: str,
        limit: int = 30,
        states: Iterable[TaskState] = (TaskState.SUCCEEDED,),
    ) -> dict[str, list[float]]:
        """How long each task's last attempts (at most `limit`) in `repository` took, in seconds, newest first.

        Only attempts that ended in one of `states` count; a task without any is left out.
        """
        wanted = [str(state) for state in states]
        marks = ", ".join("?" * len(wanted))
        found: dict[str, list[float]] = {}
        for task in tasks:
            rows = self._all(
                "SELECT duration_s FROM attempts"
                " WHERE task = (SELECT id FROM names WHERE name = ?)"
                " AND repository = (SELECT id FROM names WHERE name = ?)"
                f" AND state IN ({marks}) AND duration_s IS NOT NULL ORDER BY started_at DESC LIMIT ?",
                (task, repository, *wanted, limit),
            )
            if rows:
                found[task] = [row[0] for row in rows]
        return found

    def team_durations(self, *, repository: str, runs: int) -> dict[tuple[str, str], list[float]]:
        """Seconds that succeeded attempts took in the last `runs` runs of `repository`, by team and kind."""
        found: dict[tuple[str, str], list[float]] = {}
        rows = self._all(
            "SELECT coalesce(n.name, ''), t.kind, a.duration_s"
            " FROM (SELECT id FROM runs WHERE repository = ? ORDER BY started_at DESC LIMIT ?) r"
            " JOIN tasks t ON t.run = r.id JOIN attempts a ON a.run = t.run AND a.task = t.task"
            " LEFT JOIN names n ON n.id = t.team WHERE a.state = 'succeeded' AND a.duration_s IS NOT NULL",
            (repository, runs),
        )
        for team, kind, duration in rows:
            found.setdefault((team, kind), []).append(duration)
        return found

    def estimated(self, *, runs: int) -> dict[str, list[tuple[float | None, float]]]:
        """What was estimated and what succeeded attempts took in the last `runs` runs, by task, oldest first."""
        found: dict[str, list[tuple[float | None, float]]] = {}
        rows = self._all(
            "SELECT n.name, t.estimate_s, a.duration_s"
            " FROM (SELECT id, started_at FROM runs ORDER BY started_at DESC LIMIT ?) r"
            " JOIN tasks t ON t.run = r.id JOIN attempts a ON a.run = t.run AND a.task = t.task"
            " JOIN names n ON n.id = t.task WHERE a.state = 'succeeded' AND a.duration_s IS NOT NULL"
            " ORDER BY r.started_at, r.id",
            (runs,),
        )
        for task, estimate, duration in rows:
            found.setdefault(task, []).append((estimate, duration))
        return found

    def spec_text(self, run_id: str) -> str:
        """The task spec the run was made from, as text; empty where it wasn't recorded."""
        rows = self._all(
            "SELECT s.text FROM runs r JOIN specs s ON s.id = r.spec WHERE r.run_id = ?", (self.find(run_id),)
        )
        return str(rows[0][0]) if rows else ""

    def values(self, column: str) -> list[str]:
        """The different repositories or branches there are, for a filter's choices: `repository` or `branch`."""
        if column not in {"repository", "branch"}:
            raise ValueError(f"no choices for {column!r}")
        # Steps through the index from value to value: 100,000 runs in 20 repositories are 20 look-ups.
        rows = self._all(
            f"WITH RECURSIVE step(value) AS (SELECT min({column}) FROM runs UNION ALL"
            f" SELECT (SELECT min({column}) FROM runs WHERE {column} > value) FROM step WHERE value IS NOT NULL)"
            " SELECT value FROM step WHERE value IS NOT NULL AND value != '' LIMIT 1000"
        )
        return [str(row[0]) for row in rows]

    def previous(self, row: RunRow) -> str | None:
        """The id of the last run before this one that has its name and repository; None for the first."""
        rows = self._all(
            "SELECT run_id FROM runs WHERE repository = ? AND started_at < ? AND name = ?"
            " ORDER BY started_at DESC LIMIT 1",
            (row.repository, row.started_at, row.name),
        )
        return str(rows[0][0]) if rows else None

    def log_tail(self, run_id: str, *, limit: int) -> tuple[list[tuple[str, int, str]], bool]:
        """The end of what a run's tasks printed, together `limit` characters or a little more: (task, attempt, text)
        in order, and whether that is all."""
        rows = self._rows(
            "SELECT n.name, o.attempt, o.text FROM output o JOIN names n ON n.id = o.task WHERE o.run = ?"
            " ORDER BY o.seq DESC",
            (self._number(self.find(run_id)),),
        )
        found: list[tuple[str, int, str]] = []
        size = 0
        for row in rows:
            if size >= limit:
                return list(reversed(found)), False
            found.append(row)
            size += len(row[2])
        return list(reversed(found)), True

    def iter_log(self, run_id: str) -> Iterator[tuple[str, int, str]]:
        """All that a run's tasks printed, in order: (task, attempt, text)."""
        yield from self._rows(
            "SELECT n.name, o.attempt, o.text FROM output o JOIN names n ON n.id = o.task WHERE o.run = ?"
            " ORDER BY o.seq",
            (self._number(self.find(run_id)),),
        )

    def output_after(self, run_id: str, task: str, attempt: int, seq: int) -> list[tuple[int, str]]:
        """What an attempt printed after event `seq`, in pieces with their numbers, at most 2,000 of them."""
        return self._all(
            "SELECT seq, text FROM output WHERE run = ? AND task = ? AND attempt = ? AND seq > ?"
            " ORDER BY seq LIMIT 2000",
            (self._number(self.find(run_id)), self._name(task), attempt, seq),
        )

    def is_running(self, run_id: str, task: str, attempt: int) -> bool:
        """Whether this attempt has begun and not ended, as far as is stored."""
        rows = self._all(
            "SELECT finished_at IS NULL FROM attempts WHERE run = ? AND task = ? AND attempt = ?",
            (self._number(self.find(run_id)), self._name(task), attempt),
        )
        return bool(rows and rows[0][0])

    def decisions(self, run_id: str, *, after_seq: int, limit: int) -> list[RunEvent]:
        """At most `limit` events of a run after `after_seq` that are neither output nor measurements, in order."""
        full_id = self.find(run_id)
        return list(
            islice(read_decisions(self._connection, self._number(full_id), full_id, after_seq=after_seq), limit)
        )

    def baseline(self, row: RunRow) -> Baseline | None:
        """What this run is compared with; None where there is nothing.

        That is the last run before it that succeeded, of the same name and repository: on the same branch, else on a
        main branch (`MAIN_BRANCHES`).
        """
        for branch in dict.fromkeys((row.branch, *MAIN_BRANCHES)):
            found = self._all(
                "SELECT run_id, wall_s FROM runs WHERE repository = ? AND name = ? AND branch = ?"
                " AND status = 'succeeded' AND started_at < ? ORDER BY started_at DESC LIMIT 1",
                (row.repository, row.name, branch, row.started_at),
            )
            if found:
                return Baseline(run_id=found[0][0], branch=branch, wall_s=found[0][1])
        return None

    def status_counts(self) -> dict[str, int]:
        """How many runs there are of each stored status."""
        # Counted along the index of statuses: its entries are small.
        return {row[0]: row[1] for row in self._rows("SELECT status, count(*) FROM runs GROUP BY status")}

    def ask(self, sql: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query that another module of this package has written; never of a reader's words."""
        return list(self._rows(sql, values))

    def status(self) -> StoreStatus:
        """Size, schema and freshness of the database."""
        row = self._all(
            "SELECT (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size),"
            " (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM runs),"
            f" (SELECT last_event_at FROM {_NEWEST_FIRST} LIMIT 1)"
        )[0]
        return StoreStatus(
            path=str(self._path),
            bytes=row[0],
            schema=row[1],
            runs=row[2],
            lost=self.count_runs(RunFilter(status=LOST)),
            last_event_at=row[3],
            intakes=tuple(self._rows("SELECT source, at FROM intakes ORDER BY at DESC LIMIT 20")),
        )

    def _conditions(self, where: RunFilter, sort: RunSort = RunSort.STARTED) -> tuple[list[str], list[object]]:
        exact: Mapping[str, object] = {
            "repository": where.repository or None,
            "branch": where.branch or None,
            "pull_request": where.pull_request,
            "sha": where.sha or None,
        }
        conditions = [f"{column} = ?" for column, value in exact.items() if value is not None]
        values = [value for value in exact.values() if value is not None]
        for column, least in (("started_at", where.since), ("wall_s", where.min_duration_s), ("usd", where.min_usd)):
            if least is not None:
                conditions.append(f"{column} >= ?")
                values.append(least)
        if where.status in {LOST, RunStatus.RUNNING}:
            conditions.append(f"status = 'running' AND last_event_at {'<' if where.status == LOST else '>='} ?")
            values.append(self._clock() - LOST_AFTER_S)
        elif where.status:
            conditions.append("status = ?")
            values.append(where.status)
        if where.text:
            looked_up = "instr(words, ?) > 0"
            if sort is not RunSort.STARTED:
                # Only the index by start carries `words`; the plus keeps the order asked for in charge.
                looked_up = f"+id IN (SELECT id FROM runs INDEXED BY runs_started WHERE {looked_up})"
            conditions.append(looked_up)
            values.append(where.text.lower())
        return conditions, values

    def _after(self, column: str, run_id: str, *, ascending: bool) -> tuple[str, list[object]]:
        """The condition for what comes after `run_id` in this order; where sort values tie, the id decides."""
        value, number = self._all(f"SELECT {column}, id FROM runs WHERE run_id = ?", (run_id,))[0]
        beyond = ">" if ascending else "<"
        # The first half says nothing new, but lets an index on an expression be entered in the middle.
        return f"{column} {beyond}= ? AND ({column}, id) {beyond} (?, ?)", [value, value, number]

    def _run_row(self, row: tuple[Any, ...]) -> RunRow:
        record: dict[str, Any] = dict(zip(_RUN_FIELDS, row, strict=False))
        record["is_fork"] = bool(record["is_fork"])
        counts = zip(_STATES, row[len(_RUN_FIELDS) :], strict=True)
        record["tasks"] = {state: count for state, count in counts if count}
        if record["status"] == RunStatus.RUNNING and record["last_event_at"] < self._clock() - LOST_AFTER_S:
            record["status"] = LOST
        return RunRow(**record)

    def _number(self, run_id: str) -> int:
        return int(self._all("SELECT id FROM runs WHERE run_id = ?", (run_id,))[0][0])

    def _name(self, name: str) -> int | None:
        rows = self._all("SELECT id FROM names WHERE name = ?", (name,))
        return int(rows[0][0]) if rows else None

    def _all(self, sql: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
        return list(self._rows(sql, values))

    def _rows(self, sql: str, values: Iterable[object] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._connection.execute(sql, tuple(values))
        except sqlite3.Error as error:
            raise explain(error, self._path) from error
