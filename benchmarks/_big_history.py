"""A database as large as a big team's after a year, for `benchmarks.dashboard`; not a benchmark of its own.

Forty runs are taken in the way every run is; the rest are copies of them made in SQL, with ids, times, commits and
branches of their own. So each table and index is as full as it would be, in minutes instead of hours. (A copy's
`RunStarted` event still names the commit of the run it was copied from.)
"""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

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
from maos_bot.model import TaskState, Trigger, Usage
from maos_bot.store.db import connect
from maos_bot.store.ingest import Ingester

TASKS: Final = 20
SAMPLES: Final = 80
CHUNKS: Final = 2  # of output for each attempt, and a third for every second one
REPOSITORIES: Final = 10
TEMPLATES: Final = 40
YEAR_S: Final = 365 * 86400.0
NOW: Final = 1_795_680_000.0
_TABLES: Final = ("events", "samples", "output", "tasks", "attempts", "usage", "spend")
_TOLD: Final = ("c.run_id", "s.name", "s.repository", "c.branch", "s.actor", "c.sha")
_ENDED: Final = {"output_bytes": 200, "exit_code": 0}
_BATCH: Final = 2500
_WORDS: Final = (
    "collected", "passed", "warning", "downloading", "compiled", "cached", "layer", "module", "request", "timeout",
    "connection", "schema", "migration", "retry", "fixture", "assertion", "wheel", "checksum", "render", "worker",
)  # fmt: skip


def build(path: Path, *, runs: int, tell: bool = True) -> None:
    """Write a history of `runs` runs into a new database at `path`; a run has 20 tasks and 200 events."""
    began = time.monotonic()
    connection = connect(path, create=True)
    ingester = Ingester(connection)
    rng = random.Random(11)
    for number in range(TEMPLATES):
        ingester.write(run_events(number, at=NOW - YEAR_S - 1000 + number, rng=rng))
    for tasks in (1000, 10_000):
        ingester.write(run_events(tasks, at=NOW - 7200 + tasks / 10, rng=rng, tasks=tasks, name=f"{tasks} tasks"))
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -400000")
    _texts(connection)
    for first in range(0, runs - TEMPLATES, _BATCH):
        size = min(_BATCH, runs - TEMPLATES - first)
        _copy(connection, [_clone(first + number, total=runs, rng=rng) for number in range(size)])
        if tell:
            sys.stderr.write(f"\r{first + size:,} of {runs:,} runs, {time.monotonic() - began:.0f} s")
    connection.execute("INSERT INTO search(search) VALUES ('optimize')")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    if tell:
        sys.stderr.write("\n")


def run_events(number: int, *, at: float, rng: random.Random, tasks: int = TASKS, name: str = "") -> list[RunEvent]:
    """A run of `tasks` tasks in five stages, ten side by side; every fourth fails."""
    run_id = f"20250101-{number % 1_000_000:06d}-{rng.getrandbits(24):06x}"
    pull_request = None if number % 4 == 0 else 100 + number
    repository = f"acme/service-{number % REPOSITORIES}"
    trigger = Trigger(
        event="push" if pull_request is None else "pull_request",
        repository=repository,
        actor=f"dev{number % 17}",
        ref="main" if pull_request is None else f"feature/{number}",
        sha=f"{rng.getrandbits(160):040x}",
        pull_request=pull_request,
    )
    infos = tuple(
        TaskInfo(
            id=f"task-{task:02d}",
            team=f"team-{task % 4}",
            kind="agent" if task % 4 == 3 else "command",
            needs=(f"task-{task - tasks // 5:02d}",) if task >= tasks // 5 else (),
            command=f"make task-{task}",
            stage=task * 5 // tasks,
            estimate_s=10.0,
            basis="spec",
            start_s=task * 0.5,
            finish_s=task * 0.5 + 10,
        )
        for task in range(tasks)
    )
    start: dict[str, Any] = {
        "spec_path": ".maos.yml",
        "spec_digest": "ab" * 32,
        "mode": "pipelined",
        "strategy": "balanced",
    }
    rows: list[tuple[float, type[RunEvent], dict[str, Any]]] = []
    bad = TaskState.FAILED if number % 4 == 3 else TaskState.SUCCEEDED
    wall = 0.0
    for index, info in enumerate(infos):
        begin = index // 10 * 9.0 + rng.uniform(0, 1)
        took = rng.uniform(4, 9)
        state = bad if index == tasks // 2 else TaskState.SUCCEEDED
        wall = max(wall, begin + took)
        common: dict[str, Any] = {"task": info.id, "attempt": 1}
        rows += [
            (begin - 0.1, TaskReady, {"task": info.id}),
            (begin, TaskStarted, {**common, "queued_s": 0.1, "wait_reason": "concurrent-agents: 10 of 10 taken"}),
            (begin + took, TaskFinished, {**common, "state": state, "duration_s": took, "cpu_s": took / 2, **_ENDED}),
        ]  # fmt: skip
        chunks = CHUNKS + index % 2
        rows += [(begin + took * part / chunks, OutputChunk, {**common, "text": _text(rng)}) for part in range(chunks)]
        if info.kind == "agent":
            usage = Usage(input_tokens=rng.randrange(9000), output_tokens=rng.randrange(900), usd=rng.random() / 50)
            rows.append((begin + took / 2, UsageRecorded, {**common, "model": f"model-{index % 3}", "usage": usage}))
    for part in range(SAMPLES):
        load = {"memory_mb": rng.uniform(200, 2e3), "cpu_percent": rng.uniform(5, 99)}
        rows.append((wall * part / SAMPLES, ResourceSampled, load))
    rows.sort(key=lambda row: row[0])
    status, code = ("failed", 1) if bad is TaskState.FAILED else ("succeeded", 0)
    events: list[RunEvent] = [
        RunStarted(
            run_id=run_id, seq=1, at=at, name=name or ("Main" if pull_request is None else "Pull request"),
            spec_text=f"version: 1\nname: {number}\n", trigger=trigger, tasks=infos,
            limits={"concurrent-agents": 10, "memory-mb": 4096},
            predicted={"makespan_s": wall, "lower_bound_s": wall / 2},
            **start,
        )
    ]  # fmt: skip
    for when, cls, values in rows:
        events.append(cls(run_id=run_id, seq=len(events) + 1, at=at + when, **values))
    end = {"status": status, "exit_code": code, "wall_s": wall, "reason": "" if code == 0 else "a task failed"}
    events.append(RunFinished(run_id=run_id, seq=len(events) + 1, at=at + wall, **end))  # type: ignore[arg-type]
    return events


