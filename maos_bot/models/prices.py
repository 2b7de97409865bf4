"""What a turn costs, from a price list with its source and date; a model that isn't in it has no price.

`prices.json` is written by `requirements/prices.py`. Names are matched whole, apart from a date at their end: a newer
model whose name merely begins like an older one's is unknown, not guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any, Final, TypeAlias

from maos_bot.frozen import dataclass
from maos_bot.model import Usage

Tiers: TypeAlias = tuple[tuple[int, float], ...]  # from that many input tokens on, dollars per million

_DATE: Final = re.compile(r"[-@](?:20\d{6}|20\d{2}-\d{2}-\d{2}|latest)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """Of one model. None: the list doesn't say, so a turn that uses it has no price."""

    input: Tiers
    output: Tiers
    cache_read: Tiers | None
    cache_write: Tiers | None

    def usd(self, usage: Usage) -> float | None:
        """Dollars for `usage`, one turn's; tiers go by all its input tokens, cached or not."""
        size = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        total = 0.0
        for tokens, tiers in (
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_read_tokens, self.cache_read),
            (usage.cache_write_tokens, self.cache_write),
        ):
            if tokens:
                if tiers is None:
                    return None
                total += tokens * [price for start, price in tiers if size >= start][-1] / 1e6
        return total


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """A price list; `source` and `date` say where it is from."""

    source: str
    date: str
    models: Mapping[str, Price]  # by provider/name

    def price(self, provider: str, model: str) -> Price | None:
        """The price of `model`, None where it isn't known."""
        return self.models.get(f"{provider}/{model}") or self.models.get(f"{provider}/{_DATE.sub('', model)}")

    def priced(self, provider: str, model: str, usage: Usage) -> Usage:
        """`usage` with its dollars: the provider's own figure where it gave one, else from the list, else None."""
        if usage.usd:
            return usage
        price = self.price(provider, model)
        return replace(usage, usd=None if price is None else price.usd(usage))


def load_prices() -> Prices:
    """The list that is shipped."""
    data = json.loads(resources.files("maos_bot.models").joinpath("prices.json").read_text(encoding="utf-8"))
    models = {
        name: Price(
            input=_tiers(said["input"]) or (),
            output=_tiers(said["output"]) or (),
            cache_read=_tiers(said["cache_read"]),
            cache_write=_tiers(said["cache_write"]),
        )
        for name, said in data["models"].items()
    }
    return Prices(source=data["source"], date=data["date"], models=models)


def _tiers(said: Any) -> Tiers | None:
    if said is None:
        return None
    return tuple((int(start), float(price)) for start, price in said) if isinstance(said, list) else ((0, float(said)),)
