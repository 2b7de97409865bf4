"""Events into the database, each call one transaction: the one path by which anything gets in.

What is stored is a set of events with the key (run id, seq): taking one twice changes nothing. The folded tables
always equal the fold of what is stored, in order of `seq`, whatever order it came in: events that continue a run are
folded on top, one that arrives late has its run folded anew.
"""

# ruff: noqa: S608 - only this module's own words are put into SQL; values are bound

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from maos_bot.events import OutputChunk, ResourceSampled, RunEvent
from maos_bot.model import TaskState
from maos_bot.store.codec import body_of, clean, spec_text_of
from maos_bot.store.fold import RunFold, RunRecord, SpendRecord
from maos_bot.store.migrations import KINDS
from maos_bot.store.search import index_run
from maos_bot.store.stream import read_stream

if TYPE_CHECKING:
    from sqlite_utils import Database

_CHUNK: Final = 1000
_ROWS: Final = (64, 8, 1)  # rows that one statement carries
_OPEN_RUNS: Final = 16  # runs whose fold is kept in memory; a run that comes again is read back

_RUN_FIELDS: Final = tuple(field.name for field in fields(RunRecord))
_RUN_VALUES: Final = attrgetter(*_RUN_FIELDS)
_RUN_COLUMNS: Final = (*_RUN_FIELDS, "spec", *(f"tasks_{state}" for state in TaskState))
_RUN_TEXTS: Final = tuple(number for number, field in enumerate(fields(RunRecord)) if field.type == "str")

# What changes with nearly every batch; none of it is in an index, so that saving only this touches one page, not ten.
_PULSE_FIELDS: Final = (
    "last_event_at",
    "last_seq",
    "events",
    "sequential_s",
    "tasks",
    "attempts",
    "peak_memory_mb",
    "peak_cpu_percent",
    "peak_agents",
    "peak_tokens_per_minute",
)
_PULSE_VALUES: Final = attrgetter(*_PULSE_FIELDS)
_PULSE_COLUMNS: Final = (*_PULSE_FIELDS, *(f"tasks_{state}" for state in TaskState))
_HEAD_VALUES: Final = attrgetter(*(name for name in _RUN_FIELDS if name not in _PULSE_FIELDS))

_SAVE_PULSE: Final = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _PULSE_COLUMNS)} WHERE id = ?"
_SAVE_RUN: Final = f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _RUN_COLUMNS)} WHERE id = ?"
_ADD_EVENT: Final = "INSERT INTO events (run, seq, at, kind, task, attempt, body) VALUES "
_ADD_SAMPLE: Final = (
    "INSERT INTO samples (run, seq, at, task, memory_mb, cpu_percent, agents, tokens_per_minute) VALUES "
)
_ADD_OUTPUT: Final = "INSERT INTO output (run, seq, at, task, attempt, offset, omitted, text) VALUES "
_SAVE_TASK: Final = (
    "INSERT OR REPLACE INTO tasks (run, task, position, team, kind, stage, state, reason, attempts, ready_at,"
    " finished_at, estimate_s, predicted_start_s, predicted_finish_s) VALUES "
)
_SAVE_ATTEMPT: Final = (
    "INSERT OR REPLACE INTO attempts (run, task, attempt, repository, state, reason, queued_s, wait_reason, freed_by,"
    " started_at, finished_at, duration_s, exit_code, cpu_s, peak_memory_mb, output_bytes, omitted_bytes, tokens, usd,"
    " unpriced, content) VALUES "
)
_SAVE_USAGE: Final = (
    "INSERT OR REPLACE INTO usage (run, task, attempt, model, calls, unpriced, input_tokens, output_tokens,"
    " cache_read_tokens, cache_write_tokens, usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SPEND: Final = (
    "run", "team", "model", "started_at", "repository", "pull_request", "calls", "unpriced", "input_tokens",
    "output_tokens", "cache_read_tokens", "cache_write_tokens", "usd",
)  # fmt: skip
# An update, not a replacement: triggers keep each day's sums by it.
_SAVE_SPEND: Final = (
    f"INSERT INTO spend ({', '.join(_SPEND)}) VALUES ({', '.join('?' * len(_SPEND))})"
    f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _SPEND[3:])}"
)


def ingest(db: Database, events: Iterable[RunEvent]) -> int:
    """Store the events of any runs in any order, all or nothing; how many were new.

    Raises `sqlite3.Error` where the database refuses (`maos_bot.store.db.explain` puts it in words) and whatever
    `events` raises; nothing is stored then.
    """
    return Ingester(db.conn).write(events)


@dataclass(slots=True)
class _OpenRun:
    id: int
    fold: RunFold
    spec: int | None
    saved_head: tuple[object, ...] | None = None


