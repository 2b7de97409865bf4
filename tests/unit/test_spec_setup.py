"""`setup`: steps become tasks that every other one needs, and are held to the same rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maos_bot.agents.project_manager import Proposal
from maos_bot.crewing import with_tasks
from maos_bot.model import Task
from tests.unit.spec_texts import parse, problems, told

SPEC = """
teams: {setups: {max-concurrent-workers: 2}}
defaults: {timeout-minutes: 7, env: {A: "1"}}
setup:
  venv: {run: python -m venv .venv, outputs: [.venv]}
  packages:
    run: .venv/bin/pip install -r requirements.txt
    needs: venv
    inputs: [requirements.txt]
tasks:
  lint: {run: ruff check .}
  unit: {run: pytest, needs: [lint], matrix: {os: [a, b]}}
  last: {run: x, needs: [unit, packages]}
"""


def test_steps_come_first_and_every_task_needs_all_of_them() -> None:
    spec = parse(SPEC)
    needs = {task.id: task.needs for task in spec.tasks}

    assert spec.setup == ("venv", "packages")
    assert needs == {
        "venv": (),
        "packages": ("venv",),
        "lint": ("venv", "packages"),
        "unit.a": ("venv", "packages", "lint"),
        "unit.b": ("venv", "packages", "lint"),
        "last": ("venv", "packages", "unit.a", "unit.b"),
    }


def test_a_step_is_a_task_of_the_team_setup_with_the_specs_defaults() -> None:
    first, second, *others = parse(SPEC).tasks

    assert {first.team, second.team} == {"setup"}
    assert first.outputs == (".venv",)
    assert (first.timeout_s, first.env) == (420, {"A": "1"})
    assert (first.line, first.column) == (5, 3)
    assert all(task.team == "" for task in others)


def test_tasks_that_a_goal_becomes_need_the_steps_too() -> None:
    spec = parse("setup: {modules: {run: npm ci}}\ngoal: Mend it.\n")
    new = (Task(id="new", agent="x"), Task(id="more", agent="x", needs=("new",)))
    proposal = Proposal(tasks=new, reasons={}, rounds=1)
    made = with_tasks(spec, proposal)

    assert [task.needs for task in made.tasks] == [(), ("modules",), ("modules", "new")]


def test_all_that_is_wrong_with_steps_is_said_at_its_line() -> None:
    said = told("""\
setup:
  venv: {run: a, agent: b}
  clash: {run: a}
  again: {needs: [lint]}
  round: {run: a, needs: [trip]}
  trip: {run: a, needs: [round]}
  big: {run: a, resources: {cpu-percent: 101}}
tasks:
  clash: {run: x}
  lint: {run: x, needs: [ven]}
""")
    assert "spec.yml:2:18: unknown key `agent`" in said
    assert "spec.yml:9:3: `clash` is a step of `setup` too" in said
    assert "spec.yml:4:3: `again` lacks `run`" in said
    assert "spec.yml:4:19: unknown step `lint` in `needs`" in said
    assert "round -> trip -> round" in said
    assert "spec.yml:7:42: `big` wants 101 of `cpu-percent`, and the limit is 100" in said
    assert "spec.yml:10:26: unknown task `ven` in `needs`; did you mean `venv`?" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("setup: [npm ci]\ntasks: {a: {run: x}}", "`setup` wants keys and values, not a list"),
        ("setup: {a: npm ci}\ntasks: {b: {run: x}}", "`a` wants keys and values"),
        ("setup: {a: {run: x}}", "the spec has no tasks"),
        ("before_script: x\ntasks: {a: {run: x}}", "`setup` steps prepare"),
    ],
)
def test_other_forms_are_refused_with_what_is_right(text: str, words: str) -> None:
    assert words in told(text)


def test_a_spec_with_steps_and_only_a_goal_is_good() -> None:
    assert not problems("setup: {a: {run: x}}\ngoal: Mend it.\n")
    assert replace(parse("setup: {a: {run: x}}\ngoal: Mend it.\n"), text="").setup == ("a",)


def test_inputs_of_steps_are_in_the_root_and_what_steps_make_is_no_input() -> None:
    first, second, task, other = parse("""
setup:
  modules: {run: npm ci, inputs: [package.json, "**/x", "!y"], outputs: [node_modules/, "!**/.cache/", "*.log"]}
  ready: {run: x, outputs: [ready.txt]}
tasks:
  test: {run: npm test, inputs: ["**/*.js"]}
  other: {run: x}
""").tasks
    made = ("!/node_modules/", "!/ready.txt/")  # with a slash: of a file it takes out nothing

    assert first.inputs == ("/package.json", "**/x", "!/y", *made)
    assert (second.inputs, other.inputs) == ((), ())
    assert task.inputs == ("**/*.js", *made)
