"""Whatever is done to a good spec, the answer is a Spec or problems with a place, never another exception."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from maos_bot.errors import SpecError
from maos_bot.model import Spec
from maos_bot.spec.load import parse_spec
from tests.unit.spec_texts import FULL

_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    10**30,
    "",
    " ",
    "auto",
    "010",
    "lint",
    "a -> b",
    "${{ matrix.x }}",
    "[",
    "\u2028",
    "\U0001f600",
    [],
    {},
    [None],
    [[[]]],
    {"": 1},
    {"run": "x"},
    ["lint", "docs", "matrix"],
    {"python": [1, 2]},
)


def _answer(text: str) -> Spec | SpecError:
    """Parse within a time bound; every problem must have a place in the file."""
    began = time.process_time()
    try:
        answer: Spec | SpecError = parse_spec(text, path="fuzz.yml")
    except SpecError as error:
        answer = error
    assert time.process_time() - began < 5
    if isinstance(answer, SpecError):
        lines = max(len(text.splitlines()), 1) + 1
        assert answer.problems
        assert all(1 <= problem.line <= lines and problem.column >= 1 for problem in answer.problems), text
        assert all(problem.message and "\n" not in str(problem) for problem in answer.problems)
    return answer


def _containers(value: Any) -> list[Any]:
    found = [value] if isinstance(value, (dict, list)) else []
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += _containers(item)
    return found


def _typo(key: str, dice: random.Random) -> str:
    at = dice.randrange(len(key) + 1)
    return dice.choice([key[:at] + key[at + 1 :], key[:at] + "x" + key[at:], key.replace("-", "_"), key.upper(), ""])


def damage(data: Any, dice: random.Random) -> None:
    """One random change somewhere in the tree."""
    target = dice.choice([item for item in _containers(data) if item] or [data])
    if isinstance(target, list):
        at = dice.randrange(len(target))
        target[at] = copy.deepcopy(dice.choice(_ODD))
        return
    if not target:
        target["x"] = copy.deepcopy(dice.choice(_ODD))
        return
    key = dice.choice(list(target))
    match dice.randrange(4):
        case 0:
            target[_typo(str(key), dice)] = target.pop(key)
        case 1:
            target[key] = copy.deepcopy(dice.choice(_ODD))
        case 2:
            del target[key]
        case _:
            target[key] = {key: target[key]}


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_a_spec_with_changed_keys_and_values_is_answered(dice: random.Random, changes: int) -> None:
    data = YAML(typ="safe").load(FULL)
    for _ in range(changes):
        damage(data, dice)
    _answer(json.dumps(data))  # every JSON text is YAML


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(FULL)),
            st.integers(0, 30),
            st.one_of(
                st.text(max_size=8), st.sampled_from(["*", "&a ", "<<: ", "!!", "- ", "\t", "{", "[", "'", "|\n"])
            ),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_spec_with_random_edits_is_answered(edits: list[tuple[int, int, str]]) -> None:
    text = FULL
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    _answer(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 8), max_size=4), min_size=1, max_size=8))
def test_random_needs_are_a_spec_or_told_as_unknown_or_circular(needs: list[list[int]]) -> None:
    text = "tasks:\n" + "".join(
        f"  t{i}: {{run: x, needs: [{', '.join(f't{need}' for need in row)}]}}\n" for i, row in enumerate(needs)
    )
    answer = _answer(text)

    unknown = any(need >= len(needs) for row in needs for need in row)
    assert isinstance(answer, SpecError) == (unknown or _circular(needs))


def _circular(needs: list[list[int]]) -> bool:
    done: set[int] = set()
    for _ in needs:
        done |= {i for i, row in enumerate(needs) if all(need in done or need >= len(needs) for need in row)}
    return len(done) < len(needs)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_answered(content: bytes) -> None:
    _answer(content.decode("utf-8", "surrogateescape"))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abt:-{}[],&*!|>'\"#%@ \n\t?<~$\\0159", max_size=60))
def test_random_yaml_is_answered(text: str) -> None:
    _answer(text)
    _answer(f"tasks:\n  a:\n    run: x\n    {text}")


@pytest.mark.parametrize("cut", range(0, len(FULL), 37))
def test_a_file_cut_off_anywhere_is_answered(cut: int) -> None:
    _answer(FULL[:cut])


@pytest.mark.parametrize("swap", [str.upper, str.title, lambda text: text.replace("\n", "\r\n")])
def test_a_file_in_another_spelling_is_answered(swap: Callable[[str], str]) -> None:
    _answer(swap(FULL))
