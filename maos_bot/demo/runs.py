"""Believable runs as event streams.

`make_run` gives what the engine would have emitted for a made-up pipeline (`maos_bot.demo.pipeline`); predictions come
from the same little scheduler over the estimates. Chance is seeded: the same arguments give the same events.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from maos_bot.demo.agents import NOT_ACCEPTED, REVIEWERS, said
from maos_bot.demo.pipeline import PIPELINE, PYTEST_FAILURE, Ending, Happening, Job, Schedule, level, ranks
from maos_bot.events import (
    ChangeTaken,
    FindingReported,
    OutputChunk,
    ResourceSampled,
    RunEvent,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskInfo,
    TaskReady,
    TaskStarted,
    TranscriptAdded,
    UsageRecorded,
)
from maos_bot.model import TaskState, Trigger, Usage

START = 1_795_680_000.0  # 2026-11-26 08:00 UTC

_FLAKY = Ending(
    states=(TaskState.FAILED, TaskState.SUCCEEDED),
    reason="exit code 1",
    log=("\x1b[31mE   ConnectionResetError: [Errno 104] Connection reset by peer\x1b[0m",),
)
_LINT = Ending(log=("src/shop/cart.py:12:5: F841 unused variable 'total'",))
_STUCK = Ending(states=(TaskState.TIMED_OUT,), reason="timed out after 60 s", exit_code=None)
# What went wrong in which run of `make_history`, counted back from the newest.
_MISHAPS = {
    1: {"unit-api": Ending(log=PYTEST_FAILURE), "unit-core": _FLAKY, "api-docs": NOT_ACCEPTED},
    4: {"unit-web": _FLAKY},
    6: {"integration": Ending(log=PYTEST_FAILURE)},
    11: {"types": _STUCK},
    19: {"integration": Ending(log=PYTEST_FAILURE)},
    23: {"unit-web": _FLAKY},
    27: {"lint": _LINT},
    28: {"lint": _LINT},
}
_UNCHANGED = {"docs/api-reference": ("lint", "types", "unit-core")}  # what such a branch doesn't touch
_CANCELLED = 15
_RETRIES_SINCE = 9  # runs ago, the spec was changed
_MISHAPS_AGAIN = 60  # runs after which they happen again


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
    budget_usd: float | None = None,
    retries: bool = True,
    cached: Collection[str] = (),
    usage: Mapping[str, Usage] | None = None,
) -> list[RunEvent]:
    """The events of one run, numbered from 1.

    `endings` says which tasks don't succeed; `speed` stretches all durations; `cut_at` leaves the run going on at
    that many seconds; `cancelled_at` stops it then. The same arguments give the same events.
    """
    rng = random.Random(seed)  # noqa: S311 - believable, not secret
    endings = endings or {}
    width = 1 if mode == "sequential" else width
    lasting = {job.id: max(0.02, job.seconds * speed * rng.uniform(0.9, 1.18)) for job in jobs}
    plan = Schedule(jobs, {job.id: job.seconds for job in jobs}, {}, width=width)
    real = Schedule(jobs, lasting, endings, width=width, cached=cached)
    stop = cut_at if cut_at is not None else cancelled_at
    happened = [item for item in real.happened if stop is None or item[0] <= stop]
    rows: list[Happening] = [
        *happened,
        *_output(jobs, endings, happened),
        *_samples(happened, rng, upto=stop),
        *_usage(usage or {}, happened),
        *said(happened, jobs, seed=seed, upto=stop),
    ]
    if cancelled_at is not None:
        rows += _cancel(jobs, happened, cancelled_at)
    rows.sort(key=lambda row: row[0])
    events: list[RunEvent] = [
        _started(
            run_id,
            started_at,
            name,
            trigger,
            jobs=jobs,
            plan=plan,
            width=width,
            mode=mode,
            usd=budget_usd,
            retries=retries,
        ),
    ]
    for at, kind, values in rows:
        cls: type[RunEvent] = _TYPES[kind]
        events.append(cls(run_id=run_id, seq=len(events) + 1, at=started_at + at, **values))
    if cut_at is None:
        events.append(_finished(run_id, started_at, len(events) + 1, real, rows, cancelled=cancelled_at is not None))
    return events


def make_history(
    *, now: float, count: int = 42, running: bool = True, repository: str = "acme/shop", label: str = ""
) -> list[list[RunEvent]]:
    """A few days of a team's pull requests up to `now`: mostly green, as slow and as broken as such weeks are.

    `label` goes before each run's name.
    """
    rng = random.Random(7)  # noqa: S311 - believable, not secret
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
            repository=repository,
            actor=actors[rng.randrange(len(actors))],
            ref=branch,
            sha=sha,
            pull_request=pull_request,
        )
        options: dict[str, Any] = {
            "run_id": f"{_stamp(at)}-{rng.getrandbits(24):06x}",
            "started_at": at,
            "name": label + ("Main" if pull_request is None else "Pull request"),
            "trigger": trigger,
            "seed": index,
            "speed": 0.9 + 0.25 * rng.random(),
            "retries": index < _RETRIES_SINCE,
            "cached": _UNCHANGED.get(branch, ()),
        }
        if pull_request is not None:
            options |= {"jobs": (*PIPELINE, *REVIEWERS), "budget_usd": 0.25}
        if index == 0 and running:
            options["cut_at"] = 38.0
            options["started_at"] = now - 38.0
        elif index == _CANCELLED:
            options["cancelled_at"] = 21.0
        else:
            options["endings"] = _MISHAPS.get(index % _MISHAPS_AGAIN)
        runs.append(make_run(**options))
        at -= rng.choice((340, 900, 2400, 5400, 9000)) * rng.uniform(0.7, 1.4)
    return list(reversed(runs))


def _stamp(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y%m%d-%H%M%S")


_TYPES: dict[str, type[RunEvent]] = {
    cls.__name__: cls
    for cls in (
        TaskReady,
        TaskStarted,
        OutputChunk,
        UsageRecorded,
        TranscriptAdded,
        FindingReported,
        ChangeTaken,
        ResourceSampled,
        TaskFinished,
    )
}


def _output(jobs: Sequence[Job], endings: Mapping[str, Ending], happened: Sequence[Happening]) -> list[Happening]:
    by_id = {job.id: job for job in jobs}
    ended = {(v["task"], v["attempt"]): (at, v["state"]) for at, kind, v in happened if kind == "TaskFinished"}
    rows: list[Happening] = []
    for at, kind, values in happened:
        if kind != "TaskStarted":
            continue
        key = (values["task"], values["attempt"])
        job = by_id[values["task"]]
        if job.kind == "agent":
            continue  # it speaks in its conversation
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


def _samples(happened: Sequence[Happening], rng: random.Random, *, upto: float | None) -> list[Happening]:
    end = upto if upto is not None else max((at for at, _, _ in happened), default=0.0)
    changes = [(at, 1 if kind == "TaskStarted" else -1, v) for at, kind, v in happened if _changes(kind, v)]
    rows: list[Happening] = []
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


def _usage(usage: Mapping[str, Usage], happened: Sequence[Happening]) -> list[Happening]:
    return [
        (
            at,
            "UsageRecorded",
            {"task": v["task"], "attempt": v["attempt"], "model": "model-x", "usage": usage[v["task"]]},
        )
        for at, kind, v in happened
        if kind == "TaskStarted" and v["task"] in usage
    ]


def _cancel(jobs: Sequence[Job], happened: Sequence[Happening], at: float) -> list[Happening]:
    started = {v["task"]: (when, v["attempt"]) for when, kind, v in happened if kind == "TaskStarted"}
    final = {v["task"] for _, kind, v in happened if kind == "TaskFinished" and v.get("final", True)}
    rows: list[Happening] = []
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
    *,
    jobs: Sequence[Job],
    plan: Schedule,
    width: int,
    mode: str,
    usd: float | None,
    retries: bool,
) -> RunStarted:
    spec = _spec_text(name, jobs, usd=usd, retries=retries)
    work = sum(job.seconds for job in jobs)
    longest = max(ranks(jobs).values(), default=0.0)
    makespan = max(plan.finished.values(), default=0.0)
    infos = tuple(
        TaskInfo(
            id=job.id,
            name=job.name,
            kind=job.kind,
            team=job.team,
            needs=job.needs,
            command=job.command,
            estimate_s=job.seconds,
            basis="history: 30 runs of this task",
            start_s=plan.started.get(job.id),
            finish_s=plan.finished.get(job.id),
            slack_s=0.0,
            stage=level(job, jobs),
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
        spec_digest=hashlib.sha256(spec.encode()).hexdigest(),
        spec_text=spec,
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
        budget={} if usd is None else {"usd": usd, "tokens": None},
        machine={"cpus": "2", "memory_mb": "7954", "python": "3.11.2"},
        version="0.1.0",
    )


def _spec_text(name: str, jobs: Sequence[Job], *, usd: float | None, retries: bool) -> str:
    """The spec that such a run would be made from."""
    lines = ["version: 1", f"name: {json.dumps(name)}", "limits: {memory-mb: 4096}"]
    if usd is not None:
        lines.append(f"budget: {{usd: {usd:.2f}}}")
    if retries:
        lines.append("defaults: {max-attempts: 2}")
    lines.append("tasks:")
    for job in jobs:
        lines += [f"  {json.dumps(job.id)}:" if not job.id.replace("-", "").isalnum() else f"  {job.id}:"]
        lines.append(f"    {'agent' if job.kind == 'agent' else 'run'}: {json.dumps(job.command)}")
        lines.append(f"    team: {json.dumps(job.team)}")
        if job.needs:
            lines.append(f"    needs: {json.dumps(list(job.needs))}")
    return "\n".join(lines) + "\n"


def _finished(
    run_id: str,
    started_at: float,
    seq: int,
    real: Schedule,
    rows: Sequence[Happening],
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
