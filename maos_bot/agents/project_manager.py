"""The project manager: a goal in, a list of tasks out that passes the same checks as a spec written by hand.

What the model proposes is only ever agent tasks; a `verify` can only be a command that the spec has already, so that no
command made up by a model is run. Errors go back to the model at most twice.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from maos_bot.agents.prompts import as_data
from maos_bot.errors import MaosError, SpecError
from maos_bot.frozen import dataclass
from maos_bot.model import Spec, Task
from maos_bot.models.protocol import Answer, Answered, Asked, Message, Turn
from maos_bot.planning.writes import common_pattern
from maos_bot.spec.load import parse_spec

MOST_TASKS: Final = 12
MOST_DEPTH: Final = 5
ROUNDS: Final = 3  # the first answer, and two that mend it
_KEYS: Final = ("agent", "team", "needs", "tools", "report", "writes", "verify")

Ask = Callable[[Turn], Awaitable[Answer]]


class GoalError(MaosError):
    """The goal came to no task list that can be run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """Tasks for a goal, with the reason for each; `rounds` is how many answers it took."""

    tasks: tuple[Task, ...]
    reasons: Mapping[str, str]
    rounds: int


async def propose(
    goal: str,
    spec: Spec,
    *,
    ask: Ask,
    prefix: str = "",
    most: int = MOST_TASKS,
    too_dear: Callable[[Sequence[Task]], str] | None = None,
) -> Proposal:
    """Ask for the tasks of `goal` until they can be run; `too_dear` says why a list costs too much.

    Raises `GoalError` with what was wrong last, or what `ask` raises.
    """
    messages: list[Message] = [Asked(text=_question(goal, spec, most))]
    problems: list[str] = []
    for number in range(1, ROUNDS + 1):
        turn = Turn(model="", messages=tuple(messages), prefix=prefix, schema=_schema(spec, most), max_tokens=8192)
        answer = await ask(turn)
        tasks, reasons, problems = read_tasks(answer.text, spec, most=most)
        if not problems and too_dear and (why := too_dear(tasks)):
            problems = [why]
        if not problems:
            return Proposal(tasks=tasks, reasons=reasons, rounds=number)
        messages += [
            Answered(text=answer.text),
            Asked(text="That list can't be run. Mend it, and answer with the whole list:\n" + "\n".join(problems[:20])),
        ]
    raise GoalError(
        f"the goal came to no task list that can be run, after {ROUNDS} answers: {'; '.join(problems[:5])}",
        hint="say the goal more closely, or write the tasks in the spec",
    )


def read_tasks(text: str, spec: Spec, *, most: int = MOST_TASKS) -> tuple[tuple[Task, ...], dict[str, str], list[str]]:
    """The tasks in a model's answer, the reason for each, and all that is wrong with them."""
    try:
        rows = json.loads(text)["tasks"]
        given = {str(row["id"]): row for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        return (), {}, [f"the answer is no JSON object with `tasks`, each with an `id`: {error!r}"]
    problems = [] if len(given) == len(rows) else ["two tasks have the same id"]
    if not 0 < len(rows) <= most:
        problems.append(f"{len(rows)} tasks: from 1 to {most} are wanted")
    old = {task.id: task for task in spec.tasks}
    problems += [f"{name}: the spec has a task of that id" for name in given if name in old]
    tasks = {name: {key: row[key] for key in _KEYS if row.get(key)} for name, row in given.items()}
    allowed = _commands(spec)
    problems += [
        f"{name}: `verify` must be one of {', '.join(map(repr, allowed)) or 'none'}"
        for name, row in tasks.items()
        if row.get("verify") and row["verify"] not in allowed
    ]
    stubs = {name: {"run": "true", "needs": list(task.needs)} for name, task in old.items() if name not in given}
    try:
        checked = parse_spec(json.dumps({**_surroundings(spec), "tasks": {**stubs, **tasks}}), path="tasks")
    except SpecError as error:
        return (), {}, problems + [f"{each.message}; {each.hint}" for each in error.problems]
    new = tuple(task for task in checked.tasks if task.id in given)
    problems += _shape_problems(new, spec)
    return new, {name: str(row.get("why", "")) for name, row in given.items()}, problems


def _surroundings(spec: Spec) -> dict[str, Any]:
    """What a spec says of its teams' and all other tasks: it holds for those of a goal too."""
    from ruamel.yaml import YAML

    said = YAML(typ="safe", pure=True).load(spec.text) if spec.text else {}
    return {key: said[key] for key in ("teams", "defaults", "limits") if key in said}


def _shape_problems(tasks: Sequence[Task], spec: Spec) -> list[str]:
    by_id = {task.id: task for task in tasks}
    above: dict[str, frozenset[str]] = {}
    depth: dict[str, int] = {}

    def visit(task: Task) -> None:  # the spec's own check has found no cycle
        for need in task.needs:
            if need in by_id and need not in above:
                visit(by_id[need])
        own = [need for need in task.needs if need in by_id]
        above[task.id] = frozenset(own).union(*(above[need] for need in own))
        depth[task.id] = 1 + max((depth[need] for need in own), default=0)

    for task in tasks:
        visit(task)
    problems = [
        f"{name}: {deep} tasks one after the other; at most {MOST_DEPTH}"
        for name, deep in depth.items()
        if deep > MOST_DEPTH
    ]
    if spec.teams:
        known = ", ".join(spec.teams)
        problems += [
            f"{each.id}: there is no team {each.team!r}; there are {known}"
            for each in tasks
            if each.team and each.team not in spec.teams
        ]
    for number, one in enumerate(tasks):
        for other in tasks[number + 1 :]:
            if one.id in above[other.id] or other.id in above[one.id]:
                continue
            if clash := common_pattern(one.writes or (), other.writes or ()):
                problems.append(f"{one.id} and {other.id} both write {clash}: let one need the other")
    return problems


def _commands(spec: Spec) -> list[str]:
    return list(dict.fromkeys(text for task in spec.tasks for text in (task.verify, task.run) if text))


def _question(goal: str, spec: Spec, most: int) -> str:
    teams = ", ".join(spec.teams) or "any name you choose"
    have = "\n".join(f"{task.id}: {task.run or task.agent}" for task in spec.tasks) or "none"
    return (
        f"You plan the work of agents. Split this goal into 1 to {most} tasks that each one agent can do alone, side "
        f"by side where they can be:\n{as_data(goal, 'goal')}\n"
        f"Teams: {teams}. A task that edits files names all that it may change in `writes`; two that write the same "
        "files must be ordered by `needs`. Say in `why` what each is for.\n"
        f"Tasks there are already, which yours may need:\n{as_data(have, 'tasks')}"
    )


def _schema(spec: Spec, most: int) -> dict[str, Any]:
    texts = {"type": "array", "items": {"type": "string"}}
    properties: dict[str, Any] = {
        "id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,39}$"},
        "agent": {"type": "string", "description": "What is to be done, in words."},
        "why": {"type": "string"},
        "team": {"enum": list(spec.teams)} if spec.teams else {"type": "string"},
        "needs": texts,
        "tools": {"type": "array", "items": {"enum": ["read", "search", "edit"]}},
        "report": {"enum": ["text", "findings"]},
        "writes": texts,
    }
    if commands := _commands(spec):
        properties["verify"] = {"enum": commands}
    task = {
        "type": "object",
        "properties": properties,
        "required": ["id", "agent", "why"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"tasks": {"type": "array", "items": task, "maxItems": most}},
        "required": ["tasks"],
        "additionalProperties": False,
    }
