"""Slots that come and go while a run goes on, and tasks that are put back: nothing is lost, nothing waits for ever."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from maos_bot.execution.scheduler import (
    AttemptEnded,
    Begin,
    CancelRequested,
    End,
    Facts,
    Input,
    LimitChanged,
    PutBack,
    Retry,
    Scheduler,
    Start,
    TimerDue,
)
from maos_bot.model import AGENTS, ExecutionMode, Outcome, ParallelStrategy, Task, TaskState
from maos_bot.planning.demands import demand_of
from maos_bot.planning.planner import make_plan
from tests.unit.virtual_clock import MODES, Case, cases, limit, often

PUT_BACK = Outcome(state=TaskState.CANCELLED, reason="put back: only 80 MB of memory were left, and it held 900 MB")
OK = Outcome(state=TaskState.SUCCEEDED)


def four(*tasks: Task, slots: float = 4) -> Scheduler:
    plan = make_plan(
        tasks,
        limits={AGENTS: limit(slots)},
        mode=ExecutionMode.PIPELINED,
        strategy=ParallelStrategy.BALANCED,
    )
    return Scheduler(tasks, plan=plan, facts=Facts())


def started(decisions: list[object]) -> list[Start]:
    return [each for each in decisions if isinstance(each, Start)]


def test_a_lowered_limit_holds_back_and_the_wait_says_why() -> None:
    run = four(*(Task(id=name, run="x") for name in "abcdef"))
    assert [each.task for each in started([*run.handle(Begin(), 0)])] == ["a", "b", "c", "d"]
    why = "scaled down from 4: memory pressure 23 %"
    assert run.handle(LimitChanged(AGENTS, 2, why), 1) == []
    assert started([*run.handle(AttemptEnded("a", OK), 2)]) == []
    assert started([*run.handle(AttemptEnded("b", OK), 3)]) == []
    (start,) = started([*run.handle(AttemptEnded("c", OK), 4)])
    assert (start.task, start.freed_by, start.wait_reason) == ("e", "c", f"agents: 2 of 2 busy ({why})")
    (late,) = started([*run.handle(LimitChanged(AGENTS, 4, ""), 5)])
    assert late.task == "f"
    assert late.wait_reason == f"agents: 2 of 2 busy ({why})"


def test_a_task_that_wants_more_than_is_left_runs_alone() -> None:
    run = four(Task(id="a", run="x"), Task(id="big", run="x", demand={AGENTS: 3.0}, needs=("a",)))
    run.handle(Begin(), 0)
    run.handle(LimitChanged(AGENTS, 1, "pressed"), 1)
    assert [each.task for each in started([*run.handle(AttemptEnded("a", OK), 2)])] == ["big"]


def test_a_task_that_was_put_back_runs_again_and_has_all_its_attempts() -> None:
    run = four(Task(id="a", run="x", max_attempts=2, retry_delay_s=1.0), slots=1)
    run.handle(Begin(), 0)
    retry, start = run.handle(PutBack("a", PUT_BACK), 1)
    assert retry == Retry(task="a", attempt=1, outcome=PUT_BACK, retry_in_s=0.0)
    assert start == Start(task="a", attempt=2, wait_reason=PUT_BACK.reason)
    failed = Outcome(state=TaskState.FAILED, reason="exit code 1")
    assert run.handle(AttemptEnded("a", failed), 2) == [Retry(task="a", attempt=2, outcome=failed, retry_in_s=1.0)]
    (again,) = run.handle(TimerDue(), 3)
    assert isinstance(again, Start)
    assert again.wait_reason == "attempt 3: waited out the delay before a retry"
    assert run.handle(AttemptEnded("a", failed), 4) == [End(task="a", attempt=3, outcome=failed)]


def test_a_task_put_back_while_the_run_is_cancelled_stays_ended() -> None:
    run = four(Task(id="a", run="x"))
    run.handle(Begin(), 0)
    run.handle(CancelRequested("stop"), 1)
    assert run.handle(PutBack("a", PUT_BACK), 2) == [End(task="a", attempt=1, outcome=PUT_BACK)]
    assert run.done


@often
@given(cases(), st.sampled_from(MODES), st.integers(0, 2**32))
def test_whatever_comes_and_goes_every_task_ends_once_within_its_attempts(
    case: Case, mode: ExecutionMode, seed: int
) -> None:
    rng = random.Random(seed)
    most = case.limits[AGENTS].value or 3.0
    limits = {**case.limits, AGENTS: limit(most)}
    plan = make_plan(case.tasks, limits=limits, mode=mode, strategy=case.strategy)
    run = Scheduler(case.tasks, plan=plan, facts=Facts())
    demands = {task.id: demand_of(task, limits)[AGENTS] for task in case.tasks}
    by_id = {task.id: task for task in case.tasks}
    running: dict[str, int] = {}
    ends: Counter[str] = Counter()
    put_backs: Counter[str] = Counter()
    allowed, now = most, 0.0
    happened: list[Input] = [Begin()]
    while True:
        for decision in run.handle_all(happened, now):
            if isinstance(decision, Start):
                others = sum(demands[task] for task in running)
                assert not running or others + demands[decision.task] <= allowed
                running[decision.task] = decision.attempt
                assert decision.attempt - put_backs[decision.task] <= by_id[decision.task].max_attempts
            elif isinstance(decision, End):
                ends[decision.task] += 1
        if run.done:
            break
        now += rng.random()
        happened = []
        if rng.random() < 0.3:
            allowed = float(rng.randint(1, max(1, int(most))))
            happened.append(LimitChanged(AGENTS, allowed, "pressed"))
        if running:
            task = rng.choice(sorted(running))
            attempt = running.pop(task)
            if rng.random() < 0.25 and put_backs.total() < 20:
                put_backs[task] += 1
                happened.append(PutBack(task, PUT_BACK))
            else:
                happened.append(AttemptEnded(task, Outcome(state=case.state_of(task, attempt))))
        else:
            assert run.next_timer is not None, "nothing runs, nothing is due, and the run isn't done"
            now = max(now, run.next_timer)
            happened.append(TimerDue())
    assert ends == {task.id: 1 for task in case.tasks}
