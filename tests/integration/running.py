"""Runs of real processes for tests: tasks in, events out."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from maos_bot.events import OutputChunk, RunEvent, RunFinished, TaskFinished, TaskStarted
from maos_bot.execution.attempts import Agents
from maos_bot.execution.cache import TaskCache
from maos_bot.execution.orchestrator import Orchestrator
from maos_bot.execution.past import Past
from maos_bot.execution.scheduler import Facts
from maos_bot.execution.tree import process_table
from maos_bot.model import (
    AGENTS,
    CPU,
    MEMORY,
    TOKENS,
    ExecutionMode,
    Limit,
    ParallelStrategy,
    Spec,
    Task,
    TaskState,
    Trigger,
)
from maos_bot.planning.planner import make_plan
from maos_bot.redact import Redactor

E = TypeVar("E", bound=RunEvent)

# Of this test run alone: by it a run finds what its tasks have left behind, and ends it.
RUN_ID: Final = f"20261126-080000-{secrets.token_hex(3)}"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run left: its events, and how long it took by the clock on the wall."""

    events: list[RunEvent]
    wall_s: float

    def of(self, kind: type[E], task: str = "") -> list[E]:
        """The events of one kind, of one task where it is named."""
        return [e for e in self.events if isinstance(e, kind) and (not task or getattr(e, "task", "") == task)]

    def end(self, task: str) -> TaskFinished:
        """The one final event of `task`."""
        (event,) = [event for event in self.of(TaskFinished, task) if event.final]
        return event

    def states(self) -> dict[str, TaskState]:
        """The final state of each task."""
        return {event.task: event.state for event in self.of(TaskFinished) if event.final}

    def output(self, task: str) -> str:
        """All that `task` printed and that was kept."""
        return "".join(event.text for event in self.of(OutputChunk, task))

    def pid(self, task: str) -> int:
        """The first process of the last attempt of `task`."""
        pid = self.of(TaskStarted, task)[-1].pid
        assert pid is not None
        return pid

    @property
    def finished(self) -> RunFinished:
        """The last event."""
        event = self.events[-1]
        assert isinstance(event, RunFinished)
        return event


def maos(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in `folder`, as a program of its own."""
    return subprocess.run(
        [sys.executable, "-m", "maos_bot", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run(
    root: Path,
    *tasks: Task,
    slots: float = 4,
    environ: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    facts: Facts | None = None,
    mode: ExecutionMode = ExecutionMode.PIPELINED,
    more_limits: Mapping[str, float] | None = None,
    during: Callable[[Orchestrator], None] | None = None,
    watch: Callable[[RunEvent, Orchestrator], None] | None = None,
    cache: TaskCache | None = None,
    past: Past | None = None,
    agents: Agents | None = None,
) -> Ran:
    """Run `tasks` in `root`. `during` is called on the loop as the run begins, `watch` with each event."""
    values = {AGENTS: slots, MEMORY: None, CPU: 100.0, TOKENS: None, **(more_limits or {})}
    limits = {name: Limit(value=value, reason="the test") for name, value in values.items()}
    plan = make_plan(tasks, limits=limits, mode=mode, strategy=ParallelStrategy.BALANCED)
    events: list[RunEvent] = []

    def emit(event: RunEvent) -> None:
        events.append(event)
        if watch:
            watch(event, orchestrator)

    orchestrator = Orchestrator(
        run_id=RUN_ID,
        spec=Spec(path=".maos.yml", name="test", tasks=tasks),
        tasks=tasks,
        plan=plan,
        facts=facts or Facts(),
        trigger=Trigger(),
        root=root,
        emit=emit,
        redactor=Redactor(secrets),
        environ=dict(os.environ) if environ is None else environ,
        cpus=2.0,
        cache=cache,
        past=past,
        agents=agents,
    )

    async def main() -> None:
        if during:
            asyncio.get_running_loop().call_soon(during, orchestrator)
        await orchestrator.run()

    begun = time.monotonic()
    asyncio.run(main())
    first = past.last_seq + 1 if past else 1
    assert [event.seq for event in events] == list(range(first, first + len(events)))
    assert all(before.at <= after.at for before, after in itertools.pairwise(events))
    return Ran(events=events, wall_s=time.monotonic() - begun)


def command(task_id: str, script: str, **values: Any) -> Task:
    """A command task."""
    return Task(id=task_id, run=script, **values)


def lives(pid: int) -> bool:
    """Whether process `pid` exists and is no zombie."""
    proc = process_table().get(pid)
    return proc is not None and not proc.zombie
