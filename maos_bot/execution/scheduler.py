"""What happens next: inputs from the world in, decisions for the driver out (pure).

The scheduler holds the state of every task of a run and knows the rules: needs and `when`, retries with backoff, what a
failure does to those behind it, cancellation, and, through `maos_bot.planning.dispatch`, who starts when in which mode
under which limits. It starts no process and reads no clock: `now` is passed in (seconds, any origin, never backwards).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from types import MappingProxyType
from typing import Final

from maos_bot.execution.conditions import Conditions, Facts
from maos_bot.execution.past import Past
from maos_bot.frozen import dataclass
from maos_bot.model import BAD_STATES, FINAL_STATES, Outcome, Plan, Task, TaskState
from maos_bot.planning.dispatch import Dispatcher
from maos_bot.planning.graph import TaskGraph
from maos_bot.planning.problem import build_problem, units
from maos_bot.planning.schedule import gates_of

__all__ = [
    "AttemptEnded",
    "Begin",
    "CancelRequested",
    "Decision",
    "End",
    "Facts",
    "Input",
    "LimitChanged",
    "PutBack",
    "Ready",
    "Retry",
    "Scheduler",
    "Start",
    "Stop",
    "TimerDue",
]


@dataclass(frozen=True, slots=True)
class Begin:
    """The run begins; the first input, once."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The running attempt of `task` ended; `began` is false where nothing had to be started for its outcome."""

    task: str
    outcome: Outcome
    began: bool = True


@dataclass(frozen=True, slots=True)
class TimerDue:
    """`Scheduler.next_timer` was reached; one that comes early does nothing."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The run is to stop: what runs is stopped, what doesn't is cancelled."""

    reason: str


@dataclass(frozen=True, slots=True)
class PutBack:
    """The running attempt of `task` was ended to make room; it runs again later, and it doesn't count as tried."""

    task: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class LimitChanged:
    """From now on at most `value` of the limit `name` is handed out, never more than the plan's; `reason` says why.

    A limit the plan doesn't hold anybody to stays none.
    """

    name: str
    value: float
    reason: str


Input = Begin | AttemptEnded | TimerDue | CancelRequested | PutBack | LimitChanged


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

    `attempt` is the attempt that gave it, or 0 where it isn't one's: skipped, upstream_failed, cached, or cancelled
    while the task wasn't running (also between two attempts).
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
_NO_PAST = Past()


LEAST_PATIENCE_S: Final = 30.0  # a task waits no longer than the plan was to take, or so long, before it comes first
ORDER_SHARE: Final = 0.1  # how far a duration may be off for the plan's order to be followed on,
ORDER_S: Final = 0.02  # as a share of the estimate plus so many seconds


