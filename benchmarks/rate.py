"""How much of a provider's token rate is used, and how often it turns a request away.

A simulated provider keeps the rules Anthropic publishes, in virtual time: separate buckets for requests, uncached input
tokens and output tokens that refill all the time; output counts as `max_tokens` when a request arrives and is settled
when it ends; a request that doesn't fit gets a 429 with `retry-after`; answers carry the `anthropic-ratelimit-*`
headers. Between us and it lies a network, so it sees a request a moment later than we count it. Agents always have a
next turn to send. `utilisation` is the share of the scarcest bucket's rate (and what it held at first) that was used.

Scenes: `known` (the limits are configured), `learned` (they are known from headers alone), `shared` (somebody else
takes a fifth of the same limits in bursts, which only the headers tell), and, to compare, `unmetered`: the same agents,
each waiting only for its own `retry-after`.

`sdk` is no simulation: 200 turns of agents go through the run's own way to models (account, rate, retries) and the
provider's SDK to a loopback server that keeps the same rules, on a clock that is 10 times as fast as ours.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from benchmarks._common import emit
from benchmarks._provider import Provider as Server
from benchmarks._provider import blocks_of
from maos_bot.agents.turns import Payer, Turns
from maos_bot.model import Budget, Task
from maos_bot.models.anthropic import AnthropicProvider
from maos_bot.models.budget import Ledger
from maos_bot.models.client import ModelClient, Target
from maos_bot.models.prices import load_prices
from maos_bot.models.protocol import Asked, Turn
from maos_bot.resources.token_rate import INPUT, OUTPUT, REQUESTS, Debit, TokenRate, TokenRates

LIMITS: Final[Mapping[str, float]] = {REQUESTS: 1000.0, INPUT: 80_000.0, OUTPUT: 32_000.0}
AGENTS: Final = 16
MAX_TOKENS: Final = 1024.0
SHARE: Final = 0.2


class Provider:
    """The other side: its own count, in its own code."""

    def __init__(self, limits: Mapping[str, float], *, others: float, rng: random.Random) -> None:
        self.limits = limits
        self.left = dict(limits)
        self.used = dict.fromkeys(limits, 0.0)
        self.requests = 0
        self.throttled = 0
        self._others = others
        self._rng = rng
        self._at = 0.0

    def refill(self, now: float) -> None:
        """Let time pass; the others take their part of what comes in, in bursts."""
        passed, self._at = now - self._at, now
        for name, limit in self.limits.items():
            taken = passed * limit / 60 * self._others * self._rng.uniform(0, 2)
            self.left[name] = min(limit, self.left[name] + passed * limit / 60) - taken

    def arrive(self, wanted: Mapping[str, float], now: float) -> dict[str, str]:
        """Take a request in, or turn it away: then there is a `retry-after` among the headers."""
        self.refill(now)
        self.requests += 1
        short = max((amount - self.left[name]) / self.limits[name] * 60 for name, amount in wanted.items())
        if short > 1e-9:
            self.throttled += 1
            return {**self._headers(), "retry-after": str(int(short) + 1)}
        for name, amount in wanted.items():
            self.left[name] -= amount
        return self._headers()

    def end(self, wanted: Mapping[str, float], used: Mapping[str, float], now: float) -> dict[str, str]:
        """A request ends: what it didn't use comes back."""
        self.refill(now)
        for name, amount in used.items():
            self.left[name] = min(self.limits[name], self.left[name] + wanted[name] - amount)
            self.used[name] += amount
        return self._headers()

    def _headers(self) -> dict[str, str]:
        said = {}
        for name, limit in self.limits.items():
            said[f"anthropic-ratelimit-{name}-limit"] = f"{limit:.0f}"
            said[f"anthropic-ratelimit-{name}-remaining"] = f"{max(0.0, self.left[name]):.0f}"
        return said


