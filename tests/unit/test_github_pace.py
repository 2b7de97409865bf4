"""Writes keep to GitHub's advice and limits, whatever their number."""

from __future__ import annotations

import itertools
from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from maos_bot.github.pace import WRITES, Pace


@given(
    pause_s=st.sampled_from([0.0, 0.01, 1.0]),
    thinking_s=st.lists(st.sampled_from([0.0, 0.2, 3.0, 100.0]), min_size=1, max_size=1200),
)
def test_no_window_ever_holds_more_writes_than_github_allows(pause_s: float, thinking_s: list[float]) -> None:
    pace, now, written = Pace(pause_s=pause_s), 0.0, list[float]()
    for thinking in thinking_s:
        now += thinking
        now += pace.wait_s(now)
        pace.wrote(now)
        written.append(now)
    assert all(b - a >= pause_s - 1e-6 for a, b in itertools.pairwise(written))
    for seconds, most in WRITES:
        for place, at in enumerate(written):
            assert bisect_right(written, at + seconds) - place <= most


def test_the_first_write_waits_for_nothing() -> None:
    assert Pace(pause_s=1.0).wait_s(5.0) == 0.0
