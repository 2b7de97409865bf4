"""How long a task will take, and on what that rests (pure).

History wins over the spec's own word, which wins over a default. Defaults for agents are the original system's minutes
by team; a command in CI is a matter of seconds, so it has a base of its own. Both are scaled by how much text the task
is: a longer description or script is more work, between half and twice the usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from maos_bot.model import Estimate, Task, TaskKind

# Minutes an agent takes for a task, by team; any other team takes AGENT_MINUTES.
AGENT_MINUTES_BY_TEAM: Final[Mapping[str, float]] = {
    "frontend": 8.0,
    "backend": 10.0,
    "qa": 5.0,
    "documentation": 6.0,
    "research": 12.0,
}
AGENT_MINUTES: Final = 8.0

# How hard a team's tasks are beside those of others.
COMPLEXITY_BY_TEAM: Final[Mapping[str, float]] = {
    "frontend": 1.0,
    "backend": 1.2,
    "qa": 0.8,
    "research": 1.5,
    "documentation": 0.7,
}

COMMAND_SECONDS: Final = 30.0  # a usual lint, test or build step
TEXT_LENGTH: Final = 50  # characters of a usual description or command

# How far the slow tenth of runs lies above the median where nothing was measured.
DEFAULT_SPREAD: Final = 2.0


def estimate(task: Task, *, history: Mapping[str, Estimate] | None = None) -> Estimate:
    """The expected duration of `task` in seconds.

    `history` is by task id. A spec's estimate is one number, so its p90 is its p50: what the spec doesn't say isn't
    made up. A default's p90 is `DEFAULT_SPREAD` times its p50.
    """
    if history is not None and (known := history.get(task.id)) is not None:
        return known
    if task.estimate_s is not None:
        return Estimate(p50_s=task.estimate_s, p90_s=task.estimate_s, basis="spec")
    usual = _default_s(task)
    return Estimate(p50_s=usual, p90_s=usual * DEFAULT_SPREAD, basis="default")


def complexity(task: Task) -> float:
    """How hard `task` looks: its team's weight times a factor of 0.5 to 2 by the length of its text; 1.0 is usual."""
    return COMPLEXITY_BY_TEAM.get(task.team, 1.0) * _length_factor(task)


def _default_s(task: Task) -> float:
    if task.kind is TaskKind.AGENT:
        return AGENT_MINUTES_BY_TEAM.get(task.team, AGENT_MINUTES) * 60.0 * _length_factor(task)
    return COMMAND_SECONDS * complexity(task)


def _length_factor(task: Task) -> float:
    text = task.agent if task.agent is not None else task.run
    return min(2.0, max(0.5, len(text or "") / TEXT_LENGTH))
