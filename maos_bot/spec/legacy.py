"""Imports the original system's project file, `state.json`: its tasks as a spec, its agents as usage history.

Such files come from crashes and hand edits too: every field may be missing or of another kind. What can't be carried
over is said in the notes; what can't be read at all is a ConfigError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from maos_bot.errors import ConfigError
from maos_bot.frozen import dataclass
from maos_bot.spec.checks import cycles, show_cycle
from maos_bot.spec.scalars import Fault, check_pattern

MAX_BYTES: Final = 64 * 1024 * 1024
BACKUP_NAME: Final = "state_backup.json"

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, kw_only=True, slots=True)
class LegacyUsage:
    """What one agent of the old project used."""

    agent: str
    kind: str  # pm | lead | worker, as the file says
    model: str
    tokens: int
    calls: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A project as a spec, what was left behind (one sentence each), and its usage history."""

    spec_text: str
    notes: tuple[str, ...]
    usage: tuple[LegacyUsage, ...]


@dataclass(kw_only=True, slots=True)
class _Task:
    id: str
    agent: str
    team: str
    needs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def import_state(path: Path) -> Imported:
    """Read a `state.json`. Raises ConfigError for a file that is missing, cut off or no project."""
    state = _read(path)
    notes: list[str] = []
    tasks = _tasks(state, notes)
    objective = _clean(state.get("objective"))
    if not tasks and not objective:
        raise ConfigError(f"{path} holds neither an objective nor tasks", hint=_backup_hint(path))
    _break_cycles(tasks, notes)
    logs = state.get("logs")
    if isinstance(logs, list) and logs:
        notes.append(f"{len(logs)} log lines were not carried over")
    return Imported(
        spec_text=_spec_text(objective, tasks, _clean(state.get("projectId"))),
        notes=tuple(notes),
        usage=tuple(_usage(state.get("agents"))),
    )


def write_spec(imported: Imported, target: Path) -> None:
    """Write the spec to a file that doesn't exist yet. Raises ConfigError rather than replace one."""
    try:
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(imported.spec_text)
    except FileExistsError:
        raise ConfigError(f"{target} exists already", hint="an import never replaces a file: name another") from None
    except OSError as error:
        raise ConfigError(f"{target} can't be written: {error.strerror or error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}", hint=_backup_hint(path)) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES // 1024 // 1024} MiB")
    if not content.strip():
        raise ConfigError(f"{path} is empty, as a crash leaves it", hint=_backup_hint(path))
    try:
        state = json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        message = f"{path} is damaged or cut off: {error.msg} at {where}"
        raise ConfigError(message, hint=_backup_hint(path)) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is no readable JSON: {error}", hint=_backup_hint(path)) from error
    if not isinstance(state, dict) or not state.keys() & {"tasks", "objective", "projectId"}:
        raise ConfigError(f"{path} is no project file of the original system", hint=_backup_hint(path))
    return state


def _backup_hint(path: Path) -> str:
    backup = path.with_name(BACKUP_NAME)
    return f"try {backup}" if backup != path and backup.is_file() else ""


def _tasks(state: dict[str, Any], notes: list[str]) -> list[_Task]:
    given = state.get("tasks")
    if given is not None and not isinstance(given, list):
        notes.append("`tasks` is no list and was not carried over")
        given = None
    read = [task for task in given or () if isinstance(task, dict)]
    if len(read) < len(given or ()):
        notes.append(f"{len(given or ()) - len(read)} entries of `tasks` are no tasks and were not carried over")
    tasks: list[_Task] = []
    names: dict[str, str] = {}  # their id -> ours
    taken: set[str] = set()
    for number, task in enumerate(read, start=1):
        old = _clean(task.get("id"))
        task_id = _free(_word(old) or f"task-{number}", taken)
        if task_id != old:
            notes.append(
                f"task `{old}` is called `{task_id}`" if old else f"a task without an id is called `{task_id}`"
            )
        names.setdefault(old, task_id)
        tasks.append(_task(task_id, task, notes))
    for made, task in zip(tasks, read, strict=True):
        made.needs = _needs(made.id, task, names, notes)
    _note_states(read, notes)
    return tasks


