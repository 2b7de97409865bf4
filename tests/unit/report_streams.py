"""Event streams for the tests of reports: a small list scheduler plays a run out on a clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
)
from maos_bot.model import GOOD_STATES, TaskState, Trigger

START = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One task of a played run."""

    id: str
    seconds: float = 1.0
    needs: tuple[str, ...] = ()
    ends: TaskState = TaskState.SUCCEEDED
    reason: str = ""
    exit_code: int | None = None
    output: str = ""
    name: str = ""
    team: str = ""
    command: str = "true"
    stage: int | None = None
    tries: int = 1
    peak_memory_mb: float | None = None
    allowed: bool = False


@dataclass
class Tape:
    """Numbers events as it records them."""

    run_id: str = "20260101-000000-abc123"
    events: list[RunEvent] = field(default_factory=list)

    def add(self, cls: type[RunEvent], at: float, **values: Any) -> None:
        self.events.append(cls(run_id=self.run_id, seq=len(self.events) + 1, at=START + at, **values))


def play(
    jobs: Sequence[Job],
    *,
    slots: int = 2,
    until: float | None = None,
    cancelled_at: float | None = None,
    name: str = "Pull request",
    trigger: Trigger | None = None,
    predicted: Mapping[str, float] | None = None,
) -> list[RunEvent]:
    """The stream of a run of `jobs`, `slots` at a time; cut off after `until` seconds, or cancelled."""
    tape = Tape()
    levels: dict[str, int] = {}
    for job in jobs:
        levels[job.id] = 1 + max((levels.get(need, -1) for need in job.needs), default=-1)
    tape.add(
        RunStarted,
        0.0,
        name=name,
        spec_path=".maos.yml",
        spec_digest="0" * 64,
        mode="pipelined",
        strategy="balanced",
        chosen_because="pipelined is predicted to take 41 s, parallel 55 s, sequential 118 s",
        trigger=trigger or Trigger(),
        tasks=tuple(_info(job, levels[job.id]) for job in jobs),
        predicted=predicted or {},
        limits={"concurrent-agents": float(slots), "memory-mb": 2048.0},
        version="0.1.0",
    )
    _play(tape, list(jobs), slots=slots, cancelled_at=cancelled_at)
    if until is None:
        return tape.events
    return [event for event in tape.events if event.at - START <= until]


def _info(job: Job, level: int) -> TaskInfo:
    return TaskInfo(
        id=job.id,
        name=job.name,
        team=job.team,
        needs=job.needs,
        command=job.command,
        stage=level if job.stage is None else job.stage,
        estimate_s=job.seconds,
        basis="spec",
        max_attempts=max(job.tries, 1),
        continue_on_error=job.allowed,
    )


def _play(tape: Tape, jobs: list[Job], *, slots: int, cancelled_at: float | None) -> None:
    ended: dict[str, TaskState] = {}
    ready: dict[str, tuple[float, str]] = {}
    running: dict[str, float] = {}
    by_id = {job.id: job for job in jobs}
    clock, last = 0.0, ""
    while len(ended) < len(jobs):
        _settle(tape, jobs, ended, ready, running, clock, last)
        for id_ in [id_ for id_ in ready if id_ not in running and id_ not in ended][: slots - len(running)]:
            since, freed = ready[id_]
            late = clock - since > 0
            tape.add(
                TaskStarted,
                clock,
                task=id_,
                attempt=1,
                queued_s=clock - since,
                wait_reason=f"agents: {slots} of {slots} busy" if late else "",
                freed_by=last if late else freed,
            )
            running[id_] = clock + by_id[id_].seconds * by_id[id_].tries
        if not running:
            continue
        last = min(running, key=lambda id_: running[id_])
        if cancelled_at is not None and running[last] > cancelled_at:
            _cancel(tape, jobs, ended, running, cancelled_at)
            return
        clock = running.pop(last)
        job = by_id[last]
        _attempts(tape, job, clock)
        ended[last] = job.ends
        tape.add(ResourceSampled, clock, memory_mb=100.0 + len(ended), cpu_percent=80.0, agents=len(running) + 1)
    bad = any(by_id[id_].ends not in GOOD_STATES and not by_id[id_].allowed for id_ in ended if id_ in by_id)
    bad = bad and any(state in {TaskState.FAILED, TaskState.TIMED_OUT} for state in ended.values())
    tape.add(RunFinished, clock, status="failed" if bad else "succeeded", exit_code=int(bad), wall_s=clock)


def _settle(
    tape: Tape,
    jobs: Iterable[Job],
    ended: dict[str, TaskState],
    ready: dict[str, tuple[float, str]],
    running: Mapping[str, float],
    clock: float,
    last: str,
) -> None:
    for job in jobs:
        if job.id in ended or job.id in ready or job.id in running:
            continue
        states = [ended.get(need) for need in job.needs]
        if any(state is not None and state not in GOOD_STATES for state in states):
            bad = next(need for need in job.needs if ended.get(need) not in GOOD_STATES)
            ended[job.id] = TaskState.UPSTREAM_FAILED
            tape.add(
                TaskFinished,
                clock,
                task=job.id,
                attempt=0,
                state=TaskState.UPSTREAM_FAILED,
                reason=f"needs {bad} ({ended[bad]})",
            )
        elif all(state is not None for state in states):
            if job.ends in {TaskState.SKIPPED, TaskState.CACHED}:
                ended[job.id] = job.ends
                tape.add(TaskFinished, clock, task=job.id, attempt=0, state=job.ends, reason=job.reason)
                continue
            freed = last if last in job.needs else ""
            ready[job.id] = (clock, freed)
            tape.add(TaskReady, clock, task=job.id, freed_by=freed)


def _attempts(tape: Tape, job: Job, clock: float) -> None:
    for attempt in range(1, job.tries + 1):
        end = clock - job.seconds * (job.tries - attempt)
        if attempt > 1:
            tape.add(TaskStarted, end - job.seconds, task=job.id, attempt=attempt)
        if job.output:
            tape.add(OutputChunk, end, task=job.id, attempt=attempt, text=job.output)
        final = attempt == job.tries
        state = job.ends if final else TaskState.FAILED
        code = job.exit_code if job.exit_code is not None else int(state is not TaskState.SUCCEEDED)
        tape.add(
            TaskFinished,
            end,
            task=job.id,
            attempt=attempt,
            state=state,
            final=final,
            reason=job.reason or (f"exit code {code}" if code else ""),
            exit_code=code,
            duration_s=job.seconds,
            cpu_s=job.seconds * 0.9,
            peak_memory_mb=job.peak_memory_mb,
            output_bytes=len(job.output.encode()),
            retry_in_s=None if final else 1.0,
        )


def _cancel(
    tape: Tape, jobs: Iterable[Job], ended: Mapping[str, TaskState], running: Mapping[str, float], clock: float
) -> None:
    for job in jobs:
        if job.id in ended:
            continue
        ran = job.id in running
        tape.add(
            TaskFinished,
            clock,
            task=job.id,
            attempt=int(ran),
            state=TaskState.CANCELLED,
            reason="interrupted (SIGINT)",
            exit_code=-15 if ran else None,
            duration_s=1.0 if ran else 0.0,
        )
    tape.add(RunFinished, clock, status="cancelled", exit_code=130, wall_s=clock, reason="interrupted by SIGINT")
