"""A run as one view: what was planned, what happened, what it cost (pure types).

`RunReport` is what every reader of a run sees: the comment, the check runs, the summary, the terminal and
`maos run --json`. `maos_bot.reporting.report` builds it from the event stream. Every figure was measured or stands in
the stream; what isn't known is None. Times ending in `_s` are seconds from the run's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import Any, Final

from maos_bot.events import ChangeTaken
from maos_bot.frozen import dataclass
from maos_bot.model import BAD_STATES, FINAL_STATES, GOOD_STATES, RunStatus, TaskState, Trigger, Usage
from maos_bot.reporting.excerpt import LogExcerpt
from maos_bot.reporting.findings import Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptReport:
    """One attempt of a task; `state` is `running` until it ended."""

    attempt: int
    state: TaskState
    started_s: float | None = None
    finished_s: float | None = None
    duration_s: float | None = None
    queued_s: float | None = None
    wait_reason: str = ""
    freed_by: str = ""
    final: bool = False
    reason: str = ""
    exit_code: int | None = None
    cpu_s: float | None = None
    peak_memory_mb: float | None = None
    output_bytes: int | None = None
    omitted_bytes: int | None = None
    retry_in_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskReport:
    """One task: what was planned for it and what became of it.

    `attempts` counts the attempts that were started. `queued_s`, `wait_reason` and `freed_by` belong to the first of
    them, `duration_s`, `reason`, `exit_code` and `cpu_s` to the last; `started_s` to `finished_s` spans them all.
    """

    id: str
    name: str
    team: str
    kind: str
    state: TaskState
    attempts: int = 0
    max_attempts: int = 1
    continue_on_error: bool = False
    needs: tuple[str, ...] = ()
    stage: int = 0
    group: int = 0
    command: str = ""
    demand: Mapping[str, float] = field(default_factory=dict)
    ready_s: float | None = None
    queued_s: float | None = None
    wait_reason: str = ""
    freed_by: str = ""
    started_s: float | None = None
    finished_s: float | None = None
    duration_s: float | None = None
    exit_code: int | None = None
    reason: str = ""
    cpu_s: float | None = None
    peak_memory_mb: float | None = None
    output_bytes: int | None = None
    omitted_bytes: int | None = None
    retry_in_s: float | None = None  # set while it waits for its next attempt
    saved_s: float | None = None  # of a cached one: what the attempt took that made its result
    usage: Usage = field(default_factory=Usage)
    findings: tuple[Finding, ...] = ()  # of the last attempt, as `changes`
    findings_left_out: int = 0
    changes: tuple[ChangeTaken, ...] = ()
    estimate_s: float | None = None
    basis: str = ""
    predicted_start_s: float | None = None
    predicted_finish_s: float | None = None
    slack_s: float | None = None
    attempt_list: tuple[AttemptReport, ...] = ()
    log: LogExcerpt | None = None  # of the last attempt, where output was folded

    @property
    def title(self) -> str:
        return self.name or self.id

    @property
    def ran(self) -> bool:
        """Whether a process was started for it."""
        return self.attempts > 0

    @property
    def ended(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def good(self) -> bool:
        return self.state in GOOD_STATES

    @property
    def failed(self) -> bool:
        """Whether it ended badly by its own doing."""
        return self.state in BAD_STATES

    def to_json(self) -> dict[str, Any]:
        """The task's object in `maos run --json`."""
        return {
            "name": self.title,
            "team": self.team,
            "kind": self.kind,
            "state": str(self.state),
            "attempts": self.attempts,
            "continue_on_error": self.continue_on_error,
            "needs": list(self.needs),
            "stage": self.stage,
            "queued_s": _round(self.queued_s),
            "wait_reason": self.wait_reason,
            "freed_by": self.freed_by,
            "started_s": _round(self.started_s),
            "finished_s": _round(self.finished_s),
            "duration_s": _round(self.duration_s),
            "exit_code": self.exit_code,
            "reason": self.reason,
            "saved_s": _round(self.saved_s),
            "peak_memory_mb": _round(self.peak_memory_mb),
            "cpu_s": _round(self.cpu_s),
            "output_bytes": self.output_bytes,
            "omitted_bytes": self.omitted_bytes,
            "estimate_s": _round(self.estimate_s),
            "basis": self.basis,
            "predicted_start_s": _round(self.predicted_start_s),
            "predicted_finish_s": _round(self.predicted_finish_s),
            "usage": usage_json(self.usage),
            "findings": [each.to_json() for each in self.findings],
            "findings_left_out": self.findings_left_out,
            "changes": [
                {
                    "commit": each.commit,
                    "files": list(each.files),
                    "added": each.added,
                    "removed": each.removed,
                    "conflicts": list(each.conflicts),
                    "branch": each.branch,
                }
                for each in self.changes
            ],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PathStep:
    """One link of the observed critical path.

    `wait_s` is the time between the end of the step before (or the run's start) and this start; `via` says what tied
    it to that step: `start` (nothing), `need`, or `resource` (it was ready, and waited for what the other one held).
    """

    task: str
    via: str
    wait_s: float
    wait_reason: str
    run_s: float
    started_s: float
    finished_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The highest values sampled over all our processes together; None where nothing was sampled."""

    memory_mb: float | None = None
    cpu_percent: float | None = None
    agents: int | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A run as far as its stream goes. `exit_code` and `finished_at` are None while it goes on."""

    run_id: str
    name: str = ""
    status: RunStatus = RunStatus.RUNNING
    reason: str = ""
    exit_code: int | None = None
    started_at: float | None = None  # seconds since the epoch
    finished_at: float | None = None
    wall_s: float = 0.0  # so far, while it goes on
    mode: str = ""
    strategy: str = ""
    chosen_because: str = ""
    spec_path: str = ""
    spec_digest: str = ""
    version: str = ""
    trigger: Trigger = field(default_factory=Trigger)
    machine: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float | None] = field(default_factory=dict)
    budget: Mapping[str, float | None] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)
    predicted_path: tuple[str, ...] = ()
    parallelism_factor: float | None = None
    tasks: Mapping[str, TaskReport] = field(default_factory=dict)  # in the order of the spec
    usage: Usage = field(default_factory=Usage)
    usage_by_model: Mapping[str, Usage] = field(default_factory=dict)
    peak: Peak = field(default_factory=Peak)
    more_findings: tuple[Finding, ...] = ()  # from files that tasks wrote
    last_seq: int = 0

    @property
    def running(self) -> bool:
        return self.finished_at is None

    @cached_property
    def counts(self) -> Mapping[TaskState, int]:
        """How many tasks are in each state; states without a task are left out."""
        found: dict[TaskState, int] = {}
        for task in self.tasks.values():
            found[task.state] = found.get(task.state, 0) + 1
        return {state: found[state] for state in TaskState if state in found}

    @property
    def done(self) -> int:
        """How many tasks are in a final state."""
        return sum(count for state, count in self.counts.items() if state in FINAL_STATES)

    @cached_property
    def sequential_s(self) -> float:
        """What the tasks' last attempts took, one after the other, in seconds; of cached ones those that were saved."""
        return sum(_credit(task) for task in self.tasks.values() if task.ended)

    @cached_property
    def saved_s(self) -> float | None:
        """What the tasks taken from the cache took when they ran, in seconds; None where none were."""
        saved = [task.saved_s for task in self.tasks.values() if task.saved_s is not None]
        return sum(saved) if saved else None

    @property
    def speedup(self) -> float | None:
        """Sequential over wall time; None while the run goes on, or where nothing ran or no time passed."""
        if self.running or self.wall_s <= 0 or not self.sequential_s:
            return None
        return self.sequential_s / self.wall_s

    @cached_property
    def failures(self) -> tuple[TaskReport, ...]:
        """The tasks that failed or timed out, earliest first, those that may (continue-on-error) last."""
        found = [task for task in self.tasks.values() if task.failed]
        return tuple(sorted(found, key=lambda task: (task.continue_on_error, task.finished_s or 0.0)))

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, in the order of the spec, each once."""
        said = [finding for task in self.tasks.values() for finding in task.findings]
        return tuple({finding.id: finding for finding in (*said, *self.more_findings)}.values())

    @property
    def first_failure(self) -> TaskReport | None:
        """The failure that decided the run, where one did."""
        return next((task for task in self.failures if not task.continue_on_error), None)

    @cached_property
    def critical_path(self) -> tuple[PathStep, ...]:
        """What held up the end: from the last finisher back over what each step waited for, in order of time."""
        return _walk_back(self.tasks)

    def to_json(self) -> dict[str, Any]:
        """The object of `maos run --json` and `maos show --json`."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "status": str(self.status),
            "reason": self.reason,
            "exit_code": self.exit_code,
            "mode": self.mode,
            "strategy": self.strategy,
            "chosen_because": self.chosen_because,
            "started_at": _round(self.started_at),
            "finished_at": _round(self.finished_at),
            "wall_s": _round(self.wall_s),
            "sequential_s": _round(self.sequential_s),
            "saved_s": _round(self.saved_s),
            "speedup": _round(self.speedup),
            "parallelism_factor": _round(self.parallelism_factor),
            "predicted": dict(self.predicted),
            "critical_path": [
                {
                    "task": step.task,
                    "via": step.via,
                    "wait_s": _round(step.wait_s),
                    "wait_reason": step.wait_reason,
                    "run_s": _round(step.run_s),
                }
                for step in self.critical_path
            ],
            "counts": {str(state): count for state, count in self.counts.items()},
            "findings": [finding.to_json() for finding in self.findings],
            "limits": dict(self.limits),
            "tasks": {task.id: task.to_json() for task in self.tasks.values()},
            "usage": usage_json(self.usage),
            "peak": {name: _round(getattr(self.peak, name)) for name in PEAK_NAMES},
            "spec": {"path": self.spec_path, "digest": self.spec_digest},
            "version": self.version,
        }


