"""What a run, its teams and its tasks may spend, in tokens and dollars, and what they have (pure).

Each turn is debited with what it is expected to use before it is sent, and settled with what it used. A turn is let
through only while what was spent and what is in flight, this turn's estimate included, keep to every cap above it; so
the sum passes a cap by no more than turns in flight used beyond their estimates. Where a turn can't be priced, dollars
say nothing about it: then the tokens have to hold, and a dollar cap without a token cap refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from maos_bot.errors import OverLimitError
from maos_bot.frozen import dataclass
from maos_bot.model import Budget, Usage

RUN: Final = ""
_ROUNDING: Final = 1e-9


class BudgetError(OverLimitError):
    """The next turn would pass a cap; `scope` says whose."""

    def __init__(self, message: str, *, scope: str) -> None:
        super().__init__(message)
        self.scope = scope


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Tokens of all kinds, and dollars; `usd` is None where the price is unknown."""

    tokens: int
    usd: float | None


@dataclass(slots=True)
class Account:
    """One scope's caps, and what it used; `in_flight` is estimated, `spent` was measured."""

    cap: Budget = field(default_factory=Budget)
    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0  # turns whose price isn't known: `usd` lacks them
    tokens_in_flight: int = 0
    usd_in_flight: float = 0.0


@dataclass(frozen=True, slots=True)
class Debit:
    """A turn in flight: what `settle` or `cancel` wants back."""

    number: int
    cost: Cost
    scopes: tuple[str, ...]


def cost_of(usage: Usage) -> Cost:
    """What a measured turn comes to."""
    tokens = usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return Cost(tokens=tokens, usd=usage.usd)


class Ledger:
    """One run's accounts. Teams and tasks have no cap of their own unless `caps` gives one, by `team:X` or `task:X`."""

    def __init__(self, budget: Budget, *, caps: Mapping[str, Budget] | None = None) -> None:
        self._accounts: dict[str, Account] = {RUN: Account(budget)}
        for scope, cap in (caps or {}).items():
            self._accounts[scope] = Account(cap)
        self._open: dict[int, Debit] = {}
        self._next = 0
        self.refusals: dict[str, str] = {}  # by scope, the first time its cap was reached, in words

    @property
    def refusal(self) -> str:
        """The first cap that was reached, in words; empty where none was."""
        return next(iter(self.refusals.values()), "")

    def refused(self, *, task: str, team: str = "") -> str:
        """Which cap above `task` was reached before, in words; empty where none was."""
        return next((self.refusals[scope] for scope in _scopes(task, team) if scope in self.refusals), "")

    def account(self, *, task: str = "", team: str = "") -> Account:
        """A task's, a team's or, with neither, the run's account."""
        return self._account(f"task:{task}" if task else f"team:{team}" if team else RUN)

    def check(self, cost: Cost, *, task: str, team: str = "") -> str:
        """Which cap a turn of `cost` would pass, in words; empty where none."""
        for scope in _scopes(task, team):
            if why := _refusal(scope, self._account(scope), cost):
                return why
        return ""

    def debit(self, cost: Cost, *, task: str, team: str = "") -> Debit:
        """Set `cost` aside for a turn about to be sent; raises `BudgetError` where a cap forbids it."""
        scopes = _scopes(task, team)
        for scope in scopes:
            if why := _refusal(scope, self._account(scope), cost):
                self.refusals.setdefault(scope, why)
                raise BudgetError(why, scope=scope)
        self._next += 1
        debit = Debit(self._next, cost, scopes)
        self._open[debit.number] = debit
        for scope in scopes:
            self._hold(scope, cost, 1)
        return debit

    def settle(self, debit: Debit, used: Usage | None) -> None:
        """The turn is over and used this; None where nobody knows, and the estimate stands as spent.

        Raises `ValueError` for a debit that was settled before.
        """
        if self._open.pop(debit.number, None) is None:
            raise ValueError(f"debit {debit.number} was settled before")
        cost = debit.cost if used is None else cost_of(used)
        for scope in debit.scopes:
            self._hold(scope, debit.cost, -1)
            account = self._account(scope)
            account.tokens += cost.tokens
            if cost.usd is None:
                account.unpriced += 1
            else:
                account.usd += cost.usd

    def cancel(self, debit: Debit) -> None:
        """The turn was never sent, or refused before it cost anything."""
        self.settle(debit, Usage())

    def _account(self, scope: str) -> Account:
        account = self._accounts.get(scope)
        if account is None:
            account = self._accounts[scope] = Account()
        return account

    def _hold(self, scope: str, cost: Cost, sign: int) -> None:
        account = self._account(scope)
        account.tokens_in_flight += sign * cost.tokens
        account.usd_in_flight = max(0.0, account.usd_in_flight + sign * (cost.usd or 0.0))


def _scopes(task: str, team: str) -> tuple[str, ...]:
    return (RUN, *([f"team:{team}"] if team else ()), f"task:{task}")


def _refusal(scope: str, account: Account, cost: Cost) -> str:
    cap = account.cap
    whose = scope.replace(":", " ") or "the run"
    held = account.tokens + account.tokens_in_flight
    if cap.tokens is not None and held + cost.tokens > cap.tokens:
        return (
            f"budget: {whose} may use {cap.tokens:,} tokens; {held:,} are spent or in flight, and the next turn may "
            f"take {cost.tokens:,}"
        )
    if cap.usd is None:
        return ""
    if cost.usd is None:
        if cap.tokens is None:
            return f"budget: {whose} is capped in dollars, and the model's price is unknown; cap it in tokens"
        return ""
    spent = account.usd + account.usd_in_flight
    if spent + cost.usd > cap.usd + _ROUNDING:
        return (
            f"budget: {whose} may spend ${cap.usd:.4f}; ${spent:.4f} are spent or in flight, and the next turn may "
            f"cost ${cost.usd:.4f}"
        )
    return ""
