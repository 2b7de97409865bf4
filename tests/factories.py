"""Believable runs as event streams, for tests and for pictures: a small list scheduler over a made-up pipeline.

`make_run` gives what the engine would have emitted: a task starts when its needs have ended and a slot is free, the
one with the longest way to the end first; predictions come from the same scheduler over the estimates.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from maos_bot.store.writer import StoreWriter

START = 1_795_680_000.0  # 2026-11-26 08:00 UTC


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One task of the made-up pipeline."""

    id: str
    team: str
    command: str
    seconds: float
    needs: tuple[str, ...] = ()
    name: str = ""
    memory_mb: float = 120.0
    log: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a task's attempts end, the last state for all further ones."""

    states: tuple[TaskState, ...] = (TaskState.FAILED,)
    reason: str = "exit code 1"
    exit_code: int | None = 1
    log: tuple[str, ...] = ()


@dataclass(slots=True)
class _Run:
    """What the scheduler writes down: (at, name, fields)."""

    happened: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    state: dict[str, TaskState] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)


PYTEST_FAILURE = (
    "\x1b[1m============================= test session starts ==============================\x1b[0m",
    "collected 214 items",
    "",
    "tests/api/test_orders.py ................F......................         [ 68%]",
    "tests/api/test_refunds.py ..................................             [100%]",
    "",
    "=================================== FAILURES ===================================",
    "\x1b[31m\x1b[1m____________________ test_total_is_rounded_half_to_even ______________________\x1b[0m",
    "",
    "    def test_total_is_rounded_half_to_even() -> None:",
    '        order = make_order(lines=[("pen", 3, Decimal("0.335"))])',
    '>       assert order.total == Decimal("1.00")',
    "\x1b[31mE       AssertionError: assert Decimal('1.01') == Decimal('1.00')\x1b[0m",
    "",
    "tests/api/test_orders.py:148: AssertionError",
    "\x1b[31mFAILED\x1b[0m tests/api/test_orders.py::test_total_is_rounded_half_to_even",
    "\x1b[31m================== \x1b[1m1 failed\x1b[0m, \x1b[32m213 passed\x1b[0m in 24.61s ==================\x1b[0m",
)

PIPELINE = (
    Job(
        id="install",
        team="build",
        command="pip install --require-hashes -r requirements.txt",
        seconds=8.4,
        memory_mb=210,
        log=("Collecting 48 packages", "Installing collected packages", "\x1b[32mSuccessfully installed\x1b[0m"),
    ),
    Job(id="lint", team="qa", command="ruff check .", seconds=2.1, needs=("install",), log=("All checks passed!",)),
    Job(
        id="types",
        team="qa",
        command="mypy --strict src",
        seconds=14.8,
        needs=("install",),
        memory_mb=480,
        log=("\x1b[1m\x1b[32mSuccess: no issues found in 86 source files\x1b[0m",),
    ),
    Job(
        id="unit-core",
        team="qa",
        command="pytest -q tests/core",
        seconds=19.5,
        needs=("install",),
        memory_mb=260,
        log=("........................................ [100%]", "\x1b[32m\x1b[1m412 passed\x1b[0m in 19.02s"),
    ),
    Job(
        id="unit-api",
        team="qa",
        command="pytest -q tests/api",
        seconds=25.2,
        needs=("install",),
        memory_mb=340,
        log=("........................................ [100%]", "\x1b[32m\x1b[1m214 passed\x1b[0m in 24.61s"),
    ),
    Job(
        id="unit-web",
        team="qa",
        command="pytest -q tests/web",
        seconds=11.3,
        needs=("install",),
        log=("........................................ [100%]", "\x1b[32m\x1b[1m97 passed\x1b[0m in 10.88s"),
    ),
    Job(
        id="audit",
        team="security",
        command="pip-audit --strict",
        seconds=6.7,
        needs=("install",),
        log=("No known vulnerabilities found",),
    ),
    Job(
        id="docs",
        team="docs",
        command="mkdocs build --strict",
        seconds=9.2,
        needs=("lint",),
        log=("INFO - Documentation built in 8.71 seconds",),
    ),
    Job(
        id="build",
        team="build",
        command="python -m build",
        seconds=7.6,
        needs=("lint", "types"),
        log=("Successfully built shop-2.14.0.tar.gz and shop-2.14.0-py3-none-any.whl",),
    ),
    Job(
        id="integration",
        name="integration (postgres 16)",
        team="qa",
        command="pytest -q tests/integration",
        seconds=31.0,
        needs=("unit-core", "unit-api"),
        memory_mb=620,
        log=("........................ [100%]", "\x1b[32m\x1b[1m88 passed\x1b[0m in 30.47s"),
    ),
    Job(
        id="smoke",
        team="qa",
        command="./scripts/smoke.sh dist/*.whl",
        seconds=5.4,
        needs=("build", "integration"),
        log=("GET /health 200", "GET /orders 200", "smoke: ok"),
    ),
    Job(
        id="size",
        team="build",
        command="./scripts/size-report dist/*.whl",
        seconds=0.9,
        needs=("build",),
        log=("wheel 412 KiB (+3 KiB)",),
    ),
)


