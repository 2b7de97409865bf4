"""Opening a database: made, migrated, or refused in words."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlite_utils import Database

from maos_bot.errors import StoreError
from maos_bot.store import db as store_db
from maos_bot.store.db import check_integrity, connect, connect_read_only, open_store
from maos_bot.store.ingest import ingest
from maos_bot.store.migrations import KINDS, SCHEMA_VERSION, STEPS, migrations
from maos_bot.store.queries import Queries
from tests.integration.store_parts import short_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one run in it."""
    path = tmp_path / "maos.db"
    db = open_store(path, create=True)
    ingest(db, short_run("run-1"))
    db.close()
    return path


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_a_new_database_is_made_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "maos.db"
    db = open_store(path, create=True)
    assert db.journal_mode == "wal"
    assert {"runs", "tasks", "attempts", "events", "output", "samples"} <= set(db.table_names())
    assert check_integrity(db.conn) == []
    db.close()
    assert version_of(path) == SCHEMA_VERSION


def test_several_may_make_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"

    def make(number: int) -> int:
        connection = connect(path, create=True)
        try:
            return int(connection.execute("SELECT count(*) FROM kinds").fetchone()[0])
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(make, range(12))) == {len(KINDS)}


def test_a_missing_database_is_said_to_be_missing(tmp_path: Path) -> None:
    for attempt in (lambda: open_store(tmp_path / "no.db", create=False), lambda: Queries(tmp_path / "no.db")):
        with pytest.raises(StoreError, match=r"no\.db: there is no database here; make one with `maos run`"):
            attempt()


def test_an_empty_file_is_filled_by_a_writer_and_refused_by_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    path.touch()
    with pytest.raises(StoreError, match="the database is empty; fill it with `maos run`"):
        Queries(path)
    open_store(path, create=False).close()
    with Queries(path) as queries:
        assert queries.runs() == []


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but a text that is long enough to be one" * 20)
    before = path.read_bytes()
    for attempt in (lambda: open_store(path, create=True), lambda: Queries(path)):
        with pytest.raises(StoreError, match="not an SQLite database; choose another file"):
            attempt()
    assert path.read_bytes() == before


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Is a directory"):
        open_store(tmp_path, create=True)


def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="was not made by MAOS bot"):
        open_store(path, create=True)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 3}")
    connection.close()
    for attempt in (lambda: open_store(path, create=True), lambda: Queries(path)):
        with pytest.raises(
            StoreError, match=rf"schema {SCHEMA_VERSION + 3}, .* up to {SCHEMA_VERSION}; update MAOS bot"
        ):
            attempt()


def add_labels(db: sqlite3.Connection) -> None:
    """A step as a later version could bring it."""
    db.execute("ALTER TABLE runs ADD COLUMN label TEXT NOT NULL DEFAULT ''")
    db.execute("CREATE INDEX runs_label ON runs (label)")


def break_off(db: sqlite3.Connection) -> None:
    """A step that fails half-way."""
    db.execute("CREATE TABLE half (x)")
    db.execute("INSERT INTO no_such_table VALUES (1)")


def schema_of(db: Database) -> dict[str, str]:
    rows = db.query("SELECT type || ' ' || name AS what, ifnull(sql, '') AS made FROM sqlite_schema")
    return {row["what"]: " ".join(row["made"].split()) for row in rows}


def test_a_new_database_is_as_sqlite_utils_would_have_made_it(path: Path, tmp_path: Path) -> None:
    migrated = Database(tmp_path / "migrated.db")
    migrations().apply(migrated)
    made = Database(path)
    assert schema_of(made) == schema_of(migrated)
    assert [row["name"] for row in made["kinds"].rows] == [row["name"] for row in migrated["kinds"].rows]
    assert migrations().pending(made) == []
    made.close()
    migrated.close()


def test_making_a_database_and_storing_a_run_loads_no_sqlite_utils(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from maos_bot.store.writer import StoreWriter\n"
        "from tests.integration.store_parts import short_run\n"
        f"with StoreWriter(Path({str(tmp_path / 'new.db')!r})) as writer:\n"
        "    for event in short_run('run-1'): writer.add(event)\n"
        "assert 'sqlite_utils' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_an_older_database_is_brought_up_to_date_with_its_runs(path: Path) -> None:
    connect(path, create=False, steps=(*STEPS, add_labels)).close()
    assert version_of(path) == SCHEMA_VERSION + 1
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT run_id, label FROM runs").fetchall() == [("run-1", "")]
    connection.close()
    with pytest.raises(StoreError, match="update MAOS bot"):
        Queries(path)


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path) -> None:
    with pytest.raises(StoreError, match="no such table: no_such_table"):
        connect(path, create=False, steps=(*STEPS, add_labels, break_off))
    assert version_of(path) == SCHEMA_VERSION
    with Queries(path) as queries:
        assert len(queries.runs()) == 1
    connect(path, create=False, steps=(*STEPS, add_labels)).close()


def test_a_reader_cannot_write(path: Path) -> None:
    connection = connect_read_only(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM runs")
    connection.close()


def test_a_lock_that_stays_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_db, "BUSY_TIMEOUT_S", 0.1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("CREATE TABLE x (y)")
    try:
        with pytest.raises(StoreError, match="locked by another process; wait for it"):
            open_store(path, create=False)
    finally:
        holder.close()


def test_damage_is_told(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 2000] = b"\xa5" * 2000
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"damaged; move it away .* \.recover"), Queries(path) as queries:
        queries.run("run-1")


def test_a_database_cut_short_is_told(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(StoreError, match=r"damaged|disk refused"), Queries(path) as queries:
        queries.run("run-1")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


# All is loaded before root's rights (which nothing stops) are given up: others may not read this installation.
_AS_SOMEONE = """
import os, pathlib, sys
import sqlite_utils
from maos_bot.store.db import open_store
from maos_bot.store.queries import Queries
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
paths = [pathlib.Path(name) for name in sys.argv[1:]]
"""


def as_someone(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` as a user whom permissions stop."""
    return subprocess.run(
        [sys.executable, "-c", _AS_SOMEONE + code, *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_folder_that_cannot_be_written_can_be_read(path: Path, open_folder: Path) -> None:
    copy = open_folder / "maos.db"
    shutil.copy(path, copy)
    copy.chmod(0o444)
    open_folder.chmod(0o555)
    read = as_someone("print(Queries(paths[0]).run('latest').run_id)", copy)
    assert (read.stdout, read.returncode) == ("run-1\n", 0), read.stderr
    write = as_someone(
        "for path in paths:\n"
        "    try: open_store(path, create=True)\n"
        "    except Exception as error: print(type(error).__name__, error)",
        copy,
        open_folder / "new.db",
        open_folder / "sub" / "new.db",
    )
    assert write.stdout.count("StoreError") == 3, write
    assert write.stdout.count("--db FILE") == 3, write
