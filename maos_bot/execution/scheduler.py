"""What happens next: inputs from the world in, decisions for the driver out (pure).

The scheduler holds the state of every task of a run and knows the rules: needs and `when`, retries with backoff, what a
failure does to those behind it, cancellation, and, through `maos_bot.planning.dispatch`, who starts when in which mode
under which limits. It starts no process and reads no clock: `now` is passed in (seconds, any origin, never backwards).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from maos_bot.model import Outcome, Plan, Task, TaskState


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of the run from outside: decides `when` and what can't run here.

    `event` is the name of what set the run off; `changed` the changed paths, with `/`, from the repository's root, or
    None where unknown (then `when.changed` holds back nothing); `unavailable` gives, by task id, why a task can't run.
    """

    event: str = "local"
    changed: frozenset[str] | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begin:
    """The run begins; the first input, once."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The running attempt of `task` ended."""

    task: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class TimerDue:
    """`Scheduler.next_timer` was reached; one that comes early does nothing."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The run is to stop: what runs is stopped, what doesn't is cancelled."""

    reason: str


Input = Begin | AttemptEnded | TimerDue | CancelRequested


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """All needs of `task` are met; `freed_by` is the need that ended last. Said once for each task that may run."""

    task: str
    freed_by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Run attempt `attempt` (from 1) of `task` now.

    `queued_s` counts from when the task became ready (a retry: from the end of its backoff), `wait_reason` says what it
    waited for in the end, `freed_by` is the task whose end made way.
    """

    task: str
    attempt: int
    queued_s: float = 0.0
    wait_reason: str = ""
    freed_by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Attempt `attempt` ended with `outcome`, and another follows after `retry_in_s`."""

    task: str
    attempt: int
    outcome: Outcome
    retry_in_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """The final outcome of `task`; said exactly once for each task.

    `attempt` is the attempt that gave it, or 0 where it isn't one's: skipped, upstream_failed, or cancelled while the
    task wasn't running (also between two attempts).
    """

    task: str
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """End the running attempt of `task`; its `AttemptEnded` (state `cancelled`) is still to come."""

    task: str
    reason: str


Decision = Ready | Start | Retry | End | Stop


class Scheduler:
    """The state of a run. Feed it inputs through `handle`; carry out the decisions in the order given."""

    def __init__(self, tasks: Sequence[Task], *, plan: Plan, facts: Facts) -> None:
        """Take `tasks` in the spec's order and the plan made for them; raises `SpecError` as `make_plan` does."""
        self._tasks = tasks
        self._plan = plan
        self._facts = facts
        self._states: dict[str, TaskState] = {task.id: TaskState.PENDING for task in tasks}

    def handle(self, happened: Input, now: float) -> list[Decision]:
        """Take one input in and say what to do about it."""
        return self.handle_all((happened,), now)

    def handle_all(self, happened: Iterable[Input], now: float) -> list[Decision]:
        """Take in several inputs of one instant before anything new is started."""
        raise NotImplementedError

    @property
    def next_timer(self) -> float | None:
        """When `TimerDue` is wanted, on the clock of `now`; None while nothing waits for time."""
        raise NotImplementedError

    @property
    def done(self) -> bool:
        """Whether every task has its final state."""
        raise NotImplementedError

    @property
    def states(self) -> Mapping[str, TaskState]:
        """The state of each task, by id, as it is now."""
        return self._states