def _task(task_id: str, task: dict[str, Any], notes: list[str]) -> _Task:
    description = _clean(task.get("description"))
    if not description:
        notes.append(f"task `{task_id}` has no description: its id stands in for it")
    outputs: list[str] = []
    artifacts = task.get("artifacts")
    for artifact in artifacts if isinstance(artifacts, list) else ():
        place = _clean(artifact).replace("\\", "/").removeprefix("./")
        try:
            check_pattern(place)
        except Fault as fault:
            notes.append(f"an artifact of task `{task_id}` was not carried over: {fault.message}")
        else:
            outputs.append(place)
    if task.get("subtasks"):
        notes.append(f"the subtasks of task `{task_id}` were not carried over")
    return _Task(
        id=task_id,
        agent=description or task_id,
        team=_word(_clean(task.get("team"))) or "general",
        outputs=list(dict.fromkeys(outputs)),
    )


def _needs(task_id: str, task: dict[str, Any], names: dict[str, str], notes: list[str]) -> list[str]:
    needs: dict[str, None] = {}
    given = task.get("dependencies")
    for old in given if isinstance(given, list) else ():
        need = names.get(_clean(old))
        if need is None:
            notes.append(f"task `{task_id}` needed `{_clean(old)}`, which doesn't exist: dropped")
        elif need == task_id:
            notes.append(f"task `{task_id}` needed itself: dropped")
        else:
            needs[need] = None
    return list(needs)


def _break_cycles(tasks: list[_Task], notes: list[str]) -> None:
    by_id = {task.id: task for task in tasks}
    while found := list(cycles({task.id: {need: need for need in task.needs} for task in tasks})):
        for cycle in found:
            by_id[cycle[-2]].needs.remove(cycle[-1])
            notes.append(f"tasks needed each other in a circle ({show_cycle(cycle)}): the last need was dropped")


def _note_states(tasks: list[dict[str, Any]], notes: list[str]) -> None:
    done = sum(task.get("status") == "complete" for task in tasks)
    if done:
        notes.append(f"{done} of {len(tasks)} tasks were complete already: they are in the spec and would run again")
    failed = sum(bool(task.get("error")) for task in tasks)
    if failed:
        notes.append(f"the errors of {failed} tasks were not carried over")


def _usage(agents: Any) -> Iterable[LegacyUsage]:
    for name, agent in agents.items() if isinstance(agents, dict) else ():
        if isinstance(agent, dict):
            yield LegacyUsage(
                agent=_clean(name),
                kind=_clean(agent.get("type")),
                model=_clean(agent.get("model")),
                tokens=_count(agent.get("tokensUsed")),
                calls=_count(agent.get("callCount")),
            )


def _count(value: Any) -> int:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63
    return int(value) if usable else 0


def _clean(value: Any) -> str:
    """A value as text that YAML can hold."""
    if value is None or isinstance(value, (dict, list, bool)):
        return ""
    return _CONTROL.sub(" ", str(value)).strip()


def _word(text: str) -> str:
    return _UNSAFE.sub("-", text).strip("-.")[:90]


def _free(word: str, taken: set[str]) -> str:
    name, number = word, 2
    while name in taken:
        name = f"{word}-{number}"
        number += 1
    taken.add(name)
    return name


def _spec_text(objective: str, tasks: list[_Task], project: str) -> str:
    lines = ["# Imported from a project of the original system" + (f", {_one_line(project)}" if project else "")]
    lines.append("version: 1")
    if objective:
        lines.append(f"name: {_quoted(_one_line(objective))}")
    if not tasks:
        lines.append(f"goal: {_quoted(objective)}")
        return "\n".join(lines) + "\n"
    lines.append("tasks:")
    for task in tasks:
        lines.append(f"  {_quoted_if_odd(task.id)}:")
        lines.append(f"    agent: {_quoted(task.agent)}")
        lines.append(f"    team: {_quoted_if_odd(task.team)}")
        for key, values in (("needs", task.needs), ("outputs", task.outputs)):
            if values:
                lines.append(f"    {key}: [{', '.join(_quoted_if_odd(value) for value in values)}]")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _quoted(text: str) -> str:
    """Text as a double-quoted scalar: JSON's form is YAML's too."""
    return json.dumps(text, ensure_ascii=False).replace("\x85", "\\N").replace("\u2028", "\\L").replace("\u2029", "\\P")


def _quoted_if_odd(word: str) -> str:
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", word) and word.lower() not in {"null", "true", "false"}
    return word if plain else _quoted(word)
