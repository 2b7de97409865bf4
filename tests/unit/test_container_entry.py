"""Who the container's first program becomes, and what it does without arguments."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

ENTRY = runpy.run_path(str(Path(__file__).parents[2] / "container" / "entry.py"))
ALL_USERS = ENTRY["ALL_USERS"]
ACTIONS = {"GITHUB_ACTIONS": "true"}


@pytest.mark.parametrize(
    ("us", "owner", "environ", "users", "becomes"),
    [
        (0, (1001, 1001), ACTIONS, ALL_USERS, None),
        (0, (1001, 121), {}, ALL_USERS, (1001, 121)),
        (0, (0, 0), {}, ALL_USERS, (1000, 1000)),
        (0, (0, 0), {}, 65536, None),
        (4321, (1001, 1001), {}, ALL_USERS, None),
        (4321, (1001, 1001), ACTIONS, ALL_USERS, None),
    ],
    ids=[
        "in Actions",
        "a folder of someone's",
        "root's folder",
        "an engine without root",
        "told whom",
        "told in Actions",
    ],
)
def test_root_is_left_where_it_isnt_needed(
    us: int, owner: tuple[int, int], environ: dict[str, str], users: int, becomes: tuple[int, int] | None
) -> None:
    assert ENTRY["new_user"](us=us, owner=owner, environ=environ, users=users) == becomes


def test_without_arguments_it_is_the_action_in_actions_and_the_help_elsewhere() -> None:
    command = ENTRY["command"]
    assert command([], ACTIONS) == ["action"]
    assert command([], {}) == ["--help"]
    assert command(["run", "--json"], ACTIONS) == ["run", "--json"]


def test_the_environment_comes_through_a_pipe_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {b"INPUT_GITHUB-TOKEN": b"a=b\nc", b"RAW": b"\xff\xfe", b"EMPTY": b"", b"LONG": b"x" * 100_000}
    for name in given:
        monkeypatch.setenv(os.fsdecode(name), "before")
    ENTRY["take_over"](ENTRY["hand_over"](given))
    os.wait()
    assert {name: os.environb[name] for name in given} == given
