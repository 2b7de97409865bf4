"""The append-only stream of run events: the spine everything else is a fold over (pure).

`(run_id, seq)` is the key: `seq` counts from 1 without gaps, and ingesting an event twice changes nothing. `at` is
seconds since the epoch and never runs backwards inside a run. `to_dict` and `from_dict` are the NDJSON form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Final

from maos_bot.frozen import dataclass
from maos_bot.model import TaskState, Trigger, Usage

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEvent:
    """What every event has."""

    run_id: str
    seq: int
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskInfo:
    """What the stream says of a task before it runs; times are the plan's, in seconds from the run's start."""

    id: str
    name: str = ""
    kind: str = "command"
    team: str = ""
    needs: tuple[str, ...] = ()
    command: str = ""
    stage: int = 0
    group: int = 0
    estimate_s: float | None = None
    basis: str = ""
    start_s: float | None = None
    finish_s: float | None = None
    slack_s: float | None = None
    max_attempts: int = 1
    continue_on_error: bool = False
    demand: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStarted(RunEvent):
    """The first event: what will run, how, under which limits, and what was predicted."""

    name: str
    spec_path: str
    spec_digest: str
    spec_text: str = ""
    mode: str
    strategy: str
    chosen_because: str = ""
    trigger: Trigger = field(default_factory=Trigger)
    tasks: tuple[TaskInfo, ...] = ()
    critical_path: tuple[str, ...] = ()
    parallelism_factor: float | None = None
    predicted: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float | None] = field(default_factory=dict)
    budget: Mapping[str, float | None] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskReady(RunEvent):
    """All needs of `task` are met; `freed_by` is the need that ended last, if any."""

    task: str
    freed_by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskStarted(RunEvent):
    """An attempt (from 1) began, `queued_s` after it became ready; `wait_reason` says what it waited for."""

    task: str
    attempt: int
    queued_s: float = 0.0
    wait_reason: str = ""
    freed_by: str = ""
    pid: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputChunk(RunEvent):
    """Redacted output of an attempt (stdout and stderr together).

    `offset` counts the bytes the attempt had printed before this chunk; `omitted` of them, right before it, were
    dropped by the size cap. `attempt` is 0 where a cached task's output is shown again.
    """

    task: str
    attempt: int
    text: str
    offset: int = 0
    omitted: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageRecorded(RunEvent):
    """One model turn, settled."""

    task: str
    attempt: int
    model: str
    usage: Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptAdded(RunEvent):
    """One message of an agent's conversation, redacted; `turn` counts the model's answers, from 0 before the first.

    `role` is `asked` (what it was told), `answered` (its words), `called` (a tool it asked for, as JSON) or `returned`
    (what a tool came to).
    """

    task: str
    attempt: int
    turn: int
    role: str
    text: str
    model: str = ""  # of what it answered


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingReported(RunEvent):
    """One finding of an agent's report, redacted; `line` counts from 1, and is None where it is about the file."""

    task: str
    attempt: int
    path: str
    severity: str  # notice | warning | failure
    message: str
    line: int | None = None
    suggestion: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeTaken(RunEvent):
    """What an agent's attempt changed, as taken from its worktree; `conflicts` are paths that didn't merge."""

    task: str
    attempt: int
    commit: str
    files: tuple[str, ...] = ()
    added: int = 0  # lines
    removed: int = 0
    conflicts: tuple[str, ...] = ()
    branch: str = ""  # where a change that didn't merge is kept
    patch: str = ""  # as `git diff` writes it; empty where it wasn't kept


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceSampled(RunEvent):
    """A measurement: of one task's process tree, or of all our children where `task` is empty; also the heartbeat."""

    task: str = ""
    memory_mb: float | None = None
    cpu_percent: float | None = None
    agents: int | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFinished(RunEvent):
    """An attempt ended; `final` is false where a retry follows after `retry_in_s`.

    `attempt` is 0 where nothing ran (skipped, upstream_failed, cached, cancelled before its start).
    """

    task: str
    attempt: int
    state: TaskState
    final: bool = True
    reason: str = ""
    exit_code: int | None = None
    duration_s: float = 0.0
    cpu_s: float | None = None
    peak_memory_mb: float | None = None
    output_bytes: int = 0
    omitted_bytes: int = 0
    retry_in_s: float | None = None
    saved_s: float | None = None  # cached: what the attempt took that made its result
    result: str = ""  # digest of its result, where the cache knows one
    key: str = ""  # digest of all that it depends on, where the cache knows it


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFinished(RunEvent):
    """The last event."""

    status: str
    exit_code: int
    wall_s: float
    reason: str = ""


EVENT_TYPES: Final[Mapping[str, type[RunEvent]]] = {
    cls.__name__: cls
    for cls in (
        RunStarted,
        TaskReady,
        TaskStarted,
        OutputChunk,
        UsageRecorded,
        TranscriptAdded,
        FindingReported,
        ChangeTaken,
        ResourceSampled,
        TaskFinished,
        RunFinished,
    )
}
_FIELDS: Final = {cls: tuple(f.name for f in fields(cls)) for cls in EVENT_TYPES.values()}
_NESTED: Final = {Trigger, Usage, TaskInfo}


def to_dict(event: RunEvent) -> dict[str, Any]:
    """The event as plain JSON values, its type under `type`."""
    row: dict[str, Any] = {"type": type(event).__name__}
    for name in _FIELDS[type(event)]:
        row[name] = _plain(getattr(event, name))
    return row


def from_dict(row: Mapping[str, Any]) -> RunEvent:
    """The event a `to_dict` row came from; fields this version doesn't know are ignored.

    Raises `ValueError` for a type that isn't one of ours or a field that is missing.
    """
    cls = EVENT_TYPES.get(str(row.get("type")))
    if cls is None:
        raise ValueError(f"unknown event type {row.get('type')!r}")
    values = {name: row[name] for name in _FIELDS[cls] if name in row}
    try:
        if cls is RunStarted:
            values["trigger"] = _rebuild(Trigger, values.get("trigger", {}))
            values["tasks"] = tuple(_rebuild(TaskInfo, task) for task in values.get("tasks", ()))
            values["critical_path"] = tuple(values.get("critical_path", ()))
        elif cls is UsageRecorded:
            values["usage"] = _rebuild(Usage, values.get("usage", {}))
        elif cls is ChangeTaken:
            values |= {name: tuple(values[name]) for name in ("files", "conflicts") if name in values}
        elif cls is TaskFinished:
            values["state"] = TaskState(values["state"])
        return cls(**values)
    except (TypeError, KeyError) as error:
        raise ValueError(f"bad {cls.__name__} event: {error}") from error


def _plain(value: Any) -> Any:
    if type(value) in _NESTED:
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value


def _rebuild(cls: type[Any], row: Mapping[str, Any]) -> Any:
    known = {f.name for f in fields(cls)}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items() if key in known}
    return cls(**values)