class Scene:
    """One simulated stretch of time; without `metered` nobody asks our rate, and each obeys only its own 429."""

    def __init__(self, *, known: bool, others: float, metered: bool, seed: int) -> None:
        self.rng = random.Random(seed)
        self.others = others
        self.provider = Provider(LIMITS, others=others, rng=random.Random(seed + 1))
        self.rate = TokenRate(LIMITS if known else {}, now=0.0)
        self.metered = metered
        self.queue: list[tuple[float, int, Callable[[float], None]]] = []
        self.count = 0

    def play(self, seconds: float) -> dict[str, float]:
        """Run it and give the figures."""
        for number in range(AGENTS):
            # With nothing known one turn goes first, and its headers say how much the others may send.
            self._at(0.0 if self.rate.buckets or not self.metered or not number else 5.0, self._next_turn())
        while self.queue and self.queue[0][0] < seconds:
            now, _, step = heapq.heappop(self.queue)
            step(now)
        offered = {name: limit * (1 + seconds / 60 * (1 - self.others)) for name, limit in LIMITS.items()}
        return {
            "throttled": self.provider.throttled,
            "requests": self.provider.requests,
            "utilisation": max(self.provider.used[name] / offered[name] for name in LIMITS),
        }

    def _at(self, when: float, step: Callable[[float], None]) -> None:
        self.count += 1
        heapq.heappush(self.queue, (when, self.count, step))

    def _next_turn(self) -> Callable[[float], None]:
        wanted = {REQUESTS: 1.0, INPUT: float(self.rng.randint(300, 4000)), OUTPUT: MAX_TOKENS}
        used = {**wanted, OUTPUT: float(self.rng.randint(60, int(MAX_TOKENS)))}
        return lambda now: self._send(wanted, used, now)

    def _send(self, wanted: Mapping[str, float], used: Mapping[str, float], now: float) -> None:
        wait = self.rate.wait_s(wanted, now) if self.metered else 0.0
        if wait > 0:
            self._at(now + wait, lambda later: self._send(wanted, used, later))
            return
        debit = self.rate.debit(wanted, now)
        network_s = self.rng.uniform(0.02, 0.2)
        self._at(now + network_s, lambda later: self._arrive(wanted, used, debit, later))

    def _arrive(self, wanted: Mapping[str, float], used: Mapping[str, float], debit: Debit, now: float) -> None:
        headers = self.provider.arrive(wanted, now)
        back_s = self.rng.uniform(0.02, 0.2)
        if "retry-after" in headers:
            self._at(now + back_s, lambda later: self._refused(wanted, used, debit, headers, later))
            return
        lasts_s = 0.5 + used[OUTPUT] / 60
        self._at(now + lasts_s, lambda later: self._end(wanted, used, debit, later))

    def _refused(
        self,
        wanted: Mapping[str, float],
        used: Mapping[str, float],
        debit: Debit,
        headers: Mapping[str, str],
        now: float,
    ) -> None:
        self.rate.settle(debit, dict.fromkeys(wanted, 0.0), now)
        if self.metered:
            self.rate.follow(headers, now)
        self._at(now + float(headers["retry-after"]), lambda later: self._send(wanted, used, later))

    def _end(self, wanted: Mapping[str, float], used: Mapping[str, float], debit: Debit, now: float) -> None:
        headers = self.provider.end(wanted, used, now)
        back_s = self.rng.uniform(0.02, 0.2)
        self._at(now + back_s, lambda later: self._answered(used, debit, headers, later))

    def _answered(self, used: Mapping[str, float], debit: Debit, headers: Mapping[str, str], now: float) -> None:
        self.rate.settle(debit, used, now)
        if self.metered:
            self.rate.follow(headers, now)
        self._at(now, self._next_turn())


SCENES: Final[Mapping[str, Mapping[str, Any]]] = {
    "known": {"known": True, "others": 0.0, "metered": True},
    "learned": {"known": False, "others": 0.0, "metered": True},
    "shared": {"known": True, "others": SHARE, "metered": True},
    "unmetered": {"known": True, "others": 0.0, "metered": False},
}


