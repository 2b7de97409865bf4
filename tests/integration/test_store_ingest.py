"""Taking events in: what comes out again, and that neither order nor repetition matters."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maos_bot.events import OutputChunk, RunEvent, RunStarted, TaskFinished
from maos_bot.model import TaskState, Usage
from maos_bot.reporting.report import report_of
from maos_bot.store.db import open_store
from maos_bot.store.ingest import ingest
from maos_bot.store.queries import Queries
from tests.factories import Ending, make_run
from tests.integration.store_parts import RUN_ID, contents, short_run, streams


def take_in(path: Path, *batches: list[RunEvent]) -> list[int]:
    """Ingest the batches one after the other; how many events of each were new."""
    db = open_store(path, create=True)
    try:
        return [ingest(db, batch) for batch in batches]
    finally:
        db.close()


def read_back(path: Path, run_id: str = RUN_ID) -> list[RunEvent]:
    with Queries(path) as queries:
        return queries.events(run_id, with_output=True)


@given(streams())
@settings(max_examples=40)
def test_events_come_out_as_they_went_in(events: list[RunEvent]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "maos.db"
        assert take_in(path, events) == [len(events)]
        assert read_back(path) == events


@given(streams(), st.data())
@settings(max_examples=40)
def test_any_order_of_repeated_batches_gives_the_same_database(events: list[RunEvent], data: st.DataObject) -> None:
    indexes = data.draw(st.permutations(range(len(events))))
    again = data.draw(st.lists(st.sampled_from(range(len(events))), max_size=6))
    size = data.draw(st.integers(1, 5))
    order = [events[index] for index in (*indexes, *again)]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    with tempfile.TemporaryDirectory() as folder:
        straight, shuffled = Path(folder) / "straight.db", Path(folder) / "shuffled.db"
        take_in(straight, events)
        assert sum(take_in(shuffled, *batches)) == len(events)
        assert contents(shuffled) == contents(straight)


def test_taking_a_run_in_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    events = make_run()
    take_in(path, events)
    before = contents(path)
    assert take_in(path, events) == [0]
    assert contents(path) == before


def test_a_batch_may_hold_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    one, two = short_run("run-1"), short_run("run-2")
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    assert take_in(path, mixed) == [len(one) + len(two)]
    assert (read_back(path, "run-1"), read_back(path, "run-2")) == (one, two)


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    events = make_run()

    def torn() -> Iterator[RunEvent]:
        yield from events[:20]
        raise ConnectionResetError

    db = open_store(path, create=True)
    with pytest.raises(ConnectionResetError):
        ingest(db, torn())
    assert db["runs"].count == db["events"].count == db["names"].count == 0
    assert ingest(db, events) == len(events)
    db.close()


def test_a_spec_is_stored_once_for_all_runs_that_share_it(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    text = "version: 1\n" * 500
    take_in(path, short_run("run-1", spec_text=text), short_run("run-2", spec_text=text))
    db = open_store(path, create=False)
    assert db["specs"].count == 1
    db.close()
    with Queries(path) as queries:
        assert queries.spec_text("run-1") == queries.spec_text("run-2") == text


def test_text_that_is_no_utf_8_is_stored_with_the_odd_characters_replaced(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    chunk = OutputChunk(run_id=RUN_ID, seq=2, at=1.0, task="t\udc80", attempt=1, text="a\ud800b\x00c")
    end = TaskFinished(run_id=RUN_ID, seq=3, at=1.0, task="t", attempt=1, state=TaskState.FAILED, reason="\udcff")
    take_in(path, [chunk, end])
    with Queries(path) as queries:
        assert queries.output(RUN_ID, "t?") == "a?b\x00c"
        assert queries.attempts(RUN_ID, "t")[0].reason == "?"


@pytest.mark.parametrize("cut_at", [None, 12.0])
def test_the_run_row_says_what_the_report_says(tmp_path: Path, cut_at: float | None) -> None:
    path = tmp_path / "maos.db"
    retried = Ending(states=(TaskState.FAILED, TaskState.SUCCEEDED))
    usage = {"lint": Usage(input_tokens=100, output_tokens=20, usd=0.5), "types": Usage(input_tokens=7, usd=0.25)}
    events = make_run(run_id=RUN_ID, endings={"unit-api": Ending(), "lint": retried}, usage=usage, cut_at=cut_at)
    take_in(path, events)
    report = report_of(events)
    with Queries(path, clock=lambda: events[-1].at) as queries:
        row = queries.run(RUN_ID)
        attempts = queries.attempts(RUN_ID)
    assert (row.status, row.exit_code, row.mode, row.name) == (
        report.status,
        report.exit_code,
        report.mode,
        report.name,
    )
    assert row.tasks == report.counts
    assert row.sequential_s == pytest.approx(report.sequential_s)
    assert row.wall_s == (None if cut_at else report.wall_s)
    assert (row.input_tokens, row.output_tokens, row.usd, row.unpriced) == (
        report.usage.input_tokens,
        report.usage.output_tokens,
        report.usage.usd,
        0,
    )
    assert (row.peak_memory_mb, row.peak_cpu_percent) == (report.peak.memory_mb, report.peak.cpu_percent)
    assert row.is_complete
    told = [
        (task.id, a.attempt, a.state, a.queued_s, a.duration_s, a.exit_code)
        for task in report.tasks.values()
        for a in task.attempt_list
    ]
    assert [(a.task, a.attempt, a.state, a.queued_s, a.duration_s, a.exit_code) for a in attempts] == told


def test_calls_without_a_price_are_counted_apart(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    usage = {"lint": Usage(input_tokens=10, usd=None), "types": Usage(input_tokens=5, usd=0.25)}
    take_in(path, make_run(run_id=RUN_ID, usage=usage))
    with Queries(path) as queries:
        row = queries.run(RUN_ID)
    assert (row.tokens, row.usd, row.unpriced) == (15, 0.25, 1)


def test_a_run_whose_beginning_is_missing_is_still_a_run(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    events = short_run(RUN_ID)
    assert isinstance(events[0], RunStarted)
    take_in(path, events[1:])
    with Queries(path) as queries:
        row = queries.run(RUN_ID)
    assert (row.status, row.tasks, row.is_complete) == ("succeeded", {TaskState.SUCCEEDED: 3}, False)
