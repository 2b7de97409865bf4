"""Old runs leave the database, and nothing of them stays."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from maos_bot.cli import maos
from maos_bot.errors import ConfigError, StoreError
from maos_bot.store.db import check_integrity
from maos_bot.store.prune import prune
from maos_bot.store.queries import Queries
from maos_bot.store.search import search
from maos_bot.store.writer import StoreWriter
from tests.factories import START, make_run, store_runs
from tests.integration.store_parts import contents


def history(path: Path, *, days: tuple[int, ...]) -> Path:
    return store_runs(path, [make_run(run_id=f"run-{day:03d}", started_at=START - day * 86400) for day in days])


def test_what_is_left_equals_a_database_that_never_held_the_rest(tmp_path: Path) -> None:
    pruned = history(tmp_path / "pruned.db", days=(200, 100, 5, 1))
    done = prune(pruned, before=START - 90 * 86400)
    assert (done.runs, done.kept) == (2, 2)
    assert done.bytes_after <= done.bytes_before
    with contextlib.closing(Queries(pruned)) as queries:
        assert {hit.run_id for hit in search(queries, "ruff")} == {"run-005", "run-001"}
        assert [row.run_id for row in queries.runs(limit=9)] == ["run-001", "run-005"]
    fresh = history(tmp_path / "fresh.db", days=(5, 1))
    assert contents(pruned).keys() == contents(fresh).keys()
    with contextlib.closing(sqlite3.connect(pruned)) as connection:
        assert check_integrity(connection) == []
        kept = connection.execute("SELECT DISTINCT run FROM events").fetchall()
        assert len(kept) == 2


def test_a_run_that_goes_on_stays_and_can_be_written_on(tmp_path: Path) -> None:
    path = history(tmp_path / "maos.db", days=(100,))
    events = make_run(run_id="going", started_at=START - 95 * 86400)
    with StoreWriter(path) as writer:
        for event in events[:20]:
            writer.add(event)
        give_up_at = time.monotonic() + 20
        while writer.acknowledged_seq < events[19].seq and time.monotonic() < give_up_at:
            time.sleep(0.01)
        prune(path, before=START - 99 * 86400)
        for event in events[20:]:
            writer.add(event)
    with contextlib.closing(Queries(path)) as queries:
        assert [(row.run_id, row.status) for row in queries.runs(limit=9)] == [("going", "succeeded")]


def test_a_search_that_was_left_half_made_is_made_whole(tmp_path: Path) -> None:
    path = history(tmp_path / "maos.db", days=(5, 1))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM documents")
        connection.execute("INSERT INTO search (search) VALUES ('delete-all')")
    assert prune(path, before=0).runs == 0
    with contextlib.closing(Queries(path)) as queries:
        assert len({hit.run_id for hit in search(queries, "ruff")}) == 2


def test_no_database_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        prune(tmp_path / "none.db", before=0)


def test_the_command_keeps_what_is_young_enough(tmp_path: Path) -> None:
    now = time.time()
    runs = [make_run(run_id=f"run-{day}", started_at=now - day * 86400) for day in (100, 1)]
    path = store_runs(tmp_path / "maos.db", runs)
    done = CliRunner().invoke(maos, ["prune", "--keep", "90d", "--db", str(path)])
    assert done.exit_code == 0, done.output
    assert "1 runs removed, 1 kept" in done.output


@pytest.mark.parametrize("age", ["", "90", "0d", "-3d", "90y", "many"])
def test_what_is_no_age_is_refused(tmp_path: Path, age: str) -> None:
    done = CliRunner().invoke(maos, ["prune", "--keep", age, "--db", str(tmp_path / "maos.db")])
    assert isinstance(done.exception, ConfigError)
