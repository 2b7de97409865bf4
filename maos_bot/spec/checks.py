"""What only the whole spec can tell: needs, cycles, teams, pools and demands that no limit can meet.

Works on validated data from which wrong values have been left out, and on the nodes for where things stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from maos_bot.model import AGENTS, BUILT_IN_LIMITS
from maos_bot.spec.matrix import Variant
from maos_bot.spec.nodes import Document, shorten
from maos_bot.spec.setup import SETUP_TEAM
from maos_bot.spec.suggest import Suggester

_MOST_CYCLES: Final = 20
_LONGEST_CYCLE: Final = 40
_AGENT_KEYS: Final = ("tools", "model", "budget")
_EVENTS: Final = (
    "pull_request",
    "pull_request_target",
    "push",
    "workflow_dispatch",
    "issue_comment",
    "schedule",
    "merge_group",
    "release",
    "local",
)

Graph = dict[str, dict[str, str]]  # task id -> {needed task id: as it is written}


def check(
    document: Document,
    data: Mapping[str, Any],
    variants: Mapping[str, list[Variant]],
    suggester: Suggester,
    *,
    setup: tuple[str, ...] = (),
) -> None:
    """Add every problem between the parts of a spec to the document; `setup` are the tasks that were its steps."""
    tasks: dict[str, dict[str, Any]] = data.get("tasks", {})
    written = _written_ids(document)
    keys = _keys(document, ())
    # Where `tasks` stands but is no mapping, that has been said already.
    if not written and "goal" not in keys and keys and ("tasks" not in keys or keys["tasks"][1].parts == {}):
        document.at(("tasks",), "the spec has no tasks", "give one: `tasks: {test: {run: make test}}`")
    owners = {task_id: task_id for task_id in written}
    for task_id, group in variants.items():
        for variant in group:
            owner = owners.setdefault(variant.id, task_id)
            if owner != task_id:
                document.at(
                    ("tasks", task_id),
                    f"a variant of `{shorten(task_id)}` has the id `{shorten(variant.id)}`, which is taken",
                    f"rename `{shorten(task_id)}` or `{shorten(owner)}`",
                    key=True,
                )
    near_teams = _near_teams(data, suggester)
    limits = _limits(data)
    graph: Graph = {}
    for task_id, task in tasks.items():
        if task_id not in setup:  # the schema says what a step does
            _check_kind(document, task_id, task)
        _check_team(document, task_id, task, near_teams)
        _check_demand(document, task_id, task, limits, suggester)
        _check_events(document, task_id, task, suggester)
        graph[task_id] = _check_needs(document, task_id, task, owners, suggester)
    for cycle in cycles(graph):
        line, column = _need_mark(document, cycle[0], graph[cycle[0]][cycle[1]])
        document.add(
            line, column, f"the tasks need each other in a circle: {show_cycle(cycle)}", "remove one of these needs"
        )


def show_cycle(cycle: list[str]) -> str:
    """A cycle's members in order; of a very long one both ends."""
    members = [shorten(task_id) for task_id in cycle]
    if len(members) > _LONGEST_CYCLE:
        half = _LONGEST_CYCLE // 2
        members[half:-half] = [f"({len(members) - 2 * half:,} more)"]
    return " -> ".join(members)


def _written_ids(document: Document) -> list[str]:
    return list(_keys(document, ("tasks",)))


def _keys(document: Document, path: tuple[str, ...]) -> Mapping[str, Any]:
    """The keys that stand in the file below a path, right or wrong."""
    node = document.root
    for step in path:
        if node is None or not isinstance(node.parts, dict) or step not in node.parts:
            return {}
        node = node.parts[step][1]
    return node.parts if node is not None and isinstance(node.parts, dict) else {}


def _check_kind(document: Document, task_id: str, task: Mapping[str, Any]) -> None:
    path = ("tasks", task_id)
    keys = _keys(document, path)
    if "run" in keys and "agent" in keys:
        document.at((*path, "agent"), f"`{shorten(task_id)}` has both `run` and `agent`", "keep one", key=True)
    elif "run" not in keys and "agent" not in keys:
        document.at(path, f"`{shorten(task_id)}` has neither `run` nor `agent`", "say what it does", key=True)
    elif "agent" in keys and task.get("cache"):
        document.at((*path, "cache"), "an agent's work is never taken from the cache", "leave it out", key=True)
    elif "run" in keys:
        for key in _AGENT_KEYS:
            if key in task:
                document.at(
                    (*path, key), f"`{key}` is for agent tasks, and `{shorten(task_id)}` is a command", key=True
                )


def _near_teams(data: Mapping[str, Any], suggester: Suggester) -> dict[str, str]:
    """Teams that tasks name, that aren't declared, and that are nearly a declared one: slip to what was meant."""
    declared: Mapping[str, Any] = data.get("teams", {})
    used = dict.fromkeys(task["team"] for task in data.get("tasks", {}).values() if "team" in task)
    undeclared = [team for team in used if team not in declared and team != SETUP_TEAM]
    near = {team: suggester.word(team, declared, cutoff=0.75) for team in undeclared}
    return {team: meant for team, meant in near.items() if meant}


def _check_team(document: Document, task_id: str, task: Mapping[str, Any], near_teams: Mapping[str, str]) -> None:
    """A team needs no declaration, but one that is nearly a declared one is a slip."""
    team = task.get("team", "")
    if team in near_teams:
        hint = f"did you mean `{near_teams[team]}`? else declare it under `teams`"
        document.at(("tasks", task_id, "team"), f"unknown team `{shorten(team)}`", hint)


