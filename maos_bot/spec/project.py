"""Projects and tasks as a Python program hands them over: ours, or in the words of the original's `state.json` (pure).

A task may be a `Task`, or a mapping with `id` and `run` or `agent` (the original says `description`), `needs` (the
original: `dependencies`), `team`, `resources`, `estimate_s`, `timeout_s`, `max_attempts`. As in an import, a need on a
task that doesn't exist is dropped; what is done already (`status: complete`) isn't done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from maos_bot.errors import ConfigError
from maos_bot.model import Spec, Task

_NUMBERS: Final = ("estimate_s", "timeout_s", "retry_delay_s")

Project = Spec | Mapping[str, Any] | Iterable[Any]


def spec_of(project: Project) -> Spec:
    """The spec that `project` stands for: itself, what a `state.json` holds, or tasks. Raises `ConfigError`."""
    if isinstance(project, Spec):
        return project
    if isinstance(project, Mapping):
        name = str(project.get("objective") or project.get("name") or project.get("projectId") or "")
        return Spec(path="", name=name, tasks=tasks_of(project.get("tasks") or ()))
    return Spec(path="", name="", tasks=tasks_of(project))


def tasks_of(tasks: Iterable[Any]) -> tuple[Task, ...]:
    """Each of `tasks` as one of ours, in their order. Raises `ConfigError` for what is no task."""
    rows = [task if isinstance(task, Task) else _row(task) for task in tasks]
    done = {str(row["id"]) for row in rows if isinstance(row, Mapping) and row.get("status") == "complete"}
    known = {row.id if isinstance(row, Task) else str(row["id"]) for row in rows}
    if len(known) < len(rows):
        raise ConfigError("two tasks have one id", hint="give each its own")
    return tuple(
        row if isinstance(row, Task) else _task(row, known - done)
        for row in rows
        if isinstance(row, Task) or str(row["id"]) not in done
    )


def _row(task: Any) -> Mapping[str, Any]:
    row = task if isinstance(task, Mapping) else getattr(task, "__dict__", None)
    if not isinstance(row, Mapping) or not str(row.get("id") or "").strip():
        raise ConfigError(f"{task!r} is no task", hint="a task has at least an id and a description")
    return row


def _task(row: Mapping[str, Any], known: set[str]) -> Task:
    task_id = str(row["id"])
    run = row.get("run")
    agent = None if run else str(row.get("agent") or row.get("description") or task_id)
    needs = dict.fromkeys(str(need) for need in row.get("needs") or row.get("dependencies") or ())
    values: dict[str, Any] = {name: float(row[name]) for name in _NUMBERS if row.get(name) is not None}
    if row.get("max_attempts"):
        values["max_attempts"] = int(row["max_attempts"])
    return Task(
        id=task_id,
        run=str(run) if run else None,
        agent=agent,
        name=str(row.get("name") or ""),
        team=str(row.get("team") or ""),
        needs=tuple(need for need in needs if need in known and need != task_id),
        demand={str(name): float(amount) for name, amount in (row.get("resources") or {}).items()},
        **values,
    )
