"""`matrix`: which variants there are, what they are called, and what is put into their texts."""

from __future__ import annotations

import pytest

from tests.unit.spec_texts import parse, told


def ids(matrix: str) -> list[str]:
    return [task.id for task in parse(f"tasks: {{t: {{run: x, matrix: {matrix}}}}}").tasks]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ("{python: [3.9, 3.10]}", ["t.3.9", "t.3.10"]),
        ("{a: [1, 2], b: [x, y]}", ["t.1.x", "t.1.y", "t.2.x", "t.2.y"]),
        ("{a: [1, 2], b: [x, y], exclude: [{a: 1, b: y}]}", ["t.1.x", "t.2.x", "t.2.y"]),
        ("{a: [1, 2], b: [x, y], exclude: [{a: 1}]}", ["t.2.x", "t.2.y"]),
        ("{a: [1], include: [{a: 2}]}", ["t.1", "t.2"]),
        ("{a: [1], include: [{a: 1, b: z}]}", ["t.1"]),
        ("{include: [{a: 1, b: x}, {a: 2}]}", ["t.1.x", "t.2"]),
        ("{a: ['x y', 'x/y', '']}", ["t.x-y", "t.x-y.2", "t.empty"]),
        ("{a: [1, 1]}", ["t.1"]),
        ("{a: [true, yes]}", ["t.true", "t.yes"]),
    ],
)
def test_combinations_follow_the_rules_of_actions(matrix: str, expected: list[str]) -> None:
    assert ids(matrix) == expected


def test_include_extends_the_combinations_it_fits() -> None:
    tasks = parse("""
tasks:
  t:
    run: x
    matrix: {fruit: [apple, pear], animal: [cat], include: [{color: green}, {color: pink, animal: cat},
             {fruit: apple, shape: circle}, {fruit: banana}]}
""").tasks
    assert [dict(task.matrix) for task in tasks] == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "banana"},
    ]


def test_values_are_put_into_every_text_and_a_need_on_the_task_means_all_variants() -> None:
    first, second, after, one = parse("""
tasks:
  t:
    run: tox -e ${{ matrix.python }} ${{matrix.python}}
    name: On ${{ matrix.python }}
    env: {PY: "${{ matrix.python }}"}
    working-directory: at/${{ matrix.python }}
    outputs: ["out-${{ matrix.python }}.xml"]
    matrix: {python: [3.9, 3.10]}
  after: {run: x, needs: t}
  one: {run: x, needs: [t.3.9]}
""").tasks
    assert (first.run, second.run) == ("tox -e 3.9 3.9", "tox -e 3.10 3.10")
    assert (second.title, second.env, second.working_directory) == ("On 3.10", {"PY": "3.10"}, "at/3.10")
    assert second.outputs == ("out-3.10.xml",)
    assert after.needs == ("t.3.9", "t.3.10")
    assert one.needs == ("t.3.9",)


def test_a_fixed_name_tells_the_variant() -> None:
    (task,) = parse("tasks: {t: {run: x, name: Tests, matrix: {a: [1], b: [mac os]}}}").tasks

    assert (task.title, task.id) == ("Tests (1, mac os)", "t.1.mac-os")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("{run: '${{ matrix.pyton }}', matrix: {python: [1]}}", "1:18: the matrix has no `pyton`"),
        ("{run: '${{ matrix.pyton }}', matrix: {python: [1]}}", "did you mean `python`?"),
        ("{run: '${{ matrix.a }}'}", "1:18: `matrix.a` is used, but the task has no `matrix`"),
        ("{run: '${{ secrets.TOKEN }}'}", "`${{ secrets.TOKEN }}` isn't known here"),
        ("{run: x, matrix: {a: []}}", "1:33: `a` can't be an empty list"),
        ("{run: x, matrix: {a: 1}}", "1:33: `a` wants a list"),
        ("{run: x, matrix: {a: [[1]]}}", "wants text, a number or a switch, not a list"),
        ("{run: x, matrix: {a: [1], exclude: [{b: 1}]}}", "`exclude` names `b`, no list of this matrix"),
        ("{run: x, matrix: {a: [1], exclude: [{a: 1}]}}", "leaves no combination"),
        (f"{{run: x, matrix: {{a: [{','.join(map(str, range(257)))}]}}}}", "has 257 combinations, more than 256"),
    ],
)
def test_a_matrix_that_cannot_work_is_told(task: str, words: str) -> None:
    assert words in told(f"tasks: {{t: {task}}}")


def test_prose_may_speak_of_workflow_expressions() -> None:
    (task,) = parse("tasks: {t: {agent: 'Explain ${{ github.sha }}'}}").tasks

    assert task.agent == "Explain ${{ github.sha }}"


def test_a_variants_id_never_hides_another_task() -> None:
    assert "has the id `t.1`, which is taken" in told("tasks: {t.1: {run: x}, t: {run: x, matrix: {a: [1]}}}")


def test_a_circle_through_a_variant_is_found() -> None:
    assert "circle: t -> u -> t" in told("tasks: {t: {run: x, needs: u, matrix: {a: [1]}}, u: {run: x, needs: t.1}}")