def _check_events(document: Document, task_id: str, task: Mapping[str, Any], suggester: Suggester) -> None:
    """Any event may be named, but one that is nearly a usual one is a slip."""
    for index, event in enumerate(task.get("when", {}).get("events", ())):
        if event not in _EVENTS and (near := suggester.word(event, _EVENTS, cutoff=0.8)):
            hint = f"did you mean `{near}`?"
            document.at(("tasks", task_id, "when", "events", index), f"unknown event `{shorten(event)}`", hint)


def _limits(data: Mapping[str, Any]) -> dict[str, float | None]:
    """Limits by name, `None` for what is sized to the runner later."""
    given = data.get("limits") or {}
    limits: dict[str, float | None] = {name: given.get(name) for name in BUILT_IN_LIMITS}
    return limits | dict(given.get("resources", {}))


def _check_demand(
    document: Document,
    task_id: str,
    task: Mapping[str, Any],
    limits: Mapping[str, float | None],
    suggester: Suggester,
) -> None:
    for name, amount in task.get("resources", {}).items():
        path = ("tasks", task_id, "resources", name)
        if name not in limits:
            hint = suggester.nearest(name, limits) or f"declare it: `limits: {{resources: {{{shorten(name)}: 1}}}}`"
            document.at(path, f"unknown resource `{shorten(name)}`", hint, key=True)
            continue
        limit = limits[name]
        if name == "cpu-percent" and limit is None:
            limit = 100.0  # percent of the whole runner: more there never is
        if limit is not None and amount > limit:
            document.at(
                path,
                f"`{shorten(task_id)}` wants {amount:g} of `{name}`, and the limit is {limit:g}",
                "it could never start: lower the demand or raise the limit",
            )
        if name == AGENTS and amount < 1:
            document.at(path, f"a running task holds at least 1 of `{AGENTS}`", "leave it out")


def _check_needs(
    document: Document,
    task_id: str,
    task: Mapping[str, Any],
    owners: Mapping[str, str],
    suggester: Suggester,
) -> dict[str, str]:
    """The ids of the tasks (not variants) that this one needs; unknown ones become problems."""
    found: dict[str, str] = {}
    for need in task.get("needs", ()):
        owner = owners.get(need)
        if owner == task_id:
            line, column = _need_mark(document, task_id, need)
            document.add(line, column, f"`{shorten(task_id)}` needs itself", "remove this need")
        elif owner is not None:
            found.setdefault(owner, need)
        else:
            line, column = _need_mark(document, task_id, need)
            hint = suggester.nearest(need, owners)
            if "${{" in need:
                hint = "needs are not substituted: name the task, or one variant by its full id"
            document.add(line, column, f"unknown task `{shorten(need)}` in `needs`", hint or "no task has this id")
    return found


def _need_mark(document: Document, task_id: str, need: str) -> tuple[int, int]:
    """Where a need is written."""
    pair = _keys(document, ("tasks", task_id)).get("needs")
    if pair is not None:
        for part in pair[1].parts if isinstance(pair[1].parts, list) else [pair[1]]:
            if part.data == need:
                return part.line, part.column
    return document.locate(("tasks", task_id, "needs"))


def cycles(graph: Graph) -> Iterator[list[str]]:
    """Cycles as lists of ids whose first comes again as last, each broken before the next is looked for."""
    left = {task_id: list(needs) for task_id, needs in graph.items()}
    order = {task_id: index for index, task_id in enumerate(graph)}
    for _ in range(_MOST_CYCLES):
        core = _tangled(left)
        if not core:
            return
        left = {
            task_id: [need for need in left[task_id] if need in core] for task_id in sorted(core, key=order.__getitem__)
        }
        cycle = _one_cycle(left)
        yield cycle
        left[cycle[-2]].remove(cycle[-1])


def _tangled(graph: Mapping[str, list[str]]) -> set[str]:
    """The tasks on a cycle or between cycles: what is left when all without needs, or not needed, are taken away."""
    core = _peel(graph)
    reverse: dict[str, list[str]] = {task_id: [] for task_id in core}
    for task_id in core:
        for need in graph[task_id]:
            if need in core:
                reverse[need].append(task_id)
    return _peel(reverse)


def _peel(graph: Mapping[str, list[str]]) -> set[str]:
    waiting: dict[str, int] = {}
    users: dict[str, list[str]] = {}
    for task_id, needs in graph.items():
        inside = [need for need in needs if need in graph]
        waiting[task_id] = len(inside)
        for need in inside:
            users.setdefault(need, []).append(task_id)
    free = [task_id for task_id, count in waiting.items() if count == 0]
    while free:
        task_id = free.pop()
        del waiting[task_id]
        for user in users.get(task_id, ()):
            waiting[user] -= 1
            if waiting[user] == 0:
                free.append(user)
    return set(waiting)


def _one_cycle(graph: Mapping[str, list[str]]) -> list[str]:
    """A cycle in a graph where every task needs another: follow first needs until one comes again."""
    place: dict[str, int] = {}
    walk: list[str] = []
    task_id = next(iter(graph))
    while task_id not in place:
        place[task_id] = len(walk)
        walk.append(task_id)
        task_id = graph[task_id][0]
    cycle = walk[place[task_id] :]
    order = {name: index for index, name in enumerate(graph)}
    start = min(range(len(cycle)), key=lambda index: order[cycle[index]])
    cycle = cycle[start:] + cycle[:start]
    return [*cycle, cycle[0]]
