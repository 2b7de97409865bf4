"""The geometry of the dashboard's pictures."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web import charts
from web.charts import AttemptSpan, Lane

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)
STATES = ("succeeded", "failed", "running", "timed_out")


@st.composite
def lanes(draw: st.DrawFn) -> Lane:
    at = ready = draw(seconds)
    attempts = []
    for number in range(1, draw(st.integers(0, 3)) + 1):
        start = at + draw(seconds)
        at = start + draw(seconds)
        attempts.append(
            AttemptSpan(attempt=number, started_s=start, finished_s=at, state=draw(st.sampled_from(STATES)))
        )
    return Lane(
        id=draw(st.text(max_size=5)),
        state="succeeded",
        ready_s=draw(st.sampled_from([None, ready])),
        attempts=tuple(attempts),
        ended_s=draw(st.sampled_from([None, at])),
        predicted_start_s=draw(st.none() | seconds),
        predicted_finish_s=draw(st.none() | seconds),
        critical=draw(st.booleans()),
    )


def lane(*spans: tuple[float, float | None, str], ready_s: float | None = None) -> Lane:
    attempts = tuple(
        AttemptSpan(attempt=number, started_s=start, finished_s=end, state=state)
        for number, (start, end, state) in enumerate(spans, start=1)
    )
    ended = attempts[-1].finished_s if attempts else None
    return Lane(id="a", state="succeeded", ready_s=ready_s, attempts=attempts, ended_s=ended)


@given(st.lists(lanes(), max_size=6), seconds, st.none() | seconds, st.booleans())
def test_nothing_is_drawn_outside_the_chart(
    many: list[Lane], wall_s: float, predicted_s: float | None, running: bool
) -> None:
    chart = charts.timeline(many, wall_s=wall_s, predicted_s=predicted_s, running=running)
    assert [row.id for row in chart.rows] == [one.id for one in many]
    for row in chart.rows:
        for piece in (*row.segments, *([row.predicted] if row.predicted else [])):
            assert 0 <= piece.x <= 100
            assert piece.end <= 100.002
    for segment in (segment for row in chart.rows for segment in row.segments):
        assert segment.width > 0
    assert (chart.now_x is not None) == running
    assert all(0 <= tick.x <= 100 for tick in chart.ticks)


@given(st.floats(min_value=1e-3, max_value=1e8), st.integers(2, 10))
def test_ticks_are_few_even_and_start_at_zero(span: float, at_most: int) -> None:
    found = charts.ticks(span, at_most=at_most)
    assert found[0].seconds == 0
    assert 1 <= len(found) <= at_most
    steps = [b.seconds - a.seconds for a, b in pairwise(found)]
    assert all(step == pytest.approx(steps[0]) for step in steps)


def test_a_task_that_waited_for_needs_then_a_slot_then_ran_shows_three_pieces() -> None:
    chart = charts.timeline([lane((6.0, 10.0, "succeeded"), ready_s=4.0)], wall_s=10.0)
    pieces = [(piece.kind, piece.x, piece.width) for piece in chart.rows[0].segments]
    assert pieces == [("needs", 0.0, 40.0), ("resource", 40.0, 20.0), ("run", 60.0, 40.0)]


def test_each_attempt_is_a_piece_of_its_own_with_the_pause_between() -> None:
    chart = charts.timeline([lane((0.0, 4.0, "failed"), (5.0, 10.0, "succeeded"), ready_s=0.0)], wall_s=10.0)
    pieces = [(piece.kind, piece.state, piece.attempt) for piece in chart.rows[0].segments]
    assert pieces == [("run", "failed", 1), ("retry", "", 0), ("run", "succeeded", 2)]


def test_a_running_attempt_reaches_to_now_and_the_plan_stretches_the_axis() -> None:
    chart = charts.timeline([lane((0.0, None, "running"), ready_s=0.0)], wall_s=5.0, predicted_s=20.0, running=True)
    assert chart.span_s == 20.0
    assert chart.now_x == 25.0
    assert chart.rows[0].segments[-1].end == 25.0


def test_a_plan_that_was_far_too_long_does_not_squeeze_what_happened() -> None:
    many = [
        lane((0.0, 10.0, "succeeded")),
        Lane(id="b", state="succeeded", predicted_start_s=5.0, predicted_finish_s=99.0),
    ]
    chart = charts.timeline(many, wall_s=10.0, predicted_s=99.0)
    assert chart.span_s == 12.5
    assert chart.rows[1].predicted is not None
    assert chart.rows[1].predicted.cut
    assert chart.rows[1].predicted.end == 100.0


def test_a_task_that_never_started_only_waited() -> None:
    never = Lane(id="a", state="upstream_failed", ended_s=3.0)
    chart = charts.timeline([never], wall_s=6.0)
    assert [(piece.kind, piece.end) for piece in chart.rows[0].segments] == [("needs", 50.0)]


def test_the_shortest_task_can_still_be_seen() -> None:
    chart = charts.timeline([lane((0.0, 0.001, "succeeded"))], wall_s=1000.0)
    assert chart.rows[0].segments[-1].width >= 0.5


@given(st.lists(st.none() | seconds, max_size=30))
def test_a_strip_stays_within_its_height(durations: list[float | None]) -> None:
    bars = charts.strip(durations, height=64)
    assert len(bars) == len(durations)
    for bar in bars:
        assert bar.height >= 3
        assert bar.y + bar.height == pytest.approx(64)


def test_a_bar_is_as_high_as_its_run_was_long() -> None:
    assert [bar.height for bar in charts.strip([10.0, 5.0, None], height=64)] == [64, 32, 3]


def test_shares_are_percent_of_the_longest_and_unknown_stays_unknown() -> None:
    assert charts.shares({"a": 20.0, "b": 10.0, "c": None}) == {"a": 100.0, "b": 50.0, "c": None}
