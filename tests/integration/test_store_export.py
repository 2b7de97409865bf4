"""A run as a file, checked by what reads such files."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maos_bot.events import RunEvent, TaskFinished
from maos_bot.model import TaskState
from maos_bot.reporting.report import report_of
from maos_bot.store.codec import from_lines
from maos_bot.store.db import open_store
from maos_bot.store.export import CSV_COLUMNS, ExportFormat, export
from maos_bot.store.ingest import ingest
from maos_bot.store.queries import Queries
from tests.factories import Ending, make_run
from tests.integration.store_parts import contents, short_run

RETRIED = Ending(states=(TaskState.FAILED, TaskState.SUCCEEDED))


@pytest.fixture
def events() -> list[RunEvent]:
    """A run with a retry, a failure and tasks that never ran."""
    return make_run(endings={"lint": RETRIED, "unit-api": Ending()})


def store(path: Path, events: list[RunEvent]) -> Path:
    db = open_store(path, create=True)
    ingest(db, events)
    db.close()
    return path


def exported(path: Path, form: ExportFormat) -> str:
    out = io.StringIO()
    with Queries(path) as queries:
        export(queries, "latest", form, out)
    return out.getvalue()


def test_json_is_the_object_of_the_report(tmp_path: Path, events: list[RunEvent]) -> None:
    text = exported(store(tmp_path / "maos.db", events), ExportFormat.JSON)
    assert json.loads(text) == json.loads(json.dumps(report_of(events).to_json()))


def test_csv_has_a_row_for_each_attempt_and_each_task_that_never_ran(tmp_path: Path, events: list[RunEvent]) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(store(tmp_path / "maos.db", events), ExportFormat.CSV))))
    assert list(rows[0]) == list(CSV_COLUMNS)
    report = report_of(events)
    expected = [
        (task.id, str(attempt.attempt), str(attempt.state))
        for task in report.tasks.values()
        for attempt in task.attempt_list
    ] + [(task.id, "0", str(task.state)) for task in report.tasks.values() if not task.attempt_list]
    assert sorted((row["task"], row["attempt"], row["state"]) for row in rows) == sorted(expected)
    lint = [row for row in rows if row["task"] == "lint"]
    assert [(row["state"], row["task_state"]) for row in lint] == [("failed", "succeeded"), ("succeeded", "succeeded")]
    assert float(lint[0]["finished_s"]) == pytest.approx(
        float(lint[0]["started_s"]) + float(lint[0]["duration_s"]), abs=0.01
    )


def test_csv_holds_no_formula(tmp_path: Path) -> None:
    events = short_run("run-1", tasks=1)
    end = events[4]
    assert isinstance(end, TaskFinished)
    events[4] = replace(end, state=TaskState.FAILED, reason="=1+1", exit_code=-9)
    row = next(csv.DictReader(io.StringIO(exported(store(tmp_path / "maos.db", events), ExportFormat.CSV))))
    assert (row["reason"], row["exit_code"]) == ("'=1+1", "-9")


def test_ndjson_taken_in_again_gives_the_same_database(tmp_path: Path, events: list[RunEvent]) -> None:
    first = store(tmp_path / "first.db", events)
    text = exported(first, ExportFormat.NDJSON)
    assert len(text.splitlines()) == len(events)
    assert all(json.loads(line)["run_id"] == events[0].run_id for line in text.splitlines())
    again = store(tmp_path / "again.db", list(from_lines(text.splitlines(keepends=True))))
    assert contents(again) == contents(first)


def test_ndjson_that_was_cut_short_gives_what_is_whole(events: list[RunEvent]) -> None:
    lines = [
        '{"type": "RunFinished", "run_id": "r", "seq": 1, "at": 1, "status": "failed", "exit_code": 1, "wall_s": 1}\n'
    ]
    assert len(list(from_lines([*lines, "\n", '{"type": "Run']))) == 1
    for bad in ("{}\n", "[]\n", "nonsense\n", '{"type": "TaskReady", "run_id": "r", "seq": 0, "at": 1, "task": "t"}\n'):
        with pytest.raises(ValueError, match="line 2: "):
            list(from_lines([*lines, bad]))


def trace_of(path: Path) -> list[dict[str, Any]]:
    trace = json.loads(exported(path, ExportFormat.TRACE))
    assert trace["displayTimeUnit"] == "ms"
    return list(trace["traceEvents"])


def test_no_two_slices_of_a_trace_share_a_lane_at_one_time(tmp_path: Path) -> None:
    for number, width in enumerate((1, 4, 16)):
        trace = trace_of(store(tmp_path / f"{number}.db", make_run(width=width, endings={"lint": RETRIED})))
        slices = [event for event in trace if event["ph"] == "X"]
        for _, group in itertools.groupby(sorted(slices, key=_lane_and_time), key=lambda e: (e["pid"], e["tid"])):
            ends = 0
            for item in group:
                assert item["dur"] >= 0
                assert item["ts"] >= ends
                ends = item["ts"] + item["dur"]


def _lane_and_time(event: dict[str, Any]) -> tuple[int, int, int]:
    return event["pid"], event["tid"], event["ts"]


def test_a_trace_shows_every_attempt_need_and_team(tmp_path: Path) -> None:
    events = make_run(endings={"unit-api": Ending(states=(TaskState.FAILED, TaskState.FAILED))})
    report = report_of(events)
    trace = trace_of(store(tmp_path / "maos.db", events))
    slices = [event for event in trace if event["ph"] == "X"]
    names = {
        (event["name"], event["pid"], event["tid"]): event["args"]["name"]
        for event in trace
        if event["ph"] == "M" and "name" in event["args"]
    }
    teams = {name for (kind, _, _), name in names.items() if kind == "process_name"}
    assert {task.team for task in report.tasks.values()} <= teams
    ran = sorted((e["args"]["task"], e["args"]["attempt"]) for e in slices if "attempt" in e["args"])
    assert ran == sorted((task.id, a.attempt) for task in report.tasks.values() for a in task.attempt_list)
    assert all(("thread_name", event["pid"], event["tid"]) in names for event in slices)

    starts = {event["id"]: event for event in trace if event["ph"] == "s"}
    ends = {event["id"]: event for event in trace if event["ph"] == "f"}
    needs = [
        (need, task.id) for task in report.tasks.values() if task.ran for need in task.needs if report.tasks[need].ran
    ]
    assert starts.keys() == ends.keys()
    assert len(starts) == len(needs) > 0
    for event in (*starts.values(), *ends.values()):  # each arrow's ends lie in a slice of its lane
        assert [
            s for s in slices
            if (s["pid"], s["tid"]) == (event["pid"], event["tid"]) and s["ts"] <= event["ts"] <= s["ts"] + s["dur"]
        ]  # fmt: skip
    counters = {event["name"] for event in trace if event["ph"] == "C"}
    assert "memory MiB" in counters


def test_a_run_that_goes_on_has_a_trace_up_to_now(tmp_path: Path) -> None:
    path = store(tmp_path / "maos.db", make_run(cut_at=12.0))
    assert [event for event in trace_of(path) if event["ph"] == "X" and event["args"].get("state") == "running"]
