"""Makes the agents of a run ready: what they may, the tasks of its goal, where they begin, and the crew itself."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Final

import click

from maos_bot import crewing
from maos_bot.agents.change import change_since, files_of
from maos_bot.agents.crew import Crew
from maos_bot.agents.places import PlaceError
from maos_bot.agents.planned import PLAN_TITLE, Planned, plan_task
from maos_bot.agents.project_manager import read_tasks
from maos_bot.agents.prompts import shared_prefix
from maos_bot.agents.repository_map import repository_map
from maos_bot.agents.tools import AgentTools
from maos_bot.agents.turns import Turns
from maos_bot.agents.worktrees import Worktrees
from maos_bot.config import Config
from maos_bot.crewing import KEYS, NO_PROVIDER, Models
from maos_bot.errors import MaosError, NothingToDoError
from maos_bot.events import RunEvent, RunStarted, TranscriptAdded
from maos_bot.execution.confined import AgentCommands
from maos_bot.execution.environment import child_environment, secret_values
from maos_bot.frozen import dataclass
from maos_bot.granting import Grant, bounded, tools_of
from maos_bot.model import TOKENS, Budget, Outcome, Spec, Task, TaskKind, TaskState, Trigger
from maos_bot.models.budget import BudgetError
from maos_bot.models.protocol import ProviderError
from maos_bot.planning.graph import build_graph
from maos_bot.redact import Redactor
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.runner import probe

PLAN: Final = "plan"  # the report of the task that plans a goal


@dataclass(frozen=True, kw_only=True, slots=True)
class Staff:
    """What the agents of one run share: models, one account, and the text that all are told."""

    models: Models
    turns: Turns
    prefix: str
    planned: Planned | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GoesOn:
    """What a run that died had of its goal: what a model had said for it."""

    goal_tasks: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hired:
    """A spec with all that its agents need; `staff` is None where none of them can work here."""

    spec: Spec
    staff: Staff | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)


def hire(
    spec: Spec,
    config: Config,
    *,
    trigger: Trigger,
    grant: Grant | None = None,
    repository: str = "",
    goes_on: GoesOn | None = None,
) -> Hired:
    """See to the agents of a run of `spec` that is about to begin, or that `goes_on`.

    A goal is left out of a run that is to do named tasks alone. Raises `NothingToDoError` where the goal is all there
    is, and nobody can plan it.
    """
    grant = grant or Grant()
    models = crewing.models_here(config.root, db=config.db, spec=spec, repository=repository)
    why = refusal(models, grant)
    staff = None if why else staff_of(spec, models, config=config, trigger=trigger)
    reasons: Mapping[str, str] = {}
    if spec.goal and goes_on:
        spec = goal_again(spec, goes_on.goal_tasks)
        staff = replace(staff, planned=Planned(task=spec.tasks[0])) if staff else None
    elif spec.goal and not config.tasks:
        if staff:
            spec, staff, reasons = plan_goal(spec, staff)
        elif spec.tasks:
            spec = _with_goal(spec, _plan_task(spec), ())
        else:
            raise NothingToDoError(f"{spec.path}: nothing to run: its goal needs an agent, and {why}")
    agents = [task for task in spec.tasks if task.kind is TaskKind.AGENT]
    left_out = (
        dict.fromkeys((task.id for task in agents), why) if why else _left_out(agents, models, grant, spec.budget)
    )
    spec = replace(spec, tasks=bounded(spec.tasks, grant))
    return Hired(spec=spec, staff=staff, reasons=reasons, unavailable=left_out)


def refusal(models: Models, grant: Grant) -> str:
    """Why there can be no agents at all; empty where there can."""
    if not grant.agents:
        return f"agents may not run here: {grant.reason}"
    return "" if models.doors else f"{NO_PROVIDER}; {KEYS}"


def _left_out(agents: Sequence[Task], models: Models, grant: Grant, budget: Budget) -> dict[str, str]:
    """Why single agents' tasks can't run, or all of them wait for an approval, by their id."""
    workers = [task for task in agents if task.report != PLAN]
    spend, above = crewing.spend_of(workers, models), budget.approve_above_usd
    if spend and above is not None and not grant.approved and (spend.usd_p50 is None or spend.usd_p50 > above):
        price = "an unknown price" if spend.usd_p50 is None else f"${spend.usd_p50:.2f}"
        why = (
            f"predicted to cost {price}, and `budget.approve-above` is ${above:.2f}: it waits for `/maos approve`, or "
            "here for `maos run --approve`"
        )
        return dict.fromkeys((task.id for task in workers), why)
    idle = [task.id for task in workers if not set(tools_of(task)) & set(grant.tools)]
    return dict.fromkeys(idle, f"none of its tools may be used here, only {', '.join(grant.tools)}")


def staff_of(spec: Spec, models: Models, *, config: Config, trigger: Trigger) -> Staff:
    """What the agents of a run begin with."""
    root = config.root
    change = change_since(root, trigger.base_sha or trigger.sha)
    prefix = shared_prefix(repository_map=repository_map(files_of(root)), change=change)
    per_minute = resolve_limits(spec, config.limits, probe(root))[TOKENS].value
    return Staff(
        models=models,
        turns=crewing.open_turns(spec, models, per_minute),
        prefix=Redactor(secret_values(os.environ)).text(prefix),
    )


def plan_goal(spec: Spec, staff: Staff) -> tuple[Spec, Staff, Mapping[str, str]]:
    """The spec with the tasks of its goal, the planning itself the first of them, and the reason for each.

    A goal that comes to nothing doesn't end the run: that first task fails with the reason, and the others go on.
    """
    pm = _plan_task(spec)
    planned = Planned(task=pm)
    began = time.monotonic()
    known = replace(spec, tasks=(pm, *spec.tasks))
    tasks: tuple[Task, ...] = ()
    reasons: Mapping[str, str] = {}
    state, why = TaskState.SUCCEEDED, ""
    try:
        proposal = asyncio.run(crewing.ask_for_tasks(known, pm, staff.models, staff.turns, staff.prefix, planned.tell))
        tasks, reasons = proposal.tasks, proposal.reasons
    except BudgetError as error:
        state, why = TaskState.SKIPPED, error.message
    except ProviderError as error:
        state, why = TaskState.FAILED, f"{error.fault.value}: {error}"
    except MaosError as error:
        state, why = TaskState.FAILED, str(error)
    planned.outcome = Outcome(state=state, reason=why)
    planned.words = _words(reasons, time.monotonic() - began)
    return _with_goal(spec, pm, tasks), replace(staff, planned=planned), reasons


def goal_again(spec: Spec, stored: str) -> Spec:
    """The spec with the tasks of its goal as a run had them before it died; `stored` is what the model had said last.

    That was no list of tasks where the planning had failed: then there is the failed planning alone.
    """
    pm = _plan_task(spec)
    tasks, _, problems = read_tasks(stored, replace(spec, tasks=(pm, *spec.tasks))) if stored else ((), {}, [])
    return _with_goal(spec, pm, () if problems else tasks)


def _plan_task(spec: Spec) -> Task:
    return plan_task(spec.goal, [task.id for task in spec.tasks])


def _with_goal(spec: Spec, pm: Task, tasks: Sequence[Task]) -> Spec:
    after = [replace(task, needs=tuple(dict.fromkeys((pm.id, *spec.setup, *task.needs)))) for task in tasks]
    return replace(spec, tasks=(pm, *spec.tasks, *after))


def _words(reasons: Mapping[str, str], took_s: float) -> str:
    lines = [f"{name}: {why or 'no reason given'}" for name, why in reasons.items()]
    return "\n".join([*lines, f"Planned before the run began, in {took_s:.1f} s."])


def going_on(started: RunStarted, events: Iterable[RunEvent]) -> GoesOn:
    """What the run that died had of its goal."""
    pm = next((task.id for task in started.tasks if task.name == PLAN_TITLE), "")
    said = [e.text for e in events if isinstance(e, TranscriptAdded) and e.task == pm and e.role == "answered"]
    return GoesOn(goal_tasks=said[-1] if said else "")


def crew_of(
    staff: Staff,
    spec: Spec,
    tasks: Sequence[Task],
    *,
    config: Config,
    patch: Path,
    run_id: str,
    environ: Mapping[str, str],
) -> Crew:
    """The agents of a run, each in a worktree of its own; what they changed is handed over at its end.

    That is a file `patch`, or with the config's `apply` the working tree.
    """
    graph = build_graph(tasks, [1.0] * len(tasks), spec_path=spec.path)
    own = child_environment(environ)
    redactor = Redactor(secret_values(environ))
    commands = AgentCommands(redactor=redactor, environ=environ)
    places = Worktrees(
        config.root,
        run_id=run_id,
        base="",
        order=[tasks[number].id for number in graph.order],
        needs={task.id: task.needs for task in tasks},
        make_tools=lambda task, folder: AgentTools(folder, task, commands=commands, redactor=redactor),
        environ=own,
        commands=commands,
    )
    told = places.ready()  # before a command of the run changes files: what agents start from must not hang on timing
    for notice in () if config.quiet else told:
        click.echo(f"maos: {notice}", err=True)

    async def hand_over() -> None:
        commands.close()
        try:
            await places.close()  # what is in hand is kept, and belongs to what is said
            lines = await handed_over(places, patch, root=config.root, apply=config.apply)
        except (PlaceError, OSError) as error:  # the run is recorded to its end all the same
            lines = [f"what they changed could not be handed over: {error}"]
        for line in (*places.notices[len(told) :], *lines):
            click.echo(f"agents: {line}", err=True)

    return Crew(
        turns=staff.turns,
        places=places,
        choose=staff.models.choose,
        teams=spec.teams,
        prefix=staff.prefix,
        planned=staff.planned,
        deliver=hand_over,
        prices=staff.models.prices,
        usual_turns=staff.models.turns,
    )


async def handed_over(places: Worktrees, patch: Path, *, root: Path, apply: bool) -> list[str]:
    """Hand the result over, and say in words what became of it; nothing where nothing was changed."""
    merged = await places.result()
    if merged is None:
        return []
    said = [f"{each.task} is kept in {each.branch or 'its folder'}: {each.why}" for each in merged.kept]
    if not merged.patch:
        return said
    count = len(merged.files)
    what = f"changed {count} file{'s' if count != 1 else ''}"
    shown = patch.relative_to(root) if patch.is_relative_to(root) else patch
    if apply:
        try:
            await places.apply()
            return [*said, f"{what}, taken into the working tree"]
        except PlaceError as error:
            said.append(str(error))
    patch.parent.mkdir(parents=True, exist_ok=True)
    await places.write_patch(patch)
    return [*said, f"{what}: `git apply {shown}` takes it in"]
