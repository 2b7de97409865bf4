"""What holds for every plan: random task sets against networkx, naive definitions and the bound."""

from __future__ import annotations

import itertools
from dataclasses import replace

import networkx as nx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maos_bot.model import ExecutionMode, ParallelStrategy
from maos_bot.planning.analyzer import PACKING
from maos_bot.planning.bounds import lower_bound
from maos_bot.planning.planner import TimeBox, make_plan
from maos_bot.planning.problem import Problem, build_problem
from maos_bot.planning.schedule import gates_of, simulate, simulate_sequential
from tests.unit.virtual_clock import FIXED_MODES, MODES, Case, cases, drive, make_case, often


def problem_of(case: Case) -> Problem:
    durations = [task.estimate_s or 0.0 for task in case.tasks]
    return build_problem(case.tasks, durations=durations, limits=case.limits, strategy=case.strategy)


@often
@given(cases(failures=False), st.sampled_from(MODES))
def test_the_plan_puts_no_task_before_or_beside_its_needs(case: Case, mode: ExecutionMode) -> None:
    plan = make_plan(case.tasks, limits=case.limits, mode=mode, strategy=case.strategy)
    for task in case.tasks:
        placed = plan.tasks[task.id]
        for need in task.needs:
            assert plan.tasks[need].finish_s <= placed.start_s
            assert plan.tasks[need].stage < placed.stage
            assert plan.tasks[need].level < placed.level
    staged = [task for stage in plan.stages for task in stage.tasks]
    assert sorted(staged) == sorted(task.id for task in case.tasks)


@often
@given(cases(failures=False))
def test_groups_and_stages_are_no_larger_than_the_strategy_allows(case: Case) -> None:
    plan = make_plan(case.tasks, limits=case.limits, mode=ExecutionMode.HYBRID, strategy=case.strategy)
    packing = PACKING[case.strategy]
    teams = {task.id: task.team for task in case.tasks}
    for stage in plan.stages:
        assert 1 <= len(stage.groups) <= packing.groups_at_once
        for group in stage.groups:
            assert 1 <= len(group.tasks) <= packing.group_size
            assert {teams[task] for task in group.tasks} == {group.team}
            assert {plan.tasks[task].level for task in group.tasks} == {group.level}
            assert {plan.tasks[task].group for task in group.tasks} == {group.id}


@often
@given(cases(failures=False))
@example(make_case(5, 1772, failures=False))  # stages with barriers are the fastest, though little is parallel
def test_no_prediction_beats_the_lower_bound_and_hybrid_takes_the_shortest(case: Case) -> None:
    plan = make_plan(case.tasks, limits=case.limits, mode=ExecutionMode.HYBRID, strategy=case.strategy)
    predicted = plan.predicted
    bound = lower_bound(problem_of_plan(case))
    shortest = min(predicted.sequential_s, predicted.parallel_s, predicted.pipelined_s)
    assert bound <= shortest * (1 + 1e-9)
    assert predicted.lower_bound_s <= shortest
    assert plan.mode is not ExecutionMode.HYBRID
    assert predicted.makespan_s == pytest.approx(shortest)


@often
@given(cases(failures=False), st.integers(1, 8))
@example(make_case(5, 1772, failures=False), 1)
@example(make_case(12, 230, failures=False), 1)  # what starts when another ends does so in whole microseconds too
def test_a_plan_that_was_looked_for_is_never_longer_than_one_pass_or_the_stages(case: Case, looks: int) -> None:
    tasks = [replace(task, estimate_s=task.estimate_s or 1.0) for task in case.tasks]  # sure of all of them
    instants = itertools.count()
    plan = make_plan(
        tasks,
        limits=case.limits,
        mode=ExecutionMode.PIPELINED,
        strategy=case.strategy,
        time_box=TimeBox(seconds=looks, clock=lambda: float(next(instants))),
    )
    without = make_plan(tasks, limits=case.limits, mode=ExecutionMode.PIPELINED, strategy=case.strategy).predicted
    assert plan.predicted.lower_bound_s <= plan.predicted.makespan_s
    assert plan.predicted.makespan_s <= min(without.pipelined_s, without.parallel_s) * (1 + 1e-9)
    lines = drive(tasks, plan).lines
    assert not lines or lines[-1][0] == plan.predicted.makespan_s


