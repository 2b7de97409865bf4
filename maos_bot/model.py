"""The words of the product as types: tasks, teams, limits, plans, outcomes (pure).

Everything here is frozen and free of I/O. Durations are seconds, memory is MiB, CPU is percent of the whole runner
(two busy cores of four are 50), instants are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Final

from maos_bot.frozen import dataclass

# Names of the built-in resources; any other name in a demand or a limit is a pool of the user's own.
MEMORY: Final = "memory-mb"
CPU: Final = "cpu-percent"
AGENTS: Final = "concurrent-agents"
TOKENS: Final = "tokens-per-minute"
PROCESSES: Final = "processes-per-task"  # of each task's tree: a bound that is watched, not a capacity that is held
TEAM_PREFIX: Final = "team:"  # before a team's name: its workers as a pool
BUILT_IN_LIMITS: Final = (TOKENS, MEMORY, CPU, AGENTS, PROCESSES)


class TaskState(StrEnum):
    """Where a task is; the last eight are final."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UPSTREAM_FAILED = "upstream_failed"
    CACHED = "cached"


FINAL_STATES: Final = frozenset(TaskState) - {TaskState.PENDING, TaskState.READY, TaskState.RUNNING}
GOOD_STATES: Final = frozenset({TaskState.SUCCEEDED, TaskState.CACHED})
BAD_STATES: Final = frozenset({TaskState.FAILED, TaskState.TIMED_OUT})


class RunStatus(StrEnum):
    """How a run stands as a whole."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OVER_BUDGET = "over_budget"
    NOTHING = "nothing"


class ExecutionMode(StrEnum):
    """How the plan is carried out (DESIGN section 8)."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    PIPELINED = "pipelined"
    HYBRID = "hybrid"


class ParallelStrategy(StrEnum):
    """How much is packed together and how much headroom is left."""

    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"


class TaskKind(StrEnum):
    """What does the work."""

    COMMAND = "command"
    AGENT = "agent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a run, a team or a task may spend on models; `None` is no cap."""

    usd: float | None = None
    tokens: int | None = None
    approve_above_usd: float | None = None  # of a run alone


@dataclass(frozen=True, kw_only=True, slots=True)
class When:
    """The condition under which a task runs; an empty tuple asks nothing."""

    changed: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    needs: str = "succeeded"  # succeeded | failed | any


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One unit of work, after matrix expansion and defaults."""

    id: str
    run: str | None = None
    agent: str | None = None
    name: str = ""
    team: str = ""
    needs: tuple[str, ...] = ()
    shell: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    timeout_s: float = 1800.0
    max_attempts: int = 1
    retry_delay_s: float = 1.0  # before the second attempt; doubles with each further one
    continue_on_error: bool = False
    when: When = field(default_factory=When)
    demand: Mapping[str, float] = field(default_factory=dict)
    estimate_s: float | None = None  # the spec's own word, where it gives one
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    cache: bool | None = None  # None: where it has inputs
    tools: tuple[str, ...] = ()
    report: str = ""
    writes: tuple[str, ...] | None = None
    verify: str = ""
    model: str = ""
    budget: Budget = field(default_factory=Budget)
    matrix: Mapping[str, str] = field(default_factory=dict)
    line: int = 0
    column: int = 0

    @property
    def kind(self) -> TaskKind:
        return TaskKind.AGENT if self.agent is not None else TaskKind.COMMAND

    @property
    def title(self) -> str:
        return self.name or self.id


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """A named queue of tasks with its own bounds."""

    name: str
    max_concurrent_workers: int | None = None
    timeout_s: float | None = None
    max_attempts: int | None = None
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One capacity and why it has this value; `None` is no limit."""

    value: float | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """A whole task spec, validated and expanded. Limits that are absent are `auto`."""

    path: str
    name: str
    tasks: tuple[Task, ...]
    setup: tuple[str, ...] = ()  # ids of the tasks that every other one needs
    teams: Mapping[str, Team] = field(default_factory=dict)
    strategy: ParallelStrategy = ParallelStrategy.BALANCED
    mode: ExecutionMode = ExecutionMode.HYBRID
    limits: Mapping[str, float] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    goal: str = ""
    text: str = ""
    digest: str = ""  # SHA-256 of `text`, hexadecimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """How long a task is expected to take, and on what that rests."""

    p50_s: float
    p90_s: float
    basis: str  # spec | default | history: ...
    samples: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTask:
    """One task's place in the plan; times are seconds from the start of the run."""

    id: str
    start_s: float
    finish_s: float
    slack_s: float
    estimate_s: float
    basis: str
    rank_s: float  # longest way from this task's start to the end of the run
    level: int
    group: int
    stage: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Tasks of one team on one level, alike in complexity, handed out together."""

    id: int
    team: str
    level: int
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Groups that may run side by side."""

    id: int
    groups: tuple[Group, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for group in self.groups for task in group.tasks)

    @property
    def team(self) -> str | None:
        """The team, where all groups belong to one."""
        teams = {group.team for group in self.groups}
        return teams.pop() if len(teams) == 1 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What the simulator says of each mode, and the bound none can beat; seconds."""

    sequential_s: float
    parallel_s: float
    pipelined_s: float
    makespan_s: float  # of the chosen mode
    lower_bound_s: float
    speedup: float  # sequential over makespan; 1.0 for an empty plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What will run when, and why this way. `mode` is never `hybrid`: that is decided here."""

    mode: ExecutionMode
    strategy: ParallelStrategy
    chosen_because: str
    stages: tuple[Stage, ...]
    critical_path: tuple[str, ...]
    parallelism_factor: float
    predicted: Prediction
    tasks: Mapping[str, PlannedTask]
    limits: Mapping[str, Limit]
    # What a task starts after beside its needs, while estimates hold; None where dispatch goes by rank alone.
    order: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens and money one or more model turns used; `usd` is None where a price is unknown."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            usd=None if self.usd is None or other.usd is None else self.usd + other.usd,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one attempt ended, as measured; unknown figures are None."""

    state: TaskState
    reason: str = ""
    exit_code: int | None = None
    duration_s: float = 0.0
    cpu_s: float | None = None
    peak_memory_mb: float | None = None
    output_bytes: int = 0
    omitted_bytes: int = 0
    saved_s: float | None = None  # of a cached task: what the run that made its result took
    result: str = ""  # digest of what it came to, where that is known: part of the keys of those that need it
    key: str = ""  # digest of all that it depends on, where the cache knows it


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """What set a run off, from whom, on which commit."""

    event: str = "local"
    action: str = ""
    repository: str = ""
    actor: str = ""
    ref: str = ""  # the branch or tag in words
    sha: str = ""  # the head commit: what checks are attached to
    base_sha: str = ""
    pull_request: int | None = None
    is_fork: bool = False
    url: str = ""  # the workflow run's page
