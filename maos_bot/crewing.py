"""Wires models to planning: what the agents of a plan will cost, and which tasks a goal becomes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from maos_bot.errors import ConfigError
from maos_bot.model import Spec, Task, TaskKind, Usage
from maos_bot.models.prices import Prices, load_prices

if TYPE_CHECKING:
    from maos_bot.agents.pricing import Spend
    from maos_bot.agents.project_manager import Proposal
    from maos_bot.models.client import ModelClient, Spent
    from maos_bot.models.protocol import Provider
    from maos_bot.models.router import Choice

_GIT_S = 10.0
KEYS = "set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, or OPENAI_BASE_URL for a server of your own"


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """The providers this environment opens, and how a model is chosen among them."""

    doors: Mapping[str, Provider]
    prices: Prices
    choose: Callable[[Task], Choice]


def open_models(environ: Mapping[str, str], root: Path) -> Models:
    """What `environ` opens; without a key there are no doors, and `choose` raises `ProviderError`."""
    from maos_bot.models.doors import candidates, open_doors
    from maos_bot.models.health import Health
    from maos_bot.models.router import choose
    from maos_bot.planning.estimates import complexity

    doors, prices, health = open_doors(environ, root), load_prices(), Health()
    known = candidates(doors)

    def chosen(task: Task) -> Choice:
        kind = "edit" if task.writes is not None or "edit" in task.tools else task.report or "text"
        hard = min(10, max(1, round(4 * complexity(task))))
        return choose(kind, hard, known, prices=prices, health=health, now=time.monotonic(), pin=task.model)

    return Models(doors=doors, prices=prices, choose=chosen)


def spend_of(tasks: Sequence[Task], models: Models) -> Spend | None:
    """What the agents among `tasks` will use; None where there are none."""
    if not any(task.kind is TaskKind.AGENT for task in tasks):
        return None
    from maos_bot.agents.pricing import expected_spend

    return expected_spend(tasks, prices=models.prices, choose=models.choose)


def tasks_of_goal(
    spec: Spec, goal: str, models: Models, *, root: Path, most_tokens_per_minute: float | None
) -> Proposal:
    """Ask the strongest fitting model for the tasks of `goal`, within the spec's budget.

    Raises `ConfigError` without a key, `GoalError`, `BudgetError` or `ProviderError`.
    """
    if not models.doors:
        raise ConfigError("a goal needs a model, and no provider is configured", hint=KEYS)
    return asyncio.run(_propose(spec, goal, models, root, most_tokens_per_minute))


async def _propose(spec: Spec, goal: str, models: Models, root: Path, per_minute: float | None) -> Proposal:
    from maos_bot.agents.pricing import expected_spend
    from maos_bot.agents.project_manager import propose
    from maos_bot.agents.prompts import shared_prefix
    from maos_bot.agents.repository_map import repository_map
    from maos_bot.agents.turns import Payer, Turns
    from maos_bot.models.budget import Ledger
    from maos_bot.models.client import ModelClient
    from maos_bot.resources.token_rate import TokenRates

    def connect(report: Callable[[Spent], None]) -> ModelClient:
        rates = TokenRates(total_per_minute=per_minute, now=time.monotonic())
        return ModelClient(models.doors, rates=rates, prices=models.prices, report=report)

    def too_dear(tasks: Sequence[Task]) -> str:
        spend = expected_spend(tasks, prices=models.prices, choose=models.choose)
        cap = spec.budget
        if cap.usd is not None and spend.usd_p50 is not None and spend.usd_p50 > cap.usd:
            return f"these tasks would cost about ${spend.usd_p50:.2f}, and the budget is ${cap.usd:.2f}: plan fewer"
        if cap.tokens is not None and spend.tokens_p50 > cap.tokens:
            return f"these tasks would use {spend.tokens_p50:,} tokens, and the budget is {cap.tokens:,}: plan fewer"
        return ""

    pm = Task(id="plan", agent=goal, report="plan")
    used: list[Usage] = []
    payer = Payer(task=pm, attempt=1, tell=lambda _, **values: used.append(values["usage"]))
    turns = Turns(Ledger(spec.budget), models.prices, connect)
    chain = models.choose(pm).chain
    try:
        return await propose(
            goal,
            spec,
            ask=lambda turn: turns.ask(turn, chain, payer),
            prefix=shared_prefix(repository_map=repository_map(_files(root))),
            too_dear=too_dear,
        )
    finally:
        await turns.close()


def _files(root: Path) -> list[str]:
    """What git tracks in `root`; nothing where it is no repository, and agents look for themselves."""
    try:
        said = subprocess.run(  # noqa: S603
            ["git", "-c", f"safe.directory={root}", "-c", "core.fsmonitor=false", "ls-files", "-z"],  # noqa: S607
            cwd=root,
            capture_output=True,
            timeout=_GIT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [os.fsdecode(name) for name in said.split(b"\0") if name]


def with_tasks(spec: Spec, proposal: Proposal) -> Spec:
    """The spec with the proposed tasks after its own; they too need its `setup`."""
    new = [replace(task, needs=tuple(dict.fromkeys((*spec.setup, *task.needs)))) for task in proposal.tasks]
    return replace(spec, tasks=(*spec.tasks, *new))


def models_here(root: Path) -> Models:
    """Those that our own environment opens."""
    return open_models(os.environ, root)
