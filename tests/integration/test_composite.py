"""The composite action's one step, as a runner starts it, with the packages already in the tool cache."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.e2e.events import PULL_REQUEST, TOKEN
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn

COMPOSITE = Path(__file__).parents[2] / "composite"
SPEC = "version: 1\nname: Here\ntasks:\n  lint: {run: 'echo \"$RUNNER_TOOL\" > made.txt; env > env.txt'}\n"


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


def cached(folder: Path) -> None:
    """The packages of this environment where the step would install its own."""
    place: Path = runpy.run_path(str(COMPOSITE / "maos.py"))["place_of"]({"RUNNER_TOOL_CACHE": str(folder)})
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (place / "lib").symlink_to(Path(sys.prefix) / "lib")
    (place / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text(encoding="utf-8"), encoding="utf-8")
    (place / "ready").touch()


def step(folder: Path, github: GitHubStandIn, **inputs: str) -> subprocess.CompletedProcess[str]:
    """The step of composite/action.yml, by bash, with the expressions filled in."""
    described: dict[str, Any] = YAML(typ="safe").load((COMPOSITE / "action.yml").read_text(encoding="utf-8"))
    (only,) = described["runs"]["steps"]
    assert only["shell"] == "bash"
    assert only["env"] == {"MAOS_INPUTS": "${{ toJSON(inputs) }}"}
    defaults = {name: str(each.get("default") or "") for name, each in described["inputs"].items()}
    given = {**defaults, "github-token": TOKEN, **{name.replace("_", "-"): value for name, value in inputs.items()}}
    (folder / "event.json").write_text(json.dumps(PULL_REQUEST), encoding="utf-8")
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # its python3 is the tests' own
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTION_PATH": str(COMPOSITE),
        "GITHUB_API_URL": github.url,
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_WORKSPACE": str(folder / "work"),
        "MAOS_INPUTS": json.dumps(given),
        "MAOS_WRITE_PAUSE_S": "0.01",
        "RUNNER_TOOL": "a tool of the runner",
        "RUNNER_TOOL_CACHE": str(folder / "cache"),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", only["run"]]
    work = folder / "work"
    return subprocess.run(command, cwd=work, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_it_is_the_action_with_the_runners_tools_and_no_secret_of_ours(github: GitHubStandIn, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".maos.yml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "work" / "click.py").write_text("raise SystemExit('taken over')\n", encoding="utf-8")
    cached(tmp_path / "cache")
    done = step(tmp_path, github, limits="concurrent-agents=2", checks="false")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "made.txt").read_text() == "a tool of the runner\n"
    assert len(github.comments) == 1
    assert github.checks == []
    assert "\nsucceeded\n" in (tmp_path / "output").read_text()
    seen = (tmp_path / "work" / "env.txt").read_text()
    assert TOKEN not in seen
    assert "MAOS_INPUTS" not in seen


def test_inputs_that_are_no_json_are_refused(github: GitHubStandIn, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(COMPOSITE / "maos.py")],
        env={**os.environ, "MAOS_INPUTS": "{"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "MAOS_INPUTS is no JSON" in done.stderr


def test_packages_that_cant_be_installed_end_it_with_words(github: GitHubStandIn, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    (tmp_path / "work").mkdir()
    done = step(tmp_path, github)
    assert done.returncode == 2
    assert "can't be installed into" in done.stderr
    assert "Traceback" not in done.stderr
