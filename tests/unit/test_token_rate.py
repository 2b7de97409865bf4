"""The token rate against a simulated provider that keeps Anthropic's published bucket rules."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.errors import ConfigError
from maos_bot.resources.token_rate import INPUT, OUTPUT, REQUESTS, Bucket, TokenRate, TokenRates


class Provider:
    """A provider of its own making: counts in integers of micro-tokens, refuses what doesn't fit."""

    def __init__(self, limits: dict[str, float]) -> None:
        self.limits = limits
        self.left = dict(limits)
        self.at = 0.0
        self.refused = 0
        self.accepted = dict.fromkeys(limits, 0.0)

    def refill(self, now: float) -> None:
        for name, limit in self.limits.items():
            self.left[name] = min(limit, self.left[name] + (now - self.at) * limit / 60)
        self.at = now

    def start(self, amounts: dict[str, float], now: float) -> bool:
        self.refill(now)
        if any(self.left[name] + 1e-6 < amount for name, amount in amounts.items()):
            self.refused += 1
            return False
        for name, amount in amounts.items():
            self.left[name] -= amount
        return True

    def settle(self, reserved: dict[str, float], used: dict[str, float], now: float) -> None:
        self.refill(now)
        for name, amount in used.items():
            self.left[name] = min(self.limits[name], self.left[name] + reserved[name] - amount)
            self.accepted[name] += amount


@pytest.mark.parametrize("seed", range(5))
def test_no_turn_is_throttled_and_over_90_percent_of_the_rate_is_used(seed: int) -> None:
    limits = {REQUESTS: 600.0, INPUT: 40_000.0, OUTPUT: 16_000.0}
    rng = random.Random(seed)
    provider, rate = Provider(limits), TokenRate(limits, now=0.0)
    now, end = 0.0, 1800.0
    in_flight: list[tuple[float, int, dict[str, float], dict[str, float], object]] = []
    number = 0
    while now < end:
        wanted = {REQUESTS: 1.0, INPUT: float(rng.randint(200, 3000)), OUTPUT: 800.0}
        used = wanted | {OUTPUT: float(rng.randint(50, 800))}
        while (wait := rate.wait_s(wanted, now)) > 0 or len(in_flight) >= 8:
            if in_flight and (len(in_flight) >= 8 or in_flight[0][0] <= now + wait):
                now, _, reserved, spent, debit = heapq.heappop(in_flight)
                provider.settle(reserved, spent, now)
                rate.settle(debit, spent, now)  # type: ignore[arg-type]
            else:
                now += wait + 1e-9
        debit = rate.debit(wanted, now)
        assert provider.start(wanted, now), f"429 at {now:.1f} s"
        number += 1
        heapq.heappush(in_flight, (now + rng.uniform(1, 6), number, wanted, used, debit))
    assert provider.refused == 0
    utilisation = max(provider.accepted[name] / (limits[name] + limits[name] * now / 60) for name in limits)
    assert utilisation > 0.9


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 2000), st.floats(0, 2000)), max_size=60))
def test_the_bucket_never_holds_more_than_its_capacity_and_never_lets_more_than_the_rate_through(
    turns: list[tuple[float, float, float]],
) -> None:
    bucket, now, taken = Bucket(1000, now=0.0), 0.0, 0.0
    for gap, amount, used in turns:
        now += gap
        if bucket.wait_s(amount, now) == 0:
            bucket.take(amount, now)
            bucket.take(used - amount, now)
            taken += used
        assert bucket.level(now) <= 1000
        assert taken <= 1000 + now * 1000 / 60 + 2000  # the one oversized turn in flight