def _text(rng: random.Random) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(8)) + f" {rng.randrange(10**6)}\n"


def _texts(connection: sqlite3.Connection) -> None:
    """What the forty runs put into the search index, as text: the index itself holds none."""
    connection.execute("CREATE TEMP TABLE texts (run INTEGER, task INTEGER, attempt INTEGER, text TEXT)")
    connection.execute("INSERT INTO texts SELECT id, NULL, NULL, words FROM runs")
    connection.execute(
        "INSERT INTO texts SELECT run, task, attempt, group_concat(text, '') FROM output GROUP BY run, task, attempt"
    )
    connection.execute("CREATE INDEX temp.texts_run ON texts (run)")
    connection.execute(
        "CREATE TEMP TABLE clones (id INTEGER PRIMARY KEY, source INTEGER, shift REAL, run_id TEXT, sha TEXT,"
        " branch TEXT, pull_request INTEGER)"
    )


def _clone(number: int, *, total: int, rng: random.Random) -> tuple[object, ...]:
    source = number % TEMPLATES + 1
    at = NOW - YEAR_S + YEAR_S * number / total
    shift = at - (NOW - YEAR_S - 1000 + source - 1)
    stamp = datetime.fromtimestamp(at, tz=UTC).strftime("%Y%m%d-%H%M%S")
    main = (source - 1) % 4 == 0
    pull_request = None if main else number // 12
    branch = "main" if main else f"feature/{number // 12}"
    return source, shift, f"{stamp}-{rng.getrandbits(24):06x}", f"{rng.getrandbits(160):040x}", branch, pull_request


def _copy(connection: sqlite3.Connection, clones: Sequence[tuple[object, ...]]) -> None:
    first = connection.execute("SELECT max(id) FROM runs").fetchone()[0] + 1
    connection.execute("BEGIN")
    connection.execute("DELETE FROM temp.clones")
    connection.executemany(
        "INSERT INTO temp.clones (id, source, shift, run_id, sha, branch, pull_request) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((first + number, *clone) for number, clone in enumerate(clones)),
    )
    own = {
        "id": "c.id", "run": "c.id", "run_id": "c.run_id", "sha": "c.sha", "branch": "c.branch",
        "pull_request": "c.pull_request", "at": "s.at + c.shift",
        "words": "lower(concat)".replace("concat", " || ' ' || ".join(_TOLD)),
        **{name: f"s.{name} + c.shift" for name in ("started_at", "finished_at", "last_event_at", "ready_at")},
    }  # fmt: skip
    for table in ("runs", *_TABLES):
        columns = [name for name in _columns(connection, table) if not (table == "output" and name == "id")]
        key = "id" if table == "runs" else "run"
        connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(own.get(c, f's.{c}') for c in columns)}"
            f" FROM temp.clones c CROSS JOIN {table} s ON s.{key} = c.source ORDER BY c.id"
        )
    last = connection.execute("SELECT ifnull(max(id), 0) FROM documents").fetchone()[0]
    connection.execute(
        "INSERT INTO documents (run, task, attempt)"
        " SELECT c.id, t.task, t.attempt FROM temp.clones c CROSS JOIN temp.texts t ON t.run = c.source"
        " ORDER BY c.id, t.task, t.attempt"
    )
    connection.execute(
        "INSERT INTO search (rowid, text) SELECT ? + row_number() OVER (ORDER BY c.id, t.task, t.attempt),"
        " iif(t.task IS NULL, c.run_id || ' ' || c.sha || ' ' || c.branch || ' ', '') || t.text"
        " FROM temp.clones c CROSS JOIN temp.texts t ON t.run = c.source",
        (last,),
    )
    connection.execute("COMMIT")


def _columns(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    return (row[1] for row in connection.execute(f"PRAGMA table_info({table})").fetchall())
