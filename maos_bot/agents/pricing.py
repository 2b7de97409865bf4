"""What agent tasks will cost, before a token is spent: tokens by history or by a default that says so (pure)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Task, TaskKind, Usage
from maos_bot.models.prices import Prices
from maos_bot.models.protocol import ProviderError
from maos_bot.models.router import Choice

# What a task without history is taken to use, as (input, output) tokens over all its turns: guesses, and shown as such.
_TYPICAL: Final[Mapping[str, tuple[int, int]]] = {"findings": (30_000, 2_000), "text": (15_000, 1_000)}
_EDITS: Final = (60_000, 6_000)
_SPREAD: Final = 3.0  # how far the dear tenth lies above the middle


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """What agents are expected to use. `usd_p50` and `usd_p90` are None where a model's price is unknown."""

    tasks: int
    tokens_p50: int
    tokens_p90: int
    usd_p50: float | None
    usd_p90: float | None
    defaults: int  # of the tasks, how many rest on a default
    models: tuple[str, ...]  # chosen first, without doubles
    unknown: tuple[str, ...]  # tasks no model is known for


def expected_spend(
    tasks: Sequence[Task],
    *,
    prices: Prices,
    choose: Callable[[Task], Choice],
    history: Mapping[str, Usage] | None = None,
) -> Spend:
    """The sum over the agent tasks among `tasks`; `history` is the usual usage of a task that was done before."""
    p50 = [0.0, 0.0]
    spread = [0.0, 0.0]
    priced, defaults, count = True, 0, 0
    models: dict[str, None] = {}
    unknown: list[str] = []
    for task in tasks:
        if task.kind is not TaskKind.AGENT:
            continue
        count += 1
        usage = (history or {}).get(task.id)
        if usage is None:
            defaults += 1
            usage = _typical(task)
        tokens = usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        usd: float | None = None
        try:
            target = choose(task).chain[0]
            models[str(target)] = None
            price = prices.price(target.provider, target.model)
            usd = price.usd(usage) if price else None
        except ProviderError:
            unknown.append(task.id)
        priced = priced and usd is not None
        for place, value in enumerate((float(tokens), usd or 0.0)):
            p50[place] += value
            spread[place] += (value * (_SPREAD - 1)) ** 2  # tasks vary apart from each other
    p90 = [middle + math.sqrt(each) for middle, each in zip(p50, spread, strict=True)]
    return Spend(
        tasks=count,
        tokens_p50=round(p50[0]),
        tokens_p90=round(p90[0]),
        usd_p50=p50[1] if priced else None,
        usd_p90=p90[1] if priced else None,
        defaults=defaults,
        models=tuple(models),
        unknown=tuple(unknown),
    )


def _typical(task: Task) -> Usage:
    edits = task.writes is not None or "edit" in task.tools
    given, written = _EDITS if edits else _TYPICAL.get(task.report or "text", _TYPICAL["text"])
    return Usage(input_tokens=given, output_tokens=written)
