"""A run without processes: the scheduler driven by a clock that jumps, and random task sets to drive it with."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st

from maos_bot.execution.scheduler import (
    AttemptEnded,
    Begin,
    CancelRequested,
    Decision,
    End,
    Facts,
    Input,
    Scheduler,
    Start,
    Stop,
    TimerDue,
)
from maos_bot.model import (
    AGENTS,
    CPU,
    MEMORY,
    ExecutionMode,
    Limit,
    Outcome,
    ParallelStrategy,
    Plan,
    Task,
    TaskState,
    When,
)

# Three times what other properties get: 300 every day, 6,000 under the profile `deep`.
often = settings(max_examples=3 * settings().max_examples)

MODES = tuple(ExecutionMode)
FIXED_MODES = (ExecutionMode.SEQUENTIAL, ExecutionMode.PARALLEL, ExecutionMode.PIPELINED)


def limit(value: float | None) -> Limit:
    return Limit(value=value, reason="test")


def succeed(task: str, attempt: int) -> TaskState:
    return TaskState.SUCCEEDED


@dataclass(slots=True)
class Log:
    """What happened: each decision with its instant, in order, and the inputs between them."""

    lines: list[tuple[float, Decision | AttemptEnded]] = field(default_factory=list)
    rests: list[tuple[float, int]] = field(default_factory=list)  # (now, lines so far) each time the scheduler waits

    def starts(self) -> dict[str, float]:
        """The last start of each task that ran."""
        return {line.task: at for at, line in self.lines if isinstance(line, Start)}

    def start(self, task: str) -> Start:
        return next(line for _, line in self.lines if isinstance(line, Start) and line.task == task)

    def ends(self) -> dict[str, End]:
        return {line.task: line for _, line in self.lines if isinstance(line, End)}

    def states(self) -> dict[str, TaskState]:
        return {task: end.outcome.state for task, end in self.ends().items()}


def drive(
    tasks: list[Task],
    plan: Plan,
    *,
    facts: Facts | None = None,
    state_of: Callable[[str, int], TaskState] = succeed,
    duration_of: Callable[[str], float] | None = None,
    cancel_at: float | None = None,
) -> Log:
    """Run `tasks` on a virtual clock. Durations are the plan's estimates unless given; a stop takes effect at once."""
    scheduler = Scheduler(tasks, plan=plan, facts=facts or Facts())
    log = Log()
    running: list[tuple[float, int, str, int, float]] = []  # end, number, task, attempt, duration
    stopped: set[str] = set()
    count, now = 0, 0.0

    def carry_out(decisions: list[Decision]) -> list[Input]:
        nonlocal count
        answers: list[Input] = []
        for decision in decisions:
            log.lines.append((now, decision))
            if isinstance(decision, Start):
                seconds = duration_of(decision.task) if duration_of else plan.tasks[decision.task].estimate_s
                count += 1
                heapq.heappush(running, (now + seconds, count, decision.task, decision.attempt, seconds))
            elif isinstance(decision, Stop):
                stopped.add(decision.task)
                answers.append(AttemptEnded(decision.task, Outcome(state=TaskState.CANCELLED, reason=decision.reason)))
        return answers

    inputs: list[Input] = [Begin()]
    while True:
        log.lines += [(now, one) for one in inputs if isinstance(one, AttemptEnded)]
        inputs = carry_out(scheduler.handle_all(inputs, now))
        log.rests.append((now, len(log.lines)))
        if inputs:
            continue
        running = [entry for entry in running if entry[2] not in stopped]
        heapq.heapify(running)
        events = [running[0][0]] if running else []
        if scheduler.next_timer is not None:
            events.append(scheduler.next_timer)
        if not events:
            break
        if cancel_at is not None and cancel_at <= min(events):
            now, cancel_at = max(now, cancel_at), None
            inputs = [CancelRequested("the user asked")]
            continue
        now = min(events)
        inputs = [TimerDue()] if scheduler.next_timer is not None and scheduler.next_timer <= now else []
        while running and running[0][0] <= now:
            _, _, task, attempt, seconds = heapq.heappop(running)
            inputs.append(AttemptEnded(task, Outcome(state=state_of(task, attempt), duration_s=seconds)))
    assert scheduler.done, f"deadlock: {dict(scheduler.states)}"
    assert dict(scheduler.states) == log.states()
    return log


# --- random task sets ---

DEMANDS: Mapping[str, tuple[float, ...]] = {
    MEMORY: (0, 0, 100, 300.5, 512, 1000),
    CPU: (0, 0, 10, 33.3, 50, 80),
    "database": (0, 0, 0, 1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A random task set, limits every one of its tasks fits in, and what each attempt will come to."""

    tasks: list[Task]
    limits: dict[str, Limit]
    strategy: ParallelStrategy
    states: dict[tuple[str, int], TaskState]

    def state_of(self, task: str, attempt: int) -> TaskState:
        return self.states.get((task, attempt), TaskState.SUCCEEDED)


def cases(*, failures: bool = True, largest: int = 14) -> st.SearchStrategy[Case]:
    """Task sets whose order in the spec isn't the order of their needs.

    Only size and seed are hypothesis' choice, the rest follows from the seed: a hundred times faster than drawing each
    need and demand, and a failing case still shrinks to few tasks.
    """
    return st.builds(make_case, st.integers(0, largest), st.integers(0, 2**32), failures=st.just(failures))


def make_case(count: int, seed: int, *, failures: bool) -> Case:
    """The random task set of `count` tasks that `seed` stands for."""
    rng = random.Random(seed)
    whole = rng.random() < 0.5  # whole seconds: many things end at one instant
    endings = [TaskState.SUCCEEDED] * 3 + [TaskState.FAILED, TaskState.TIMED_OUT, TaskState.CANCELLED]
    tasks: list[Task] = []
    states: dict[tuple[str, int], TaskState] = {}
    for number in range(count):
        demand = {resource: rng.choice(amounts) for resource, amounts in DEMANDS.items()}
        seconds = float(rng.randint(0, 4)) if whole else rng.uniform(0, 100)
        task = Task(
            id=f"t{number}",
            run="true" * rng.randint(1, 40),
            needs=tuple(f"t{need}" for need in rng.sample(range(number), min(number, rng.randint(0, 3)))),
            team=rng.choice(["", "qa", "backend"]),
            estimate_s=rng.choice([None, seconds, seconds]),
            demand={resource: amount for resource, amount in demand.items() if amount},
        )
        if failures:
            task = _with_conditions(rng, task)
            states |= {(task.id, attempt): rng.choice(endings) for attempt in range(1, task.max_attempts + 1)}
        tasks.append(task)
    rng.shuffle(tasks)
    limits = {
        AGENTS: limit(rng.choice([None, 1, 2, 3, 5])),
        MEMORY: limit(rng.choice([None, 1000, 1024.25, 2048])),
        CPU: limit(rng.choice([80, 100])),
        "database": limit(rng.randint(1, 2)),
        "team:qa": limit(rng.randint(1, 3)),
    }
    return Case(tasks=tasks, limits=limits, strategy=rng.choice(list(ParallelStrategy)), states=states)


def _with_conditions(rng: random.Random, task: Task) -> Task:
    return replace(
        task,
        max_attempts=rng.randint(1, 3),
        retry_delay_s=rng.choice([0.0, 0.5, 2.0]),
        continue_on_error=rng.random() < 0.3,
        when=When(
            needs=rng.choice(["succeeded", "succeeded", "succeeded", "failed", "any"]),
            events=rng.choice([(), (), (), ("pull_request",), ("local",)]),
        ),
    )
