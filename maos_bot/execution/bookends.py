"""How a run's stream begins and ends: what its first event says of spec, plan and machine, and what it all came to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from maos_bot._version import __version__
from maos_bot.errors import ExitCode
from maos_bot.events import TaskInfo
from maos_bot.model import BAD_STATES, Plan, PlannedTask, RunStatus, Spec, Task, TaskState, Trigger

_NAMED = 5  # failed tasks the reason names


def beginning(
    spec: Spec, tasks: Collection[Task], *, plan: Plan, trigger: Trigger, root: Path, redact: Callable[[str], str]
) -> dict[str, Any]:
    """The fields of `RunStarted`; `redact` takes secrets out of what users wrote."""
    system = os.uname()
    return {
        "name": redact(spec.name),
        "spec_path": spec.path,
        "spec_digest": spec.digest,
        "spec_text": redact(spec.text),
        "mode": plan.mode.value,
        "strategy": plan.strategy.value,
        "chosen_because": plan.chosen_because,
        "trigger": trigger,
        "tasks": tuple([_info(task, plan.tasks[task.id], redact) for task in tasks]),
        "critical_path": plan.critical_path,
        "parallelism_factor": plan.parallelism_factor,
        "predicted": {name: getattr(plan.predicted, name) for name in plan.predicted.__slots__},
        "limits": {name: limit.value for name, limit in plan.limits.items()},
        "budget": {"usd": spec.budget.usd, "tokens": spec.budget.tokens},
        "machine": {
            "system": system.sysname,
            "machine": system.machine,
            "cpus": str(os.cpu_count()),
            "root": redact(str(root)),
        },
        "version": __version__,
    }


def verdict(
    tasks: Collection[Task],
    states: Mapping[str, TaskState],
    *,
    ran: bool,
    cancelled: str = "",
    over_budget: str = "",
    bug: Exception | None = None,
) -> tuple[RunStatus, int, str]:
    """A run's status, exit code and reason, from the final state of each task; `ran` is whether any was started.

    `over_budget` says which cap kept tasks from running to their end, where one did.
    """
    if bug:
        return RunStatus.FAILED, ExitCode.BUG, f"internal error: {type(bug).__name__}: {bug}"
    if cancelled and TaskState.CANCELLED in states.values():
        return RunStatus.CANCELLED, ExitCode.INTERRUPTED, cancelled
    failed = [task.id for task in tasks if states[task.id] in BAD_STATES and not task.continue_on_error]
    if failed:
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        return RunStatus.FAILED, ExitCode.TASK_FAILED, f"failed: {', '.join(failed[:_NAMED])}{more}"
    if over_budget:
        return RunStatus.OVER_BUDGET, ExitCode.OVER_LIMIT, over_budget
    if not ran and TaskState.CACHED not in states.values():
        why = ", ".join(f"{count} {state.value}" for state, count in Counter(states.values()).items())
        return RunStatus.NOTHING, ExitCode.NOTHING_TO_DO, f"nothing ran: {why}" if why else "there is no task"
    return RunStatus.SUCCEEDED, ExitCode.OK, ""


def _info(task: Task, planned: PlannedTask, redact: Callable[[str], str]) -> TaskInfo:
    return TaskInfo(
        id=task.id,
        name=redact(task.name),
        kind=task.kind.value,
        team=task.team,
        needs=task.needs,
        command=redact(task.run or task.agent or ""),
        stage=planned.stage,
        group=planned.group,
        estimate_s=planned.estimate_s,
        basis=planned.basis,
        start_s=planned.start_s,
        finish_s=planned.finish_s,
        slack_s=planned.slack_s,
        max_attempts=task.max_attempts,
        continue_on_error=task.continue_on_error,
        demand=task.demand,
    )
