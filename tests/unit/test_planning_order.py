"""A better schedule's order: followed, it gives that schedule; left, it costs nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.execution.scheduler import AttemptEnded, Begin, Facts, Scheduler, Start
from maos_bot.model import (
    AGENTS,
    Estimate,
    ExecutionMode,
    Outcome,
    ParallelStrategy,
    Plan,
    Task,
    TaskState,
)
from maos_bot.planning.bounds import lower_bound
from maos_bot.planning.improve import improve
from maos_bot.planning.order import order_of
from maos_bot.planning.planner import TimeBox, make_plan
from maos_bot.planning.problem import Problem
from maos_bot.planning.schedule import simulate
from tests.unit.test_planning_improve import problems
from tests.unit.virtual_clock import limit


def ticking() -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: float(next(ticks))


@given(problems())
def test_following_the_order_gives_a_schedule_that_is_possible_and_no_longer(problem: Problem) -> None:
    graph = problem.graph
    one_pass = simulate(problem, ranks=graph.ranks)
    starts = improve(problem, one_pass.starts, lower_bound_s=0.0, seconds=20, clock=ticking())
    planned = max(start + duration for start, duration in zip(starts, graph.durations, strict=True))
    after = order_of(problem, starts)
    followed = simulate(problem, ranks=graph.ranks, after=after)
    if all(graph.durations):  # a task without duration holds nothing in a schedule, but in a run it must fit
        assert followed.makespan <= planned + 1e-5
    for task, others in enumerate(after):
        assert all(followed.finishes[other] <= followed.starts[task] + 1e-9 for other in others)
        assert not set(others) & set(graph.preds[task])


# On two slots: by rank the long ones side by side first, which makes 7 s; at best 3 + 3 beside 2 + 2 + 2.
SECONDS = {"a": 3.0, "b": 3.0, "c": 2.0, "d": 2.0, "e": 2.0}
LIMITS = {AGENTS: limit(2)}


def planned(basis: str, spread: float = 1.0, seconds: float = 200) -> tuple[list[Task], Plan]:
    tasks = [Task(id=name, run="true") for name in SECONDS]
    history = {
        name: Estimate(p50_s=value, p90_s=value * spread, basis=basis, samples=12) for name, value in SECONDS.items()
    }
    plan = make_plan(
        tasks,
        limits=LIMITS,
        mode=ExecutionMode.PIPELINED,
        strategy=ParallelStrategy.BALANCED,
        history=history,
        time_box=TimeBox(seconds=seconds, clock=ticking()),
    )
    return tasks, plan


def test_a_sure_plan_is_improved_and_says_by_how_much() -> None:
    _, plan = planned("history: 12 runs")
    assert plan.predicted.makespan_s == plan.predicted.lower_bound_s == 6.0
    assert plan.order
    assert plan.chosen_because.endswith("; one pass by rank: 7.0 s")


def test_a_plan_of_guesses_or_of_spread_out_times_stays_by_rank() -> None:
    for basis, spread in (("history of team qa: 12 runs", 2.0), ("history: 12 runs", 1.4)):
        _, plan = planned(basis, spread)
        assert plan.order is None
        assert plan.predicted.makespan_s == 7.0


def test_no_time_means_one_pass() -> None:
    assert planned("spec", seconds=0)[1].order is None


def ran(*, actual: dict[str, float]) -> tuple[float, list[str]]:
    """Play the improved plan with the durations that `actual` says; the makespan and the reasons of waits."""
    tasks, plan = planned("spec")
    scheduler = Scheduler(tasks, plan=plan, facts=Facts(event="", changed=None, unavailable={}))
    running: list[tuple[float, str, float]] = []
    waits, now = [], 0.0
    decisions = scheduler.handle(Begin(), now)
    while True:
        for one in decisions:
            if isinstance(one, Start):
                running.append((now + actual[one.task], one.task, actual[one.task]))
                waits.append(one.wait_reason)
        if not running:
            return now, waits
        now, task, took = min(running)
        running.remove((now, task, took))
        outcome = Outcome(state=TaskState.SUCCEEDED, duration_s=took)
        decisions = scheduler.handle(AttemptEnded(task, outcome), now)


def test_a_run_whose_durations_hold_follows_the_order() -> None:
    makespan, waits = ran(actual=SECONDS)
    assert makespan == 6.0
    assert any(why.startswith(("planned after ", "concurrent-agents")) for why in waits)


@given(st.fixed_dictionaries({name: st.floats(0.5, 6.0) for name in SECONDS}))
def test_a_run_whose_durations_dont_hold_never_waits_for_the_order_with_a_slot_free(actual: dict[str, float]) -> None:
    makespan, _ = ran(actual=actual)
    first = min(actual.values())
    # From the first deviation on it is list scheduling: at most twice the best, counted from then.
    best = max(sum(actual.values()) / 2, *actual.values())
    assert makespan <= first + 2 * best


@given(problems())
def test_the_solver_finds_nothing_longer_and_its_bound_holds(problem: Problem) -> None:
    pytest.importorskip("ortools", reason="OR-tools (the extra `optimal`) is not installed")
    from maos_bot.planning.optimal import Solver

    graph = problem.graph
    one_pass = simulate(problem, ranks=graph.ranks)
    starts, bound = Solver(seconds=2.0, workers=1)(problem, one_pass.starts, lower_bound(problem))
    found = max(start + duration for start, duration in zip(starts, graph.durations, strict=True))
    assert bound <= found + 1e-6 <= one_pass.makespan + 2e-6
    order_of(problem, starts)  # raises where the schedule isn't possible


def test_the_solver_proves_an_optimum_above_the_bound_in_a_moment() -> None:
    pytest.importorskip("ortools", reason="OR-tools (the extra `optimal`) is not installed")
    from maos_bot.planning.optimal import Solver

    # Two slots: the bound is half of all work, 50.6 s, but three tasks have to share one slot.
    problem = Problem.from_numbers([20.2, 20.2, 20.2, 20.3, 20.3], [[], [], [], [], []], [[1]] * 5, [2])
    given = [0.0, 0.0, 20.2, 20.3, 40.4]
    _, bound = Solver(seconds=60.0, workers=1)(problem, given, lower_bound(problem))
    assert bound == pytest.approx(60.6)
