"""Tokens a minute as a rate: continuously refilled buckets, one set for each provider and model (pure).

The rules are the provider's own (Anthropic: requests, uncached input tokens and output tokens are separate token
buckets that refill continuously; output counts as `max_tokens` when a request starts and is settled when it ends;
`anthropic-ratelimit-*` headers tell the state and a 429's `retry-after` the pause). So a turn is debited before it is
sent, settled with its measured usage, and the headers may only lower what we believe is left.

Instants are seconds on any monotonic clock that the caller keeps; amounts are tokens or requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from maos_bot.errors import ConfigError
from maos_bot.frozen import dataclass

REQUESTS: Final = "requests"
INPUT: Final = "input-tokens"
OUTPUT: Final = "output-tokens"
UNSEEN_S: Final = 1.0  # a turn that was sent so lately may not have reached the provider's count
PAUSE_S: Final = 60.0  # where a `retry-after` isn't a number of seconds


class Bucket:
    """A bucket that holds up to `per_minute` and refills at that rate."""

    __slots__ = ("_at", "_level", "capacity", "rate")

    def __init__(self, per_minute: float, *, now: float) -> None:
        if not per_minute > 0:
            raise ConfigError(f"a rate of {per_minute:g} a minute lets nothing through", hint="give a number above 0")
        self.capacity = per_minute
        self.rate = per_minute / 60.0
        self._level = per_minute
        self._at = now

    def level(self, now: float) -> float:
        """What is left at `now`; negative while a settlement that was dearer than its debit is paid back."""
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.rate)
            self._at = now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; one that is larger than the bucket may go when the bucket is full."""
        missing = min(amount, self.capacity) - self.level(now)
        return missing / self.rate if missing > 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        """Debit `amount`; a negative one is given back."""
        self._level = min(self.capacity, self.level(now) - amount)

    def resize(self, per_minute: float, now: float) -> None:
        """The rate is another from `now` on; what is left stays, as far as it fits."""
        self._level = min(self.level(now), per_minute)
        self.capacity = per_minute
        self.rate = per_minute / 60.0

    def clamp(self, remaining: float, now: float) -> None:
        """The provider says that only `remaining` is left: believe it where it is less."""
        self._level = min(self.level(now), remaining)


@dataclass(frozen=True, kw_only=True, slots=True)
class Debit:
    """What one turn was expected to take of each bucket, and when it was sent."""

    amounts: Mapping[str, float]
    at: float = 0.0


class TokenRate:
    """The buckets of one provider and model."""

    def __init__(self, per_minute: Mapping[str, float], *, now: float) -> None:
        """`per_minute` is by bucket name; what isn't named isn't bounded until the provider says so."""
        self._own = dict(per_minute)
        self._open: dict[int, Debit] = {}  # of turns that aren't settled
        self.buckets = {name: Bucket(limit, now=now) for name, limit in per_minute.items()}
        self.paused_until = float("-inf")

    def wait_s(self, amounts: Mapping[str, float], now: float) -> float:
        """Seconds until a turn of `amounts` may start; 0 if it may start at `now`."""
        waits = [bucket.wait_s(amounts.get(name, 0.0), now) for name, bucket in self.buckets.items()]
        return max([0.0, self.paused_until - now, *waits])

    def reason(self, amounts: Mapping[str, float], now: float) -> str:
        """Why such a turn waits, in words; empty if it doesn't."""
        wait = self.wait_s(amounts, now)
        if wait <= 0:
            return ""
        if self.paused_until - now >= wait:
            return f"tokens: the provider asked for a pause of {wait:.0f} s"
        return f"tokens: refill in {wait:.0f} s"

    def debit(self, amounts: Mapping[str, float], now: float) -> Debit:
        """Take what a turn is expected to use, before it is sent."""
        for name, bucket in self.buckets.items():
            bucket.take(amounts.get(name, 0.0), now)
        debit = Debit(amounts=dict(amounts), at=now)
        self._open[id(debit)] = debit
        return debit

    def settle(self, debit: Debit, used: Mapping[str, float], now: float) -> None:
        """Replace a debit by what the turn really used: the difference is taken or given back."""
        self._open.pop(id(debit), None)
        for name, bucket in self.buckets.items():
            expected = debit.amounts.get(name, 0.0)
            bucket.take(used.get(name, expected) - expected, now)

    def follow(self, headers: Mapping[str, str], now: float) -> None:
        """Take in what an answer's headers say: how much is allowed, how much is left, how long to pause.

        `anthropic-ratelimit-NAME-limit` and `-remaining` for each bucket; names in any case. A limit of our own that is
        lower stays. A turn sent within the last `UNSEEN_S` may not be in the provider's count yet: it is taken off.
        """
        said = {name.lower(): value for name, value in headers.items()}
        for name in (REQUESTS, INPUT, OUTPUT):
            limit = _number(said.get(f"anthropic-ratelimit-{name}-limit"))
            if limit is not None and limit > 0:
                self._allow(name, min(limit, self._own.get(name, limit)), now)
            left = _number(said.get(f"anthropic-ratelimit-{name}-remaining"))
            if left is not None:
                unseen = sum(debit.amounts.get(name, 0.0) for debit in self._open.values() if now - debit.at < UNSEEN_S)
                self.clamp({name: left - unseen}, now)
        if "retry-after" in said:
            pause_s = _number(said["retry-after"])
            self.pause(PAUSE_S if pause_s is None else pause_s, now)

    def _allow(self, name: str, per_minute: float, now: float) -> None:
        bucket = self.buckets.get(name)
        if bucket is None:
            bucket = self.buckets[name] = Bucket(per_minute, now=now)
            bucket.take(sum(debit.amounts.get(name, 0.0) for debit in self._open.values()), now)
        elif bucket.capacity != per_minute:
            bucket.resize(per_minute, now)

    def clamp(self, remaining: Mapping[str, float], now: float) -> None:
        """Follow the provider's own count where it says less than ours.

        `remaining` must already leave out the debits of turns still in flight that the provider hasn't seen.
        """
        for name, left in remaining.items():
            if name in self.buckets:
                self.buckets[name].clamp(left, now)

    def pause(self, retry_after_s: float, now: float) -> None:
        """A 429: nobody sends before `retry_after_s` have passed. A shorter pause never ends a longer one."""
        self.paused_until = max(self.paused_until, now + retry_after_s)


