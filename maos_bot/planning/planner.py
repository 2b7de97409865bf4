"""From tasks, limits and estimates to a plan: which mode, when each task would run, and why this way (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import (
    Estimate,
    ExecutionMode,
    Limit,
    ParallelStrategy,
    Plan,
    PlannedTask,
    Prediction,
    Task,
)
from maos_bot.planning.analyzer import make_stages, name_stages, places, planned_s
from maos_bot.planning.bounds import lower_bound
from maos_bot.planning.estimates import estimate
from maos_bot.planning.graph import TaskGraph
from maos_bot.planning.improve import improve
from maos_bot.planning.order import order_of
from maos_bot.planning.problem import Problem, build_problem
from maos_bot.planning.schedule import Schedule, gates_of, simulate, simulate_sequential

WORTH_IT: Final = 1.5  # the parallelism factor above which the original system ran in parallel
SURE: Final = 1.15  # estimates whose p90 lies within this factor of their p50 are worth an order
SURE_SAMPLES: Final = 3
_GAIN: Final = 1e-9  # a prediction is shorter if it is so by more than rounding


# Better start times for a problem than those given, and a better lower bound than the one given, both in seconds.
Improver = Callable[[Problem, Sequence[float], float], tuple[Sequence[float], float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeBox:
    """How long a better plan may be looked for: `seconds` on `clock`, which gives seconds and never runs backwards."""

    seconds: float
    clock: Callable[[], float]


def make_plan(
    tasks: Sequence[Task],
    *,
    limits: Mapping[str, Limit],
    mode: ExecutionMode,
    strategy: ParallelStrategy,
    history: Mapping[str, Estimate] | None = None,
    spec_path: str = ".maos.yml",
    time_box: TimeBox | None = None,
    improver: Improver | None = None,
) -> Plan:
    """Plan `tasks` (in the spec's order) under `limits`.

    All modes are predicted with the same estimates and the rules that execution uses; `hybrid` takes the fastest. The
    plan assumes that every task runs once and succeeds. Where all estimates are sure and one pass leaves a gap to the
    lower bound, a better pipelined schedule is looked for within `time_box`, and its order kept in the plan; an
    `improver` goes on from there whatever the estimates are. Raises
    `SpecError` for demands no limit can ever meet, unknown needs and cycles, each with the task's line in `spec_path`.
    """
    expected = [estimate(task, history=history) for task in tasks]
    durations = [planned_s(each, strategy) for each in expected]
    problem = build_problem(tasks, durations=durations, limits=limits, strategy=strategy, spec_path=spec_path)
    graph = problem.graph
    stages = make_stages(tasks, graph, strategy)
    stage_of, group_of = places(len(graph), stages)
    schedules = {
        ExecutionMode.SEQUENTIAL: simulate_sequential(graph),
        ExecutionMode.PARALLEL: simulate(
            problem, ranks=graph.ranks, gates=gates_of(ExecutionMode.PARALLEL, graph, stage_of)
        ),
        ExecutionMode.PIPELINED: simulate(problem, ranks=graph.ranks),
    }
    # The same sum in another order may differ in its last digit: a bound lies below all of them.
    bound = min(lower_bound(problem), *(schedule.makespan for schedule in schedules.values()))
    order = None
    one_pass = schedules[ExecutionMode.PIPELINED]
    pipelines = mode in (ExecutionMode.HYBRID, ExecutionMode.PIPELINED)
    if pipelines and (improver or (time_box and all(map(_is_sure, expected)))):
        staged = schedules[ExecutionMode.PARALLEL]
        schedules[ExecutionMode.PIPELINED], order, bound = _improved(
            problem, (one_pass, staged), bound, time_box, improver
        )
    makespans = {each: schedule.makespan for each, schedule in schedules.items()}
    chosen, because = _choose(mode, makespans, graph.parallelism_factor)
    sequential, makespan = makespans[ExecutionMode.SEQUENTIAL], makespans[chosen]
    if chosen is not ExecutionMode.PIPELINED:
        order = None
    elif order is not None:
        because += f"; one pass by rank: {_time(one_pass.makespan)}"
    return Plan(
        mode=chosen,
        strategy=strategy,
        chosen_because=because,
        stages=tuple(name_stages(tasks, graph, stages)),
        critical_path=tuple([graph.ids[number] for number in graph.critical_path]),
        parallelism_factor=graph.parallelism_factor,
        predicted=Prediction(
            sequential_s=sequential,
            parallel_s=makespans[ExecutionMode.PARALLEL],
            pipelined_s=makespans[ExecutionMode.PIPELINED],
            makespan_s=makespan,
            lower_bound_s=bound,
            speedup=sequential / makespan if makespan > 0 else 1.0,
        ),
        tasks=_placed(graph, schedules[chosen], [each.basis for each in expected], group_of, stage_of),
        limits=limits,
        order=order,
    )


def _is_sure(estimate: Estimate) -> bool:
    known = estimate.basis == "spec" or estimate.samples >= SURE_SAMPLES
    return known and estimate.p90_s <= SURE * estimate.p50_s


def _improved(
    problem: Problem,
    given: tuple[Schedule, Schedule],
    bound: float,
    time_box: TimeBox | None,
    improver: Improver | None,
) -> tuple[Schedule, dict[str, tuple[str, ...]] | None, float]:
    """A schedule shorter than the one pass `given` first, the order that gives it, and the bound.

    The search goes out from the shorter of the two given: the result is never longer than the second, the staged one.
    """
    one_pass, staged = given
    starts: Sequence[float] = (staged if staged.makespan < one_pass.makespan else one_pass).starts
    if one_pass.makespan > bound * (1 + _GAIN):
        if time_box:
            starts = improve(problem, starts, lower_bound_s=bound, seconds=time_box.seconds, clock=time_box.clock)
        if improver:
            starts, bound = improver(problem, starts, bound)
    if starts == one_pass.starts:
        return one_pass, None, bound
    after = order_of(problem, starts)
    found = simulate(problem, ranks=problem.graph.ranks, after=after)
    if found.makespan >= one_pass.makespan * (1 - _GAIN):
        return one_pass, None, bound
    ids = problem.graph.ids
    order = {ids[task]: tuple([ids[each] for each in others]) for task, others in enumerate(after) if others}
    return found, order, min(bound, found.makespan)


def _placed(
    graph: TaskGraph, schedule: Schedule, bases: Sequence[str], group_of: Sequence[int], stage_of: Sequence[int]
) -> dict[str, PlannedTask]:
    """Each task's place, by id in the spec's order."""
    columns = zip(
        graph.ids,
        schedule.starts,
        schedule.finishes,
        graph.slacks,
        graph.durations,
        bases,
        graph.ranks,
        graph.levels,
        group_of,
        stage_of,
        strict=True,
    )
    return {
        task_id: PlannedTask(
            id=task_id,
            start_s=start,
            finish_s=finish,
            slack_s=slack,
            estimate_s=duration,
            basis=basis,
            rank_s=rank,
            level=level,
            group=group,
            stage=stage,
        )
        for task_id, start, finish, slack, duration, basis, rank, level, group, stage in columns
    }


def _choose(asked: ExecutionMode, makespans: Mapping[ExecutionMode, float], factor: float) -> tuple[ExecutionMode, str]:
    """The mode to run in, and why in words with the numbers."""
    sequential = makespans[ExecutionMode.SEQUENTIAL]
    parallel = makespans[ExecutionMode.PARALLEL]
    pipelined = makespans[ExecutionMode.PIPELINED]
    numbers = (
        f"predicted: sequential {_time(sequential)}, parallel {_time(parallel)}, pipelined {_time(pipelined)}; "
        f"parallelism factor {factor:.2f}"
    )
    if asked is not ExecutionMode.HYBRID:
        return asked, f"{asked.value} was asked for ({numbers})"
    if sequential <= 0:
        return ExecutionMode.SEQUENTIAL, f"there is nothing to gain ({numbers})"
    # Of equals pipelined comes first, for it waits at no barrier where an estimate is wrong; then the simplest.
    first = (ExecutionMode.PIPELINED, ExecutionMode.SEQUENTIAL, ExecutionMode.PARALLEL)
    fastest = min(makespans[each] for each in first)
    if sequential <= fastest * (1 + _GAIN):
        why = "under these limits nothing gains on one task at a time"
        if factor <= WORTH_IT:
            why = f"the parallelism factor is at most {WORTH_IT:g} and nothing gains on one task at a time"
        return ExecutionMode.SEQUENTIAL, f"{why} ({numbers})"
    chosen = next(each for each in first if makespans[each] <= fastest * (1 + _GAIN))
    if chosen is ExecutionMode.PIPELINED and parallel <= fastest * (1 + _GAIN):
        return chosen, f"as fast as the fastest, and no task waits at a barrier ({numbers})"
    saved = 100 * (1 - fastest / sequential)
    return chosen, f"the fastest: {saved:.0f} % less time than sequential ({numbers})"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {rest:02d} s"