def make_run(
    *,
    run_id: str = "20261126-080000-4f2a9c",
    started_at: float = START,
    name: str = "Pull request",
    trigger: Trigger | None = None,
    jobs: Sequence[Job] = PIPELINE,
    endings: Mapping[str, Ending] | None = None,
    width: int = 4,
    mode: str = "pipelined",
    speed: float = 1.0,
    seed: int = 0,
    cut_at: float | None = None,
    cancelled_at: float | None = None,
    usage: Mapping[str, Usage] | None = None,
) -> list[RunEvent]:
    """The events of one run, numbered from 1.

    `endings` says which tasks don't succeed; `speed` stretches all durations; `cut_at` leaves the run going on at
    that many seconds; `cancelled_at` stops it then. The same arguments give the same events.
    """
    rng = random.Random(seed)
    endings = endings or {}
    width = 1 if mode == "sequential" else width
    lasting = {job.id: max(0.02, job.seconds * speed * rng.uniform(0.9, 1.18)) for job in jobs}
    plan = _schedule(jobs, {job.id: job.seconds for job in jobs}, {}, width)
    real = _schedule(jobs, lasting, endings, width)
    stop = cut_at if cut_at is not None else cancelled_at
    happened = [item for item in real.happened if stop is None or item[0] <= stop]
    rows: list[tuple[float, str, dict[str, Any]]] = [
        *happened,
        *_output(jobs, endings, happened),
        *_samples(happened, rng, upto=stop),
        *_usage(usage or {}, happened),
    ]
    if cancelled_at is not None:
        rows += _cancel(jobs, happened, cancelled_at)
    rows.sort(key=lambda row: row[0])
    events: list[RunEvent] = [
        _started(run_id, started_at, name, trigger, jobs, plan, width=width, mode=mode),
    ]
    for at, kind, values in rows:
        cls: type[RunEvent] = _TYPES[kind]
        events.append(cls(run_id=run_id, seq=len(events) + 1, at=started_at + at, **values))
    if cut_at is None:
        events.append(_finished(run_id, started_at, len(events) + 1, real, rows, cancelled=cancelled_at is not None))
    return events


def store_runs(path: Path, runs: Sequence[Sequence[RunEvent]]) -> Path:
    """Write whole streams into the database at `path`, and return it."""
    writer = StoreWriter(path)
    try:
        for events in runs:
            for event in events:
                writer.add(event)
    finally:
        writer.close()
    return path


