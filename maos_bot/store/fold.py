"""One run's events folded into the figures that lists, pages and estimates read (pure).

`RunFold.add` takes events in order of `seq`; what changed since the last `take_changes` is marked, so that a writer
saves only that. Whether fed one by one or all at once, the same events give the same figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

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
from maos_bot.model import RunStatus, TaskState, Usage

_Number = TypeVar("_Number", int, float)


@dataclass(kw_only=True, slots=True)
class RunRecord:
    """The run's row; the fields are named as the columns of `runs`."""

    name: str = ""
    repository: str = ""
    branch: str = ""
    sha: str = ""
    pull_request: int | None = None
    words: str = ""  # what a search looks through, in lower case
    event: str = ""
    action: str = ""
    actor: str = ""
    is_fork: bool = False
    url: str = ""
    spec_path: str = ""
    spec_digest: str = ""
    mode: str = ""
    strategy: str = ""
    version: str = ""
    status: str = RunStatus.RUNNING.value
    exit_code: int | None = None
    reason: str = ""
    started_at: float = 0.0
    finished_at: float | None = None
    last_event_at: float = 0.0
    last_seq: int = 0
    events: int = 0
    wall_s: float | None = None
    sequential_s: float = 0.0
    predicted_s: float | None = None
    predicted_sequential_s: float | None = None
    lower_bound_s: float | None = None
    tasks: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    peak_memory_mb: float | None = None
    peak_cpu_percent: float | None = None
    peak_agents: int | None = None
    peak_tokens_per_minute: float | None = None
    saved_s: float = 0.0  # what the tasks taken from the cache took when they ran


@dataclass(kw_only=True, slots=True)
class TaskRecord:
    """A task of the run as it stands."""

    task: str
    position: int
    team: str = ""
    kind: str = "command"
    stage: int = 0
    state: TaskState = TaskState.PENDING
    reason: str = ""
    attempts: int = 0
    ready_at: float | None = None
    finished_at: float | None = None
    estimate_s: float | None = None
    predicted_start_s: float | None = None
    predicted_finish_s: float | None = None


@dataclass(kw_only=True, slots=True)
class AttemptRecord:
    """One attempt; `duration_s` is None until it ended."""

    task: str
    attempt: int
    state: TaskState = TaskState.RUNNING
    reason: str = ""
    queued_s: float = 0.0
    wait_reason: str = ""
    freed_by: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    duration_s: float | None = None
    exit_code: int | None = None
    cpu_s: float | None = None
    peak_memory_mb: float | None = None
    output_bytes: int = 0
    omitted_bytes: int = 0
    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0
    content: str = ""  # digest of all that it depended on, where the cache knew it


@dataclass(kw_only=True, slots=True)
class UsageRecord:
    """What one attempt used of one model; `unpriced` of the `calls` had no known price and are not in `usd`."""

    task: str
    attempt: int
    model: str
    calls: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    usd: float = 0.0


@dataclass(kw_only=True, slots=True)
class SpendRecord:
    """What one team of the run used of one model; `unpriced` as in `UsageRecord`."""

    team: str
    model: str
    calls: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    usd: float = 0.0


@dataclass(kw_only=True, slots=True)
class Changes:
    """What was touched since the last look."""

    tasks: list[TaskRecord] = field(default_factory=list)
    attempts: list[AttemptRecord] = field(default_factory=list)
    usage: list[UsageRecord] = field(default_factory=list)
    spend: list[SpendRecord] = field(default_factory=list)


