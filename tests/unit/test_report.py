"""The report of a stream: the same whenever it is asked for, and in a time that grows with the stream alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.events import OutputChunk, RunEvent, TaskFinished, TaskStarted
from maos_bot.model import TaskState
from maos_bot.reporting import report as reporting
from maos_bot.reporting.report import ReportBuilder, report_of
from tests.unit.report_streams import Job, play

JOBS = (
    Job(id="build", output="built\n"),
    Job(id="test", needs=("build",), ends=TaskState.FAILED, output="no\n", tries=2),
    Job(id="docs", output="::error file=a.py,line=1::x\n"),
)


@given(order=st.permutations(list(play(JOBS))), asked=st.sets(st.integers(0, 20), max_size=5), cut=st.integers(1, 40))
def test_what_is_asked_for_in_between_changes_nothing(order: list[RunEvent], asked: set[int], cut: int) -> None:
    events = order[:cut]
    builder = ReportBuilder()
    for number, event in enumerate(events):
        builder.add(event)
        if number in asked:
            builder.report()
    assert builder.report() == report_of(events)
    assert report_of(list(play(JOBS))) == report_of(order)


def test_an_end_that_a_strange_stream_tells_again_and_again_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    one = reporting._task_report

    def counted(task: reporting._Task, began: float) -> reporting.TaskReport:
        made.append(task.info.id)
        return one(task, began)

    monkeypatch.setattr(reporting, "_task_report", counted)
    builder = ReportBuilder()
    for attempt in range(1, 500):
        common = {"run_id": "r", "at": 1.0, "task": "it", "attempt": attempt}
        builder.add(TaskStarted(seq=3 * attempt - 2, **common))  # type: ignore[arg-type]
        builder.add(OutputChunk(seq=3 * attempt - 1, text=f"{attempt}\n", offset=0, **common))  # type: ignore[arg-type]
        end = {"state": TaskState.FAILED, "final": True, "duration_s": 1.0}
        builder.add(TaskFinished(seq=3 * attempt, **end, **common))  # type: ignore[arg-type]
    (task,) = builder.report().tasks.values()
    assert (task.attempts, task.log and task.log.head) == (499, "499\n")
    assert len(made) == 2
