"""What agents may do in a run, beside what the spec says (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Task, TaskKind

ALL_TOOLS: Final = ("read", "search", "edit", "run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What agents may do in a run, beside what the spec says. `reason` is why they may not, in words.

    `approved`: someone said that the run may cost more than `budget.approve-above`.
    """

    agents: bool = True
    tools: tuple[str, ...] = ALL_TOOLS
    reason: str = ""
    approved: bool = False


def bounded(tasks: Sequence[Task], grant: Grant) -> tuple[Task, ...]:
    """The tasks with those tools of their agents alone that are granted."""
    if not set(ALL_TOOLS) - set(grant.tools):
        return tuple(tasks)
    return tuple(
        replace(task, tools=tuple(tool for tool in tools_of(task) if tool in grant.tools))
        if task.kind is TaskKind.AGENT
        else task
        for task in tasks
    )


def tools_of(task: Task) -> tuple[str, ...]:
    """The tools of an agent's task: those the spec names, else what reading takes, and editing where it `writes`."""
    if task.tools:
        return task.tools
    return ("read", "search", "edit") if task.writes is not None else ("read", "search")
