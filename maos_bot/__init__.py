"""MAOS bot: runs a repository's task spec inside one CI runner, as parallel as it allows.

The way of the data, and where each step lives:

    1 event      github/trigger       what set us off, from whom, with which rights
    2 spec       spec/                the task spec, with line and column
    3 graph      planning/graph       tasks and needs
    4 planning   planning/            estimates, stages, predicted schedule
    5 execution  execution/           decisions, processes; resources/ what there is and how much is used
    6 reporting  reporting/           the stream of events folded into comment, checks, terminal
    7 store      store/               the same stream folded into SQLite

The Python API is the names below; each is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maos_bot.api import (
        DependencyAnalyzer,
        ExecutionMode,
        ExecutionPlan,
        ParallelOrchestrator,
        ParallelStrategy,
        ResourceAllocation,
        ResourceManager,
        ResourceType,
        TeamLead,
    )

__all__ = [
    "DependencyAnalyzer",
    "ExecutionMode",
    "ExecutionPlan",
    "ParallelOrchestrator",
    "ParallelStrategy",
    "ResourceAllocation",
    "ResourceManager",
    "ResourceType",
    "TeamLead",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from maos_bot import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
