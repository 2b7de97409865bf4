"""The limits a run keeps to: a flag's, else the spec's, else `auto`, sized to the runner. Each says why.

`concurrent-agents` are the worker slots: every running task, command or agent, holds one. What a task doesn't declare
of memory and CPU isn't reserved, so that the slots alone bound it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from maos_bot.errors import ConfigError
from maos_bot.model import AGENTS, BUILT_IN_LIMITS, CPU, MEMORY, PROCESSES, TEAM_PREFIX, TOKENS, Limit, Spec, TaskKind
from maos_bot.resources.runner import Runner

FEWEST_SLOTS: Final = 4
AGENT_SLOTS: Final = 8  # agents wait for a provider, not for our CPUs
RESERVE_MB: Final = 256.0  # left to ourselves and the runner's own agent
RESERVE_SHARE: Final = 0.1
MOST_PROCESSES: Final = 1000  # a task with more is more likely a fork bomb than a build


def resolve_limits(spec: Spec, overrides: Mapping[str, str | float], runner: Runner) -> dict[str, Limit]:
    """Every limit of a run by name, pools and `team:NAME` included. `ConfigError` for an override that can't be."""
    pools = {name for name in spec.limits if name not in BUILT_IN_LIMITS}
    known = {*BUILT_IN_LIMITS, *pools, *(name for task in spec.tasks for name in task.demand)}
    asked: dict[str, Limit] = {name: Limit(value=value, reason="the spec") for name, value in spec.limits.items()}
    for name, value in overrides.items():
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise ConfigError(f"--limit {name}: there is no such limit", hint=hint)
        if str(value).strip().lower() == "auto":
            asked.pop(name, None)
        else:
            asked[name] = Limit(value=_positive(name, value), reason=f"--limit {name}")
    limits = {name: asked.get(name) or _auto(name, spec, runner) for name in BUILT_IN_LIMITS}
    slots = limits[AGENTS].value
    if slots is not None and slots < 1:
        raise ConfigError(f"{AGENTS} is {slots:g}: nothing could ever run", hint="give it at least 1")
    processes = limits[PROCESSES].value
    if processes is not None and processes < 1:
        raise ConfigError(f"{PROCESSES} is {processes:g}: nothing could ever run", hint="give it at least 1")
    limits |= {name: limit for name, limit in asked.items() if name not in BUILT_IN_LIMITS}
    for team in spec.teams.values():
        if team.max_concurrent_workers is not None:
            limits[TEAM_PREFIX + team.name] = Limit(
                value=float(team.max_concurrent_workers), reason=f"team {team.name}: max-concurrent-workers"
            )
    return limits


def _auto(name: str, spec: Spec, runner: Runner) -> Limit:
    if name == AGENTS:
        slots = max(FEWEST_SLOTS, math.ceil(runner.cpus) + 2)
        reason = f"auto: {runner.cpu_reason}, plus 2, at least {FEWEST_SLOTS}"
        if slots < AGENT_SLOTS and any(task.kind is TaskKind.AGENT for task in spec.tasks):
            slots, reason = AGENT_SLOTS, f"auto: agents wait for a provider rather than a CPU, so {AGENT_SLOTS}"
        return Limit(value=float(slots), reason=reason)
    if name == MEMORY:
        if runner.available_mb is None:
            return Limit(value=None, reason="auto: what is free is unknown, so there is no limit")
        reserve = min(RESERVE_MB, runner.available_mb * RESERVE_SHARE)
        value = math.floor(runner.available_mb - reserve)
        return Limit(
            value=float(value), reason=f"auto: what is free now, less {reserve:.0f} MB ({runner.memory_reason})"
        )
    if name == CPU:
        return Limit(value=100.0, reason="auto: the whole runner")
    if name == TOKENS:
        return Limit(value=None, reason="auto: the provider's own rate")
    if name == PROCESSES:
        return _auto_processes(runner)
    raise ValueError(f"{name!r} has no automatic value")


def _auto_processes(runner: Runner) -> Limit:
    free = runner.processes_free
    if free is None or free // 2 >= MOST_PROCESSES:
        known = "" if free is None else f", of {runner.processes_reason}"
        return Limit(
            value=float(MOST_PROCESSES), reason=f"auto: more than a build needs, fewer than a fork bomb{known}"
        )
    return Limit(value=float(max(1, free // 2)), reason=f"auto: half of what is free of {runner.processes_reason}")


def _positive(name: str, value: str | float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ConfigError(f"--limit {name}={value} is not a number of 0 or more", hint=f"for example --limit {name}=4")
    return number
