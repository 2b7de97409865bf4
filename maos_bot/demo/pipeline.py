"""A made-up pipeline of a made-up shop, and a small list scheduler that says when its tasks would run.

A task starts when its needs have ended and a slot is free, the one with the longest way to the end first.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from maos_bot.frozen import dataclass
from maos_bot.model import GOOD_STATES, TaskState

Happening = tuple[float, str, dict[str, Any]]  # seconds from the start, the event's type, its fields


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One task of the made-up pipeline."""

    id: str
    team: str
    command: str
    seconds: float
    needs: tuple[str, ...] = ()
    name: str = ""
    kind: str = "command"
    memory_mb: float = 120.0
    log: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a task's attempts end, the last state for all further ones."""

    states: tuple[TaskState, ...] = (TaskState.FAILED,)
    reason: str = "exit code 1"
    exit_code: int | None = 1
    log: tuple[str, ...] = ()


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


class Schedule:
    """When each task of `jobs` becomes ready, starts and ends; all of it stands in `happened`."""

    def __init__(
        self,
        jobs: Sequence[Job],
        lasting: Mapping[str, float],
        endings: Mapping[str, Ending],
        *,
        width: int,
        cached: Collection[str] = (),
    ) -> None:
        self.happened: list[Happening] = []
        self.state: dict[str, TaskState] = {}
        self.started: dict[str, float] = {}
        self.finished: dict[str, float] = {}
        self._jobs = {job.id: job for job in jobs}
        self._lasting, self._endings, self._width = lasting, endings, width
        self._cached = frozenset(cached)
        self._rank = ranks(jobs)
        self._ready: list[tuple[float, str]] = []
        self._ready_at: dict[str, float] = {}
        self._freed_by: dict[str, str] = {}
        self._going: list[tuple[float, str, int]] = []
        self._retries: list[tuple[float, str, int]] = []
        self._now, self._last_end = 0.0, ""
        self._run()

    def _run(self) -> None:
        self._look("")
        while self._ready or self._going or self._retries:
            while self._ready and len(self._going) < self._width:
                self._start(heapq.heappop(self._ready)[1], 1)
            retry_at = self._retries[0][0] if self._retries and len(self._going) < self._width else float("inf")
            if not self._going or retry_at <= self._going[0][0]:
                due, task, attempt = heapq.heappop(self._retries)
                self._now = max(self._now, due)  # it may have waited for a slot
                self._start(task, attempt)
            else:
                self._now, task, attempt = heapq.heappop(self._going)
                self._end(task, attempt)

    def _look(self, freed_by: str) -> None:
        """What may go on, or never will, now that `freed_by` has ended."""
        for job in self._jobs.values():
            if job.id in self._ready_at or job.id in self.state:
                continue
            states = {need: self.state.get(need) for need in job.needs}
            bad = [need for need, state in states.items() if state not in {None, *GOOD_STATES}]
            if bad:
                self.state[job.id] = TaskState.UPSTREAM_FAILED
                end = {"state": TaskState.UPSTREAM_FAILED, "reason": f"{bad[0]} did not succeed"}
                self._say("TaskFinished", job.id, attempt=0, **end)
                self._look(freed_by)
            elif None not in states.values():
                self._ready_at[job.id], self._freed_by[job.id] = self._now, freed_by
                self._say("TaskReady", job.id, freed_by=freed_by)
                if job.id in self._cached:
                    self.state[job.id], self.finished[job.id] = TaskState.CACHED, self._now
                    hit = {"state": TaskState.CACHED, "reason": "unchanged", "saved_s": self._lasting[job.id]}
                    self._say("TaskFinished", job.id, attempt=0, **hit)
                    self._look(job.id)
                    return
                heapq.heappush(self._ready, (-self._rank[job.id], job.id))

    def _start(self, task: str, attempt: int) -> None:
        queued = self._now - self._ready_at[task] if attempt == 1 else 0.0
        self.started.setdefault(task, self._now)
        self._say(
            "TaskStarted",
            task,
            attempt=attempt,
            queued_s=queued,
            wait_reason="concurrent-agents: 4 of 4 busy" if queued > 0 else "",
            freed_by=self._last_end if queued > 0 else self._freed_by[task],
            pid=4000 + len(self.happened),
        )
        heapq.heappush(self._going, (self._now + self._lasting[task], task, attempt))

    def _end(self, task: str, attempt: int) -> None:
        ending = self._endings.get(task)
        states = ending.states if ending else (TaskState.SUCCEEDED,)
        state, final = states[min(attempt, len(states)) - 1], attempt >= len(states)
        bad = ending if state is not TaskState.SUCCEEDED else None
        command = self._jobs[task].kind == "command"
        self._say(
            "TaskFinished",
            task,
            attempt=attempt,
            state=state,
            final=final,
            reason=bad.reason if bad else "",
            exit_code=bad.exit_code if bad else 0 if command else None,
            duration_s=self._lasting[task],
            cpu_s=self._lasting[task] * 0.86 if command else None,
            peak_memory_mb=self._jobs[task].memory_mb if command else None,
            output_bytes=4096 if command else 0,
            retry_in_s=None if final else 1.0,
        )
        if final:
            self.state[task], self.finished[task], self._last_end = state, self._now, task
            self._look(task)
        else:
            heapq.heappush(self._retries, (self._now + 1.0, task, attempt + 1))

    def _say(self, kind: str, task: str, **values: Any) -> None:
        self.happened.append((self._now, kind, {"task": task, **values}))


def ranks(jobs: Sequence[Job]) -> dict[str, float]:
    """Each task's longest way from its start to the end, in seconds."""
    rank: dict[str, float] = {}
    for job in reversed(jobs):
        rank[job.id] = job.seconds + max((rank[other.id] for other in jobs if job.id in other.needs), default=0.0)
    return rank


def level(job: Job, jobs: Sequence[Job]) -> int:
    """How many tasks deep its needs go."""
    return max((1 + level(other, jobs) for other in jobs if other.id in job.needs), default=0)


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
