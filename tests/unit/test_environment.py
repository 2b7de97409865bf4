"""The variables of a process: what it shares with others, and its own over them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.execution.environment import Environment, Shared, child_environment

NAMES = st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1, max_size=3)
VARIABLES = st.dictionaries(
    NAMES, st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=6
)


@given(shared=VARIABLES, owns=st.lists(VARIABLES, min_size=1, max_size=3))
def test_each_process_gets_what_is_shared_and_its_own_over_it(
    shared: dict[str, str], owns: list[dict[str, str]]
) -> None:
    common = Shared(shared)
    for own in owns:
        env = Environment(common, own)
        block = list(env.block())
        assert env.whole() == {**shared, **own}
        assert block[len(env.whole())] is None
        given = [os.fsdecode(each) for each in block[: len(env.whole())] if each is not None]
        assert sorted(given) == sorted(f"{name}={value}" for name, value in env.whole().items())


def test_a_programs_folders_are_its_own_then_the_shared_then_the_systems() -> None:
    assert Environment(Shared({"PATH": "/a"}), {"PATH": "/b"}).path == "/b"
    assert Environment(Shared({"PATH": "/a"})).path == "/a"
    assert Environment(Shared({})).path == os.defpath


@pytest.mark.parametrize("own", [{"BASH_ENV": "x"}, {"BASH_FUNC_true%%": "() { :; }"}])
def test_start_up_files_and_exported_functions_change_words(own: dict[str, str]) -> None:
    assert Environment(Shared({}), own).changes_words
    assert Environment(Shared(own)).changes_words
    assert not Environment(Shared({"PATH": "/bin"}), {"A": "BASH_ENV"}).changes_words


def test_a_variable_without_a_name_isnt_passed_on() -> None:
    assert child_environment({"": "x", "A": "y"}) == {"A": "y"}
