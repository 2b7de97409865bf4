"""Who holds how much of what: leases on renewable capacities, exact to a millionth (pure).

A lease is taken whole or not at all, may be settled to what is really used, and is given back once. The dispatcher of a
run (`maos_bot.planning.dispatch`) keeps the same books as plain lists, because it also predicts when they change; that
the two agree, whatever happens, is tested. This one serves what isn't dispatched: the resource manager of the Python
API, and whoever needs a lease in a `with` block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from maos_bot.frozen import dataclass

UNIT: Final = 1_000_000  # amounts are whole millionths, so that what is taken and given back adds up exactly


class NotFreeError(Exception):
    """A lease that doesn't fit in what is free; the message says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """What `holder` holds, by name."""

    holder: str
    amounts: Mapping[str, float]


class Ledger:
    """Capacities by name; None bounds nothing, and what has no name here can't be held."""

    def __init__(self, capacities: Mapping[str, float | None]) -> None:
        self._capacities = {name: None if value is None else units(value) for name, value in capacities.items()}
        self._held: dict[str, dict[str, int]] = {}
        self._taken = dict.fromkeys(capacities, 0)

    def shortage(self, amounts: Mapping[str, float]) -> str:
        """Why `amounts` can't be had now, in words; empty where they can. `ValueError` for what can't be held."""
        for name, amount in amounts.items():
            if name not in self._capacities or not amount >= 0:
                raise ValueError(f"nobody can hold {amount:g} of {name!r}")
            free = self.free(name)
            if free is not None and units(amount) > units(free):
                return f"{name}: {free:g} of {self.capacity(name):g} free, wants {amount:g}"
        return ""

    def allocate(self, holder: str, amounts: Mapping[str, float]) -> Lease | None:
        """Take all of `amounts` for `holder`, or nothing (None). `ValueError` if it holds a lease already."""
        if holder in self._held:
            raise ValueError(f"{holder!r} holds a lease already")
        if self.shortage(amounts):
            return None
        self._held[holder] = held = {name: units(amount) for name, amount in amounts.items()}
        for name, amount in held.items():
            self._taken[name] += amount
        return Lease(holder=holder, amounts=dict(amounts))

    def settle(self, holder: str, used: Mapping[str, float]) -> Lease:
        """Replace what `holder` holds by what it uses, as measured: the rest is free, or more is taken than there is.

        Names it doesn't hold are refused with `ValueError`, an unknown holder with `KeyError`.
        """
        held = self._held[holder]
        for name, amount in used.items():
            if name not in held or not amount >= 0:
                raise ValueError(f"{holder!r} doesn't hold {name!r}")
        for name, amount in used.items():
            self._taken[name] += units(amount) - held[name]
            held[name] = units(amount)
        return Lease(holder=holder, amounts={name: amount / UNIT for name, amount in held.items()})

    def release(self, holder: str) -> bool:
        """Give back what `holder` holds; False where it holds nothing, so that a second time does no harm."""
        held = self._held.pop(holder, None)
        for name, amount in (held or {}).items():
            self._taken[name] -= amount
        return held is not None

    @contextmanager
    def lease(self, holder: str, amounts: Mapping[str, float]) -> Iterator[Lease]:
        """A lease for the time of a `with` block, given back however that ends. Raises `NotFreeError`."""
        taken = self.allocate(holder, amounts)
        if taken is None:
            raise NotFreeError(self.shortage(amounts))
        try:
            yield taken
        finally:
            self.release(holder)

    def capacity(self, name: str) -> float | None:
        """How much of `name` there is; None is no bound."""
        amount = self._capacities[name]
        return None if amount is None else amount / UNIT

    def free(self, name: str) -> float | None:
        """How much of `name` is free, below 0 where a lease was settled to more than there is; None is no bound."""
        amount = self._capacities[name]
        return None if amount is None else (amount - self._taken[name]) / UNIT

    def held(self, name: str) -> float:
        """How much of `name` is held, by all."""
        return self._taken[name] / UNIT

    @property
    def leases(self) -> Mapping[str, Mapping[str, float]]:
        """What each holder holds."""
        return MappingProxyType({who: {n: a / UNIT for n, a in held.items()} for who, held in self._held.items()})


def units(amount: float) -> int:
    """`amount` in millionths."""
    return round(amount * UNIT)
