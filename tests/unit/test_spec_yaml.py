"""YAML's traps: old booleans, octals, aliases, merges, tabs, tags, and texts made to hurt."""

from __future__ import annotations

import time
from typing import Any

import pytest

from maos_bot.spec.nodes import Node, compose
from tests.unit.spec_texts import FULL, parse, problems, told


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("010", "write 10 or 8"),
        ("089", "write 89"),
        ("1:30", "write 90"),
        ("1_000", "write 1000"),
        ('"5"', "remove the quotes"),
        ("5m", "write the number alone, such as 5"),
        (".inf", "wants a number"),
        (".nan", "wants a number"),
        ("1e999", "wants a number"),
        ("true", "wants a number"),
        ("!!str 5", "remove the quotes"),
        ("\u0665", "wants a number"),
    ],
)
def test_a_number_that_readers_disagree_about_is_refused_with_what_to_write(value: str, words: str) -> None:
    assert words in told(f"tasks: {{a: {{run: x, timeout-minutes: {value}}}}}")


@pytest.mark.parametrize(
    ("value", "minutes"), [("5", 5), ("+5", 5), ("0.5", 0.5), ("1e1", 10), ("0o10", 8), ("0x1F", 31), ("!!int 7", 7)]
)
def test_numbers_are_those_of_yaml_1_2(value: str, minutes: float) -> None:
    assert parse(f"tasks: {{a: {{run: x, timeout-minutes: {value}}}}}").tasks[0].timeout_s == minutes * 60


@pytest.mark.parametrize(("value", "meant"), [("yes", "true"), ("On", "true"), ("n", "false"), ('"true"', "true")])
def test_old_switches_are_refused_with_what_to_write(value: str, meant: str) -> None:
    assert f"write {meant}, without quotes" in told(f"tasks: {{a: {{run: x, continue-on-error: {value}}}}}")


def test_unquoted_words_stay_text_where_text_is_wanted() -> None:
    spec = parse("""
name: 2024
tasks:
  on: {run: true, name: off, env: {VERSION: 3.10, OCTAL: 010, SWITCH: yes, NOTHING: , TILDE: "~"}}
  404: {run: "no", needs: on}
""")
    first, second = spec.tasks
    assert (spec.name, first.id, first.run, first.name) == ("2024", "on", "true", "off")
    assert first.env == {"VERSION": "3.10", "OCTAL": "010", "SWITCH": "yes", "NOTHING": "", "TILDE": "~"}
    assert (second.id, second.needs) == ("404", ("on",))


def test_anchors_and_merge_keys_share_what_tasks_have_in_common() -> None:
    lint, unit, both = parse("""
tasks:
  lint: &base {run: x, team: qa, env: &env {A: 1, B: 2}}
  unit: {<<: *base, run: y, env: {<<: *env, B: 3}}
  both: {<<: [{team: first}, *base]}
""").tasks
    assert (unit.run, unit.team, unit.env) == ("y", "qa", {"A": "1", "B": "3"})
    assert (both.run, both.team) == (lint.run, "first")


def test_colons_need_no_quotes_inside_brackets() -> None:
    (task,) = parse("tasks: {a: {run: docker run redis:7, env: {URL: http://host:80/x}}}").tasks

    assert (task.run, task.env) == ("docker run redis:7", {"URL": "http://host:80/x"})


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("tasks:\n\ta: {run: x}", "2:1", "replace the tab"),
        ("tasks:\n  a:\n   \trun: x", "3:", "replace the tab"),
        ("tasks: {a: {run: @x}}", "1:18", "put the value in quotes"),
        ("tasks:\n  a:\n    run: echo a: b", "3:16", "put the value in quotes if it holds `: `"),
        ("tasks:\n  a:\n    run: 'x\n", "", "close the quote"),
        ("tasks: {a: {run: x}\n", "", "close the bracket"),
        ("tasks:\n  a:\n    run: x\n   team: qa\n", "4:4", "check the indentation"),
        ("tasks: {a: {run: x}}\n---\ntasks: {}", "2:1", "a second YAML document"),
        ("tasks: {a: {run: *x}}", "1:18", "unknown alias `*x`; define it before"),
        ("tasks: &t {a: *t}", "1:15", "inside its own value"),
        ("tasks: {a: {<<: 5, run: x}}", "1:13", "`<<` merges mappings only"),
        ("tasks: {a: {run: !!python/object:os.system x}}", "1:18", "the tag `!!python/object:os.system` has no"),
        ("tasks: {a: !mine {run: x}}", "1:12", "the tag `!mine` has no meaning"),
        ("tasks: {? [a] : {run: x}}", "1:11", "a key must be a word"),
        ("tasks: {null: {run: x}}", "1:9", "a key must be a word"),
        ('tasks: {a: {run: "x\\0y"}}', "1:18", "NUL"),
        ("tasks: {a: {run: x\x07}}", "1:19", "the control character U+0007"),
        ("tasks: {a: {run: \ud800}}", "1:18", "the control character U+D800"),
        ("a: " + "[" * 100, "1:67", "nested deeper than 64 levels"),
    ],
)
def test_yaml_that_cannot_be_read_is_told_with_place_and_way_out(text: str, place: str, words: str) -> None:
    assert words in told(text)
    assert any(str(problem).startswith(f"spec.yml:{place}") for problem in problems(text)), told(text)


