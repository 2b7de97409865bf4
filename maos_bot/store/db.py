"""Opening a database: for writing (made and migrated where needed) or for reading, with errors in words.

Durability: write-ahead log, `synchronous = NORMAL`. A commit is then safe from the death of this process at any
instant (kill -9 included); the writer asks for `FULL`, which also outlives a power cut, where it matters
(`maos_bot.store.writer`).
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from maos_bot.errors import StoreError
from maos_bot.store.migrations import APPLICATION_ID, SCHEMA_VERSION, STEPS, Step, migrate

if TYPE_CHECKING:
    from sqlite_utils import Database

BUSY_TIMEOUT_S: Final = 10.0
_MAGIC: Final = b"SQLite format 3\x00"


def open_store(path: Path, *, create: bool) -> Database:
    """The database at `path` as sqlite-utils sees it, on the newest schema and ready for writing.

    Without `create` a missing file is a `StoreError`; so are a file that is no database of ours, one from a newer
    version, a locked or damaged one and a folder that can't be written, each with what to do.
    """
    from sqlite_utils import Database  # 0.1 s that the hot path doesn't pay

    return Database(connect(path, create=create), execute_plugins=False)


def connect(path: Path, *, create: bool, steps: tuple[Step, ...] = STEPS) -> sqlite3.Connection:
    """What `open_store` does, as a plain connection; loads sqlite-utils only to migrate an old database.

    The connection is in autocommit mode: transactions are begun and ended by name.
    """
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain(error, path) from error
    _check_file(path, may_be_missing=create)
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        _prepare(connection, path, steps)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise explain(error, path) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that can't change anything. An older schema is migrated first, where the file may be written.

    Raises `StoreError` as `open_store` does.
    """
    _check_file(path, may_be_missing=False)
    if _version_of(path) < SCHEMA_VERSION:
        connect(path, create=False).close()
    try:
        return _open_read_only(path)
    except sqlite3.Error as error:
        raise explain(error, path) from error


def check_integrity(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong with the whole file; empty where all is well. Reads every page."""
    rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    return [] if rows == ["ok"] else rows


def explain(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """The error in words, with what to do about it."""
    if isinstance(error, OSError):
        return StoreError(f"{path}: {error.strerror or error}", hint="choose another place with --db FILE")
    what, hint = _CAUSES.get(_code(error), (str(error), "see whether the file can be opened with the sqlite3 tool"))
    return StoreError(f"{path}: {what}", hint=hint)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process held the lock for longer than `BUSY_TIMEOUT_S`: trying again may help."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary error code; 0 for what Python itself raises (a closed connection, a wrong binding)."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


_CAUSES: Final = {
    sqlite3.SQLITE_BUSY: (
        "the database is locked by another process",
        "wait for it to end or stop it, then try again",
    ),
    sqlite3.SQLITE_LOCKED: (
        "the database is locked by another process",
        "wait for it to end or stop it, then try again",
    ),
    sqlite3.SQLITE_NOTADB: (
        "this file is not an SQLite database",
        "choose another file with --db FILE",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the database is damaged",
        "move it away and start a new one, or save what can be read with: sqlite3 FILE .recover",
    ),
    sqlite3.SQLITE_FULL: (
        "there is no room left for the database",
        "free some space on the disk, or choose another place with --db FILE",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk refused to read or write the database",
        "check the disk (full? over a limit? a network share?), or choose another place with --db FILE",
    ),
    sqlite3.SQLITE_READONLY: (
        "the database or its folder can't be written",
        "change the permissions of both, or choose another place with --db FILE",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the database can't be opened",
        "check that its folder exists and may be read and written, or choose another place with --db FILE",
    ),
    sqlite3.SQLITE_PERM: (
        "the database may not be opened by this user",
        "change its permissions, or choose another place with --db FILE",
    ),
}


def _check_file(path: Path, *, may_be_missing: bool) -> None:
    """Sort out what SQLite would say less clearly: no file, a folder, something that is no database."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        if may_be_missing:
            return
        raise StoreError(
            f"{path}: there is no database here", hint="make one with `maos run`, or name another with --db FILE"
        ) from None
    except OSError as error:
        raise explain(error, path) from error
    if head and head != _MAGIC:
        raise StoreError(f"{path}: this file is not an SQLite database", hint="choose another file with --db FILE")


def _prepare(connection: sqlite3.Connection, path: Path, steps: tuple[Step, ...]) -> None:
    version = _known_version(connection, path, newest=len(steps))  # first: other people's files are left alone
    _use_write_ahead_log(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    if version < len(steps):
        migrate(connection, steps)
    connection.execute("PRAGMA temp_store = MEMORY")


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch the file over; others that switch it at the same moment make this fail without waiting, so wait here."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _known_version(connection: sqlite3.Connection, path: Path, *, newest: int) -> int:
    """The schema version of the file; raises `StoreError` where it isn't ours or is newer than `newest`."""
    connection.execute("BEGIN")  # one look at all three: another process may be making the file just now
    try:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
        mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    finally:
        connection.execute("COMMIT")
    if mark != APPLICATION_ID:
        if tables:
            raise StoreError(
                f"{path}: this SQLite database was not made by MAOS bot", hint="choose another file with --db FILE"
            )
        return 0
    if version > newest:
        raise StoreError(
            f"{path}: the database has schema {version}, this version of MAOS bot knows up to {newest}",
            hint="update MAOS bot, or choose another file with --db FILE",
        )
    return version


def _version_of(path: Path) -> int:
    try:
        connection = _open_read_only(path)
        try:
            version = _known_version(connection, path, newest=SCHEMA_VERSION)
            empty = version == 0
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise explain(error, path) from error
    if empty:
        raise StoreError(f"{path}: the database is empty", hint="fill it with `maos run`")
    return version


def _open_read_only(path: Path) -> sqlite3.Connection:
    """Open for reading; in a folder that can't be written, where no writer can be either, without locks."""
    try:
        return _open_uri(path, "mode=ro")
    except sqlite3.OperationalError as error:
        unwritable = _code(error) in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
        log = path.with_name(path.name + "-wal")
        if not unwritable or (log.exists() and log.stat().st_size):
            raise
        return _open_uri(path, "mode=ro&immutable=1")


def _open_uri(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{options}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # opening is lazy: fail here
    except BaseException:
        connection.close()
        raise
    return connection
