"""A run that died goes on: nothing finished is repeated, nothing is lost, and what can't go on is refused in words."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.kill import measure
from maos_bot.errors import ConfigError
from maos_bot.events import RunEvent, RunFinished, RunStarted, TaskFinished, TaskStarted
from maos_bot.model import TaskState
from maos_bot.store.db import connect
from maos_bot.store.ingest import Ingester
from maos_bot.store.queries import Queries
from maos_bot.store.rescue import RescueFile, rescue_path
from maos_bot.store.run_lock import RunLock, lock_path
from tests.integration.running import lives, maos

SPEC = """version: 1
name: resumed
tasks:
  first: {run: "echo first >> marks"}
  flaky: {run: "test -e tried || { touch tried; exit 5; }", max-attempts: 2, retry-delay-seconds: 0}
  broken: {run: "echo broken >> marks; exit 4"}
  behind: {run: "true", needs: [broken]}
  long: {run: "echo $$ >> pids; while ! test -e go; do sleep 0.05; done; echo long >> marks", needs: [first]}
  last: {run: "echo last >> marks", needs: [long, flaky]}
"""


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """End what the killed runs left behind and no resumption saw to."""
    yield
    for written in tmp_path.rglob("pids"):
        for pid in written.read_text().split():
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"test -e go" in command.read_bytes():
                os.kill(int(pid), signal.SIGKILL)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)


def stored(folder: Path) -> list[RunEvent]:
    if not (folder / ".maos/maos.db").exists():
        return []
    with contextlib.suppress(Exception), Queries(folder / ".maos/maos.db") as queries:
        return queries.events("latest", with_output=True)
    return []


def ended(folder: Path) -> set[str]:
    return {event.task for event in stored(folder) if isinstance(event, TaskFinished) and event.final}


def killed(folder: Path) -> str:
    """Run the spec there, kill the process once all but `long` and `last` is stored, and give the run's id."""
    (folder / ".maos.yml").write_text(SPEC, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "run", "--quiet"], cwd=folder, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: ended(folder) == {"first", "flaky", "broken", "behind"} and (folder / "pids").exists())
    process.kill()
    process.wait()
    return stored(folder)[0].run_id


def test_what_had_ended_stays_so_and_the_rest_is_done(tmp_path: Path) -> None:
    run_id = killed(tmp_path)
    before = stored(tmp_path)
    orphan = int((tmp_path / "pids").read_text())
    assert lives(orphan)
    process = subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "run", "--resume", run_id, "--json", "--events", "events.ndjson"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len((tmp_path / "pids").read_text().splitlines()) == 2)
    assert not lives(orphan)  # what the dead run left behind doesn't work beside its successor
    (tmp_path / "go").touch()
    out, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    report = json.loads(out)
    assert report["run_id"] == run_id
    states = {task: row["state"] for task, row in report["tasks"].items()}
    assert states == {
        "first": "succeeded",
        "flaky": "succeeded",
        "broken": "failed",
        "behind": "upstream_failed",
        "long": "succeeded",
        "last": "succeeded",
    }
    assert sorted((tmp_path / "marks").read_text().split()) == ["broken", "first", "last", "long"]
    after = stored(tmp_path)
    assert after[: len(before)] == before
    assert [event.seq for event in after] == list(range(1, len(after) + 1))
    assert sum(isinstance(event, RunStarted) for event in after) == 1
    assert all(a.at <= b.at for a, b in itertools.pairwise(after))
    (cut, final) = [event for event in after if isinstance(event, TaskFinished) and event.task == "long"]
    assert (cut.state, cut.final, cut.attempt) == (TaskState.CANCELLED, False, 1)
    assert (final.state, final.final, final.attempt) == (TaskState.SUCCEEDED, True, 2)
    assert len((tmp_path / "events.ndjson").read_text().splitlines()) == len(after)
    end = after[-1]
    assert isinstance(end, RunFinished)
    assert end.wall_s == pytest.approx(end.at - after[0].at, abs=0.1)
    assert json.loads(maos(tmp_path, "show", "--json").stdout) == report
    assert not lock_path(tmp_path / ".maos/maos.db", run_id).exists()
    again = maos(tmp_path, "run", "--resume", run_id)
    assert again.returncode == 2
    assert f"run {run_id} has ended: failed" in again.stderr


def test_a_run_that_lives_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text(SPEC, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "run", "--quiet"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: bool(stored(tmp_path)))
        refused = maos(tmp_path, "run", "--resume", "latest")
        assert refused.returncode == 2
        assert f"is still going on, in process {process.pid}" in refused.stderr
    finally:
        (tmp_path / "go").touch()
        process.wait(60)


def test_the_history_tells_a_run_that_died_from_one_that_goes_on(tmp_path: Path) -> None:
    run_id = killed(tmp_path)
    told = maos(tmp_path, "history")
    assert run_id in told.stdout
    assert " died " in told.stdout
    assert f"`maos run --resume {run_id}` goes on with it" in told.stderr
    assert json.loads(maos(tmp_path, "history", "--json").stdout)[0]["died"] is True
    lock = RunLock.hold(tmp_path / ".maos/maos.db", run_id)
    told = maos(tmp_path, "history")
    assert " running " in told.stdout
    assert "--resume" not in told.stderr
    lock.release(over=False)


