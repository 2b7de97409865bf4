"""The writer: nothing acknowledged is lost, nothing added is dropped in silence, a run is never held up."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from maos_bot.errors import StoreError
from maos_bot.events import OutputChunk, RunEvent
from maos_bot.store import db as store_db
from maos_bot.store import writer as store_writer
from maos_bot.store.db import check_integrity, connect, connect_read_only, open_store
from maos_bot.store.queries import Queries
from maos_bot.store.rescue import rescue_path
from maos_bot.store.writer import StoreWriter
from tests.factories import make_run
from tests.integration.store_parts import short_run, stored_seqs

ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)


def add_all(writer: StoreWriter, events: Sequence[RunEvent]) -> None:
    for event in events:
        writer.add(event)


def test_all_that_was_added_is_there_after_close(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    events = make_run()
    with StoreWriter(path) as writer:
        for event in events:
            writer.add(event)
    assert writer.acknowledged_seq == len(events)
    with Queries(path) as queries:
        assert queries.events("latest", with_output=True) == events


def test_events_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    events = short_run("run-1")
    with StoreWriter(path) as writer:
        for event in events[:4]:
            writer.add(event)
        wait_until(lambda: writer.acknowledged_seq == 4)
        with Queries(path, clock=lambda: events[3].at + 5) as queries:
            assert queries.events("run-1", with_output=True) == events[:4]
            assert queries.run("run-1").status == "running"
            writer.add(events[4])
            wait_until(lambda: queries.last_seq("run-1") == 5)
            assert queries.events("run-1", after_seq=4) == events[4:5]


def test_what_comes_from_several_threads_is_all_there(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    runs = [short_run(f"run-{number}", tasks=200) for number in range(4)]
    with StoreWriter(path) as writer:
        threads = [threading.Thread(target=add_all, args=(writer, run)) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Queries(path) as queries:
        assert [queries.events(run[0].run_id, with_output=True) for run in runs] == runs


def test_two_writers_and_a_reader_share_a_database(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    runs = [short_run(f"run-{number}", tasks=400) for number in range(2)]
    open_store(path, create=True).close()

    def write(run: list[RunEvent]) -> None:
        with StoreWriter(path) as writer:
            for number, event in enumerate(run):
                writer.add(event)
                if number % 50 == 0:
                    time.sleep(0.01)

    threads = [threading.Thread(target=write, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    seen: dict[str, int] = {}
    with Queries(path) as queries:
        while any(thread.is_alive() for thread in threads):
            for row in queries.runs():
                assert row.last_seq >= seen.get(row.run_id, 0)
                assert row.is_complete
                seen[row.run_id] = row.last_seq
        for thread in threads:
            thread.join()
        assert [queries.events(run[0].run_id, with_output=True) for run in runs] == runs


def test_memory_is_bounded_where_the_disk_cannot_keep_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "maos.db"
    open_store(path, create=True).close()
    monkeypatch.setattr(store_writer, "MAX_QUEUED_EVENTS", 600)
    monkeypatch.setattr(store_writer, "MAX_QUEUED_TEXT", 40_000)
    chunks = [
        OutputChunk(run_id="run-1", seq=seq, at=1.0, task="t", attempt=1, text="x" * 1000) for seq in range(1, 2001)
    ]
    with StoreWriter(path) as writer:
        for chunk in chunks:
            writer.add(chunk)
            assert writer._queued_text <= 41_000
            assert len(writer._queue) <= 601
    with Queries(path) as queries:
        assert len(queries.output("run-1", "t")) == 2_000_000


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    holder = connect(path, create=True)
    holder.execute("BEGIN IMMEDIATE")
    events = short_run("run-1")
    with StoreWriter(path) as writer:
        for event in events:
            writer.add(event)
        time.sleep(0.3)
        assert writer.acknowledged_seq == 0
        holder.execute("COMMIT")
        holder.close()
    assert writer.acknowledged_seq == len(events)


def test_what_a_locked_database_refused_is_taken_in_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "maos.db"
    monkeypatch.setattr(store_db, "BUSY_TIMEOUT_S", 0.05)
    holder = connect(path, create=True)
    holder.execute("BEGIN IMMEDIATE")
    refused, next_run = short_run("run-1"), short_run("run-2")
    writer = StoreWriter(path)
    for event in refused:
        writer.add(event)
    with pytest.raises(StoreError) as told:
        writer.close()
    assert "locked by another process" in str(told.value)
    assert f"{len(refused)} events are in {rescue_path(path)}" in str(told.value)
    holder.execute("ROLLBACK")
    holder.close()

    with rescue_path(path).open("a") as file:  # as one that died while writing would leave it
        file.write('{"type": "TaskRe')
    with StoreWriter(path) as writer:
        for event in next_run:
            writer.add(event)
    with Queries(path) as queries:
        assert queries.events("run-1", with_output=True) == refused
        assert queries.events("run-2", with_output=True) == next_run
    assert rescue_path(path).read_text() == '{"type": "TaskRe'  # what can't be read is not thrown away


def test_a_broken_database_never_stops_the_run(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    path.write_text("no database at all")
    events = short_run("run-1")
    writer = StoreWriter(path)
    for event in events:
        writer.add(event)
    with pytest.raises(
        StoreError, match=r"not an SQLite database.*the next run that can use the database takes them in"
    ):
        writer.close()
    assert len(rescue_path(path).read_text().split()) >= len(events)


def test_it_says_so_when_events_can_be_saved_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    writer = StoreWriter(tmp_path / "file" / "maos.db")
    writer.add(short_run("run-1")[0])
    with pytest.raises(StoreError, match="1 events could be saved nowhere; choose another place"):
        writer.close()


_FULL_DISK = """
import resource, sys
from pathlib import Path
from maos_bot.errors import StoreError
from maos_bot.store.db import open_store
from maos_bot.store.writer import StoreWriter
from tests.integration.store_parts import short_run
path = Path(sys.argv[1])
open_store(path, create=True).close()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
writer = StoreWriter(path)
for event in short_run("run-1", tasks=5000):
    writer.add(event)
