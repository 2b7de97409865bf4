"""Which model does a task, and why: a pin, else by kind, complexity, record, health and price (pure).

A model's grade says what it is meant for. Among those that are good enough for the task the cheapest per accepted
result is first; the record of our own history counts only from `ENOUGH` results on, as fewer say little.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Usage
from maos_bot.models.client import Target
from maos_bot.models.health import Health
from maos_bot.models.prices import Prices
from maos_bot.models.protocol import Fault, ProviderError

ENOUGH: Final = 5
WORST: Final = 0.5  # a model with fewer accepted results than that share comes after the others
TYPICAL: Final = Usage(input_tokens=8_000, output_tokens=1_000)  # what prices are compared by
_NEEDED: Final[Mapping[str, int]] = {"summary": 1, "text": 1, "findings": 2, "edit": 2, "plan": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A model that may be used; `grade` is 1 small, 2 general, 3 the strongest."""

    target: Target
    grade: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What became of a model's tasks of one kind in our history."""

    tasks: int
    accepted: int  # after review
    usd: float | None = None  # of all of them


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The models to ask, in order, and why the first is first."""

    chain: tuple[Target, ...]
    why: str


def choose(
    kind: str,
    complexity: int,
    candidates: Sequence[Candidate],
    *,
    prices: Prices,
    health: Health,
    now: float,
    records: Mapping[Target, Record] | None = None,
    pin: str = "",
) -> Choice:
    """The chain for a task of `kind` (summary, text, findings, edit, plan) and `complexity` (1 to 10).

    `pin` is `model`, `provider/model` or the beginning of a name; a pinned task falls back to other doors to the same
    name alone. Raises `ProviderError` where nothing fits.
    """
    if pin:
        return _pinned(pin, candidates)
    if not candidates:
        raise ProviderError(Fault.NO_MODEL, "no model provider configured", hint="set ANTHROPIC_API_KEY or another key")
    known = records or {}
    needed = min(3, _NEEDED.get(kind, 2) + (1 if complexity >= 8 else 0))

    def order(each: Candidate) -> tuple[bool, int, bool, bool, float, int, str]:
        usd = _usd(each.target, prices, known)
        return (
            health.ill(str(each.target), now) is not None,
            max(0, needed - each.grade),
            _poor(known.get(each.target)),
            usd is None,
            usd or 0.0,
            each.grade,
            str(each.target),
        )

    ranked = sorted(candidates, key=order)
    first = ranked[0]
    usd = _usd(first.target, prices, known)
    price = "its price is unknown" if usd is None else f"about ${usd:.4f} for an accepted task of usual size"
    reasons = [
        f"{kind} of complexity {complexity} asks for grade {needed}",
        f"{first.target} is grade {first.grade}",
        price,
    ]
    record = known.get(first.target)
    if record is not None and record.tasks:
        reasons.append(f"{record.accepted} of {record.tasks} earlier results were accepted")
    for each in candidates:
        if (fault := health.ill(str(each.target), now)) is not None:
            reasons.append(f"{each.target} is left alone ({fault})")
        elif each is not first and _poor(known.get(each.target)):
            bad = known[each.target]
            reasons.append(f"{each.target} comes later ({bad.accepted} of {bad.tasks} accepted)")
    return Choice(chain=tuple(each.target for each in ranked), why="; ".join(reasons))


def _pinned(pin: str, candidates: Sequence[Candidate]) -> Choice:
    exact = [each.target for each in candidates if pin in {each.target.model, str(each.target)}]
    if exact:
        return Choice(chain=tuple(exact), why=f"the spec pins {pin}")
    alike = [each.target for each in candidates if each.target.model.startswith(f"{pin}-")]
    if alike:
        newest = max(alike, key=lambda target: _version(target.model))
        same = tuple(target for target in alike if target.model == newest.model)
        return Choice(chain=same, why=f"the spec pins {pin}, of which {newest.model} is the newest known")
    provider, slash, model = pin.partition("/")
    doors = sorted({each.target.provider for each in candidates})
    if slash and provider in doors:
        return Choice(chain=(Target(provider=provider, model=model),), why=f"the spec pins {pin}")
    if len(doors) == 1:  # a model we don't know: its provider does
        return Choice(chain=(Target(provider=doors[0], model=pin),), why=f"the spec pins {pin}")
    hint = f"write provider/{pin}, with one of {', '.join(doors)}" if doors else "set ANTHROPIC_API_KEY or another key"
    raise ProviderError(Fault.NO_MODEL, f"no provider is known for the model {pin}", hint=hint)


def _version(name: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", name)]


def _poor(record: Record | None) -> bool:
    return record is not None and record.tasks >= ENOUGH and record.accepted < WORST * record.tasks


def _usd(target: Target, prices: Prices, records: Mapping[Target, Record]) -> float | None:
    """Dollars for an accepted result: measured where the history is long enough, else by the list."""
    record = records.get(target)
    if record is not None and record.tasks >= ENOUGH and record.usd is not None:
        return record.usd / max(1, record.accepted)
    price = prices.price(target.provider, target.model)
    return None if price is None else price.usd(TYPICAL)