class RunFold:
    """A run as its events so far tell it."""

    def __init__(self) -> None:
        self.run = RunRecord()
        self.counts: Counter[TaskState] = Counter()
        self._tasks: dict[str, TaskRecord] = {}
        self._attempts: dict[tuple[str, int], AttemptRecord] = {}
        self._usage: dict[tuple[str, int, str], UsageRecord] = {}
        self._changed_tasks: set[str] = set()
        self._changed_attempts: set[tuple[str, int]] = set()
        self._changed_usage: set[tuple[str, int, str]] = set()
        self._spend: dict[tuple[str, str], SpendRecord] = {}
        self._changed_spend: set[tuple[str, str]] = set()

    def add(self, event: RunEvent) -> None:
        """Take one event in; each `seq` must be larger than the one before."""
        run = self.run
        if run.events == 0:
            run.started_at = event.at
            run.words = event.run_id.lower()
        run.events += 1
        run.last_seq = event.seq
        run.last_event_at = max(run.last_event_at, event.at)
        self._FOLDS[type(event)](self, event)

    def take_changes(self) -> Changes:
        """The records touched since the last call, in a fixed order."""
        changes = Changes(
            tasks=[self._tasks[key] for key in sorted(self._changed_tasks)],
            attempts=[self._attempts[key] for key in sorted(self._changed_attempts)],
            usage=[self._usage[key] for key in sorted(self._changed_usage)],
            spend=[self._spend[key] for key in sorted(self._changed_spend)],
        )
        self._changed_tasks.clear()
        self._changed_attempts.clear()
        self._changed_usage.clear()
        self._changed_spend.clear()
        return changes

    def _run_started(self, event: RunStarted) -> None:
        run, trigger = self.run, event.trigger
        run.name, run.mode, run.strategy, run.version = event.name, event.mode, event.strategy, event.version
        run.spec_path, run.spec_digest = event.spec_path, event.spec_digest
        run.repository, run.branch, run.sha = trigger.repository, trigger.ref, trigger.sha
        run.pull_request, run.event, run.action = trigger.pull_request, trigger.event, trigger.action
        run.actor, run.is_fork, run.url = trigger.actor, trigger.is_fork, trigger.url
        number = f"#{trigger.pull_request}" if trigger.pull_request is not None else ""
        told = (event.run_id, event.name, trigger.repository, trigger.ref, number, trigger.actor, trigger.sha)
        run.words = " ".join(text for text in told if text).lower()
        run.started_at = event.at
        run.predicted_s = event.predicted.get("makespan_s")
        run.predicted_sequential_s = event.predicted.get("sequential_s")
        run.lower_bound_s = event.predicted.get("lower_bound_s")
        for info in event.tasks:
            self._plan(info)

    def _plan(self, info: TaskInfo) -> None:
        task = self._task(info.id)
        task.team, task.kind, task.stage, task.estimate_s = info.team, info.kind, info.stage, info.estimate_s
        task.predicted_start_s, task.predicted_finish_s = info.start_s, info.finish_s

    def _task_ready(self, event: TaskReady) -> None:
        task = self._task(event.task)
        self._move(task, TaskState.READY)
        task.ready_at = event.at

    def _task_started(self, event: TaskStarted) -> None:
        task = self._task(event.task)
        self._move(task, TaskState.RUNNING)
        task.attempts = max(task.attempts, event.attempt)
        attempt = self._attempt(event.task, event.attempt)
        attempt.started_at, attempt.queued_s = event.at, event.queued_s
        attempt.wait_reason, attempt.freed_by = event.wait_reason, event.freed_by

    def _task_finished(self, event: TaskFinished) -> None:
        task = self._task(event.task)
        self._move(task, event.state if event.final else TaskState.READY)
        task.reason = event.reason
        if event.attempt:  # else nothing ran
            attempt = self._attempt(event.task, event.attempt)
            attempt.state, attempt.reason, attempt.finished_at = event.state, event.reason, event.at
            attempt.duration_s, attempt.exit_code, attempt.cpu_s = event.duration_s, event.exit_code, event.cpu_s
            attempt.peak_memory_mb, attempt.content = event.peak_memory_mb, event.key
            attempt.output_bytes, attempt.omitted_bytes = event.output_bytes, event.omitted_bytes
            task.attempts = max(task.attempts, event.attempt)
        if event.final:
            task.finished_at = event.at
            # What the run would have taken one after the other: each task's last attempt, as in the report; of one
            # taken from the cache, the attempt that was saved.
            last = self._attempts.get((event.task, task.attempts))
            took = (last.duration_s or 0.0) if last else 0.0
            self.run.sequential_s += took if event.saved_s is None else event.saved_s
            self.run.saved_s += event.saved_s or 0.0

    def _usage_recorded(self, event: UsageRecorded) -> None:
        key = (event.task, event.attempt, event.model)
        record = self._usage.get(key)
        if record is None:
            record = self._usage[key] = UsageRecord(task=event.task, attempt=event.attempt, model=event.model)
        self._changed_usage.add(key)
        spent = self._spent(event)
        record.calls += 1
        spent.calls += 1
        used = event.usage
        tokens = used.input_tokens + used.output_tokens + used.cache_read_tokens + used.cache_write_tokens
        for total in (self.run, record, spent):
            total.input_tokens += used.input_tokens
            total.output_tokens += used.output_tokens
            total.cache_read_tokens += used.cache_read_tokens
            total.cache_write_tokens += used.cache_write_tokens
        self.run.tokens += tokens
        _pay(self.run, used)
        _pay(record, used)
        _pay(spent, used)
        if event.task and event.attempt:  # else the run's own: planning, reviewing
            attempt = self._attempt(event.task, event.attempt)
            attempt.tokens += tokens
            _pay(attempt, used)

    def _spent(self, event: UsageRecorded) -> SpendRecord:
        task = self._tasks.get(event.task)
        key = (task.team if task else "", event.model)
        record = self._spend.get(key)
        if record is None:
            record = self._spend[key] = SpendRecord(team=key[0], model=key[1])
        self._changed_spend.add(key)
        return record

    def _resource_sampled(self, event: ResourceSampled) -> None:
        if event.task:
            return
        run = self.run
        run.peak_memory_mb = _peak(run.peak_memory_mb, event.memory_mb)
        run.peak_cpu_percent = _peak(run.peak_cpu_percent, event.cpu_percent)
        run.peak_agents = _peak(run.peak_agents, event.agents)
        run.peak_tokens_per_minute = _peak(run.peak_tokens_per_minute, event.tokens_per_minute)

    def _run_finished(self, event: RunFinished) -> None:
        run = self.run
        run.status, run.exit_code, run.reason = event.status, event.exit_code, event.reason
        run.wall_s, run.finished_at = event.wall_s, event.at

    def _output_chunk(self, event: OutputChunk) -> None:
        """Only a sign of life: the bytes are counted by the attempt's end."""

    def _agent_said(self, event: RunEvent) -> None:
        """Only a sign of life: conversations, findings and changes are read from the stream itself."""

    def _task(self, name: str) -> TaskRecord:
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = TaskRecord(task=name, position=len(self._tasks))
            self.counts[task.state] += 1
            self.run.tasks += 1
        self._changed_tasks.add(name)
        return task

    def _attempt(self, name: str, number: int) -> AttemptRecord:
        key = (name, number)
        attempt = self._attempts.get(key)
        if attempt is None:
            attempt = self._attempts[key] = AttemptRecord(task=name, attempt=number)
            self.run.attempts += 1
        self._changed_attempts.add(key)
        return attempt

    def _move(self, task: TaskRecord, state: TaskState) -> None:
        self.counts[task.state] -= 1
        self.counts[state] += 1
        task.state = state

    _FOLDS: ClassVar[dict[type[RunEvent], Callable[[RunFold, Any], None]]] = {
        RunStarted: _run_started,
        TaskReady: _task_ready,
        TaskStarted: _task_started,
        OutputChunk: _output_chunk,
        UsageRecorded: _usage_recorded,
        TranscriptAdded: _agent_said,
        FindingReported: _agent_said,
        ChangeTaken: _agent_said,
        ResourceSampled: _resource_sampled,
        TaskFinished: _task_finished,
        RunFinished: _run_finished,
    }


def _pay(payer: RunRecord | AttemptRecord | UsageRecord | SpendRecord, used: Usage) -> None:
    if used.usd is None:
        payer.unpriced += 1
    else:
        payer.usd += used.usd


def _peak(a: _Number | None, b: _Number | None) -> _Number | None:
    return b if a is None else a if b is None else max(a, b)