try:
    writer.close()
except StoreError as error:
    print(writer.acknowledged_seq)
    print(error)
"""


def test_a_full_disk_is_told_and_leaves_a_sound_database(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    child = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(path), "700000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    acknowledged, told = child.stdout.split("\n", 1)
    assert "maos.db: the disk refused" in told or "maos.db: there is no room left" in told
    assert "could be saved nowhere" in told
    connection = connect_read_only(path)
    assert check_integrity(connection) == []
    seqs = stored_seqs(connection, "run-1")
    connection.close()
    assert seqs[: int(acknowledged)] == list(range(1, int(acknowledged) + 1))


_WRITES_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from maos_bot.store.writer import StoreWriter
from tests.integration.store_parts import short_run
writer = StoreWriter(Path(sys.argv[1]))
told = 0
for event in short_run(sys.argv[2], tasks=8_000):
    writer.add(event)
    if writer.acknowledged_seq != told:
        told = writer.acknowledged_seq
        print(told, flush=True)
    if event.seq % 20 == 0:
        time.sleep(0.002)
"""


@pytest.mark.slow
def test_no_kill_at_any_moment_loses_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    open_store(path, create=True).close()
    rng = random.Random(20261124)
    stored = 0
    for number in range(6):
        run_id = f"run-{number}"
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITES_UNTIL_KILLED, str(path), run_id], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        with child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(rng.uniform(0, 0.3))
            child.kill()
            told = [first, *child.stdout]
        # A last line may have been cut by the kill; what counts is what was told in full.
        acknowledged = max(int(line) for line in told if line.endswith("\n"))
        connection = connect(path, create=False)
        assert check_integrity(connection) == []
        seqs = stored_seqs(connection, run_id)
        row = connection.execute("SELECT last_seq, events, tasks FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        connection.close()
        assert len(seqs) >= acknowledged
        assert seqs == list(range(1, len(seqs) + 1))
        assert row == (len(seqs), len(seqs), 8_000)
        stored += acknowledged
    assert stored > 1000


def test_storing_costs_the_run_little(tmp_path: Path) -> None:
    """1,000 tasks, 4,000 events: under 0.1 s of CPU on an idle machine; the bound here leaves room for a busy one."""
    path = tmp_path / "maos.db"
    open_store(path, create=True).close()
    events = short_run("run-1", tasks=1000)
    before = time.process_time()
    with StoreWriter(path) as writer:
        for event in events:
            writer.add(event)
    assert time.process_time() - before < 0.5


_OPENS_AND_CLOSES = """
import json, sys
from pathlib import Path
from maos_bot.store.queries import Queries
from maos_bot.store.writer import StoreWriter
StoreWriter(Path(sys.argv[1])).close()
Queries(Path(sys.argv[1])).close()
print(json.dumps([name for name in ("sqlite_utils", "networkx", "flask", "click") if name in sys.modules]))
"""


def test_writing_to_a_database_that_is_up_to_date_loads_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    open_store(path, create=True).close()
    child = subprocess.run(
        [sys.executable, "-c", _OPENS_AND_CLOSES, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert json.loads(child.stdout) == []


def test_a_reader_that_stays_does_not_stop_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    with StoreWriter(path) as writer:
        for event in short_run("run-1"):
            writer.add(event)
    reader: sqlite3.Connection = connect_read_only(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM runs").fetchone()
    with StoreWriter(path) as writer:
        for event in short_run("run-2"):
            writer.add(event)
    assert reader.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    reader.close()
    with Queries(path) as queries:
        assert queries.count_runs() == 2