def make_history(*, now: float, count: int = 42, running: bool = True) -> list[list[RunEvent]]:
    """A few days of a team's pull requests up to `now`: mostly green, as slow and as broken as such weeks are."""
    rng = random.Random(7)
    branches = (
        ("feature/half-even-rounding", 412),
        ("fix/refund-webhook", 415),
        ("main", None),
        ("deps/weekly-updates", 418),
        ("feature/order-export-csv", 420),
        ("docs/api-reference", 421),
    )
    actors = ("mira", "jonas", "adaeze", "kenji")
    runs: list[list[RunEvent]] = []
    at = now - 95
    for index in range(count):
        branch, pull_request = branches[rng.randrange(len(branches))]
        if index == 0:
            branch, pull_request = branches[4]
        if index == 1:
            branch, pull_request = branches[0]
        sha = f"{rng.getrandbits(160):040x}"
        trigger = Trigger(
            event="push" if pull_request is None else "pull_request",
            action="" if pull_request is None else "synchronize",
            repository="acme/shop",
            actor=actors[rng.randrange(len(actors))],
            ref=branch,
            sha=sha,
            pull_request=pull_request,
        )
        options: dict[str, Any] = {
            "run_id": f"{_stamp(at)}-{rng.getrandbits(24):06x}",
            "started_at": at,
            "name": "Main" if pull_request is None else "Pull request",
            "trigger": trigger,
            "seed": index,
            "speed": 0.9 + 0.25 * rng.random(),
        }
        if index == 0 and running:
            options["cut_at"] = 38.0
            options["started_at"] = now - 38.0
        elif index == 1:
            options["endings"] = {"unit-api": Ending(log=PYTEST_FAILURE), "unit-core": _flaky()}
        elif index in (6, 19):
            options["endings"] = {"integration": Ending(log=PYTEST_FAILURE)}
        elif index == 11:
            options["endings"] = {
                "types": Ending(states=(TaskState.TIMED_OUT,), reason="timed out after 60 s", exit_code=None)
            }
        elif index == 15:
            options["cancelled_at"] = 21.0
        elif index in (4, 23):
            options["endings"] = {"unit-web": _flaky()}
        elif index in (27, 28):
            options["endings"] = {"lint": Ending(log=("src/shop/cart.py:12:5: F841 unused variable 'total'",))}
        runs.append(make_run(**options))
        at -= rng.choice((340, 900, 2400, 5400, 9000)) * rng.uniform(0.7, 1.4)
    return list(reversed(runs))


def _flaky() -> Ending:
    return Ending(
        states=(TaskState.FAILED, TaskState.SUCCEEDED),
        reason="exit code 1",
        log=("\x1b[31mE   ConnectionResetError: [Errno 104] Connection reset by peer\x1b[0m",),
    )


