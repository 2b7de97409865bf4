"""The published JSON Schema, and that it, the models and the loader go by the same rules."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from maos_bot.spec.load import load_spec
from maos_bot.spec.schema import SpecFile, json_schema
from maos_bot.spec.validate import schema
from tests.unit.spec_texts import FULL, parse, problems

ROOT = Path(__file__).parents[2]


def test_the_shipped_schema_is_the_one_the_models_make() -> None:
    made = json.loads(json.dumps(json_schema()))

    assert schema() == made, "run `python -m maos_bot.spec.schema`"


def _properties(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, item in part.get("properties", {}).items():
        yield f"{path}.{name}", item
    for name, item in part.get("$defs", {}).items():
        yield from _properties(item, name)


def test_every_key_is_described() -> None:
    enums = [name for name, item in schema()["$defs"].items() if "enum" in item and "description" in item]
    undescribed = [
        path
        for path, item in _properties(schema())
        if not item.get("description") and item.get("$ref", "").rpartition("/")[2] not in enums
    ]
    assert undescribed == []


def test_the_schema_allows_no_unknown_key_and_no_null() -> None:
    closed = [part for name, part in schema()["$defs"].items() if "properties" in part and name != "Matrix"]
    assert all(part["additionalProperties"] is False for part in [schema(), *closed])
    assert json.dumps(schema()).count('"null"') == 4  # the values of `env`, at its four places


@pytest.mark.parametrize("text", [FULL, "limits: auto\ntasks: {a: {run: x, matrix: {b: [1, true, x]}}}", "goal: x"])
def test_the_models_accept_what_the_loader_accepts(text: str) -> None:
    assert not problems(text)
    SpecFile.model_validate(YAML(typ="safe").load(text))


@pytest.mark.parametrize(
    "text",
    [
        "tasks: {a: {run: x, unknown: 1}}",
        "tasks: {a: {run: ''}}",
        "tasks: {a: {run: x, timeout-minutes: 0}}",
        "tasks: {'a b': {run: x}}",
        "tasks: {a: {run: x, shell: fish}}",
        "limits: {cpu-percent: 101}\ntasks: {a: {run: x}}",
        "mode: fast\ntasks: {a: {run: x}}",
        "version: 3\ntasks: {a: {run: x}}",
    ],
)
def test_the_models_refuse_what_the_loader_refuses(text: str) -> None:
    assert problems(text)
    with pytest.raises(ValidationError):
        SpecFile.model_validate(YAML(typ="safe").load(text))


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.maos.yml")) + sorted(ROOT.glob(".maos.yml")), ids=str)
def test_the_shipped_specs_are_good(path: Path) -> None:
    assert load_spec(path).tasks


def test_the_examples_in_the_schema_are_accepted() -> None:
    for name, item in schema()["$defs"]["Task"]["properties"].items():
        for example in item.get("examples", ()):
            task = {"run": "x", name: example}
            if name in {"model", "agent"}:
                task = {"agent": "x", name: example}
            pools = {"resources": {"database": 1}}
            found = problems(json.dumps({"limits": pools, "tasks": {"lint": {"run": "y"}, "a": task}}))
            assert not found, f"{name}: {found}"


def test_loading_a_spec_imports_nothing_heavy(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yml"
    spec.write_text(FULL)
    code = (
        "import pathlib, sys; from maos_bot.spec.load import load_spec; load_spec(pathlib.Path(sys.argv[1]));"
        "print(sorted({name.partition('.')[0] for name in sys.modules} &"
        " {'pydantic', 'networkx', 'flask', 'github', 'sqlite_utils', 'rich', 'difflib'}))"
    )
    output = subprocess.run([sys.executable, "-c", code, str(spec)], capture_output=True, text=True, check=True)

    assert output.stdout.strip() == "[]"


def test_a_thousand_tasks_are_read_at_once() -> None:
    text = "tasks:\n" + "".join(f"  t{i}:\n    run: x\n    needs: [t{i - 1}]\n" for i in range(1, 1000))

    assert len(parse(text + "  t0: {run: x}\n").tasks) == 1000