PEAK_NAMES: Final = ("memory_mb", "cpu_percent", "agents", "tokens_per_minute")


def usage_json(usage: Usage) -> dict[str, float | int | None]:
    """Usage as the contract's keys; `usd` is None where a price is unknown."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "usd": usage.usd,
    }


def _credit(task: TaskReport) -> float:
    if task.saved_s is not None:
        return task.saved_s
    return (task.duration_s or 0.0) if task.ran else 0.0


def _walk_back(tasks: Mapping[str, TaskReport]) -> tuple[PathStep, ...]:
    ended = [task for task in tasks.values() if task.ran and task.finished_s is not None]
    if not ended:
        return ()
    chain: list[tuple[TaskReport, str]] = []
    seen: set[str] = set()
    task: TaskReport | None = max(ended, key=lambda item: item.finished_s or 0.0)
    while task is not None:
        seen.add(task.id)
        before = _held_up_by(task, tasks, seen)
        via = "start" if before is None else "need" if before.id in task.needs else "resource"
        chain.append((task, via))
        task = before
    steps: list[PathStep] = []
    last_end = 0.0
    for task, via in reversed(chain):
        if not task.ran or task.started_s is None or task.finished_s is None:
            continue  # skipped and cached tasks took no time of their own
        steps.append(
            PathStep(
                task=task.id,
                via=via if steps else "start",
                wait_s=max(0.0, task.started_s - last_end),
                wait_reason=task.wait_reason,
                run_s=task.finished_s - task.started_s,
                started_s=task.started_s,
                finished_s=task.finished_s,
            )
        )
        last_end = task.finished_s
    return tuple(steps)


def _held_up_by(task: TaskReport, tasks: Mapping[str, TaskReport], seen: set[str]) -> TaskReport | None:
    """Whose end let `task` begin: the one its start names, else the need that ended last."""
    named = tasks.get(task.freed_by)
    if named is not None and named.id not in seen and named.finished_s is not None:
        return named
    ended = [need for id_ in task.needs if (need := tasks.get(id_)) and id_ not in seen and need.finished_s is not None]
    return max(ended, key=lambda need: need.finished_s or 0.0, default=None)


def _round(value: float | None) -> float | None:
    """Microseconds and a millionth of a unit are finer than anything here is measured."""
    return round(value, 6) if isinstance(value, float) else value
