"""Validated data as the product's own `Spec`: defaults and team values in place, matrices expanded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from maos_bot.model import Budget, ExecutionMode, ParallelStrategy, Spec, Task, Team, When
from maos_bot.spec.matrix import Substitution, Variant
from maos_bot.spec.nodes import MAX_TEXT, Document, shorten
from maos_bot.spec.suggest import Suggester

MAX_TASKS: Final = 20_000
TIMEOUT_MINUTES: Final = 30.0
MAX_ATTEMPTS: Final = 1
# Agents of the team `qa` do small, atomic work: the original system's bounds, where the spec gives no others.
ATOMIC_TEAM: Final = "qa"
ATOMIC_MINUTES: Final = 3
ATOMIC_ATTEMPTS: Final = 2
RETRY_DELAY_S: Final = 1.0
_NO_BUDGET: Final = Budget()
_ALWAYS: Final = When()


def expand_tasks(
    document: Document,
    data: Mapping[str, Any],
    variants: Mapping[str, list[Variant]],
    suggester: Suggester,
) -> tuple[Task, ...]:
    """All tasks in file order, variants in place of their task. What can't be put in place becomes a problem."""
    count = sum(len(group) for group in variants.values())
    if count > MAX_TASKS:
        document.at(("tasks",), f"the spec has {count:,} tasks, more than {MAX_TASKS:,}", "split it", key=True)
        return ()
    expansion = _Expansion(document, data, variants, suggester)
    tasks: list[Task] = []
    for task_id, task in data.get("tasks", {}).items():
        for variant in variants.get(task_id, ()):
            tasks.append(expansion.task(task_id, task, variant))
            if expansion.chars > MAX_TEXT:
                document.at(("tasks", task_id), f"the tasks' texts grow past {MAX_TEXT:,} characters", key=True)
                return ()
    return tuple(tasks)


def make_spec(
    data: Mapping[str, Any], tasks: tuple[Task, ...], *, setup: tuple[str, ...], path: str, text: str
) -> Spec:
    """The whole spec from validated data and its expanded tasks."""
    given = data.get("limits") or {}
    limits = {name: float(value) for name, value in given.items() if name != "resources" and value is not None}
    limits |= {name: float(value) for name, value in given.get("resources", {}).items()}
    return Spec(
        path=path,
        name=data.get("name") or Path(path).name,
        tasks=tasks,
        setup=setup,
        teams={name: _team(name, team) for name, team in data.get("teams", {}).items()},
        strategy=ParallelStrategy(data.get("strategy", ParallelStrategy.BALANCED)),
        mode=ExecutionMode(data.get("mode", ExecutionMode.HYBRID)),
        limits=limits,
        budget=_budget(data),
        goal=data.get("goal", "").strip(),
        text=text,
        digest=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
    )


def _budget(data: Mapping[str, Any]) -> Budget:
    cap = data.get("budget")
    if not cap:
        return _NO_BUDGET
    return Budget(usd=cap.get("usd"), tokens=cap.get("tokens"), approve_above_usd=cap.get("approve-above"))


def _team(name: str, team: Mapping[str, Any]) -> Team:
    minutes = team.get("timeout-minutes")
    return Team(
        name=name,
        max_concurrent_workers=team.get("max-concurrent-workers"),
        timeout_s=None if minutes is None else minutes * 60.0,
        max_attempts=team.get("max-attempts"),
        budget=_budget(team),
    )


class _Expansion:
    """What all tasks of one spec share."""

    def __init__(
        self,
        document: Document,
        data: Mapping[str, Any],
        variants: Mapping[str, list[Variant]],
        suggester: Suggester,
    ) -> None:
        self.document = document
        self.suggester = suggester
        self.variants = variants
        self.defaults: dict[str, Any] = data.get("defaults", {})
        self.teams: dict[str, dict[str, Any]] = data.get("teams", {})
        self.env: dict[str, str] = data.get("env", {}) | self.defaults.get("env", {})
        self.chars = 0

    def task(self, task_id: str, task: Mapping[str, Any], variant: Variant) -> Task:
        """One variant as a task; the task's own value wins, then its team's, then the default."""
        put = Substitution(self.document, task_id, variant, self.suggester)
        team = self.teams.get(task.get("team", ""), {})
        defaults = self.defaults
        run, agent = self._script(put, task, "run"), self._script(put, task, "agent")
        line, column = self.document.locate(("tasks", task_id), key=True)
        atomic = agent is not None and task.get("team") == ATOMIC_TEAM
        minutes = _first("timeout-minutes", ATOMIC_MINUTES if atomic else TIMEOUT_MINUTES, task, team, defaults)
        attempts = _first("max-attempts", ATOMIC_ATTEMPTS if atomic else MAX_ATTEMPTS, task, team, defaults)
        writes = task.get("writes")
        env = {name: put.text(value, "env", name) for name, value in task["env"].items()} if "env" in task else {}
        return Task(
            id=variant.id,
            run=run,
            agent=agent,
            name=self._name(put, task, variant),
            team=task.get("team", ""),
            needs=self._needs(task.get("needs", ())),
            shell=_first("shell", "", task, defaults),
            env=self.env | env,
            working_directory=put.text(_first("working-directory", "", task, defaults), "working-directory"),
            timeout_s=minutes * 60.0,
            max_attempts=attempts,
            retry_delay_s=float(_first("retry-delay-seconds", RETRY_DELAY_S, task, defaults)),
            continue_on_error=_first("continue-on-error", False, task, defaults),
            when=_when(put, task["when"]) if "when" in task else _ALWAYS,
            demand={name: float(amount) for name, amount in task.get("resources", {}).items()},
            estimate_s=float(task["estimate"]["seconds"]) if "seconds" in task.get("estimate", ()) else None,
            inputs=put.texts(task.get("inputs", []), "inputs"),
            outputs=put.texts(task.get("outputs", []), "outputs"),
            cache=task.get("cache"),
            tools=tuple(task.get("tools", ())),
            report=task.get("report", ""),
            writes=None if writes is None else put.texts(writes, "writes"),
            verify=put.text(task.get("verify", ""), "verify"),
            model=put.text(_first("model", "", task, defaults), "model") if agent is not None else "",
            budget=_budget(task),
            matrix=variant.values,
            line=line,
            column=column,
        )

    def _script(self, put: Substitution, task: Mapping[str, Any], key: str) -> str | None:
        if key not in task:
            return None
        text = put.text(task[key], key)
        self.chars += len(text)
        return text

    def _name(self, put: Substitution, task: Mapping[str, Any], variant: Variant) -> str:
        name: str = task.get("name", "")
        if name and variant.values and "${{" not in name:
            return f"{name} ({shorten(', '.join(variant.values.values()))})"
        return put.text(name, "name")

    def _needs(self, needs: tuple[str, ...] | list[str]) -> tuple[str, ...]:
        """Needs with every variant in place of its task, each once."""
        ids: dict[str, None] = {}
        for need in needs:
            group = self.variants.get(need)
            for need_id in [variant.id for variant in group] if group else [need]:
                ids[need_id] = None
        return tuple(ids)


def _when(put: Substitution, when: Mapping[str, Any]) -> When:
    return When(
        changed=tuple(put.text(pattern, "when", "changed") for pattern in when.get("changed", ())),
        events=tuple(when.get("events", ())),
        needs=when.get("needs", "succeeded"),
    )


def _first(key: str, default: Any, *sources: Mapping[str, Any]) -> Any:
    for source in sources:
        if key in source:
            return source[key]
    return default
