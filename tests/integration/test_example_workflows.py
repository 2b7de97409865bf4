"""The workflows under examples/ are valid, safe by zizmor's rules, and name actions by their commits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "examples" / "workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_githubs_schema_actionlint_and_zizmor_find_nothing() -> None:
    paths = [str(path) for path in WORKFLOWS]
    assert {path.stem for path in WORKFLOWS} == {
        *("basic", "fork-safe", "fork-safe-report", "agents", "comment-commands", "nightly", "cache-and-artifacts"),
    }
    checked = run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *paths)
    assert checked.returncode == 0, checked.stdout
    linted = run(str(BIN / "actionlint"), "-no-color", *paths)
    assert linted.returncode == 0, linted.stdout
    audited = run(str(BIN / "zizmor"), "--offline", "--no-progress", *paths)
    assert audited.returncode == 0, audited.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_inputs_are_known_and_permissions_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert all(re.fullmatch(r"\S+@[0-9a-f]{40} # .+", use) for use in re.findall(r"uses: (.+)", text))
    workflow = YAML(typ="safe").load(text)
    assert workflow["permissions"] == {}
    known = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"]
    for job in workflow["jobs"].values():
        assert job["permissions"]
        assert job["timeout-minutes"]
        for step in job["steps"]:
            if "maos-bot" in step["uses"]:
                assert set(step.get("with", ())) <= set(known)
            if "checkout" in step["uses"]:
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_outputs_that_are_used_are_the_actions_own(path: Path) -> None:
    known = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))["outputs"]
    used = re.findall(r"steps\.maos\.outputs\.([\w-]+)", path.read_text(encoding="utf-8"))
    assert set(used) <= set(known)


def test_actionlint_sees_what_is_wrong(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "workflows" / "basic.yml").read_text(encoding="utf-8")
    (tmp_path / "bad.yml").write_text(text.replace("github.ref", "github.reff"), encoding="utf-8")
    assert "reff" in run(str(BIN / "actionlint"), "-no-color", str(tmp_path / "bad.yml")).stdout
