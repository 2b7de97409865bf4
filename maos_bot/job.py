"""From a spec to a job: which of its tasks are to run, what they need of agents, and the plan for them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from maos_bot.config import Config
from maos_bot.errors import ConfigError, ExitCode, NothingToDoError, StoreError
from maos_bot.frozen import dataclass
from maos_bot.model import TOKENS, Estimate, Limit, Plan, Spec, Task, TaskKind, Trigger
from maos_bot.planning.planner import Improver, TimeBox, make_plan
from maos_bot.planning.writes import in_writing_order
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.runner import probe
from maos_bot.spec.load import load_spec

if TYPE_CHECKING:
    from maos_bot.agents.pricing import Spend
    from maos_bot.granting import Grant
    from maos_bot.hiring import GoesOn, Staff

PLAN_TIME_S: Final = 0.1  # how long planning may look for a better schedule
_MOST_NAMED: Final = 10  # tasks in an error's words


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A spec, which of its tasks are to run, and the plan for them."""

    spec: Spec
    tasks: tuple[Task, ...]
    limits: Mapping[str, Limit]
    plan: Plan
    reasons: Mapping[str, str] = field(default_factory=dict)  # of the tasks that a goal became
    unavailable: Mapping[str, str] = field(default_factory=dict)  # why tasks can't be done here, by their id
    staff: Staff | None = None  # of the agents, where there are any who can work
    notices: tuple[str, ...] = ()  # what planning changed, in words


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """What a run that is about to begin says of itself to its agents; without a grant they may what the spec says."""

    trigger: Trigger
    grant: Grant | None = None
    goes_on: GoesOn | None = None  # of a run that died


def prepare(config: Config, *, repository: str = "", beginning: Beginning | None = None) -> Job:
    """Read the spec, choose its tasks and plan them, with the history of `repository` (empty: of runs by hand).

    Only for a `beginning` a model is asked for the tasks of the spec's goal, and agents are made ready.
    Raises `SpecError`, `ConfigError`, or `NothingToDoError`.
    """
    spec = load_spec(config.spec)
    reasons: Mapping[str, str] = {}
    unavailable: Mapping[str, str] = {}
    staff: Staff | None = None
    if beginning and (spec.goal or any(task.kind is TaskKind.AGENT for task in spec.tasks)):
        from maos_bot.hiring import hire

        hired = hire(
            spec,
            config,
            trigger=beginning.trigger,
            grant=beginning.grant,
            repository=repository,
            goes_on=beginning.goes_on,
        )
        spec, reasons, unavailable, staff = hired.spec, hired.reasons, hired.unavailable, hired.staff
    elif config.goal:
        from maos_bot import crewing

        models = crewing.models_here(config.root)
        rate = resolve_limits(spec, config.limits, probe(config.root))[TOKENS].value
        proposal = crewing.tasks_of_goal(spec, config.goal, models, root=config.root, most_tokens_per_minute=rate)
        spec, reasons = crewing.with_tasks(spec, proposal), proposal.reasons
    tasks = _chosen(spec.tasks, config.tasks)
    if not tasks:
        why = "`maos plan --goal TEXT` asks a model for tasks" if spec.goal else "it has no task"
        raise NothingToDoError(f"{spec.path}: nothing to run: {why}", hint="add a task with `run:`")
    tasks, ordered = in_writing_order(tasks)
    limits = resolve_limits(spec, config.limits, probe(config.root))
    plan = make_plan(
        tasks,
        limits=limits,
        mode=config.mode or spec.mode,
        strategy=config.strategy or spec.strategy,
        history=_history(config.db, tasks, repository),
        spec_path=spec.path,
        time_box=TimeBox(
            seconds=PLAN_TIME_S if config.plan_time_s is None else config.plan_time_s, clock=time.monotonic
        ),
        improver=_solver(config) if config.optimal else None,
    )
    return Job(
        spec=spec,
        tasks=tasks,
        limits=limits,
        plan=plan,
        reasons=reasons,
        notices=tuple(str(overlap) for overlap in ordered),
        unavailable=unavailable,
        staff=staff,
    )


