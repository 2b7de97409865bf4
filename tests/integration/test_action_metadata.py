"""action.yml, the composite action, the code that reads inputs, the documents and examples: all of one mind."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from maos_bot.config import CACHE_BYTES, DATABASE, SPEC_NAMES, parse_size
from maos_bot.model import ExecutionMode, ParallelStrategy

ROOT = Path(__file__).parents[2]
CODE = "\n".join(
    (ROOT / "maos_bot" / name).read_text(encoding="utf-8").replace("from __future__ import annotations", "")
    for name in ("action.py", "github/workflow.py")
)
READERS = ("read_input", "read_flag")


def described(path: str) -> dict[str, Any]:
    read: dict[str, Any] = YAML(typ="safe").load((ROOT / path).read_text(encoding="utf-8"))
    return read


ACTION = described("action.yml")
COMPOSITE = described("composite/action.yml")


def read_inputs() -> set[str]:
    """The inputs that the code asks for by name."""
    calls = [node for node in ast.walk(ast.parse(CODE)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id.startswith(READERS)]
    words = [each.value for call in named for each in call.args[1:2] if isinstance(each, ast.Constant)]
    return {str(word) for word in words}


def written_outputs() -> set[str]:
    """The outputs that the code writes."""
    writer = next(
        node
        for node in ast.walk(ast.parse(CODE))
        if isinstance(node, ast.FunctionDef) and node.name == "_write_outputs"
    )
    values = next(
        node.value
        for node in ast.walk(writer)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "values"
    )
    assert isinstance(values, ast.Dict)
    return {str(key.value) for key in values.keys if isinstance(key, ast.Constant)}


def test_every_input_is_read_and_every_one_that_is_read_is_described() -> None:
    assert set(ACTION["inputs"]) == read_inputs()


def test_every_output_is_written_and_every_one_that_is_written_is_described() -> None:
    assert set(ACTION["outputs"]) == written_outputs()


@pytest.mark.parametrize("metadata", [ACTION, COMPOSITE], ids=["container", "composite"])
def test_the_metadata_is_complete(metadata: dict[str, Any]) -> None:
    assert metadata["name"]
    assert len(metadata["description"]) <= 125  # the marketplace shows no more
    assert set(metadata["branding"]) == {"icon", "color"}
    for each in (*metadata["inputs"].values(), *metadata["outputs"].values()):
        assert each["description"].strip()
    for each in metadata["inputs"].values():
        assert "default" in each or each["required"] is False


def test_the_composite_action_has_the_same_inputs_and_outputs() -> None:
    make = runpy.run_path(str(ROOT / "composite" / "make.py"))
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    written = (ROOT / "composite" / "action.yml").read_text(encoding="utf-8")
    assert written == make["composite"](text), "run: python composite/make.py"
    document = (ROOT / "docs" / "container.md").read_text(encoding="utf-8")
    assert document == make["with_tables"](document, text), "run: python composite/make.py"
    assert COMPOSITE["inputs"] == ACTION["inputs"]
    assert {name: each["description"] for name, each in COMPOSITE["outputs"].items()} == {
        name: each["description"] for name, each in ACTION["outputs"].items()
    }
    for name, each in COMPOSITE["outputs"].items():
        assert each["value"] == f"${{{{ steps.maos.outputs.{name} }}}}"


def test_defaults_are_those_of_the_code() -> None:
    inputs = ACTION["inputs"]
    assert SPEC_NAMES[0] in inputs["spec"]["description"]
    assert DATABASE in inputs["database"]["description"]
    size = re.search(r"Default (\w+)", inputs["cache-size"]["description"])
    assert size
    assert parse_size(size[1], "cache-size") == CACHE_BYTES
    for name, choices in (("mode", ExecutionMode), ("strategy", ParallelStrategy)):
        assert all(choice.value in inputs[name]["description"] for choice in choices), name


def test_documents_and_examples_name_no_unknown_input() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
    steps = 0
    for path, text in texts.items():
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
            for used in re.findall(
                r"uses: (?:OWNER/maos-bot|\./|docker://\S+maos-bot)\S*[^\n]*\n\s+with:\n((?: {6,}.*\n)+)", block
            ):
                names = set(re.findall(r"^ +([a-z-]+):", used, re.MULTILINE)) - {"args"}
                assert names <= set(ACTION["inputs"]), f"{path.name}: {names - set(ACTION['inputs'])}"
                steps += 1
    assert steps


def test_zizmor_and_githubs_schema_find_nothing_in_the_actions() -> None:
    paths = [str(ROOT / "action.yml"), str(ROOT / "composite" / "action.yml")]
    programs = Path(sys.executable).parent
    for command in (
        (str(programs / "check-jsonschema"), "--builtin-schema", "vendor.github-actions", *paths),
        (str(programs / "zizmor"), "--offline", "--no-progress", *paths),
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
