"""Retention: runs that began too long ago leave the database, and the file gives their room back.

Runs go in small transactions, so that a run that is being written waits for a moment only. The search's index holds no
text and can't forget single runs; so it is emptied and filled again from what stays, in steps that a later call takes
up where an earlier one was stopped.
"""

# ruff: noqa: S608 - only this module's own words are put into SQL; values are bound

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.store.db import connect, explain
from maos_bot.store.search import index_run

_BATCH: Final = 100
_OF_RUNS: Final = ("events", "samples", "output", "tasks", "attempts", "usage", "spend", "documents")
_OLD: Final = "started_at < ?1 AND (status != 'running' OR last_event_at < ?1)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """How many runs went and stayed, and the file's size in bytes before and after."""

    runs: int
    kept: int
    bytes_before: int
    bytes_after: int


def prune(path: Path, *, before: float) -> Pruned:
    """Forget the runs that started before that time (seconds since the epoch), then `VACUUM`.

    A run that still goes on stays. Raises `StoreError`; runs that have gone by then stay gone.
    """
    connection = connect(path, create=False)
    size = path.stat().st_size
    try:
        with contextlib.closing(connection):
            gone = _forget(connection, before)
            _index_again(connection)
            kept = int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
            if gone:
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        raise explain(error, path) from error
    return Pruned(runs=gone, kept=kept, bytes_before=size, bytes_after=path.stat().st_size)


def _forget(connection: sqlite3.Connection, before: float) -> int:
    gone = 0
    while batch := _batch(connection, f"SELECT id FROM runs WHERE {_OLD} LIMIT {_BATCH}", before):
        marks = ", ".join("?" * len(batch))
        with _writing(connection):
            for table in _OF_RUNS:
                connection.execute(f"DELETE FROM {table} WHERE run IN ({marks})", batch)
            connection.execute(f"DELETE FROM runs WHERE id IN ({marks})", batch)
        gone += len(batch)
    if gone:
        with _writing(connection):
            connection.execute("DELETE FROM specs WHERE id NOT IN (SELECT spec FROM runs WHERE spec IS NOT NULL)")
            connection.execute("DELETE FROM documents")
            connection.execute("INSERT INTO search (search) VALUES ('delete-all')")
    return gone


def _index_again(connection: sqlite3.Connection) -> None:
    """Put every ended run into the search that isn't in it, newest first."""
    missing = (
        "SELECT id FROM runs WHERE finished_at IS NOT NULL AND NOT EXISTS"
        f" (SELECT 1 FROM documents WHERE run = runs.id) ORDER BY started_at DESC LIMIT {_BATCH}"
    )
    while batch := _batch(connection, missing):
        with _writing(connection):
            for run in batch:
                index_run(connection, run)


def _batch(connection: sqlite3.Connection, sql: str, *values: object) -> list[int]:
    return [row[0] for row in connection.execute(sql, values)]


@contextlib.contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
