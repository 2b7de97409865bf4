"""Numbers, times and terminal colours as a page shows them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.model import RunStatus, TaskState
from web import ansi, words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "—"),
        (0, "0 s"),
        (0.0421, "42 ms"),
        (8.34, "8.3 s"),
        (59.96, "1 m 00 s"),
        (125, "2 m 05 s"),
        (3840, "1 h 04 m"),
        (266400, "3 d 02 h"),
        (-3.0, "-3.0 s"),
    ],
)
def test_durations_read_naturally(value: float | None, shown: str) -> None:
    assert words.duration(value) == shown


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("90", 90), ("90s", 90), ("2m 30s", 150), ("2m30s", 150), ("1.5m", 90), ("1h", 3600), (" ", None), ("soon", None)],
)
def test_typed_durations_are_understood(typed: str, meant: float | None) -> None:
    assert words.parse_duration(typed) == meant


@given(st.text(max_size=20))
def test_any_typed_duration_is_a_number_or_refused(typed: str) -> None:
    found = words.parse_duration(typed)
    assert found is None or found >= 0


def test_unknown_figures_are_never_shown_as_zero() -> None:
    assert {words.usd(None), words.count(None), words.memory(None), words.change(1.0, None)} == {"—"}


def test_every_state_has_a_word_and_shape_of_its_own() -> None:
    for state in (*TaskState, *RunStatus, "lost"):
        assert words.mark(state).state == state
    shapes = [
        words.mark(state).icon for state in ("succeeded", "failed", "timed_out", "cancelled", "skipped", "cached")
    ]
    assert len(set(shapes)) == len(shapes)


@pytest.mark.parametrize(("before", "shown"), [(3, "just now"), (61, "1 minute ago"), (7300, "2 hours ago")])
def test_moments_are_told_from_now(before: float, shown: str) -> None:
    assert words.ago(1000.0, 1000.0 + before) == shown


def test_colours_become_classes() -> None:
    assert str(ansi.to_markup("\x1b[1;31mbad\x1b[0m ok")) == '<span class="a-bold a-red">bad</span> ok'


def test_a_line_that_was_written_over_shows_its_last_state() -> None:
    assert ansi.plain("10 %\r50 %\rdone\nnext\r\n") == "done\nnext\n"


def test_titles_links_and_cursor_moves_are_dropped() -> None:
    assert ansi.plain("\x1b]0;evil\x07a\x1b]8;;http://x\x1b\\b\x1b[2Jc\x1b[10;20Hd\x9be\x08") == "abcde"


def test_text_that_would_turn_its_direction_is_marked() -> None:
    assert "\u202e" not in ansi.plain("user\u202etxt.exe")


@given(st.text(alphabet=st.sampled_from("\x1b[]0;1m38<>&\"'ab\r\n\x07"), max_size=60))
def test_no_output_can_open_a_tag(text: str) -> None:
    markup = str(ansi.to_markup(text))
    without_ours = re.sub(r'<span class="[a-z -]+">|</span>', "", markup)
    assert not set(without_ours) & set("<>\"'\x1b\x07\r")
