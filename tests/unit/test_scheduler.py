"""What the scheduler decides, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from maos_bot.execution.scheduler import (
    AttemptEnded,
    Begin,
    CancelRequested,
    Decision,
    End,
    Facts,
    Ready,
    Retry,
    Scheduler,
    Start,
    Stop,
    TimerDue,
)
from maos_bot.model import (
    AGENTS,
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
from maos_bot.planning.planner import make_plan
from tests.unit.virtual_clock import FIXED_MODES, drive, limit

S = TaskState


def task(name: str, needs: str = "", **fields: Any) -> Task:
    return Task(id=name, run="true", needs=tuple(needs.split()), **{"estimate_s": 10.0, **fields})


def plan_for(
    tasks: list[Task], mode: ExecutionMode = ExecutionMode.PIPELINED, limits: dict[str, Limit] | None = None
) -> Plan:
    return make_plan(tasks, limits={AGENTS: limit(8), **(limits or {})}, mode=mode, strategy=ParallelStrategy.BALANCED)


def scheduler(tasks: list[Task], **limits: float) -> Scheduler:
    named = {key.replace("_", "-"): limit(value) for key, value in limits.items()}
    return Scheduler(tasks, plan=plan_for(tasks, limits=named), facts=Facts())


def ended(name: str, state: TaskState = S.SUCCEEDED) -> AttemptEnded:
    return AttemptEnded(name, Outcome(state=state))


def states(tasks: list[Task], facts: Facts | None = None, **endings: TaskState) -> dict[str, TaskState]:
    """How the tasks end where those named end so and all others succeed, the same in every mode."""
    all_modes = [
        drive(
            tasks,
            plan_for(tasks, mode),
            facts=facts,
            state_of=lambda name, _: endings.get(name, S.SUCCEEDED),
        ).ends()
        for mode in FIXED_MODES
    ]
    assert all_modes[0] == all_modes[1] == all_modes[2]
    return {name: end.outcome.state for name, end in all_modes[0].items()}


def reason(tasks: list[Task], name: str, /, facts: Facts | None = None, **endings: TaskState) -> str:
    log = drive(tasks, plan_for(tasks), facts=facts, state_of=lambda name, _: endings.get(name, S.SUCCEEDED))
    return log.ends()[name].outcome.reason


def test_a_need_that_ends_lets_the_next_start() -> None:
    running = scheduler([task("a"), task("b", "a")])
    assert running.handle(Begin(), 0) == [Ready(task="a"), Start(task="a", attempt=1)]
    done = Outcome(state=S.SUCCEEDED, duration_s=3)
    assert running.handle(AttemptEnded("a", done), 3) == [
        End(task="a", attempt=1, outcome=done),
        Ready(task="b", freed_by="a"),
        Start(task="b", attempt=1, queued_s=0, wait_reason="needs a", freed_by="a"),
    ]
    assert dict(running.states) == {"a": S.SUCCEEDED, "b": S.RUNNING}
    running.handle(ended("b"), 4)
    assert running.done


def test_a_failure_ends_all_behind_it_as_upstream_failed() -> None:
    tasks = [task("a"), task("b", "a"), task("c", "b"), task("d")]
    assert states(tasks, a=S.FAILED) == {
        "a": S.FAILED,
        "b": S.UPSTREAM_FAILED,
        "c": S.UPSTREAM_FAILED,
        "d": S.SUCCEEDED,
    }
    assert reason(tasks, "b", a=S.FAILED) == "needs a (failed)"
    assert reason(tasks, "c", a=S.TIMED_OUT) == "needs b (upstream_failed)"


def test_many_failed_needs_are_named_and_counted() -> None:
    tasks = [*[task(f"n{number}") for number in range(5)], task("z", "n0 n1 n2 n3 n4")]
    found = reason(tasks, "z", n0=S.FAILED, n1=S.FAILED, n2=S.FAILED, n3=S.FAILED, n4=S.FAILED)
    assert found == "needs n0 (failed), n1 (failed), n2 (failed) and 2 more"


def test_continue_on_error_lets_the_next_run() -> None:
    tasks = [task("a", continue_on_error=True), task("b", "a")]
    assert states(tasks, a=S.FAILED) == {"a": S.FAILED, "b": S.SUCCEEDED}
    assert states(tasks, a=S.TIMED_OUT) == {"a": S.TIMED_OUT, "b": S.SUCCEEDED}


def test_continue_on_error_is_for_own_errors_not_for_those_before() -> None:
    tasks = [task("a"), task("b", "a", continue_on_error=True), task("c", "b")]
    assert states(tasks, a=S.FAILED)["c"] is S.UPSTREAM_FAILED


def test_a_task_for_failures_runs_only_after_one() -> None:
    tasks = [task("a"), task("b", "a"), task("tell", "b", when=When(needs="failed"))]
    assert states(tasks, b=S.FAILED)["tell"] is S.SUCCEEDED
    assert states(tasks, a=S.FAILED)["tell"] is S.SUCCEEDED
    assert states(tasks)["tell"] is S.SKIPPED
    assert reason(tasks, "tell") == "no need failed"


def test_a_task_for_any_end_runs_after_failures_and_skips() -> None:
    tasks = [task("a"), task("b", when=When(events=("push",))), task("clean", "a b", when=When(needs="any"))]
    assert states(tasks, a=S.FAILED)["clean"] is S.SUCCEEDED


def test_a_skip_passes_on_and_a_failure_weighs_more() -> None:
    tasks = [task("off", when=When(events=("push",))), task("a"), task("b", "off"), task("c", "off a")]
    assert states(tasks)["b"] is S.SKIPPED
    assert states(tasks, a=S.FAILED)["c"] is S.UPSTREAM_FAILED


def test_a_skipped_task_still_ends_after_its_needs() -> None:
    tasks = [task("a"), task("b", "a", when=When(events=("push",))), task("c", "b", when=When(needs="any"))]
    log = drive(tasks, plan_for(tasks))
    assert log.starts() == {"a": 0, "c": 10}


def test_events_choose_who_runs() -> None:
    tasks = [task("a", when=When(events=("pull_request", "push")))]
    assert states(tasks, Facts(event="push"))["a"] is S.SUCCEEDED
    assert reason(tasks, "a", Facts(event="schedule")) == "runs on pull_request, push only; this is schedule"


@pytest.mark.parametrize(
    ("patterns", "changed", "runs"),
    [
        (("src/**",), {"src/a/b.py"}, True),
        (("src/**",), {"docs/a.md"}, False),
        (("*.py",), {"deep/down/x.py"}, True),
        (("/*.py",), {"deep/x.py"}, False),
        (("docs/**", "!docs/internal/**"), {"docs/internal/a.md"}, False),
        (("docs/**", "!docs/internal/**"), {"docs/internal/a.md", "docs/b.md"}, True),
        (("src/**",), set(), False),
        (("src/**",), None, True),
    ],
)
def test_changed_paths_choose_who_runs(patterns: tuple[str, ...], changed: set[str] | None, runs: bool) -> None:
    tasks = [task("a", when=When(changed=patterns))]
    facts = Facts(changed=None if changed is None else frozenset(changed))
    assert states(tasks, facts)["a"] is (S.SUCCEEDED if runs else S.SKIPPED)


def test_what_cannot_run_here_is_skipped_with_the_reason_given() -> None:
    tasks = [Task(id="review", agent="Review this."), task("b", "review")]
    facts = Facts(unavailable={"review": "no model provider configured"})
    assert states(tasks, facts) == {"review": S.SKIPPED, "b": S.SKIPPED}
    assert reason(tasks, "review", facts) == "no model provider configured"
    assert reason(tasks, "b", facts) == "needs review (skipped)"


def test_retries_wait_twice_as_long_each_time() -> None:
    running = scheduler([task("a", max_attempts=3, retry_delay_s=2.0)])
    running.handle(Begin(), 0)
    failed = Outcome(state=S.FAILED, exit_code=1)
    assert running.handle(AttemptEnded("a", failed), 1) == [Retry(task="a", attempt=1, outcome=failed, retry_in_s=2)]
    assert running.next_timer == 3
    assert running.states["a"] is S.READY
    assert running.handle(TimerDue(), 2.9) == []
    (again,) = running.handle(TimerDue(), 3.5)
    assert again == Start(task="a", attempt=2, queued_s=0, wait_reason="attempt 2: waited out the delay before a retry")
    assert running.handle(ended("a", S.TIMED_OUT), 5)[0].retry_in_s == 4  # type: ignore[union-attr]
    running.handle(TimerDue(), 9)
    assert running.handle(AttemptEnded("a", failed), 10) == [End(task="a", attempt=3, outcome=failed)]
    assert running.done
    assert running.next_timer is None


def test_a_retry_without_delay_starts_at_once() -> None:
    running = scheduler([task("a", max_attempts=2, retry_delay_s=0.0)])
    running.handle(Begin(), 0)
    kinds = [type(decision) for decision in running.handle(ended("a", S.FAILED), 1)]
    assert kinds == [Retry, Start]


def test_a_cancelled_attempt_is_not_tried_again() -> None:
    tasks = [task("a", max_attempts=3), task("b", "a")]
    assert states(tasks, a=S.CANCELLED) == {"a": S.CANCELLED, "b": S.UPSTREAM_FAILED}


def test_a_backoff_holds_nothing() -> None:
    tasks = [task("a", max_attempts=2, retry_delay_s=5.0, estimate_s=20.0), task("b")]
    running = scheduler(tasks, concurrent_agents=1)
    assert starts(running.handle(Begin(), 0)) == ["a"]
    assert starts(running.handle(ended("a", S.FAILED), 1)) == ["b"]
    assert running.handle(TimerDue(), 6) == []
    (again,) = (each for each in running.handle(ended("b"), 8) if isinstance(each, Start))
    assert (again.queued_s, again.wait_reason, again.freed_by) == (2, "agents: 1 of 1 busy", "b")


def starts(decisions: list[Decision]) -> list[str]:
    return [each.task for each in decisions if isinstance(each, Start)]


def test_cancelling_stops_what_runs_and_ends_the_rest() -> None:
    running = scheduler(
        [task("a"), task("b", "a"), task("c", max_attempts=2, retry_delay_s=9.0), task("d")], concurrent_agents=2
    )
    running.handle(Begin(), 0)
    running.handle(ended("c", S.FAILED), 1)  # c in backoff, d takes its slot
    decisions = running.handle(CancelRequested("the user asked"), 2)
    cancelled = Outcome(state=S.CANCELLED, reason="the user asked")
    assert decisions == [
        Stop(task="a", reason="the user asked"),
        End(task="b", attempt=0, outcome=cancelled),
        End(task="c", attempt=0, outcome=cancelled),
        Stop(task="d", reason="the user asked"),
    ]
    assert running.next_timer is None
    assert running.handle(CancelRequested("again"), 2) == []
    assert running.handle(ended("a", S.CANCELLED), 3) == [End(task="a", attempt=1, outcome=Outcome(state=S.CANCELLED))]
    assert not running.done
    running.handle(ended("d", S.FAILED), 3)  # no retry any more
    assert running.done


def test_cancelling_before_the_beginning_ends_everything() -> None:
    running = scheduler([task("a"), task("b", "a")])
    running.handle(CancelRequested("stop"), 0)
    assert running.done


def test_a_wait_for_memory_is_said_in_numbers() -> None:
    tasks = [task("a", demand={MEMORY: 1348.0}, estimate_s=30.0), task("b", demand={MEMORY: 1024.0})]
    running = scheduler(tasks, memory_mb=2048)
    assert starts(running.handle(Begin(), 0)) == ["a"]
    assert running.handle(ended("a"), 7)[-1] == Start(
        task="b", attempt=1, queued_s=7, wait_reason="memory: 700 of 2048 MB free, wants 1024", freed_by="a"
    )


@pytest.mark.parametrize(
    ("fields", "limits", "said"),
    [
        ({}, {"concurrent_agents": 1.0}, "agents: 1 of 1 busy"),
        ({"demand": {"cpu-percent": 60.0}}, {"cpu_percent": 100.0}, "cpu: 40 of 100 % free, wants 60"),
        ({"demand": {"database": 1.0}}, {"database": 1.0}, "database: 1 of 1 busy"),
        ({"demand": {"gpu": 2.0}}, {"gpu": 3.0}, "gpu: 2 of 3 busy, wants 2"),
        ({"team": "qa"}, {"team:qa": 1.0}, "team qa: 1 of 1 busy"),
    ],
)
def test_every_resource_is_waited_for_in_its_own_words(
    fields: dict[str, Any], limits: dict[str, float], said: str
) -> None:
    running = scheduler([task("a", **fields), task("b", **fields)], **limits)
    running.handle(Begin(), 0)
    last = running.handle(ended("a"), 5)[-1]
    assert isinstance(last, Start)
    assert (last.wait_reason, last.queued_s, last.freed_by) == (said, 5, "a")


def test_who_is_held_back_for_a_larger_task_is_told_so() -> None:
    tasks = [
        task("first", demand={MEMORY: 150.0}, estimate_s=50.0),
        task("big", demand={MEMORY: 200.0}, estimate_s=40.0),  # promised to start at 50
        task("seed", estimate_s=20.0),
        task("late", "seed", demand={MEMORY: 120.0}, estimate_s=39.0),  # fits at 20, but would delay `big` to 59
        task("locked", estimate_s=100.0, demand={"database": 1.0}),
        task("gate", estimate_s=30.0),
        task("urgent", "gate", estimate_s=200.0, demand={"database": 1.0}),  # from 30 on the first in line, until 100
    ]
    log = drive(tasks, plan_for(tasks, limits={MEMORY: limit(300), "database": limit(1)}))
    start = log.start("late")
    assert (start.queued_s, start.freed_by) == (10, "gate")
    assert start.wait_reason == "held back for a larger task that waits for memory-mb"


def test_a_stage_is_waited_for_by_number() -> None:
    tasks = [task("a", estimate_s=30.0), task("b"), task("c", "b")]
    log = drive(tasks, plan_for(tasks, ExecutionMode.PARALLEL))
    start = log.start("c")
    assert (start.queued_s, start.wait_reason, start.freed_by) == (20, "stage 2: waits for stage 1 to end", "a")


def test_sequential_says_that_it_is() -> None:
    tasks = [task("a"), task("b")]
    start = drive(tasks, plan_for(tasks, ExecutionMode.SEQUENTIAL)).start("b")
    assert (start.queued_s, start.wait_reason, start.freed_by) == (10, "one task at a time", "a")


def test_ends_of_one_instant_are_taken_in_before_anything_starts() -> None:
    # Both end at 10; `low` fits after the first of them, but the freed memory belongs to `high`.
    tasks = [
        task("a", demand={MEMORY: 50.0}, estimate_s=100.0),
        task("b", demand={MEMORY: 50.0}, estimate_s=100.0),
        task("high", demand={MEMORY: 100.0}, estimate_s=9.0),
        task("low", demand={MEMORY: 50.0}, estimate_s=5.0),
    ]
    running = scheduler(tasks, memory_mb=100)
    running.handle(Begin(), 0)
    assert starts(running.handle_all([ended("a"), ended("b")], 10)) == ["high"]


def test_an_end_nobody_waits_for_is_a_bug_of_the_driver() -> None:
    running = scheduler([task("a"), task("b", "a")])
    running.handle(Begin(), 0)
    with pytest.raises(ValueError, match="'b' isn't running"):
        running.handle(ended("b"), 1)
    with pytest.raises(ValueError, match="'zzz' isn't running"):
        running.handle(ended("zzz"), 1)
    with pytest.raises(ValueError, match="can't end as running"):
        running.handle(ended("a", S.RUNNING), 1)


def test_a_failure_before_a_very_long_chain_is_passed_on_without_recursion() -> None:
    tasks = [task("t0"), *[task(f"t{number}", f"t{number - 1}") for number in range(1, 20_000)]]
    running = scheduler(tasks)
    running.handle(Begin(), 0)
    assert len(running.handle(ended("t0", S.FAILED), 1)) == 20_000
    assert running.done


def test_a_task_that_waits_longer_than_the_whole_plan_comes_first() -> None:
    # Two chains take a slot each for a hundred times as long as estimated; `wide`, behind both by rank, wants both.
    chains = [
        Task(
            id=f"{name}{step}",
            run="true",
            estimate_s=1,
            needs=(f"{name}{step - 1}",) if step else (),
            demand={"pool": 1},
        )
        for name in "ab"
        for step in range(10)
    ]
    wide = Task(id="wide", run="true", estimate_s=0.1, demand={"pool": 2})
    tasks = [*chains, wide]
    plan = make_plan(
        tasks,
        limits={AGENTS: limit(8), "pool": limit(2)},
        mode=ExecutionMode.PIPELINED,
        strategy=ParallelStrategy.BALANCED,
    )
    assert plan.tasks["wide"].start_s == 10
    log = drive(tasks, plan, duration_of=lambda task: 100.0 if task != "wide" else 0.1)
    assert log.starts()["wide"] == 100
    assert log.start("wide").wait_reason.startswith("pool: ")