def test_a_turn_larger_than_the_bucket_may_go_once_it_is_full() -> None:
    bucket = Bucket(600, now=0.0)
    assert bucket.wait_s(5000, 0.0) == 0.0
    bucket.take(5000, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(440.1)


def test_headers_only_lower_what_is_left_and_a_pause_is_never_cut_short() -> None:
    rate = TokenRate({INPUT: 6000}, now=0.0)
    rate.clamp({INPUT: 9999, "unknown": 1}, 0.0)
    assert rate.buckets[INPUT].level(0.0) == 6000
    rate.clamp({INPUT: 0}, 0.0)
    assert rate.reason({INPUT: 1200}, 0.0) == "tokens: refill in 12 s"
    rate.pause(30, 0.0)
    rate.pause(5, 0.0)
    assert rate.wait_s({INPUT: 1}, 0.0) == 30
    assert rate.reason({INPUT: 1}, 0.0) == "tokens: the provider asked for a pause of 30 s"
    assert rate.wait_s({INPUT: 1}, 31.0) == 0


def test_a_rate_of_nothing_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="lets nothing through"):
        Bucket(0, now=0.0)


HEADERS = {
    "Anthropic-RateLimit-Requests-Limit": "50",
    "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-input-tokens-remaining": "12000",
    "anthropic-ratelimit-output-tokens-limit": "not a number",
}


def test_a_model_not_met_before_is_bounded_by_what_its_headers_say() -> None:
    rates = TokenRates(now=0.0)
    assert rates.wait_s("anthropic", "m", {INPUT: 1e9}, 0.0) == 0.0
    rates.rate("anthropic", "m", 0.0).follow(HEADERS, 0.0)
    assert {name: bucket.capacity for name, bucket in rates.rate("anthropic", "m", 0.0).buckets.items()} == {
        REQUESTS: 50.0,
        INPUT: 30_000.0,
    }
    assert rates.wait_s("anthropic", "m", {INPUT: 12_500}, 0.0) == pytest.approx(1.0)
    assert rates.reason("anthropic", "m", {INPUT: 12_500}, 0.0) == "tokens: refill in 1 s"
    assert rates.wait_s("anthropic", "other", {INPUT: 30_000}, 0.0) == 0.0


def test_headers_raise_no_limit_of_our_own() -> None:
    rate = TokenRate({INPUT: 10_000.0}, now=0.0)
    rate.follow(HEADERS, 0.0)
    assert rate.buckets[INPUT].capacity == 10_000.0
    rate.follow({"anthropic-ratelimit-input-tokens-limit": "6000"}, 0.0)
    assert rate.buckets[INPUT].capacity == 6000.0
    assert rate.buckets[INPUT].level(0.0) == 6000.0


def test_what_was_just_sent_is_taken_off_what_the_provider_says_is_left() -> None:
    rate = TokenRate({INPUT: 30_000.0}, now=0.0)
    rate.debit({INPUT: 5000.0}, 0.0)
    rate.debit({INPUT: 1000.0}, 9.5)
    rate.follow(HEADERS, 10.0)
    assert rate.buckets[INPUT].level(10.0) == 11_000.0


@pytest.mark.parametrize(("said", "pause"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 60.0), ("-1", 60.0)])
def test_retry_after_pauses_all_of_a_model_and_no_other(said: str, pause: float) -> None:
    rates = TokenRates(now=0.0)
    rates.rate("anthropic", "m", 0.0).follow({"retry-after": said}, 0.0)
    assert rates.wait_s("anthropic", "m", {INPUT: 1.0}, 0.0) == pause
    assert rates.wait_s("anthropic", "other", {INPUT: 1.0}, 0.0) == 0.0


def test_the_run_s_own_limit_is_over_all_models() -> None:
    rates = TokenRates(total_per_minute=6000.0, now=0.0)
    turn = rates.debit("anthropic", "m", {INPUT: 3000.0, OUTPUT: 2000.0}, 0.0)
    assert rates.wait_s("openai", "n", {INPUT: 2000.0}, 0.0) == pytest.approx(10.0)
    rates.settle(turn, {OUTPUT: 500.0}, 0.0)
    assert rates.wait_s("openai", "n", {INPUT: 2000.0}, 0.0) == 0.0
    assert rates.reason("openai", "n", {INPUT: 3000.0}, 0.0) == "tokens: refill in 5 s"
