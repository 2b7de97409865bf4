"""What came in from elsewhere, and when: uploads, and the artifacts of repositories' workflow runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from maos_bot.store.codec import clean


def note_intake(connection: sqlite3.Connection, source: str, *, at: float, etag: str = "") -> None:
    """Note that something came in from `source` now; part of the caller's transaction, if there is one."""
    connection.execute(
        "INSERT INTO intakes (source, at, etag) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET at = excluded.at, etag = excluded.etag",
        (clean(source), at, etag),
    )


def etag_of(connection: sqlite3.Connection, source: str) -> str | None:
    """What the source's list was tagged with when all of it had been taken in; None where it never was."""
    row = connection.execute("SELECT etag FROM intakes WHERE source = ?", (clean(source),)).fetchone()
    return str(row[0]) if row else None


def known_artifacts(connection: sqlite3.Connection, repository: str, artifacts: Iterable[int]) -> set[int]:
    """Those of the artifacts that were looked at before."""
    sql = "SELECT 1 FROM artifacts WHERE repository = ? AND artifact = ?"
    return {number for number in artifacts if connection.execute(sql, (repository.lower(), number)).fetchone()}


def note_artifact(
    connection: sqlite3.Connection, repository: str, artifact: int, *, name: str, at: float, problem: str = ""
) -> None:
    """Note that an artifact was taken in, or what kept it from that."""
    connection.execute(
        "INSERT OR REPLACE INTO artifacts (repository, artifact, name, at, problem) VALUES (?, ?, ?, ?, ?)",
        (repository.lower(), artifact, clean(name), at, clean(problem)),
    )