class Ingester:
    """Writes events through one connection, remembering names and open runs between calls."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._names: dict[str, int] = {}
        self._runs: dict[str, _OpenRun] = {}

    def write(self, events: Iterable[RunEvent], *, check: Callable[[], None] | None = None) -> int:
        """Store `events` in one transaction; how many were new. See `ingest` for errors.

        What `check` raises, looking at the database as it would be, undoes it all.
        """
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            stored = sum(self._write_chunk(chunk) for chunk in _chunks(events))
            if check is not None:
                check()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._names.clear()
            self._runs.clear()
            raise
        return stored

    def _write_chunk(self, events: Sequence[RunEvent]) -> int:
        by_run: dict[str, dict[int, RunEvent]] = {}
        for event in events:
            by_run.setdefault(event.run_id, {}).setdefault(event.seq, event)
        return sum(self._write_run(run_id, batch) for run_id, batch in by_run.items())

    def _write_run(self, run_id: str, batch: dict[int, RunEvent]) -> int:
        run = self._open(run_id)
        ordered = [batch[seq] for seq in sorted(batch)]
        last_seq = run.fold.run.last_seq
        if ordered[0].seq <= last_seq:
            known = self._known(run.id, ordered[0].seq, ordered[-1].seq)
            ordered = [event for event in ordered if event.seq not in known]
            if not ordered:
                return 0
        self._insert(run, ordered)
        if ordered[0].seq < last_seq:
            self._fold_anew(run_id, run)
        else:
            for event in ordered:
                run.fold.add(event)
        self._save(run)
        if run.fold.run.finished_at is not None:
            index_run(self._connection, run.id)
            del self._runs[run_id]
        return len(ordered)

    def _open(self, run_id: str) -> _OpenRun:
        """The run as the database has it; another process may have added to it, or removed it, since we looked."""
        row = self._connection.execute(
            "SELECT id, last_seq, events, spec FROM runs WHERE run_id = ?", (clean(run_id),)
        ).fetchone()
        run = self._runs.get(run_id)
        if run is not None and row is not None:
            record = run.fold.run
            if (run.id, record.last_seq, record.events) == row[:3]:
                return run
        if row is None:
            cursor = self._connection.execute("INSERT INTO runs (run_id) VALUES (?)", (clean(run_id),))
            run = _OpenRun(int(cursor.lastrowid or 0), RunFold(), None)
        else:
            run = _OpenRun(row[0], RunFold(), row[3])
            self._fold_stored(run_id, run)
            run.fold.take_changes()  # the tables have these already
        while len(self._runs) >= _OPEN_RUNS:
            del self._runs[next(iter(self._runs))]
        self._runs[run_id] = run
        return run

    def _known(self, run: int, first: int, last: int) -> set[int]:
        rows = self._connection.execute(
            "SELECT seq FROM events WHERE run = :run AND seq BETWEEN :first AND :last"
            " UNION ALL SELECT seq FROM samples WHERE run = :run AND seq BETWEEN :first AND :last"
            " UNION ALL SELECT seq FROM output WHERE run = :run AND seq BETWEEN :first AND :last",
            {"run": run, "first": first, "last": last},
        )
        return {row[0] for row in rows}

    def _insert(self, run: _OpenRun, events: Sequence[RunEvent]) -> None:
        self._learn(task for event in events if (task := getattr(event, "task", "")))
        decisions: list[tuple[object, ...]] = []
        samples: list[tuple[object, ...]] = []
        output: list[tuple[object, ...]] = []
        name = self._name
        for event in events:
            if type(event) is OutputChunk:
                output.append(
                    (
                        run.id,
                        event.seq,
                        event.at,
                        name(event.task),
                        event.attempt,
                        event.offset,
                        event.omitted,
                        clean(event.text),
                    )
                )
            elif type(event) is ResourceSampled:
                samples.append(
                    (
                        run.id,
                        event.seq,
                        event.at,
                        name(event.task) if event.task else None,
                        event.memory_mb,
                        event.cpu_percent,
                        event.agents,
                        event.tokens_per_minute,
                    )
                )
            else:
                task = getattr(event, "task", None)
                decisions.append(
                    (
                        run.id,
                        event.seq,
                        event.at,
                        KINDS[type(event).__name__],
                        None if task is None else name(task),
                        getattr(event, "attempt", None),
                        body_of(event),
                    )
                )
                if text := spec_text_of(event):
                    run.spec = self._spec(text)
        self._put(_ADD_EVENT, decisions)
        self._put(_ADD_SAMPLE, samples)
        self._put(_ADD_OUTPUT, output)

    def _put(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert `rows`, many with each step of SQLite.

        Each step lets go of the interpreter and has to get it back from a run that is busy starting tasks: a step for
        each row makes both wait thousands of times.
        """
        begin = 0
        for size in _ROWS:
            values = f"({', '.join('?' * len(rows[0]))})" if rows else ""
            many = statement + ", ".join([values] * size)
            while len(rows) - begin >= size:
                self._connection.execute(many, tuple(chain.from_iterable(rows[begin : begin + size])))
                begin += size

    def _fold_anew(self, run_id: str, run: _OpenRun) -> None:
        for table in ("tasks", "attempts", "usage", "spend"):
            self._connection.execute(f"DELETE FROM {table} WHERE run = ?", (run.id,))
        run.fold = RunFold()
        self._fold_stored(run_id, run)

    def _fold_stored(self, run_id: str, run: _OpenRun) -> None:
        for event in read_stream(self._connection, run.id, run_id, output_text=False):
            run.fold.add(event)

    def _save(self, run: _OpenRun) -> None:
        fold, connection, name = run.fold, self._connection, self._name
        changes = fold.take_changes()
        self._learn(chain.from_iterable((t.task, t.team) for t in changes.tasks))
        if changes.tasks:
            self._put(
                _SAVE_TASK,
                [
                    (
                        run.id,
                        name(t.task),
                        t.position,
                        name(t.team) if t.team else None,
                        t.kind,
                        t.stage,
                        t.state,
                        clean(t.reason),
                        t.attempts,
                        t.ready_at,
                        t.finished_at,
                        t.estimate_s,
                        t.predicted_start_s,
                        t.predicted_finish_s,
                    )
                    for t in changes.tasks
                ],
            )
        if changes.attempts:
            repository = name(fold.run.repository)
            self._put(
                _SAVE_ATTEMPT,
                [
                    (
                        run.id,
                        name(a.task),
                        a.attempt,
                        repository,
                        a.state,
                        clean(a.reason),
                        a.queued_s,
                        clean(a.wait_reason),
                        name(a.freed_by) if a.freed_by else None,
                        a.started_at,
                        a.finished_at,
                        a.duration_s,
                        a.exit_code,
                        a.cpu_s,
                        a.peak_memory_mb,
                        a.output_bytes,
                        a.omitted_bytes,
                        a.tokens,
                        a.usd,
                        a.unpriced,
                        clean(a.content),
                    )
                    for a in changes.attempts
                ],
            )
        if changes.usage:
            connection.executemany(
                _SAVE_USAGE,
                [
                    (
                        run.id,
                        name(u.task),
                        u.attempt,
                        name(u.model),
                        u.calls,
                        u.unpriced,
                        u.input_tokens,
                        u.output_tokens,
                        u.cache_read_tokens,
                        u.cache_write_tokens,
                        u.usd,
                    )
                    for u in changes.usage
                ],
            )
        if changes.spend:
            self._save_spend(run, changes.spend)
        counts = [fold.counts[state] for state in TaskState]
        head = (run.spec, *_HEAD_VALUES(fold.run))
        if head == run.saved_head:
            connection.execute(_SAVE_PULSE, (*_PULSE_VALUES(fold.run), *counts, run.id))
            return
        values = list(_RUN_VALUES(fold.run))
        for number in _RUN_TEXTS:
            values[number] = clean(values[number])
        connection.execute(_SAVE_RUN, (*values, run.spec, *counts, run.id))
        run.saved_head = head

    def _save_spend(self, run: _OpenRun, records: Sequence[SpendRecord]) -> None:
        head = run.fold.run
        self._connection.executemany(
            _SAVE_SPEND,
            [
                (
                    run.id,
                    clean(s.team),
                    clean(s.model),
                    head.started_at,
                    clean(head.repository),
                    head.pull_request,
                    s.calls,
                    s.unpriced,
                    s.input_tokens,
                    s.output_tokens,
                    s.cache_read_tokens,
                    s.cache_write_tokens,
                    s.usd,
                )
                for s in records
            ],
        )

    def _learn(self, texts: Iterable[str]) -> None:
        """Find or make the numbers of many names in two steps of SQLite, for the same reason as in `_put`."""
        unknown = {text for text in texts if text and text not in self._names}
        if len(unknown) < _ROWS[1]:
            return  # `_name` will do
        # What JSON can't carry through SQLite is left to `_name`.
        listed = json.dumps([text for text in unknown if clean(text) == text and "\0" not in text])
        self._connection.execute("INSERT OR IGNORE INTO names (name) SELECT value FROM json_each(?)", (listed,))
        (found,) = self._connection.execute(
            "SELECT json_group_object(name, id) FROM names WHERE name IN (SELECT value FROM json_each(?))", (listed,)
        ).fetchone()
        self._names |= json.loads(found)

    def _name(self, text: str) -> int:
        known = self._names.get(text)
        if known is None:
            known = self._names[text] = self._key_of("names", "name", clean(text))
        return known

    def _spec(self, text: str) -> int:
        digest = hashlib.sha256(text.encode()).hexdigest()
        row = self._connection.execute("SELECT id FROM specs WHERE digest = ?", (digest,)).fetchone()
        if row is not None:
            return int(row[0])
        cursor = self._connection.execute("INSERT INTO specs (digest, text) VALUES (?, ?)", (digest, text))
        return int(cursor.lastrowid or 0)

    def _key_of(self, table: str, column: str, text: str) -> int:
        row = self._connection.execute(f"SELECT id FROM {table} WHERE {column} = ?", (text,)).fetchone()
        if row is not None:
            return int(row[0])
        cursor = self._connection.execute(f"INSERT INTO {table} ({column}) VALUES (?)", (text,))
        return int(cursor.lastrowid or 0)


def _chunks(events: Iterable[RunEvent]) -> Iterator[Sequence[RunEvent]]:
    source = iter(events)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk
