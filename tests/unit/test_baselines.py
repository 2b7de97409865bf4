"""Percentiles and fits of what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.store.baselines import fits, percentile

seconds = st.floats(0.001, 1e4)


@given(st.lists(seconds, min_size=1, max_size=40), st.floats(0, 1))
def test_a_percentile_lies_between_the_least_and_the_largest_and_grows(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert min(values) <= found <= max(values)
    assert percentile(values, share / 2) <= found + 1e-9


def test_a_percentile_is_taken_between_neighbours() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0, 5.0], 0.9) == pytest.approx(4.6)


def test_fits_say_how_far_off_estimates_were_and_how_often_the_slow_tenth_held() -> None:
    slow: list[tuple[float | None, float]] = [*[(10.0, 8.0)] * 9, (10.0, 40.0)]
    rows: dict[str, list[tuple[float | None, float]]] = {"unit": slow, "lint": [(None, 1.0)]}
    whole, lint, unit = fits(rows)
    assert (whole.task, whole.samples) == ("", 11)
    assert unit.error_percent == pytest.approx(25.0)
    assert unit.covered_percent == pytest.approx(100 * 6 / 7)  # of the seven with three before them, one was slower
    assert (lint.error_percent, lint.covered_percent) == (None, None)
    assert fits({}) == []
