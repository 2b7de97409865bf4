"""Improved schedules: always possible, never longer than the one they began with."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from maos_bot.planning.improve import improve
from maos_bot.planning.problem import Problem


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    count = draw(st.integers(2, 12))
    capacities = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    durations = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.25, 7.0]), min_size=count, max_size=count))
    preds = [draw(st.lists(st.integers(0, task - 1), max_size=3, unique=True)) if task else [] for task in range(count)]
    demands = [[draw(st.integers(0, capacity)) for capacity in capacities] for _ in range(count)]
    return Problem.from_numbers(durations, preds, demands, capacities)


@given(problems())
def test_an_improved_schedule_is_possible_and_never_longer(problem: Problem) -> None:
    graph = problem.graph
    one_by_one = [0.0, *itertools.accumulate(graph.durations)][: len(graph)]
    ticks = itertools.count()
    starts = improve(problem, one_by_one, lower_bound_s=0.0, seconds=20, clock=lambda: float(next(ticks)))
    finishes = [start + duration for start, duration in zip(starts, graph.durations, strict=True)]
    assert max(finishes) <= sum(graph.durations) + 1e-6
    for task, needs in enumerate(graph.preds):
        assert all(finishes[need] <= starts[task] + 1e-6 for need in needs)
    for moment in starts:
        running = [
            task for task in range(len(graph)) if starts[task] <= moment + 1e-9 and moment + 1e-6 < finishes[task]
        ]
        for resource, capacity in enumerate(problem.capacities):
            held = sum(dict(problem.classes[problem.class_of[task]]).get(resource, 0) for task in running)
            assert held <= capacity


def test_a_schedule_that_one_pass_gets_wrong_is_mended() -> None:
    # Two slots, tasks of 3, 3, 2, 2 and 2 seconds: in the given order 8 seconds, at best 6.
    problem = Problem.from_numbers([2, 2, 2, 3, 3], [[], [], [], [], []], [[1]] * 5, [2])
    ticks = itertools.count()
    starts = improve(problem, [0, 0, 2, 2, 5], lower_bound_s=6, seconds=200, clock=lambda: float(next(ticks)))
    assert max(start + duration for start, duration in zip(starts, [2, 2, 2, 3, 3], strict=True)) == 6