class Scheduler:
    """The state of a run. Feed it inputs through `handle`; carry out the decisions in the order given."""

    def __init__(self, tasks: Sequence[Task], *, plan: Plan, facts: Facts, past: Past = _NO_PAST) -> None:
        """Take `tasks` in the spec's order and the plan made for them; raises `SpecError` as `make_plan` does.

        With a `past`, what has ended stays so, and the rest goes on from there.
        """
        placed = [plan.tasks[task.id] for task in tasks]
        problem = build_problem(
            tasks, durations=[each.estimate_s for each in placed], limits=plan.limits, strategy=plan.strategy
        )
        graph = problem.graph
        self._tasks = tasks
        self._conditions = Conditions(facts)
        self._number = graph.index
        self._preds, self._succs = graph.preds, graph.succs
        self._dispatcher = Dispatcher(
            problem,
            ranks=[each.rank_s for each in placed],
            gates=gates_of(plan.mode, graph, [each.stage for each in placed]),
            after=_after(plan, graph),
            patience_s=max(LEAST_PATIENCE_S, plan.predicted.makespan_s),
        )
        self._durations = graph.durations
        self._in_order = plan.order is not None
        self._states = dict.fromkeys(graph.ids, TaskState.PENDING)
        self._missing = [len(needs) for needs in graph.preds]  # needs that haven't ended
        self._resources = problem.resources
        self._attempts = [past.begun.get(task.id, 0) for task in tasks]  # attempts begun
        self._begun_before = tuple(self._attempts)
        self._spared = [past.spared.get(task.id, 0) for task in tasks]  # those of them that don't count
        self._aside: dict[int, str] = {}  # put back and not running again yet, with the reason
        self._last_need: dict[int, int] = {}  # the need that ended last
        self._timers: list[tuple[float, int]] = []  # heap of (due, task in backoff)
        self._running: set[int] = set()
        self._open = len(tasks)  # without a final state
        self._cancelled = False
        for task_id, state in past.ended.items():
            self._recall(graph.index[task_id], state)

    def handle(self, happened: Input, now: float) -> list[Decision]:
        """Take one input in and say what to do about it.

        Raises `ValueError` for the end of an attempt that isn't running: the driver and we disagree.
        """
        return self.handle_all((happened,), now)

    def handle_all(self, happened: Iterable[Input], now: float) -> list[Decision]:
        """Take in several inputs of one instant before anything new is started."""
        decisions: list[Decision] = []
        for one in happened:
            match one:
                case AttemptEnded():
                    self._attempt_ended(one, now, decisions)
                case TimerDue():
                    self._timer_due(now)
                case Begin():
                    self._begin(now, decisions)
                case PutBack():
                    self._put_back(one, now, decisions)
                case LimitChanged():
                    self._leave_order()
                    if one.name in self._resources:
                        amount = units(one.value)
                        self._dispatcher.set_capacity(self._resources.index(one.name), amount, one.reason)
                case CancelRequested():
                    self._cancel(one.reason, now, decisions)
        if not self._cancelled:
            decisions += [self._start(task, now) for task in self._dispatcher.starts(now)]
        return decisions

    @property
    def next_timer(self) -> float | None:
        """When `TimerDue` is wanted, on the clock of `now`; None while nothing waits for time."""
        return self._timers[0][0] if self._timers else None

    @property
    def done(self) -> bool:
        """Whether every task has its final state."""
        return self._open == 0

    @property
    def states(self) -> Mapping[str, TaskState]:
        """The state of each task, by id, as it is now."""
        return MappingProxyType(self._states)

    def _recall(self, number: int, state: TaskState) -> None:
        self._leave_order()
        self._states[self._tasks[number].id] = state
        self._open -= 1
        self._dispatcher.settle(number)
        for successor in self._succs[number]:
            self._missing[successor] -= 1

    def _begin(self, now: float, decisions: list[Decision]) -> None:
        waiting = [
            number
            for number, task in enumerate(self._tasks)
            if not self._missing[number] and self._states[task.id] is TaskState.PENDING
        ]
        for number in waiting:
            verdict = self._consider(number, None, now, decisions)
            if verdict is not None:
                self._end(number, 0, verdict, now, decisions)

    def _attempt_ended(self, ended: AttemptEnded, now: float, decisions: list[Decision]) -> None:
        number, attempt = self._stopped(ended.task, ended.outcome)
        if not ended.began:
            self._attempts[number] -= 1
            attempt = 0
        outcome, task = ended.outcome, self._tasks[number]
        tried = attempt - self._spared[number]
        self._compare(number, outcome)
        if outcome.state in BAD_STATES and 0 < tried < task.max_attempts and not self._cancelled:
            delay = task.retry_delay_s * 2.0 ** (tried - 1)
            heappush(self._timers, (now + delay, number))
            self._states[task.id] = TaskState.READY
            decisions.append(Retry(task=task.id, attempt=attempt, outcome=outcome, retry_in_s=delay))
            self._timer_due(now)  # a delay of 0 is due
        else:
            self._end(number, attempt, outcome, now, decisions)

    def _put_back(self, happened: PutBack, now: float, decisions: list[Decision]) -> None:
        number, attempt = self._stopped(happened.task, happened.outcome)
        self._leave_order()
        if self._cancelled:
            self._end(number, attempt, happened.outcome, now, decisions)
            return
        self._spared[number] += 1
        self._aside[number] = happened.outcome.reason
        self._states[happened.task] = TaskState.READY
        decisions.append(Retry(task=happened.task, attempt=attempt, outcome=happened.outcome, retry_in_s=0.0))
        self._dispatcher.offer(number, now)

    def _stopped(self, task: str, outcome: Outcome) -> tuple[int, int]:
        """Take in that the running attempt of `task` is over; gives its number and the attempt's."""
        number = self._number.get(task)
        if number is None or number not in self._running:
            raise ValueError(f"task {task!r} isn't running")
        if outcome.state not in FINAL_STATES:
            raise ValueError(f"an attempt can't end as {outcome.state}")
        self._running.remove(number)
        self._dispatcher.free(number)
        return number, self._attempts[number]

    def _timer_due(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            self._dispatcher.offer(heappop(self._timers)[1], now)

    def _cancel(self, reason: str, now: float, decisions: list[Decision]) -> None:
        if self._cancelled:
            return
        self._cancelled = True
        self._timers.clear()
        outcome = Outcome(state=TaskState.CANCELLED, reason=reason)
        for number, task in enumerate(self._tasks):
            if number in self._running:
                decisions.append(Stop(task=task.id, reason=reason))
            elif self._states[task.id] not in FINAL_STATES:
                self._end(number, 0, outcome, now, decisions)

    def _consider(self, number: int, last_need: int | None, now: float, decisions: list[Decision]) -> Outcome | None:
        """Decide about a task whose needs have all ended: it becomes ready, or gets the outcome given back."""
        task = self._tasks[number]
        needs = [self._tasks[need] for need in self._preds[number]]
        verdict = self._conditions.verdict(task, needs, self._states)
        if verdict is not None:
            return verdict
        self._states[task.id] = TaskState.READY
        freed_by = ""
        if last_need is not None:
            self._last_need[number] = last_need
            freed_by = self._tasks[last_need].id
        decisions.append(Ready(task=task.id, freed_by=freed_by))
        self._dispatcher.offer(number, now)
        return None

    def _end(self, number: int, attempt: int, outcome: Outcome, now: float, decisions: list[Decision]) -> None:
        """Give a task its final state, and those behind it theirs that never run because of it."""
        ended = deque([(number, attempt, outcome)])
        while ended:
            number, attempt, outcome = ended.popleft()
            task = self._tasks[number]
            self._states[task.id] = outcome.state
            self._open -= 1
            self._dispatcher.settle(number)
            if not attempt:
                self._leave_order()
            decisions.append(End(task=task.id, attempt=attempt, outcome=outcome))
            if self._cancelled:
                continue  # nobody is left behind it: all that waited were cancelled
            for successor in self._succs[number]:
                self._missing[successor] -= 1
                if not self._missing[successor]:
                    verdict = self._consider(successor, number, now, decisions)
                    if verdict is not None:
                        ended.append((successor, 0, verdict))

    def _compare(self, number: int, outcome: Outcome) -> None:
        """Follow the plan's order only as long as its durations hold: an order made for others loses to the ranks."""
        off = abs(outcome.duration_s - self._durations[number])
        if outcome.state is not TaskState.SUCCEEDED or off > ORDER_SHARE * self._durations[number] + ORDER_S:
            self._leave_order()

    def _leave_order(self) -> None:
        if self._in_order:
            self._in_order = False
            self._dispatcher.forget_order()

    def _start(self, number: int, now: float) -> Start:
        task = self._tasks[number]
        self._attempts[number] += 1
        self._states[task.id] = TaskState.RUNNING
        self._running.add(number)
        wait = self._dispatcher.wait_of(number, now)
        reason, freed_by = wait.reason, wait.freed_by
        if number in self._aside:
            why = self._aside.pop(number)
            reason = f"{why}; {reason}" if reason else why
        elif not reason and self._attempts[number] > self._begun_before[number] + 1:
            reason = f"attempt {self._attempts[number]}: waited out the delay before a retry"
        elif not reason and (need := self._last_need.get(number)) is not None:
            reason, freed_by = f"needs {self._tasks[need].id}", need
        return Start(
            task=task.id,
            attempt=self._attempts[number],
            queued_s=wait.queued_s,
            wait_reason=reason,
            freed_by="" if freed_by is None else self._tasks[freed_by].id,
        )


def _after(plan: Plan, graph: TaskGraph) -> list[list[int]] | None:
    """The plan's order by number, without tasks that aren't part of this run."""
    if plan.order is None:
        return None
    index = graph.index
    return [[index[other] for other in plan.order.get(task, ()) if other in index] for task in graph.ids]
