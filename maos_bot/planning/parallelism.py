"""What of a set of tasks may run side by side: the analyzer of the Python API, over the planner (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from maos_bot.model import AGENTS, ExecutionMode, Limit, ParallelStrategy, Plan
from maos_bot.planning.planner import make_plan
from maos_bot.spec.project import tasks_of

ExecutionPlan = Plan

AT_ONCE: Final = Limit(value=8.0, reason="the original's number of concurrent agents")


class DependencyAnalyzer:
    """Plans tasks by `strategy` under `limits`, by default eight at once and nothing else scarce."""

    def __init__(
        self, strategy: ParallelStrategy = ParallelStrategy.BALANCED, *, limits: Mapping[str, Limit] | None = None
    ) -> None:
        self.strategy = ParallelStrategy(strategy)
        self.limits = dict(limits) if limits is not None else {AGENTS: AT_ONCE}

    def analyze_dependencies(self, tasks: Iterable[Any], mode: ExecutionMode = ExecutionMode.HYBRID) -> ExecutionPlan:
        """The plan for `tasks` (see `maos_bot.spec.project`): stages, groups, schedule, prediction.

        Raises `SpecError` for a cycle, naming its members, and for demands no limit can meet.
        """
        return make_plan(tasks_of(tasks), limits=self.limits, mode=ExecutionMode(mode), strategy=self.strategy)

    def get_parallelism_opportunities(self, tasks: Iterable[Any]) -> dict[str, Any]:
        """What there is to gain by running `tasks` side by side; seconds are predicted from the estimates."""
        plan = self.analyze_dependencies(tasks)
        levels: dict[int, int] = {}
        for task in plan.tasks.values():
            levels[task.level] = levels.get(task.level, 0) + 1
        predicted = plan.predicted
        return {
            "total_tasks": len(plan.tasks),
            "parallelism_factor": plan.parallelism_factor,
            "max_parallel_tasks": max(levels.values(), default=0),
            "stages": len(plan.stages),
            "groups": sum(len(stage.groups) for stage in plan.stages),
            "critical_path": list(plan.critical_path),
            "sequential_s": predicted.sequential_s,
            "parallel_s": predicted.parallel_s,
            "pipelined_s": predicted.pipelined_s,
            "lower_bound_s": predicted.lower_bound_s,
            "estimated_speedup": predicted.speedup,
            "recommended_mode": plan.mode.value,
            "because": plan.chosen_because,
        }