def _solver(config: Config) -> Improver:
    from maos_bot.planning.optimal import OPTIMAL_S, Solver

    seconds = OPTIMAL_S if config.plan_time_s is None else config.plan_time_s
    return Solver(seconds=seconds, workers=len(os.sched_getaffinity(0)))


def _history(db: Path, tasks: Sequence[Task], repository: str) -> dict[str, Estimate]:
    """What the database says of these tasks; nothing where there is none, or none that can be read."""
    if not db.is_file():
        return {}
    from maos_bot.store.baselines import history_of
    from maos_bot.store.queries import Queries

    try:
        with contextlib.closing(Queries(db)) as queries:
            return history_of(queries, tasks, repository=repository)
    except StoreError as error:
        click.echo(f"maos: planned without history: {error}", err=True)
        return {}


def _chosen(tasks: tuple[Task, ...], wanted: Sequence[str]) -> tuple[Task, ...]:
    """The tasks named, with all they need, in the spec's order; a matrix task's base id names all its variants."""
    if not wanted:
        return tasks
    by_id = {task.id: task for task in tasks}
    todo = []
    for name in wanted:
        variants = [task.id for task in tasks if task.matrix and task.id.startswith(f"{name}.")]
        found = [name] if name in by_id else variants
        if not found:
            import difflib

            near = difflib.get_close_matches(name, by_id, n=1)
            known = ", ".join(list(by_id)[:_MOST_NAMED]) + (", ..." if len(by_id) > _MOST_NAMED else "")
            hint = f"did you mean {near[0]}?" if near else f"there are {known}"
            raise ConfigError(f"--task {name}: there is no such task", hint=hint)
        todo += found
    chosen: set[str] = set()
    while todo:
        task_id = todo.pop()
        if task_id not in chosen:
            chosen.add(task_id)
            todo += by_id[task_id].needs
    return tuple(task for task in tasks if task.id in chosen)


def show_plan(config: Config, *, mermaid: bool = False) -> int:
    """Print the plan as a table, JSON or a mermaid diagram."""
    job = prepare(config)
    if mermaid:
        from maos_bot.reporting.mermaid import graph_of_plan

        click.echo(graph_of_plan(job.tasks, job.plan))
    elif config.json:
        from maos_bot.reporting.plan_view import plan_json

        shown = plan_json(job.plan) | {"notices": list(job.notices)} | _spend_json(job, config)
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        from maos_bot.reporting.plan_view import print_plan

        notices = [("" if place else "ordered", notice) for place, notice in enumerate(job.notices)]
        more = [*notices, *_spend_facts(job, config)]
        print_plan(job.plan, job.tasks, title=job.spec.name or job.spec.path, more=more)
    return ExitCode.OK


def _spend(job: Job, config: Config) -> Spend | None:
    """What the plan's agents will use; None where it has none."""
    if not any(task.kind is TaskKind.AGENT for task in job.tasks):
        return None
    from maos_bot import crewing

    return crewing.spend_of(job.tasks, crewing.models_here(config.root, db=config.db, spec=job.spec))


def _spend_json(job: Job, config: Config) -> dict[str, Any]:
    spend = _spend(job, config)
    if spend is None:
        return {}
    budget = job.spec.budget
    price = {name: getattr(spend, name) for name in spend.__slots__}
    caps = {"usd": budget.usd, "tokens": budget.tokens, "approve_above_usd": budget.approve_above_usd}
    return {"price": price, "budget": caps, "reasons": dict(job.reasons)}


def _spend_facts(job: Job, config: Config) -> list[tuple[str, str]]:
    spend = _spend(job, config)
    if spend is None:
        return []
    from maos_bot.reporting.plan_view import spend_facts

    return spend_facts(
        tokens=(spend.tokens_p50, spend.tokens_p90),
        usd=None if spend.usd_p50 is None or spend.usd_p90 is None else (spend.usd_p50, spend.usd_p90),
        agents=spend.tasks,
        defaults=spend.defaults,
        models=spend.models,
        budget=job.spec.budget,
        reasons=job.reasons,
    )