def _stamp(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y%m%d-%H%M%S")


_TYPES: dict[str, type[RunEvent]] = {
    cls.__name__: cls for cls in (TaskReady, TaskStarted, OutputChunk, UsageRecorded, ResourceSampled, TaskFinished)
}


def _schedule(jobs: Sequence[Job], lasting: Mapping[str, float], endings: Mapping[str, Ending], width: int) -> _Run:
    run = _Run()
    by_id = {job.id: job for job in jobs}
    rank = _ranks(jobs)
    ready: list[tuple[float, str]] = []
    ready_at: dict[str, float] = {}
    freed: dict[str, str] = {}
    going: list[tuple[float, str, int]] = []
    waiting: list[tuple[float, str, int]] = []  # for another attempt
    now, last_end = 0.0, ""

    def look(after: str) -> None:
        for job in jobs:
            if job.id in ready_at or job.id in run.state:
                continue
            states = [run.state.get(need) for need in job.needs]
            if any(state is not None and state is not TaskState.SUCCEEDED for state in states):
                run.state[job.id] = TaskState.UPSTREAM_FAILED
                bad = next(n for n in job.needs if run.state.get(n) not in (None, TaskState.SUCCEEDED))
                run.happened.append(
                    (
                        now,
                        "TaskFinished",
                        {
                            "task": job.id,
                            "attempt": 0,
                            "state": TaskState.UPSTREAM_FAILED,
                            "reason": f"{bad} did not succeed",
                        },
                    )
                )
                look(after)
            elif all(state is TaskState.SUCCEEDED for state in states):
                ready_at[job.id], freed[job.id] = now, after
                run.happened.append((now, "TaskReady", {"task": job.id, "freed_by": after}))
                heapq.heappush(ready, (-rank[job.id], job.id))

    def start(task: str, attempt: int, by: str) -> None:
        queued = now - ready_at[task] if attempt == 1 else 0.0
        run.started.setdefault(task, now)
        run.happened.append(
            (
                now,
                "TaskStarted",
                {
                    "task": task,
                    "attempt": attempt,
                    "queued_s": queued,
                    "wait_reason": "a free slot" if queued > 0 else "",
                    "freed_by": by if queued > 0 else freed[task],
                    "pid": 4000 + len(run.happened),
                },
            )
        )
        heapq.heappush(going, (now + lasting[task], task, attempt))

    look("")
    while ready or going or waiting:
        while ready and len(going) < width:
            start(heapq.heappop(ready)[1], 1, last_end)
        times = [queue[0][0] for queue in (going, waiting) if queue]
        now = min(times)
        if waiting and waiting[0][0] == now and len(going) < width:
            _, task, attempt = heapq.heappop(waiting)
            start(task, attempt, "")
            continue
        if not going:
            continue
        now, task, attempt = heapq.heappop(going)
        ending = endings.get(task)
        states = ending.states if ending else (TaskState.SUCCEEDED,)
        state = states[min(attempt, len(states)) - 1]
        final = attempt >= len(states)
        good = state is TaskState.SUCCEEDED
        run.happened.append(
            (
                now,
                "TaskFinished",
                {
                    "task": task,
                    "attempt": attempt,
                    "state": state,
                    "final": final,
                    "reason": "" if good or ending is None else ending.reason,
                    "exit_code": 0 if good or ending is None else ending.exit_code,
                    "duration_s": lasting[task],
                    "cpu_s": lasting[task] * 0.86,
                    "peak_memory_mb": by_id[task].memory_mb,
                    "output_bytes": 4096,
                    "retry_in_s": None if final else 1.0,
                },
            )
        )
        if final:
            run.state[task], run.finished[task], last_end = state, now, task
            look(task)
        else:
            heapq.heappush(waiting, (now + 1.0, task, attempt + 1))
    return run


def _ranks(jobs: Sequence[Job]) -> dict[str, float]:
    rank: dict[str, float] = {}
    for job in reversed(jobs):
        rank[job.id] = job.seconds + max((rank[other.id] for other in jobs if job.id in other.needs), default=0.0)
    return rank


def _level(job: Job, jobs: Sequence[Job]) -> int:
    return max((1 + _level(other, jobs) for other in jobs if other.id in job.needs), default=0)


def _output(
    jobs: Sequence[Job], endings: Mapping[str, Ending], happened: Sequence[tuple[float, str, dict[str, Any]]]
) -> list[tuple[float, str, dict[str, Any]]]:
    by_id = {job.id: job for job in jobs}
    ended = {(v["task"], v["attempt"]): (at, v["state"]) for at, kind, v in happened if kind == "TaskFinished"}
    rows: list[tuple[float, str, dict[str, Any]]] = []
    for at, kind, values in happened:
        if kind != "TaskStarted":
            continue
        key = (values["task"], values["attempt"])
        job = by_id[values["task"]]
        first = f"$ {job.command}\n"
        rows.append((at + 0.01, "OutputChunk", {"task": key[0], "attempt": key[1], "text": first, "offset": 0}))
        if key in ended:
            finish, state = ended[key]
            bad = state in (TaskState.FAILED, TaskState.TIMED_OUT)
            lines = endings[key[0]].log if bad and key[0] in endings else job.log
            text = "".join(f"{line}\n" for line in lines)
            rows.append(
                (
                    max(at + 0.01, finish - 0.01),
                    "OutputChunk",
                    {"task": key[0], "attempt": key[1], "text": text, "offset": len(first.encode())},
                )
            )
    return rows


def _samples(
    happened: Sequence[tuple[float, str, dict[str, Any]]], rng: random.Random, *, upto: float | None
) -> list[tuple[float, str, dict[str, Any]]]:
    end = upto if upto is not None else max((at for at, _, _ in happened), default=0.0)
    changes = [(at, 1 if kind == "TaskStarted" else -1, v) for at, kind, v in happened if _changes(kind, v)]
    rows: list[tuple[float, str, dict[str, Any]]] = []
    at = 1.0
    while at < end:
        running = sum(step for when, step, _ in changes if when <= at)
        rows.append(
            (
                at,
                "ResourceSampled",
                {
                    "memory_mb": round(60 + running * rng.uniform(180, 260), 1),
                    "cpu_percent": round(min(100.0, running * rng.uniform(20, 26)), 1),
                    "agents": running,
                },
            )
        )
        at += 2.0
    return rows


def _changes(kind: str, values: Mapping[str, Any]) -> bool:
    return kind == "TaskStarted" or (kind == "TaskFinished" and values["attempt"] > 0)


def _usage(
    usage: Mapping[str, Usage], happened: Sequence[tuple[float, str, dict[str, Any]]]
) -> list[tuple[float, str, dict[str, Any]]]:
    return [
        (
            at,
            "UsageRecorded",
            {"task": v["task"], "attempt": v["attempt"], "model": "model-x", "usage": usage[v["task"]]},
        )
        for at, kind, v in happened
        if kind == "TaskStarted" and v["task"] in usage
    ]


def _cancel(
    jobs: Sequence[Job], happened: Sequence[tuple[float, str, dict[str, Any]]], at: float
) -> list[tuple[float, str, dict[str, Any]]]:
    started = {v["task"]: (when, v["attempt"]) for when, kind, v in happened if kind == "TaskStarted"}
    final = {v["task"] for _, kind, v in happened if kind == "TaskFinished" and v.get("final", True)}
    rows: list[tuple[float, str, dict[str, Any]]] = []
    for job in jobs:
        if job.id in final:
            continue
        when, attempt = started.get(job.id, (at, 0))
        values = {"task": job.id, "attempt": attempt, "state": TaskState.CANCELLED, "reason": "stopped by SIGINT"}
        rows.append((at + 0.05, "TaskFinished", {**values, "duration_s": at + 0.05 - when if attempt else 0.0}))
    return rows


def _started(
    run_id: str,
    at: float,
    name: str,
    trigger: Trigger | None,
    jobs: Sequence[Job],
    plan: _Run,
    *,
    width: int,
    mode: str,
) -> RunStarted:
    work = sum(job.seconds for job in jobs)
    longest = max(_ranks(jobs).values(), default=0.0)
    makespan = max(plan.finished.values(), default=0.0)
    infos = tuple(
        TaskInfo(
            id=job.id,
            name=job.name,
            team=job.team,
            needs=job.needs,
            command=job.command,
            estimate_s=job.seconds,
            basis="history: 30 runs of this task",
            start_s=plan.started.get(job.id),
            finish_s=plan.finished.get(job.id),
            slack_s=0.0,
            stage=_level(job, jobs),
            max_attempts=2,
        )
        for job in jobs
    )
    return RunStarted(
        run_id=run_id,
        seq=1,
        at=at,
        name=name,
        spec_path=".maos.yml",
        spec_digest="9c1d2f" * 10 + "9c1d",
        spec_text="version: 1\nname: Pull request\ntasks: {}\n",
        mode=mode,
        strategy="balanced",
        chosen_because=f"no barrier between stages: predicted {makespan:.0f} s instead of {work:.0f} s",
        trigger=trigger or Trigger(),
        tasks=infos,
        parallelism_factor=work / longest if longest else None,
        predicted={
            "sequential_s": work,
            "makespan_s": makespan,
            "lower_bound_s": max(longest, work / width),
            "speedup": work / makespan if makespan else 1.0,
        },
        limits={"concurrent-agents": width, "memory-mb": 4096, "cpu-percent": 100, "tokens-per-minute": None},
        machine={"cpus": "2", "memory_mb": "7954", "python": "3.11.2"},
        version="0.1.0",
    )


def _finished(
    run_id: str,
    started_at: float,
    seq: int,
    real: _Run,
    rows: Sequence[tuple[float, str, dict[str, Any]]],
    *,
    cancelled: bool,
) -> RunFinished:
    wall = max((row[0] for row in rows), default=0.0) + 0.04
    bad = [task for task, state in real.state.items() if state in (TaskState.FAILED, TaskState.TIMED_OUT)]
    status, code = ("cancelled", 130) if cancelled else ("failed", 1) if bad else ("succeeded", 0)
    reason = "stopped by SIGINT" if cancelled else f"{', '.join(bad)} failed" if bad else ""
    return RunFinished(
        run_id=run_id, seq=seq, at=started_at + wall, status=status, exit_code=code, wall_s=wall, reason=reason
    )


def renamed(jobs: Sequence[Job], name: str) -> tuple[Job, ...]:
    """The jobs with every text replaced by `name`; ids get a number so that they stay apart."""
    ids = {job.id: f"{name} {index}" for index, job in enumerate(jobs)}
    return tuple(
        replace(
            job,
            id=ids[job.id],
            name=ids[job.id],
            team=name,
            command=name,
            log=(name,),
            needs=tuple(ids[need] for need in job.needs),
        )
        for job in jobs
    )