def test_another_spec_is_refused_and_the_old_one_can_be_had(tmp_path: Path) -> None:
    run_id = killed(tmp_path)
    (tmp_path / ".maos.yml").write_text(SPEC.replace("exit 4", "exit 0"), encoding="utf-8")
    refused = maos(tmp_path, "run", "--resume", run_id)
    assert refused.returncode == 2
    assert "changed since run" in refused.stderr
    assert "first in line 6" in refused.stderr
    old = maos(tmp_path, "show", run_id, "--spec").stdout
    assert old == SPEC
    (tmp_path / ".maos.yml").write_text(old, encoding="utf-8")
    (tmp_path / "go").touch()
    assert maos(tmp_path, "run", "--resume", run_id).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "first"], "leave out --task"),
        (["--mode", "sequential", ".maos.yml"], "leave out SPEC, --mode"),
    ],
)
def test_what_would_make_it_another_run_is_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    killed(tmp_path)
    refused = maos(tmp_path, "run", "--resume", "latest", *arguments)
    assert refused.returncode == 2
    assert words in refused.stderr


def test_a_copy_and_an_unknown_run_are_refused(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    killed(here)
    here.rename(there)
    here.symlink_to(there)  # its spec is still found by the old name, and leads elsewhere
    refused = maos(there, "run", "--resume", "latest")
    assert refused.returncode == 2
    assert f"begun in {here}" in refused.stderr
    assert "no run '1999'" in maos(there, "run", "--resume", "1999").stderr


def test_events_that_went_to_the_rescue_file_count(tmp_path: Path) -> None:
    run_id = killed(tmp_path)
    events = stored(tmp_path)
    start = next(event for event in reversed(events) if isinstance(event, TaskStarted) and event.task == "long")
    rescued = TaskFinished(
        run_id=run_id,
        seq=events[-1].seq + 1,
        at=events[-1].at,
        task="long",
        attempt=start.attempt,
        state=TaskState.SUCCEEDED,
    )
    RescueFile(rescue_path(tmp_path / ".maos/maos.db")).write([rescued])
    done = maos(tmp_path, "run", "--resume", run_id)
    assert done.returncode == 1, done.stderr
    assert sorted((tmp_path / "marks").read_text().split()) == ["broken", "first", "last"]
    assert not rescue_path(tmp_path / ".maos/maos.db").exists()


def test_a_run_whose_database_failed_is_resumed_from_what_it_holds(tmp_path: Path) -> None:
    """As after a full disk: the process ended in order, but neither database nor rescue file got its second half."""
    run_id = killed(tmp_path)
    os.kill(int((tmp_path / "pids").read_text()), signal.SIGKILL)  # or it would go on too
    (tmp_path / "go").touch()
    assert maos(tmp_path, "run", "--resume", run_id).returncode == 1
    database = tmp_path / ".maos/maos.db"
    events = stored(tmp_path)
    cut = next(event.seq for event in events if isinstance(event, TaskStarted) and event.task == "last")
    kept = [replace(event, run_id=run_id) for event in events if event.seq < cut]
    for name in ("maos.db", "maos.db-wal", "maos.db-shm"):
        (tmp_path / ".maos" / name).unlink(missing_ok=True)
    with contextlib.closing(connect(database, create=True)) as connection:
        Ingester(connection).write(kept)
    assert maos(tmp_path, "run", "--resume", run_id).returncode == 1
    assert sorted((tmp_path / "marks").read_text().split()) == ["broken", "first", "last", "last", "long"]


def test_only_one_holds_a_run(tmp_path: Path) -> None:
    database = tmp_path / "maos.db"
    lock = RunLock.hold(database, "run-1")
    with pytest.raises(ConfigError, match=f"run-1 is still going on, in process {os.getpid()}"):
        RunLock.hold(database, "run-1")
    RunLock.hold(database, "run-2").release(over=True)
    lock.release(over=False)
    assert lock_path(database, "run-1").exists()
    lock = RunLock.hold(database, "run-1")
    lock.release(over=True)
    lock.release(over=True)
    assert not lock_path(database, "run-1").parent.exists()


@pytest.mark.slow
def test_five_kills_lose_and_repeat_nothing() -> None:
    figures = measure(5, seed=7, tasks=30)
    assert figures["kills"] >= 5
    wrong = {name: figures[name] for name in ("lost", "repeated", "integrity_failures", "differing")}
    assert not any(wrong.values()), wrong


def test_a_signal_is_an_end_and_not_a_death(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text(SPEC, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "run", "--quiet"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    wait_until((tmp_path / "pids").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    refused = maos(tmp_path, "run", "--resume", "latest")
    assert refused.returncode == 2
    assert "has ended: cancelled" in refused.stderr
