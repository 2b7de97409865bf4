"""The budget: no sum passes a cap by more than what turns in flight used beyond their estimates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.model import Budget, Usage
from maos_bot.models.budget import BudgetError, Cost, Debit, Ledger

_TURNS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["", "qa", "docs"]),
        st.integers(0, 5000),  # expected tokens
        st.integers(0, 9000),  # used tokens
        st.booleans(),  # whether an earlier turn settles first
    ),
    max_size=40,
)


@given(_TURNS, st.integers(0, 20_000), st.integers(0, 10_000))
def test_the_sum_never_passes_a_cap_by_more_than_the_turns_in_flight(
    turns: list[tuple[str, str, int, int, bool]], cap: int, team_cap: int
) -> None:
    price = 1e-5
    ledger = Ledger(Budget(tokens=cap, usd=cap * price), caps={"team:qa": Budget(tokens=team_cap)})
    flying: list[tuple[Debit, int]] = []
    excess = 0

    def land() -> None:
        nonlocal excess
        debit, used = flying.pop(0)
        excess += max(0, used - debit.cost.tokens)
        ledger.settle(debit, Usage(input_tokens=used, usd=used * price))

    for task, team, expected, used, settle_first in turns:
        if settle_first and flying:
            land()
        try:
            debit = ledger.debit(Cost(tokens=expected, usd=expected * price), task=task, team=team)
        except BudgetError:
            assert ledger.refusal
            continue
        run = ledger.account()
        assert run.tokens + run.tokens_in_flight <= cap, "let through beyond the cap"
        qa = ledger.account(team="qa")
        assert team != "qa" or qa.tokens + qa.tokens_in_flight <= team_cap
        flying.append((debit, used))
    while flying:
        land()
    run = ledger.account()
    assert run.tokens <= cap + excess
    assert run.usd <= (cap + excess) * price + 1e-6
    assert run.tokens == sum(ledger.account(task=task).tokens for task in "abc")
    assert run.tokens_in_flight == 0


def test_a_turn_without_a_price_is_held_by_tokens_alone() -> None:
    assert "cap it in tokens" in Ledger(Budget(usd=1.0)).check(Cost(tokens=10, usd=None), task="a")
    assert not Ledger(Budget(usd=1.0, tokens=100)).check(Cost(tokens=10, usd=None), task="a")


def test_a_turn_that_nobody_measured_costs_its_estimate() -> None:
    ledger = Ledger(Budget())
    ledger.settle(ledger.debit(Cost(tokens=70, usd=0.5), task="a"), None)
    assert (ledger.account().tokens, ledger.account().usd) == (70, 0.5)


def test_a_debit_settles_once() -> None:
    ledger = Ledger(Budget())
    debit = ledger.debit(Cost(tokens=1, usd=0.0), task="a")
    ledger.cancel(debit)
    with pytest.raises(ValueError, match="settled before"):
        ledger.settle(debit, Usage())


def test_a_cap_that_was_reached_keeps_those_below_it_from_going_on_and_no_others() -> None:
    ledger = Ledger(Budget(), caps={"team:qa": Budget(tokens=10), "task:own": Budget(tokens=5)})
    for task, team in (("one", "qa"), ("own", "")):
        with pytest.raises(BudgetError):
            ledger.debit(Cost(tokens=100, usd=None), task=task, team=team)
    assert ledger.refused(task="two", team="qa").startswith("budget: team qa")
    assert ledger.refused(task="own").startswith("budget: task own")
    assert ledger.refused(task="free", team="docs") == ""
    assert ledger.refusal.startswith("budget: team qa"), "the first of all"
