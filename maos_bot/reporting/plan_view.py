"""`maos plan` for people and for programs: a table with a text timeline, and the JSON object of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from maos_bot.model import Budget, ExecutionMode, Plan, Task
from maos_bot.reporting import words
from maos_bot.reporting.escape import one_line
from maos_bot.reporting.page import page, plain_table, say
from maos_bot.reporting.timeline import BarCell, Span

if TYPE_CHECKING:
    from rich.console import Console

LONGEST_PATH: Final = 16
_ROUNDING: Final = 1e-6


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as the object that `maos plan --json` prints (DESIGN section 6); times in seconds."""
    predicted = plan.predicted
    return {
        "mode": str(plan.mode),
        "strategy": str(plan.strategy),
        "chosen_because": plan.chosen_because,
        "stages": [
            [{"id": group.id, "tasks": list(group.tasks), "team": group.team} for group in stage.groups]
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


def print_plan(
    plan: Plan,
    tasks: Sequence[Task],
    *,
    title: str,
    more: Sequence[tuple[str, str]] = (),
    console: Console | None = None,
) -> None:
    """Print the plan, as wide as the terminal is; to standard output unless `console` says otherwise.

    `more` are further facts, each with its label.
    """
    from rich.text import Text

    console = console or page()
    predicted = plan.predicted
    path = set(plan.critical_path)
    name = one_line(title, limit=100)
    console.print(
        Text.assemble(
            (name, "bold"), f"  {words.number(len(plan.tasks), 'task')} in {words.number(len(plan.stages), 'stage')}"
        )
    )
    console.print()
    table = plain_table(console)
    table.add_column("stage", justify="right")
    table.add_column("task", overflow="fold")
    teams = {task.id: task.team for task in tasks}
    with_teams = any(teams.values())
    if with_teams:
        table.add_column("team", overflow="fold")
    table.add_column("estimate", justify="right", no_wrap=True)
    table.add_column("slack", justify="right", no_wrap=True)
    table.add_column(BarCell(spans=(), total_s=predicted.makespan_s), ratio=1, no_wrap=True)
    for planned in sorted(plan.tasks.values(), key=lambda each: (each.start_s, each.finish_s)):
        critical = planned.id in path
        span = Span(start_s=planned.start_s, finish_s=planned.finish_s)
        table.add_row(
            str(planned.stage + 1),
            Text(planned.id, style="bold" if critical else ""),
            *([Text(teams[planned.id])] if with_teams else []),
            f"{'' if _is_known(planned.basis) else '~'}{words.duration(planned.estimate_s)}",
            Text("critical", style="yellow") if critical else words.duration(planned.slack_s),
            BarCell(spans=(span,), total_s=predicted.makespan_s, style="yellow" if critical else "blue"),
        )
    console.print(table)
    console.print()
    for label, text in (*_facts(plan), *more):
        say(console, Text.assemble((f"{label:<15}", "dim"), text))


def spend_facts(
    *,
    tokens: tuple[int, int],
    usd: tuple[float, float] | None,
    agents: int,
    defaults: int,
    models: Sequence[str],
    budget: Budget,
    reasons: Mapping[str, str],
) -> list[tuple[str, str]]:
    """What agents will cost, as facts of the plan; pairs are p50 and p90, `usd` is None where a price is unknown."""
    price = "price unknown" if usd is None else f"about ${usd[0]:.2f}, nine times in ten below ${usd[1]:.2f}"
    facts = [
        (
            "agents",
            f"{words.number(agents, 'task')}, {tokens[0]:,} tokens (p90 {tokens[1]:,}), {price}"
            + (f"; {defaults} of them by default figures, not by history (~)" if defaults else ""),
        ),
        ("models", ", ".join(models) or "none is configured"),
    ]
    caps = [f"${budget.usd:.2f}"] if budget.usd is not None else []
    caps += [f"{budget.tokens:,} tokens"] if budget.tokens is not None else []
    over = usd is not None and budget.usd is not None and usd[0] > budget.usd
    over = over or (budget.tokens is not None and tokens[0] > budget.tokens)
    facts.append(("budget", (" and ".join(caps) or "none") + (": less than this is expected to take" if over else "")))
    above = budget.approve_above_usd
    if above is not None:
        waits = usd is None or usd[0] > above
        facts.append(
            (
                "",
                f"a run dearer than ${above:.2f} waits for an approval: {'this one does' if waits else 'not this one'}",
            )
        )
    facts += [
        ("" if place else "reasons", f"{one_line(name, limit=60)}: {one_line(why, limit=300)}")
        for place, (name, why) in enumerate(reasons.items())
    ]
    return facts


def _facts(plan: Plan) -> list[tuple[str, str]]:
    predicted = plan.predicted
    modes = {
        ExecutionMode.SEQUENTIAL: predicted.sequential_s,
        ExecutionMode.PARALLEL: predicted.parallel_s,
        ExecutionMode.PIPELINED: predicted.pipelined_s,
    }
    said = ", ".join(
        f"{mode} {words.duration(value)}{' (chosen)' if mode is plan.mode else ''}" for mode, value in modes.items()
    )
    path = list(plan.critical_path)
    if len(path) > LONGEST_PATH:
        path[LONGEST_PATH // 2 : -LONGEST_PATH // 2] = [f"({len(path) - LONGEST_PATH:,} more)"]
    guessed = sum(1 for task in plan.tasks.values() if not _is_known(task.basis))
    best = f"{words.duration(predicted.makespan_s)}, {words.times(predicted.speedup)} as fast as one after the other"
    best += f"; no schedule can beat {words.duration(predicted.lower_bound_s)}"
    over = predicted.makespan_s / predicted.lower_bound_s - 1 if predicted.lower_bound_s > 0 else 0.0
    best += f" (at most {100 * over:.2g} % to gain)" if over > _ROUNDING else ": this is the optimum"
    facts = [
        ("mode", f"{plan.mode}, {plan.strategy}: {one_line(plan.chosen_because, limit=400)}"),
        ("predicted", said),
        ("makespan", best),
        (
            "starts",
            "in the planned order while durations hold, else by rank"
            if plan.order
            else "by rank: the longest way to the end first",
        ),
        ("parallelism", f"{plan.parallelism_factor:.2f} (work over critical path)"),
        ("critical path", " > ".join(path) or "none"),
    ]
    if guessed:
        facts.append(
            ("estimates", f"{guessed:,} of {len(plan.tasks):,} are defaults (~): an `estimate` in the spec is better")
        )
    for place, (name, limit) in enumerate(plan.limits.items()):
        value = "none" if limit.value is None else f"{limit.value:g}"
        facts.append(("" if place else "limits", f"{name} {value}  ({limit.reason})"))
    return facts


def _is_known(basis: str) -> bool:
    return not basis.startswith("default")
