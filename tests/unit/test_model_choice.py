"""Prices are known or unknown, never guessed; the router says why; a failing model rests."""

from __future__ import annotations

from maos_bot.model import Usage
from maos_bot.models.client import Target
from maos_bot.models.health import FAILURES, REST_S, Health
from maos_bot.models.prices import load_prices
from maos_bot.models.protocol import Fault
from maos_bot.models.router import Candidate, Record, choose

SMALL = Candidate(target=Target(provider="anthropic", model="claude-haiku-5-5"), grade=1)
GENERAL = Candidate(target=Target(provider="anthropic", model="claude-sonnet-5-5"), grade=2)
PRICES = load_prices()


def test_a_model_that_only_looks_like_a_known_one_has_no_price() -> None:
    assert PRICES.price("anthropic", "claude-sonnet-5-5-20260901") is not None
    assert PRICES.price("anthropic", "claude-sonnet-5-55") is None
    assert PRICES.priced("openai", "nobody-knows", Usage(input_tokens=5, usd=None)).usd is None


def test_the_list_says_where_it_is_from() -> None:
    assert PRICES.source.startswith("genai-prices ")
    assert len(PRICES.date) == len("2026-11-24")


def test_a_simple_task_gets_the_cheapest_that_is_good_enough() -> None:
    choice = choose("summary", 2, [GENERAL, SMALL], prices=PRICES, health=Health(), now=0.0)
    assert choice.chain == (SMALL.target, GENERAL.target)
    assert "grade 1" in choice.why


def test_a_poor_record_and_bad_health_put_a_model_last() -> None:
    records = {SMALL.target: Record(tasks=10, accepted=2)}
    poor = choose("summary", 2, [SMALL, GENERAL], prices=PRICES, health=Health(), now=0.0, records=records)
    assert poor.chain[0] == GENERAL.target
    assert "2 of 10 accepted" in poor.why
    health = Health()
    for _ in range(FAILURES):
        health.failed(str(SMALL.target), Fault.OVERLOADED, 0.0)
    assert choose("summary", 2, [SMALL, GENERAL], prices=PRICES, health=health, now=1.0).chain[0] == GENERAL.target
    assert health.ill(str(SMALL.target), REST_S + 1) is None


def test_a_pin_names_a_family_by_its_newest_or_a_model_we_do_not_know() -> None:
    family = choose("edit", 5, [SMALL, GENERAL], prices=PRICES, health=Health(), now=0.0, pin="claude-sonnet")
    assert family.chain == (GENERAL.target,)
    unknown = choose("edit", 5, [SMALL], prices=PRICES, health=Health(), now=0.0, pin="local-7b")
    assert unknown.chain == (Target(provider="anthropic", model="local-7b"),)
