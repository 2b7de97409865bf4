"""Tokens a minute as a rate: continuously refilled buckets, one set for each provider and model (pure).

The rules are the provider's own (Anthropic: requests, uncached input tokens and output tokens are separate token
buckets that refill continuously; output counts as `max_tokens` when a request starts and is settled when it ends;
`anthropic-ratelimit-*` headers tell the state and a 429's `retry-after` the pause). So a turn is debited before it is
sent, settled with its measured usage, and the headers may only lower what we believe is left.

Instants are seconds on any monotonic clock that the caller keeps; amounts are tokens or requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from maos_bot.errors import ConfigError

REQUESTS: Final = "requests"
INPUT: Final = "input-tokens"
OUTPUT: Final = "output-tokens"


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

    def clamp(self, remaining: float, now: float) -> None:
        """The provider says that only `remaining` is left: believe it where it is less."""
        self._level = min(self.level(now), remaining)


@dataclass(frozen=True, kw_only=True, slots=True)
class Debit:
    """What one turn was expected to take of each bucket."""

    amounts: Mapping[str, float]


class TokenRate:
    """The buckets of one provider and model."""

    def __init__(self, per_minute: Mapping[str, float], *, now: float) -> None:
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
        return Debit(amounts={name: amounts.get(name, 0.0) for name in self.buckets})

    def settle(self, debit: Debit, used: Mapping[str, float], now: float) -> None:
        """Replace a debit by what the turn really used: the difference is taken or given back."""
        for name, bucket in self.buckets.items():
            bucket.take(used.get(name, debit.amounts[name]) - debit.amounts[name], now)

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
