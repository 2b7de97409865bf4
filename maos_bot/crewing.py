"""Wires models to plans: what agents will cost, and which tasks a goal becomes.

Nothing here is imported for a run without agents, and no SDK before the first turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from maos_bot.errors import ConfigError, StoreError
from maos_bot.events import TranscriptAdded
from maos_bot.frozen import dataclass
from maos_bot.model import Budget, Spec, Task, TaskKind, Usage
from maos_bot.models.budget import Ledger
from maos_bot.models.health import Health
from maos_bot.models.prices import Prices, load_prices
from maos_bot.models.protocol import Answered, Asked
from maos_bot.planning.estimates import complexity

if TYPE_CHECKING:
    from maos_bot.agents.pricing import Spend
    from maos_bot.agents.project_manager import Proposal
    from maos_bot.agents.turns import Turns
    from maos_bot.models.client import ModelClient, Spent, Target
    from maos_bot.models.protocol import Answer, Provider, Turn
    from maos_bot.models.router import Choice, Record

NO_PROVIDER: Final = "no model provider configured"
KEYS: Final = "set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, or OPENAI_BASE_URL for a server of your own"


NO_KEY: Final = f"{NO_PROVIDER}; {KEYS}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """The providers this environment opens, and how a model is chosen among them."""

    doors: Mapping[str, Provider]
    prices: Prices
    choose: Callable[[Task], Choice]
    health: Health = field(default_factory=Health)
    usual: Mapping[str, Usage] = field(default_factory=dict)  # what tasks used before, by their id
    turns: Mapping[str, float] = field(default_factory=dict)  # how many turns they took


def kind_of(task: Task) -> str:
    """What sort of work `task` is to the router."""
    return "edit" if task.writes is not None or "edit" in task.tools else task.report or "text"


def open_models(
    environ: Mapping[str, str],
    root: Path,
    *,
    records: Mapping[str, Mapping[Target, Record]] | None = None,
    usual: Mapping[str, Usage] | None = None,
    turns: Mapping[str, float] | None = None,
) -> Models:
    """What `environ` opens; without a key there are no doors, and `choose` raises `ProviderError`.

    `records` is what became of each model's tasks of each kind, `usual` and `turns` what tasks took before.
    """
    from maos_bot.models.doors import candidates, open_doors
    from maos_bot.models.router import choose

    doors, prices, health = open_doors(environ, root), load_prices(), Health()
    known = candidates(doors)

    def chosen(task: Task) -> Choice:
        kind = kind_of(task)
        hard = min(10, max(1, round(4 * complexity(task))))
        return choose(
            kind,
            hard,
            known,
            prices=prices,
            health=health,
            now=time.monotonic(),
            records=(records or {}).get(kind),
            pin=task.model,
        )

    return Models(doors=doors, prices=prices, choose=chosen, health=health, usual=usual or {}, turns=turns or {})


def models_here(root: Path, *, db: Path | None = None, spec: Spec | None = None, repository: str = "") -> Models:
    """Those that our own environment opens, with the record of `spec`'s tasks in the database `db`."""
    if db is None or spec is None or not db.is_file():
        return open_models(os.environ, root)
    from maos_bot.store.agents import past_work
    from maos_bot.store.queries import Queries

    kinds = {task.id: kind_of(task) for task in spec.tasks if task.kind is TaskKind.AGENT}
    try:
        with contextlib.closing(Queries(db)) as queries:
            past = past_work(queries, kinds, repository=repository)
    except StoreError as error:
        click.echo(f"maos: models are chosen without history: {error}", err=True)
        return open_models(os.environ, root)
    from maos_bot.models.client import Target
    from maos_bot.models.router import Record

    records = {
        kind: {_target(model, Target): Record(**each) for model, each in models.items()}
        for kind, models in past.records.items()
    }
    return open_models(os.environ, root, records=records, usual=past.usual, turns=past.turns)


def providers_here(root: Path) -> dict[str, str]:
    """What our own environment opens, by provider, and what it would take: nothing is asked, no SDK is imported."""
    import importlib.util

    models = open_models(os.environ, root)
    return {name: _door(importlib.util.find_spec, name, provider) for name, provider in models.doors.items()}


def _door(find: Callable[[str], object], name: str, provider: Provider) -> str:
    from maos_bot.models.command import KINDS, CommandProvider
    from maos_bot.models.doors import USUAL

    if isinstance(provider, CommandProvider):
        program = KINDS[provider.name][0]
        return f"the program {program}" + ("" if shutil.which(program) else ", which isn't on the PATH")
    sdk = "anthropic" if name == "anthropic" else "openai"
    models = ", ".join(model for model, _ in USUAL.get(name, ()))
    installed = "" if find(sdk) else f"; the package {sdk} isn't installed: pip install 'maos-bot[{sdk}]'"
    return f"{models or 'models that a spec names'}{installed}"


