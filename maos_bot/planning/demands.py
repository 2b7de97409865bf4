"""What a task holds of each limited resource while it runs (pure).

Renewable capacities only: worker slots, memory, CPU, team slots and named pools. Tokens are a rate and never held.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from maos_bot.model import AGENTS, CPU, MEMORY, PROCESSES, TEAM_PREFIX, TOKENS, Limit, ParallelStrategy, Task

# The share of memory and CPU a strategy leaves free, because what a task says it takes is itself an estimate. Slots
# and pools are counts, not estimates: they have no headroom.
HEADROOM: Final[Mapping[ParallelStrategy, float]] = {
    ParallelStrategy.CONSERVATIVE: 0.20,
    ParallelStrategy.BALANCED: 0.0,
    ParallelStrategy.AGGRESSIVE: 0.0,
}


def demand_of(task: Task, limits: Mapping[str, Limit]) -> dict[str, float]:
    """What `task` holds, by limit name: one worker slot, one of its team's, and what it declares.

    Resources without a limit (absent, or of value None) hold nobody back and are left out, and so are demands of 0.
    """
    demand = {AGENTS: 1.0, **task.demand}
    demand[AGENTS] = max(1.0, demand[AGENTS])
    if task.team:
        demand[TEAM_PREFIX + task.team] = 1.0
    return {name: amount for name, amount in demand.items() if amount > 0 and bound(name, limits) is not None}


def bound(resource: str, limits: Mapping[str, Limit]) -> float | None:
    """How much of `resource` can be held at once; None where nothing bounds that."""
    limit = limits.get(resource)
    if limit is None or limit.value is None or resource in (TOKENS, PROCESSES) or not math.isfinite(limit.value):
        return None
    return limit.value


def headroom(resource: str, strategy: ParallelStrategy) -> float:
    """The share (0 to 1) of `resource` that `strategy` leaves free."""
    return HEADROOM[strategy] if resource in (MEMORY, CPU) else 0.0


@lru_cache(maxsize=1024)  # the same few, for task after task
def shortage(resource: str, *, capacity: float, free: float, wants: float, kept_free: float = 0.0) -> str:
    """Why a demand doesn't fit, in words: `memory: 700 of 2048 MB free, wants 1024`.

    `kept_free` is the strategy's headroom, already taken off `capacity`.
    """
    note = f" ({_number(kept_free)} kept free)" if kept_free else ""
    if resource == MEMORY:
        return f"memory: {_number(free)} of {_number(capacity)} MB free{note}, wants {_number(wants)}"
    if resource == CPU:
        return f"cpu: {_number(free)} of {_number(capacity)} % free{note}, wants {_number(wants)}"
    busy = f"{_number(capacity - free)} of {_number(capacity)} busy"
    if resource == AGENTS:
        name = "agents"
    elif resource.startswith(TEAM_PREFIX):
        name = f"team {resource.removeprefix(TEAM_PREFIX)}"
    else:
        name = resource
    return f"{name}: {busy}" if wants <= 1 else f"{name}: {busy}, wants {_number(wants)}"


def _number(value: float) -> str:
    return f"{value:.6g}" if value < 1e6 else f"{value:.0f}"
