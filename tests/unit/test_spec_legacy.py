"""Importing the original system's project files, as crashes and hands left them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maos_bot.errors import ConfigError
from maos_bot.spec.legacy import Imported, LegacyUsage, import_state, write_spec
from maos_bot.spec.load import parse_spec


def task(task_id: str, *needs: str, **values: Any) -> dict[str, Any]:
    return {"id": task_id, "description": f"Do {task_id}", "team": "backend", "dependencies": list(needs)} | values


def imported(tmp_path: Path, **state: Any) -> Imported:
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"projectId": "7", "objective": "Build it"} | state), encoding="utf-8")
    return import_state(path)


def test_tasks_become_agent_tasks_with_team_and_needs(tmp_path: Path) -> None:
    result = imported(
        tmp_path,
        tasks=[
            task("1", status="complete", artifacts=["src\\app.py", "./x.md"]),
            task("two", "1", team="qa", description="First line:\n\tsecond # line \u2028 'q' \"d\""),
        ],
        agents={"pm": {"type": "pm", "model": "m", "tokensUsed": 120, "callCount": 3}},
        logs=[{"message": "x"}],
    )
    spec = parse_spec(result.spec_text, path="x")
    first, second = spec.tasks

    assert (spec.name, first.id, first.agent, first.team) == ("Build it", "1", "Do 1", "backend")
    assert first.outputs == ("src/app.py", "x.md")
    assert (second.team, second.needs) == ("qa", ("1",))
    assert second.agent == "First line:\n\tsecond # line \u2028 'q' \"d\""
    assert result.usage == (LegacyUsage(agent="pm", kind="pm", model="m", tokens=120, calls=3),)
    assert "1 log lines were not carried over" in result.notes
    assert any("1 of 2 tasks were complete" in note for note in result.notes)


def test_needs_that_lead_nowhere_or_in_a_circle_are_dropped_and_said(tmp_path: Path) -> None:
    result = imported(tmp_path, tasks=[task("a", "gone", "a", "b"), task("b", "c"), task("c", "a"), task("d", "c")])

    tasks = {made.id: made.needs for made in parse_spec(result.spec_text, path="x").tasks}

    assert tasks["d"] == ("c",)
    assert sum(len(needs) for needs in tasks.values()) == 3
    notes = "\n".join(result.notes)
    assert "`gone`, which doesn't exist" in notes
    assert "needed itself" in notes
    assert "(a -> b -> c -> a)" in notes


def test_ids_that_are_no_names_are_changed_and_said(tmp_path: Path) -> None:
    result = imported(tmp_path, tasks=[task("set up!"), task("set up!"), {"description": "x"}, task("z", "set up!")])

    spec = parse_spec(result.spec_text, path="x")

    assert [made.id for made in spec.tasks] == ["set-up", "set-up-2", "task-3", "z"]
    assert spec.tasks[3].needs == ("set-up",)
    assert any("is called `set-up-2`" in note for note in result.notes)


def test_a_project_without_tasks_becomes_a_goal(tmp_path: Path) -> None:
    assert parse_spec(imported(tmp_path, tasks=[]).spec_text, path="x").goal == "Build it"


@pytest.mark.parametrize(
    "content", [b"", b"  \n", b'{"tasks": [{"id": "a", "descr', b"[1]", b"{}", b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_file_is_told_and_points_to_the_backup(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as without:
        import_state(path)
    assert without.value.hint == ""

    (tmp_path / "state_backup.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"state_backup\.json"):
        import_state(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        import_state(tmp_path / "state.json")


def test_an_existing_spec_is_never_replaced(tmp_path: Path) -> None:
    result = imported(tmp_path, tasks=[task("a")])
    target = tmp_path / ".maos.yml"

    write_spec(result, target)
    assert target.read_text(encoding="utf-8") == result.spec_text
    target.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write_spec(result, target)
    assert target.read_text() == "mine"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_TASKS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from(["a", "b", "c", "A b"]) | _VALUES,
            "description": _VALUES,
            "team": st.sampled_from(["qa", "null", "t\u00eam"]) | _VALUES,
            "dependencies": st.lists(st.sampled_from(["a", "b", "c", "A b", "x"]) | _VALUES, max_size=3) | _VALUES,
            "artifacts": st.lists(st.text(max_size=8), max_size=2) | _VALUES,
        },
    )
    | _VALUES,
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(tasks=_TASKS | _VALUES, objective=_VALUES, agents=_VALUES)
def test_whatever_the_fields_hold_the_import_is_a_good_spec(
    tmp_path_factory: pytest.TempPathFactory, tasks: Any, objective: Any, agents: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"objective": objective, "tasks": tasks, "agents": agents}), encoding="utf-8")
    try:
        result = import_state(path)
    except ConfigError:
        return
    parse_spec(result.spec_text, path="x")
