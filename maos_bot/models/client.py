"""Turns that get through: rates, retries, fallbacks and accounts above the providers.

Each try passes the token rate: it is debited before it is sent, settled with what it used, and the provider's headers
are followed. The first turn with a prefix ends before others with the same one start, so that one writes the cache and
all others read it. What fails is told to `report` too, with what it is known to have cost.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from maos_bot.frozen import dataclass
from maos_bot.model import Usage
from maos_bot.models.health import Health
from maos_bot.models.prices import Prices
from maos_bot.models.protocol import Answer, Fault, Provider, ProviderError, RateState, Turn, signature
from maos_bot.models.sizes import estimated_tokens
from maos_bot.resources.token_rate import INPUT, OUTPUT, REQUESTS, TokenRates

TRIES: Final = 4  # of one model
FIRST_PAUSE_S: Final = 1.0  # where the provider names none; doubles
LONGEST_PAUSE_S: Final = 30.0
PATIENCE_S: Final = 60.0  # a longer `retry-after` sends us to the next model, where there is one
_NEXT: Final = frozenset({Fault.NO_RIGHT, Fault.NO_MODEL, Fault.NO_CREDIT})  # another model may do what this one can't


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A model at a provider."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """One try and what it cost. `known` is False where the provider sent no usage: its tokens are not measured."""

    task: str
    target: Target
    usage: Usage
    known: bool
    duration_s: float
    fault: Fault | None = None
    waited: str = ""  # why it waited before it was sent
    waited_s: float = 0.0


class ModelClient:
    """The one way to models in a run. `clock` and `sleep` agree on what a second is."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        rates: TokenRates,
        prices: Prices,
        report: Callable[[Spent], None],
        health: Health | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tries: int = TRIES,
    ) -> None:
        self.providers = providers
        self.health = health or Health()
        self._rates = rates
        self._prices = prices
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._tries = tries
        self._queues: dict[Target, asyncio.Lock] = {}
        self._cached: set[_Beginning] = set()
        self._writing: dict[_Beginning, asyncio.Lock] = {}

    async def answer(
        self,
        turn: Turn,
        chain: Sequence[Target],
        *,
        task: str = "",
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Send `turn` to the first model of `chain` that answers; `turn.model` doesn't matter.

        A try that broke in the middle has sent its text to `on_text` already. Raises the last `ProviderError`, with
        what every model said.
        """
        failures: list[ProviderError] = []
        now = self._clock()
        well = [target for target in chain if self.health.ill(str(target), now) is None] or list(chain)
        for number, target in enumerate(well):
            try:
                return await self._answer(turn, target, task, on_text, last=number == len(well) - 1)
            except ProviderError as error:
                failures.append(error)
                if not (error.passing or error.fault in _NEXT):
                    break
        if not failures:
            raise ProviderError(Fault.NO_MODEL, "no model to ask", hint="give a provider's key")
        last = failures[-1]
        if len(failures) > 1:
            last = ProviderError(
                last.fault, "; then ".join(error.message for error in failures), hint=last.hint, usage=last.usage
            )
        raise last

    async def warm(self, target: Target) -> None:
        """Make the way to `target` ready."""
        if target.provider in self.providers:
            await self.providers[target.provider].warm()

    async def close(self) -> None:
        """Close every provider."""
        for provider in self.providers.values():
            await provider.close()

    async def _answer(
        self, turn: Turn, target: Target, task: str, on_text: Callable[[str], None] | None, *, last: bool
    ) -> Answer:
        key = _beginning(target, turn)
        if not turn.prefix or key in self._cached:
            return await self._retried(turn, target, task, on_text, last=last)
        async with self._writing.setdefault(key, asyncio.Lock()):
            if key not in self._cached:
                answer = await self._retried(turn, target, task, on_text, last=last)
                self._cached.add(key)
                return answer
        return await self._retried(turn, target, task, on_text, last=last)

    async def _retried(
        self, turn: Turn, target: Target, task: str, on_text: Callable[[str], None] | None, *, last: bool
    ) -> Answer:
        for number in range(1, self._tries + 1):
            try:
                return await self._once(turn, target, task, on_text)
            except ProviderError as error:
                self.health.failed(str(target), error.fault, self._clock())
                too_long = error.retry_after_s is not None and error.retry_after_s > PATIENCE_S and not last
                if not error.passing or number == self._tries or too_long:
                    raise
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (number - 1)) * random.uniform(0.75, 1.25)  # noqa: S311
                if error.retry_after_s is not None:
                    pause_s = error.retry_after_s
                if error.fault is Fault.RATE_LIMITED:  # all of this model wait, not this turn alone
                    self._rates.rate(target.provider, target.model, self._clock()).pause(pause_s, self._clock())
                else:
                    await self._sleep(pause_s)
        raise AssertionError("unreachable")

    async def _once(self, turn: Turn, target: Target, task: str, on_text: Callable[[str], None] | None) -> Answer:
        known_prefix = _beginning(target, turn) in self._cached
        amounts = {
            REQUESTS: 1.0,
            INPUT: float(estimated_tokens(turn, prefix=not known_prefix)),
            OUTPUT: float(turn.max_tokens),
        }
        begun = self._clock()
        reason = ""
        async with self._queues.setdefault(target, asyncio.Lock()):  # in order: a big turn isn't passed by small ones
            while (wait_s := self._rates.wait_s(target.provider, target.model, amounts, self._clock())) > 0:
                reason = reason or self._rates.reason(target.provider, target.model, amounts, self._clock())
                await self._sleep(wait_s)
            debit = self._rates.debit(target.provider, target.model, amounts, self._clock())
        sent = self._clock()
        usage: Usage | None = None
        rate = RateState()
        fault: Fault | None = None
        counted = True  # whether the provider counts it, as far as we know; one that is cancelled was sent
        try:
            answer = await self.providers[target.provider].answer(replace(turn, model=target.model), on_text)
            rate = answer.rate
            usage = self._prices.priced(target.provider, target.model, answer.usage) if answer.usage_known else None
            self.health.succeeded(str(target))
            return replace(answer, usage=usage or replace(answer.usage, usd=None))
        except ProviderError as error:
            fault, rate = error.fault, error.rate or rate
            if error.usage is not None:
                usage = self._prices.priced(target.provider, target.model, error.usage)
            counted = fault in {Fault.CUT, Fault.SILENT, Fault.GARBLED}
            raise
        finally:
            now = self._clock()
            self._rates.settle(debit, _used(usage, counted=counted), now)
            self._rates.rate(target.provider, target.model, now).follow(_headers(rate), now)
            self._report(
                Spent(
                    task=task,
                    target=target,
                    usage=usage or Usage(usd=None),
                    known=usage is not None,
                    duration_s=now - sent,
                    fault=fault,
                    waited=reason,
                    waited_s=sent - begun,
                )
            )


_Beginning: TypeAlias = tuple[Target, str, str]


def _beginning(target: Target, turn: Turn) -> _Beginning:
    """What a provider's cache knows a prefix by: tools stand before it, so other tools are another beginning."""
    return target, turn.prefix, signature(turn.tools)


def _used(usage: Usage | None, *, counted: bool) -> dict[str, float]:
    """What a turn took of the buckets: as measured, else as debited where it got through, else nothing."""
    if usage is not None:
        return {INPUT: float(usage.input_tokens + usage.cache_write_tokens), OUTPUT: float(usage.output_tokens)}
    return {} if counted else {INPUT: 0.0, OUTPUT: 0.0}


def _headers(rate: RateState) -> dict[str, str]:
    said = {f"anthropic-ratelimit-{name}-limit": str(value) for name, value in rate.limits.items()}
    return said | {f"anthropic-ratelimit-{name}-remaining": str(value) for name, value in rate.remaining.items()}