def test_several_damages_of_the_yaml_are_told_together() -> None:
    text = "tasks:\n  a: {run: !x y, run: z}\n  a: {<<: 1, run: x}\n"

    assert [(found.line, found.column) for found in problems(text)] == [(2, 12), (2, 18), (3, 3), (3, 7)]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)
_SIZE = 2 * 1024 * 1024 - 100
HOSTILE = {
    "billion laughs": BOMB,
    "text repeated": "a: &a " + "x" * 1_000_000 + "\nb: [" + "*a," * 5000 + "]\n",
    "merge repeated": "a: &a {"
    + ",".join(f"k{i}: 1" for i in range(50_000))
    + "}\ntasks:\n"
    + "".join(f" t{i}: {{<<: *a}}\n" for i in range(5000)),
    "brackets": "[" * _SIZE,
    "braces": "{a: " * (_SIZE // 4),
    "dashes": "- " * (_SIZE // 2),
    "question marks": "? " * (_SIZE // 2),
    "a long list": "a: [" + "b," * (_SIZE // 2 - 10) + "]",
    "open expressions": "tasks: {t: {run: '" + "${{" * 200_000 + "'}}",
    "closed expressions": "tasks: {t: {run: '" + "${{ x }}" * 100_000 + "'}}",
    "substituted into much": "tasks:\n  t: {run: '"
    + "${{ matrix.a }}" * 50_000
    + "', matrix: {a: ["
    + ",".join("v" * 10 + str(i) for i in range(256))
    + "]}}\n",
    "too many variants": "tasks:\n"
    + "".join(f" t{i}: {{run: x, matrix: {{a: [{','.join(map(str, range(200)))}]}}}}\n" for i in range(150)),
    "many slips": "tasks:\n" + "".join(f" t{i}: {{run: x, needs: [x{i}]}}\n" for i in range(10_000)),
    "all need all": "tasks:\n"
    + "".join(f" t{i}: {{run: x, needs: [{','.join(f't{j}' for j in range(200) if j != i)}]}}\n" for i in range(200)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_made_to_hurt_are_read_or_refused_in_bounded_time(name: str) -> None:
    began = time.process_time()
    found = problems(HOSTILE[name])

    assert time.process_time() - began < 15  # measured alone: at most 2.5 s
    assert bool(found) == (name != "open expressions")


def _shape(node: Node) -> Any:
    if isinstance(node.parts, dict):
        return node.line, node.column, {key: (k.line, k.column, _shape(v)) for key, (k, v) in node.parts.items()}
    if isinstance(node.parts, list):
        return node.line, node.column, [_shape(part) for part in node.parts]
    return node.data, type(node.data)


@pytest.mark.parametrize(
    "text", [FULL, "a: &x {b: [1, *y]}", "a: &y 1\nb: {<<: {c: *y}}", "a: [", BOMB, "a: 1\n---\nb: 1"]
)
def test_the_parser_in_python_reads_the_same(text: str) -> None:
    fast, slow = compose(text, path="x"), compose(text, path="x", pure=True)

    assert bool(fast.problems) == bool(slow.problems)
    assert (fast.root and _shape(fast.root)) == (slow.root and _shape(slow.root))