SDK_TURNS: Final = 200
SDK_LIMITS: Final[Mapping[str, float]] = {REQUESTS: 1000.0, INPUT: 400_000.0, OUTPUT: 100_000.0}
_FASTER: Final = 10.0
_TOKENS: Final = 4000


def through_sdk() -> dict[str, float]:
    """200 turns of one run through the real client: how many were turned away, and how much of the rate was used."""
    import anthropic  # noqa: F401 - its second of loading is none of the rate's time

    begun = time.monotonic()

    def clock() -> float:
        return (time.monotonic() - begun) * _FASTER

    rules = Provider(SDK_LIMITS, others=0.0, rng=random.Random(1))

    def wanted(body: Mapping[str, Any]) -> dict[str, float]:
        size = sum(tokens for _, tokens, _ in blocks_of(body))
        return {REQUESTS: 1.0, INPUT: float(size), OUTPUT: float(body["max_tokens"])}

    def admit(body: Mapping[str, Any]) -> Mapping[str, str] | None:
        headers = rules.arrive(wanted(body), clock())
        return headers if "retry-after" in headers else None

    def over(body: Mapping[str, Any], output: int) -> Mapping[str, str]:
        asked = wanted(body)
        return rules.end(asked, {**asked, OUTPUT: float(output)}, clock())

    async def main() -> None:
        async with Server(
            lambda _: {"type": "text", "text": "y" * 1600}, delay_s=0.02, admit=admit, over=over
        ) as server:
            prices = load_prices()
            turns = Turns(
                Ledger(Budget()),
                prices,
                lambda report: ModelClient(
                    {"anthropic": AnthropicProvider(key="loopback", base_url=server.url)},
                    rates=TokenRates(now=0.0),
                    prices=prices,
                    report=report,
                    clock=clock,
                    sleep=lambda seconds: asyncio.sleep(seconds / _FASTER),
                ),
            )
            chain = (Target(provider="anthropic", model="claude-sonnet-5-5"),)
            workers = asyncio.Semaphore(AGENTS)

            async def one(number: int) -> None:
                payer = Payer(task=Task(id=f"t{number}", agent="ask"), attempt=1, tell=lambda *_, **__: None)
                asked = Asked(text=f"{number} " + "x" * (4 * _TOKENS))
                async with workers:
                    await turns.ask(Turn(model="", messages=(asked,), max_tokens=800, timeout_s=60), chain, payer)

            await asyncio.gather(*(one(number) for number in range(SDK_TURNS)))
            await turns.close()

    asyncio.run(main())
    offered = {name: limit * (1 + clock() / 60) for name, limit in SDK_LIMITS.items()}
    return {
        "throttled": rules.throttled,
        "requests": rules.requests,
        "utilisation": max(rules.used[name] / offered[name] for name in SDK_LIMITS),
    }


def measure(*, seeds: int, seconds: float) -> dict[str, Any]:
    """Every scene with every seed; throttled are summed, of the utilisation the least is given."""
    figures = {
        name: [Scene(**scene, seed=seed).play(seconds) for seed in range(seeds)] for name, scene in SCENES.items()
    }
    figures["sdk"] = [through_sdk()]
    throttled = {name: int(sum(each["throttled"] for each in runs)) for name, runs in figures.items()}
    utilisation = {name: min(each["utilisation"] for each in runs) for name, runs in figures.items()}
    return {
        "benchmark": "rate",
        "throttled": throttled["sdk"],
        "utilisation": utilisation["sdk"],
        "throttled_by_scene": throttled,
        "requests_by_scene": {name: int(sum(each["requests"] for each in runs)) for name, runs in figures.items()},
        "utilisation_by_scene": utilisation,
        "simulated_s": seconds * seeds,
        "agents": AGENTS,
        "limits_per_minute": dict(LIMITS),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer seeds")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--data", help="not used here; taken because every benchmark takes it")
    arguments = parser.parse_args()
    emit(measure(seeds=5 if arguments.quick else 50, seconds=1800.0), arguments.json)


if __name__ == "__main__":
    main()