class TokenRates:
    """The rates of one run: one for each provider and model, and one over all where the run has a limit of its own."""

    def __init__(self, *, total_per_minute: float | None = None, now: float) -> None:
        """`total_per_minute` bounds input and output tokens of all models together; None bounds them not."""
        self._total = TokenRate({} if total_per_minute is None else {_TOTAL: total_per_minute}, now=now)
        self._rates: dict[tuple[str, str], TokenRate] = {}

    def rate(self, provider: str, model: str, now: float) -> TokenRate:
        """The rate of `model`; one not met before bounds nothing until the provider's headers say so."""
        known = self._rates.get((provider, model))
        if known is None:
            known = self._rates[provider, model] = TokenRate({}, now=now)
        return known

    def wait_s(self, provider: str, model: str, amounts: Mapping[str, float], now: float) -> float:
        """Seconds until a turn of `amounts` may start; 0 if it may start at `now`."""
        return max(
            self.rate(provider, model, now).wait_s(amounts, now), self._total.wait_s({_TOTAL: _tokens(amounts)}, now)
        )

    def reason(self, provider: str, model: str, amounts: Mapping[str, float], now: float) -> str:
        """Why such a turn waits, in words; empty if it doesn't."""
        rate, total = self.rate(provider, model, now), {_TOTAL: _tokens(amounts)}
        if rate.wait_s(amounts, now) >= self._total.wait_s(total, now):
            return rate.reason(amounts, now)
        return self._total.reason(total, now)

    def debit(self, provider: str, model: str, amounts: Mapping[str, float], now: float) -> Turn:
        """Take what a turn is expected to use, before it is sent."""
        return Turn(
            rate=self.rate(provider, model, now),
            debit=self.rate(provider, model, now).debit(amounts, now),
            total=self._total.debit({_TOTAL: _tokens(amounts)}, now),
        )

    def settle(self, turn: Turn, used: Mapping[str, float], now: float) -> None:
        """Replace a turn's debit by what it really used."""
        turn.rate.settle(turn.debit, used, now)
        self._total.settle(turn.total, {_TOTAL: _tokens({**turn.debit.amounts, **used})}, now)


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """A turn on its way: what it was debited for its model and of the run's own limit."""

    rate: TokenRate
    debit: Debit
    total: Debit


_TOTAL: Final = "tokens"


def _tokens(amounts: Mapping[str, float]) -> float:
    return amounts.get(INPUT, 0.0) + amounts.get(OUTPUT, 0.0)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
