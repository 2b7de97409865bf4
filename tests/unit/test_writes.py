"""What tasks may write, and the order of those that may write the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.model import Task
from maos_bot.planning.writes import common_pattern, in_writing_order, may_write, overlapping_writes


def writer(task_id: str, *patterns: str, needs: tuple[str, ...] = ()) -> Task:
    return Task(id=task_id, agent="write", writes=patterns, needs=needs)


@pytest.mark.parametrize(
    ("patterns", "path", "allowed"),
    [
        (["docs/**"], "docs/a/b.md", True),
        (["docs/**"], "src/docs/a.md", False),
        (["README.md"], "README.md", True),
        (["README.md"], "src/README.md", False),
        (["**/README.md"], "src/README.md", True),
        (["src/", "!src/secret.py"], "src/secret.py", False),
        ([], "a", False),
        (None, "anything/at/all", True),
    ],
)
def test_patterns_are_taken_from_the_root(patterns: list[str] | None, path: str, allowed: bool) -> None:
    assert may_write(patterns)(path) is allowed


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("docs/**", "docs/a.md", True),
        ("docs", "docs/a.md", True),
        ("docs/*.md", "docs/*.rst", False),
        ("docs/*.md", "docs/a*", True),
        ("src/**/test_*.py", "src/a/b/*_x.py", True),
        ("src/a/**", "src/b/**", False),
        ("**", "anything", True),
        ("/README.md", "README.md", True),
        ("a?c", "abd", False),
        ("a[bc]d", "acd", True),
        (r"a\*", "ab", False),
    ],
)
def test_patterns_meet_where_some_path_fits_both(one: str, other: str, meet: bool) -> None:
    assert bool(common_pattern([one], [other])) is meet
    assert bool(common_pattern([other], [one])) is meet


_PARTS = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "?", "**", "[ab]"])
_PATTERNS = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)
_PATHS = st.lists(st.sampled_from(["a", "b", "ab", "aab", "c"]), min_size=1, max_size=5).map("/".join)


@given(one=_PATTERNS, other=_PATTERNS, path=_PATHS)
def test_patterns_that_allow_one_path_are_never_taken_for_apart(one: str, other: str, path: str) -> None:
    if may_write([one])(path) and may_write([other])(path):
        assert common_pattern([one], [other])


def test_writers_of_the_same_are_put_in_the_order_of_the_spec_and_it_is_said() -> None:
    tasks = [writer("guide", "docs/**"), writer("src", "src/**"), writer("api", "docs/api.md")]
    ordered, notices = in_writing_order(tasks)
    assert [task.needs for task in ordered] == [(), (), ("guide",)]
    assert [str(each) for each in notices] == ["api starts after guide: both may write docs/**"]


def test_writers_that_need_each_other_already_stay_as_they_are() -> None:
    middle = Task(id="check", run="make", needs=("one",))
    tasks = [writer("one", "docs/**"), middle, writer("two", "docs/**", needs=("check",))]
    ordered, notices = in_writing_order(tasks)
    assert (list(ordered), notices) == (tasks, ())


def test_the_order_never_makes_a_circle() -> None:
    tasks = [writer("late", "docs/**", needs=("early",)), writer("early", "src/**"), writer("other", "**")]
    ordered, _ = in_writing_order(tasks)
    assert {task.id: task.needs for task in ordered} == {"late": ("early",), "early": (), "other": ("late",)}


def test_each_pair_that_overlaps_is_told_but_a_chain_is_enough_to_order_it() -> None:
    tasks = [writer(name, "docs/**") for name in ("a", "b", "c")]
    assert [(each.first, each.second) for each in overlapping_writes(tasks)] == [("a", "b"), ("b", "c"), ("a", "c")]
    assert [task.needs for task in in_writing_order(tasks)[0]] == [(), ("a",), ("b",)]


def test_tasks_that_may_write_anything_or_nothing_are_not_put_in_order() -> None:
    tasks = [Task(id="free", agent="x"), writer("none"), writer("docs", "docs/**"), Task(id="run", run="make")]
    assert in_writing_order(tasks) == (tuple(tasks), ())
