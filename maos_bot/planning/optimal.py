"""The best schedule there is, by OR-tools' CP-SAT solver, with how far from it anything can still be.

Optional: `ortools` comes with the extra `optimal` and is imported nowhere else. The solver is given the best schedule
known so far, so its answer is never longer. It is deterministic only where it ends by itself: how far it gets in a time
box depends on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from maos_bot.errors import ConfigError
from maos_bot.planning.problem import Problem

OPTIMAL_S: Final = 10.0  # the time box where none is asked for
# CP-SAT counts in whole numbers: a run of any length becomes at most this many ticks, the shortest of a millisecond.
_TICKS: Final = 10_000_000
_FINEST_S: Final = 1e-3


class Solver:
    """Looks for the optimum for at most `seconds` on `workers` threads. Raises `ConfigError` without OR-tools."""

    def __init__(self, *, seconds: float, workers: int) -> None:
        try:
            from ortools.sat.python import cp_model
        except ImportError as error:
            raise ConfigError(
                "--optimal needs OR-tools, which isn't installed", hint="pip install 'maos-bot[optimal]'"
            ) from error
        self._cp: Any = cp_model
        self._seconds = seconds
        self._workers = workers

    def __call__(self, problem: Problem, starts: Sequence[float], bound_s: float) -> tuple[Sequence[float], float]:
        """Start times (seconds) no later ending than `starts`, and the proven lower bound, at least `bound_s`."""
        durations = problem.graph.durations
        given = max([start + took for start, took in zip(starts, durations, strict=True)], default=0.0)
        if given <= bound_s or self._seconds <= 0:
            return starts, bound_s
        tick = max(_FINEST_S, given / _TICKS)
        # Rounded up, a schedule in ticks is one in seconds too; a bound in ticks is one in seconds less what that adds.
        ticks = [math.ceil(took / tick - 1e-9) for took in durations]
        exact = all(abs(count * tick - took) < 1e-9 for count, took in zip(ticks, durations, strict=True))
        # Coarser ticks, where all durations are multiples of them, lose nothing, and let the solver prove in a moment
        # what it can't prove in seconds with the finest: 20.2 s and 20.3 s are 202 and 203 of them, not 20,200.
        unit = math.gcd(*ticks)
        if unit > 1:
            tick, ticks = tick * unit, [count // unit for count in ticks]
        model, begins = self._model(problem, ticks, starts, tick)
        solver = self._cp.CpSolver()
        solver.parameters.max_time_in_seconds = self._seconds
        solver.parameters.num_workers = self._workers
        status = solver.solve(model)
        if status not in (self._cp.OPTIMAL, self._cp.FEASIBLE):
            return starts, bound_s
        proven = solver.best_objective_bound * tick - (0.0 if exact else tick * len(durations))
        found = [solver.value(begin) * tick for begin in begins]
        makespan = max([start + took for start, took in zip(found, durations, strict=True)])
        return (found if makespan < given else starts), max(bound_s, proven)

    def _model(
        self, problem: Problem, ticks: Sequence[int], starts: Sequence[float], tick: float
    ) -> tuple[Any, list[Any]]:
        model = self._cp.CpModel()
        horizon = sum(ticks)
        begins = [model.new_int_var(0, horizon, "") for _ in ticks]
        end = model.new_int_var(0, horizon, "")
        spans = [model.new_fixed_size_interval_var(begin, took, "") for begin, took in zip(begins, ticks, strict=True)]
        for task, needs in enumerate(problem.graph.preds):
            for need in needs:
                model.add(begins[task] >= begins[need] + ticks[need])
            if not problem.graph.succs[task]:
                model.add(end >= begins[task] + ticks[task])
            model.add_hint(begins[task], round(starts[task] / tick))
        for resource, capacity in enumerate(problem.capacities):
            held = [dict(problem.classes[number]).get(resource, 0) for number in problem.class_of]
            users = [task for task, amount in enumerate(held) if amount and ticks[task]]
            if sum(held[task] for task in users) > capacity:
                unit = math.gcd(*[held[task] for task in users])
                demands = [held[task] // unit for task in users]
                model.add_cumulative([spans[task] for task in users], demands, capacity // unit)
        model.minimize(end)
        return model, begins