def _target(name: str, made: type[Target]) -> Target:
    provider, _, model = name.partition("/")
    return made(provider=provider, model=model)


def spend_of(tasks: Sequence[Task], models: Models) -> Spend | None:
    """What the agents among `tasks` will use; None where there are none."""
    if not any(task.kind is TaskKind.AGENT for task in tasks):
        return None
    from maos_bot.agents.pricing import expected_spend

    return expected_spend(tasks, prices=models.prices, choose=models.choose, history=models.usual)


def tasks_of_goal(
    spec: Spec, goal: str, models: Models, *, root: Path, most_tokens_per_minute: float | None
) -> Proposal:
    """Ask the strongest fitting model for the tasks of `goal`, within the spec's budget.

    Raises `ConfigError` without a key, `GoalError`, `BudgetError` or `ProviderError`.
    """
    if not models.doors:
        raise ConfigError("a goal needs a model, and no provider is configured", hint=KEYS)
    from maos_bot.agents.change import files_of
    from maos_bot.agents.prompts import shared_prefix
    from maos_bot.agents.repository_map import repository_map

    turns = open_turns(spec, models, most_tokens_per_minute)
    prefix = shared_prefix(repository_map=repository_map(files_of(root)))
    pm = Task(id="plan", agent=goal, report="plan")
    return asyncio.run(ask_for_tasks(spec, pm, models, turns, prefix, lambda _, **__: None))


def open_turns(spec: Spec, models: Models, per_minute: float | None) -> Turns:
    """The way to `models` within the caps of `spec` and `per_minute` tokens (None: the provider's own rate)."""
    from maos_bot.agents.turns import Turns
    from maos_bot.models.client import ModelClient
    from maos_bot.resources.token_rate import TokenRates

    def connect(report: Callable[[Spent], None]) -> ModelClient:
        rates = TokenRates(total_per_minute=per_minute, now=time.monotonic())
        return ModelClient(models.doors, rates=rates, prices=models.prices, report=report, health=models.health)

    return Turns(Ledger(spec.budget, caps=_caps(spec)), models.prices, connect)


def _caps(spec: Spec) -> dict[str, Budget]:
    """The caps of teams and tasks, as the ledger names them."""
    caps = {f"team:{team.name}": team.budget for team in spec.teams.values()}
    caps |= {f"task:{task.id}": task.budget for task in spec.tasks}
    return {name: cap for name, cap in caps.items() if cap.usd is not None or cap.tokens is not None}


async def ask_for_tasks(  # noqa: PLR0917 - the parts of one question
    spec: Spec, pm: Task, models: Models, turns: Turns, prefix: str, tell: Callable[..., object]
) -> Proposal:
    """Have the project manager `pm` propose tasks; `tell` gets its usage and its words as events."""
    from maos_bot.agents.pricing import expected_spend
    from maos_bot.agents.project_manager import propose
    from maos_bot.agents.turns import Payer

    def too_dear(tasks: Sequence[Task]) -> str:
        spend = expected_spend(tasks, prices=models.prices, choose=models.choose)
        cap = spec.budget
        if cap.usd is not None and spend.usd_p50 is not None and spend.usd_p50 > cap.usd:
            return f"these tasks would cost about ${spend.usd_p50:.2f}, and the budget is ${cap.usd:.2f}: plan fewer"
        if cap.tokens is not None and spend.tokens_p50 > cap.tokens:
            return f"these tasks would use {spend.tokens_p50:,} tokens, and the budget is {cap.tokens:,}: plan fewer"
        return ""

    payer = Payer(task=pm, attempt=1, tell=tell)
    try:
        chain = models.choose(pm).chain

        async def ask(turn: Turn) -> Answer:
            count = sum(isinstance(each, Answered) for each in turn.messages)
            asked = turn.messages[-1]
            if isinstance(asked, Asked):
                tell(TranscriptAdded, turn=count, role="asked", text=asked.text)
            answer = await turns.ask(turn, chain, payer)
            tell(TranscriptAdded, turn=count + 1, role="answered", text=answer.text, model=answer.model)
            return answer

        return await propose(pm.agent or "", spec, ask=ask, prefix=prefix, too_dear=too_dear)
    finally:
        await turns.close()


def with_tasks(spec: Spec, proposal: Proposal) -> Spec:
    """The spec with the proposed tasks after its own; they too need its `setup`."""
    new = [replace(task, needs=tuple(dict.fromkeys((*spec.setup, *task.needs)))) for task in proposal.tasks]
    return replace(spec, tasks=(*spec.tasks, *new))