def problem_of_plan(case: Case) -> Problem:
    plan = make_plan(case.tasks, limits=case.limits, mode=ExecutionMode.PIPELINED, strategy=case.strategy)
    durations = [plan.tasks[task.id].estimate_s for task in case.tasks]
    return build_problem(case.tasks, durations=durations, limits=case.limits, strategy=case.strategy)


@often
@given(cases(failures=False))
def test_graph_figures_are_those_of_networkx(case: Case) -> None:
    graph = problem_of(case).graph
    digraph = graph.digraph
    names = graph.ids
    for level, members in enumerate(nx.topological_generations(digraph)):
        assert {graph.levels[graph.index[name]] for name in members} == {level}
    ends: dict[str, float] = {}
    for name in nx.topological_sort(digraph):
        ends[name] = digraph.nodes[name]["duration"] + max(
            (ends[need] for need in digraph.predecessors(name)), default=0
        )
    assert graph.span == pytest.approx(max(ends.values(), default=0.0))
    path = [names[number] for number in graph.critical_path]
    assert all(digraph.has_edge(need, task) for need, task in itertools.pairwise(path))
    assert sum(digraph.nodes[name]["duration"] for name in path) == pytest.approx(graph.span)
    assert all(graph.slacks[number] == 0 for number in graph.critical_path)
    assert min(graph.slacks, default=0.0) >= 0
    for number, name in enumerate(names):
        assert {names[other] for other in graph.ancestors(number)} == nx.ancestors(digraph, name)
        assert {names[other] for other in graph.descendants(number)} == nx.descendants(digraph, name)
    expected = nx.lexicographical_topological_sort(digraph, key=graph.index.__getitem__)
    assert [names[number] for number in graph.order] == list(expected)


@often
@given(cases(failures=False))
def test_the_lower_bound_is_the_one_defined(case: Case) -> None:
    problem = problem_of(case)
    assert lower_bound(problem) == pytest.approx(_bound_by_definition(problem), rel=1e-6)
    simple = lower_bound(problem, exact_up_to=0)
    assert simple <= lower_bound(problem) * (1 + 1e-9)


def _bound_by_definition(problem: Problem) -> float:
    graph = problem.graph
    best = graph.span
    for resource, capacity in enumerate(problem.capacities):
        work = [
            duration * dict(problem.classes[number]).get(resource, 0) / capacity
            for duration, number in zip(graph.durations, problem.class_of, strict=True)
        ]
        heads, tails = [0.0] * len(graph), [0.0] * len(graph)
        for task in graph.order:
            ways = [heads[need] + graph.durations[need] for need in graph.preds[task]]
            heads[task] = max([sum(work[other] for other in graph.ancestors(task)), *ways])
        for task in reversed(graph.order):
            ways = [tails[other] + graph.durations[other] for other in graph.succs[task]]
            tails[task] = max([sum(work[other] for other in graph.descendants(task)), *ways])
        through = [sum(parts) for parts in zip(heads, graph.durations, tails, strict=True)]
        best = max([best, sum(work), *through])
    return best


@often
@given(cases(failures=False))
def test_the_sequential_short_cut_is_the_simulation(case: Case) -> None:
    problem = problem_of(case)
    gates = gates_of(ExecutionMode.SEQUENTIAL, problem.graph, [])
    assert simulate(problem, ranks=problem.graph.ranks, gates=gates) == simulate_sequential(problem.graph)


@often
@given(cases(failures=False, largest=40), st.sampled_from(FIXED_MODES), st.sampled_from(list(ParallelStrategy)))
def test_planning_twice_gives_the_same_plan(case: Case, mode: ExecutionMode, strategy: ParallelStrategy) -> None:
    first, second = (make_plan(case.tasks, limits=case.limits, mode=mode, strategy=strategy) for _ in range(2))
    assert first == second
