"""What the tests of the store share: a database as comparable rows, and streams of any shape."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from maos_bot.events import (
    OutputChunk,
    ResourceSampled,
    RunEvent,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskInfo,
    TaskReady,
    TaskStarted,
    UsageRecorded,
)
from maos_bot.model import RunStatus, TaskState, Trigger, Usage
from maos_bot.store.db import connect_read_only

RUN_ID = "20261123-234627-4f2a9c"
_VIEWS = ("event_log", "output_log", "sample_log", "task_list", "attempt_list", "usage_list")


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that the database says, without the numbers that depend on the order it was told in."""
    connection = connect_read_only(path)
    try:
        found = {view: sorted(connection.execute(f"SELECT * FROM {view}"), key=repr) for view in _VIEWS}
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)") if row[1] not in {"id", "spec"}]
        found["runs"] = sorted(
            connection.execute(
                f"SELECT {', '.join('r.' + name for name in columns)}, s.digest, s.text"
                " FROM runs r LEFT JOIN specs s ON s.id = r.spec"
            ),
            key=repr,
        )
        return found
    finally:
        connection.close()


def stored_seqs(connection: sqlite3.Connection, run_id: str) -> list[int]:
    """The sequence numbers there are of a run, in order."""
    rows = connection.execute(
        "SELECT seq FROM event_log WHERE run_id = :id UNION ALL SELECT seq FROM output_log WHERE run_id = :id"
        " UNION ALL SELECT seq FROM sample_log WHERE run_id = :id ORDER BY seq",
        {"id": run_id},
    )
    return [row[0] for row in rows]


def short_run(run_id: str, *, tasks: int = 3, at: float = 1_795_680_000.0, **start: Any) -> list[RunEvent]:
    """A run of `tasks` tasks, each ready, started, printing a line and succeeding, in one second each."""
    values: dict[str, Any] = {
        "name": "Short",
        "spec_path": ".maos.yml",
        "spec_digest": "",
        "mode": "sequential",
        "strategy": "balanced",
        "tasks": tuple(TaskInfo(id=f"task-{number}", team="qa") for number in range(tasks)),
    }
    events: list[RunEvent] = [RunStarted(run_id=run_id, seq=1, at=at, **(values | start))]
    for number in range(tasks):
        task: dict[str, Any] = {"run_id": run_id, "at": at + number, "task": f"task-{number}"}
        seq = len(events)
        events += [
            TaskReady(seq=seq + 1, **task),
            TaskStarted(seq=seq + 2, attempt=1, queued_s=0.25, wait_reason="concurrent-agents", **task),
            OutputChunk(seq=seq + 3, attempt=1, text=f"line of {number}\n", **task),
            TaskFinished(seq=seq + 4, attempt=1, state=TaskState.SUCCEEDED, exit_code=0, duration_s=1.0, **task),
        ]
    events.append(
        RunFinished(
            run_id=run_id, seq=len(events) + 1, at=at + tasks, status="succeeded", exit_code=0, wall_s=float(tasks)
        )
    )
    return events


_TASK = st.sampled_from(["lint", "unit", "types", "überprüfung", "a b"])
_TEXT = st.text(max_size=30)
_SECONDS = st.floats(0, 1e6, allow_nan=False).map(lambda value: round(value, 6))
_MAYBE = st.none() | _SECONDS
_COUNT = st.integers(0, 10**9)
_ATTEMPT = st.integers(1, 3)

_INFO = st.builds(TaskInfo, id=_TASK, name=_TEXT, team=_TEXT, needs=st.lists(_TASK, max_size=2).map(tuple))
_SHAPES: list[st.SearchStrategy[tuple[type[RunEvent], dict[str, Any]]]] = [
    st.tuples(st.just(TaskReady), st.fixed_dictionaries({"task": _TASK, "freed_by": _TEXT})),
    st.tuples(
        st.just(TaskStarted),
        st.fixed_dictionaries({"task": _TASK, "attempt": _ATTEMPT, "queued_s": _SECONDS, "wait_reason": _TEXT}),
    ),
    st.tuples(
        st.just(OutputChunk),
        st.fixed_dictionaries({"task": _TASK, "attempt": _ATTEMPT, "text": _TEXT, "offset": _COUNT, "omitted": _COUNT}),
    ),
    st.tuples(
        st.just(UsageRecorded),
        st.fixed_dictionaries(
            {
                "task": _TASK,
                "attempt": _ATTEMPT,
                "model": st.sampled_from(["small", "large"]),
                "usage": st.builds(Usage, input_tokens=_COUNT, output_tokens=_COUNT, usd=st.none() | st.just(0.25)),
            }
        ),
    ),
    st.tuples(
        st.just(ResourceSampled),
        st.fixed_dictionaries(
            {
                "task": st.just("") | _TASK,
                "memory_mb": _MAYBE,
                "cpu_percent": _MAYBE,
                "agents": st.none() | st.integers(0, 50),
            }
        ),
    ),
    st.tuples(
        st.just(TaskFinished),
        st.fixed_dictionaries(
            {
                "task": _TASK,
                "attempt": st.integers(0, 3),
                "state": st.sampled_from([TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED]),
                "final": st.booleans(),
                "reason": _TEXT,
                "exit_code": st.none() | st.integers(-64, 255),
                "duration_s": _SECONDS,
                "cpu_s": _MAYBE,
            }
        ),
    ),
]


@st.composite
def streams(draw: st.DrawFn) -> list[RunEvent]:
    """Any stream of a run: it begins and may end as it should, what lies between makes no sense."""
    at = 1_795_680_000.0
    start = RunStarted(
        run_id=RUN_ID,
        seq=1,
        at=at,
        name=draw(_TEXT),
        spec_path=".maos.yml",
        spec_digest="0" * 64,
        spec_text=draw(_TEXT),
        mode="hybrid",
        strategy="balanced",
        trigger=Trigger(repository=draw(st.sampled_from(["", "acme/shop"])), pull_request=draw(st.none() | st.just(7))),
        tasks=tuple(draw(st.lists(_INFO, max_size=3, unique_by=lambda info: info.id))),
        critical_path=("lint",),
        limits={"memory-mb": None, "database": 1.0},
        predicted={"makespan_s": 2.5},
    )
    events: list[RunEvent] = [start]
    for cls, values in draw(st.lists(st.one_of(_SHAPES), max_size=12)):
        at += 0.5
        events.append(cls(run_id=RUN_ID, seq=len(events) + 1, at=at, **values))
    if draw(st.booleans()):
        status = draw(st.sampled_from([RunStatus.SUCCEEDED, RunStatus.FAILED]))
        events.append(
            RunFinished(
                run_id=RUN_ID,
                seq=len(events) + 1,
                at=at + 1,
                status=status.value,
                exit_code=0,
                wall_s=at + 1 - start.at,
            )
        )
    return events
