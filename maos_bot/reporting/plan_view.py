"""`maos plan` for people and for programs: a table with a text timeline, and the JSON object of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from maos_bot.model import Plan, Task
from maos_bot.reporting.terminal import page, printable, seconds

NARROWEST: Final = 12
_BAR: Final = "█"


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as the object that `maos plan --json` prints (DESIGN section 6); times in seconds."""
    predicted = plan.predicted
    return {
        "mode": str(plan.mode),
        "strategy": str(plan.strategy),
        "chosen_because": plan.chosen_because,
        "stages": [
            {
                "id": stage.id,
                "tasks": list(stage.tasks),
                "team": stage.team,
                "groups": [{"id": group.id, "team": group.team, "tasks": list(group.tasks)} for group in stage.groups],
            }
            for stage in plan.stages
        ],
        "critical_path": list(plan.critical_path),
        "parallelism_factor": plan.parallelism_factor,
        "predicted": {name: getattr(predicted, name) for name in predicted.__slots__},
        "tasks": {
            task.id: {
                "start_s": task.start_s,
                "finish_s": task.finish_s,
                "slack_s": task.slack_s,
                "estimate_s": task.estimate_s,
                "basis": task.basis,
                "level": task.level,
                "stage": task.stage,
                "group": task.group,
            }
            for task in plan.tasks.values()
        },
        "limits": {name: {"value": limit.value, "reason": limit.reason} for name, limit in plan.limits.items()},
    }


def print_plan(plan: Plan, tasks: Sequence[Task], *, title: str) -> None:
    """Print the plan to standard output, as wide as the terminal is."""
    from rich.table import Table
    from rich.text import Text

    console = page()
    critical = set(plan.critical_path)
    table = Table(title=Text(printable(title)), title_justify="left", box=None, pad_edge=False)
    for name in ("stage", "task", "team", "estimate", "slack"):
        table.add_column(name, justify="right" if name in ("estimate", "slack", "stage") else "left", no_wrap=True)
    table.add_column("timeline", ratio=1, no_wrap=True)
    teams = {task.id: task.team for task in tasks}
    used = 30 + max((len(task_id) for task_id in plan.tasks), default=0) + max(map(len, teams.values()), default=0)
    width = max(NARROWEST, min(console.width, 160) - used)
    for planned in sorted(plan.tasks.values(), key=lambda each: (each.start_s, each.finish_s)):
        table.add_row(
            str(planned.stage),
            Text(planned.id, style="bold" if planned.id in critical else ""),
            teams[planned.id],
            seconds(planned.estimate_s),
            "critical" if planned.id in critical else seconds(planned.slack_s),
            bar(planned.start_s, planned.finish_s, plan.predicted.makespan_s, width),
        )
    console.print(table)
    predicted = plan.predicted
    console.print()
    console.print(f"mode           {plan.mode}: {plan.chosen_because}", soft_wrap=True)
    console.print(
        f"predicted      {seconds(predicted.makespan_s)}, {predicted.speedup:.2f} times as fast as one after the other;"
        f" no schedule can be faster than {seconds(predicted.lower_bound_s)}",
        soft_wrap=True,
    )
    console.print(f"critical path  {' > '.join(plan.critical_path)}", soft_wrap=True)
    bases = {planned.basis for planned in plan.tasks.values()}
    console.print(f"estimates      {', '.join(sorted(bases))}", soft_wrap=True)
    for name, limit in plan.limits.items():
        value = "no limit" if limit.value is None else f"{limit.value:g}"
        console.print(f"limit          {name} {value} ({limit.reason})", soft_wrap=True)


def bar(start_s: float, finish_s: float, makespan_s: float, width: int) -> str:
    """A task's place on a time axis of `width` characters; at least one of them."""
    if makespan_s <= 0:
        return _BAR
    first = min(width - 1, int(start_s / makespan_s * width))
    last = max(first + 1, round(finish_s / makespan_s * width))
    return " " * first + _BAR * (last - first)
