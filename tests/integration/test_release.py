"""The project's own workflows are valid and ask for little; a release takes its words and versions from one place."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from maos_bot._version import __version__
from requirements.release import main as release

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EXAMPLES = sorted((ROOT / "examples" / "workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = f"ghcr.io/someone/maos-bot@{DIGEST}"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with what a release reads."""
    (tmp_path / "maos_bot").mkdir()
    (tmp_path / "maos_bot" / "_version.py").write_text('__version__ = "1.2.3"\n')
    changes = "# Changelog\n\n## 1.2.3 (2026-11-26)\n\n- New.\n- More.\n\n## 1.2.2 (unreleased)\n\n- Old.\n"
    (tmp_path / "CHANGELOG.md").write_text(changes)
    (tmp_path / "action.yml").write_text("runs:\n  using: docker\n  image: Dockerfile\n")
    return tmp_path


def test_actionlint_githubs_schema_and_zizmor_find_nothing() -> None:
    own = [str(path) for path in WORKFLOWS]
    assert {path.stem for path in WORKFLOWS} == {"ci", "docs", "release"}
    linted = run(str(BIN / "actionlint"), "-no-color", *own, *map(str, EXAMPLES))
    assert linted.returncode == 0, linted.stdout
    checked = run(str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *own)
    assert checked.returncode == 0, checked.stdout
    audited = run(str(BIN / "zizmor"), "--offline", "--no-progress", *own)
    assert audited.returncode == 0, audited.stdout


def test_actionlint_would_find_a_slip(tmp_path: Path) -> None:
    slip = tmp_path / "slip.yml"
    slip.write_text(WORKFLOWS[0].read_text().replace("${{ matrix.python }}", "${{ matrix.pyton }}"))
    assert "pyton" in run(str(BIN / "actionlint"), "-no-color", str(slip)).stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_every_job_says_what_it_may(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    uses = [use for use in re.findall(r"uses: (.+)", text) if not use.startswith("./")]
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use) for use in uses)
    workflow = YAML(typ="safe").load(text)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"]
        assert "uses" in job or job["timeout-minutes"]
        writes = {name for name, value in job["permissions"].items() if value == "write"}
        assert not writes or path.stem in {"release", "docs"}
        for step in job.get("steps", ()):
            assert "checkout" not in step.get("uses", "") or step["with"]["persist-credentials"] is False


def test_every_workflow_names_one_commit_for_an_action() -> None:
    pins: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, pin in re.findall(r"uses: ([\w./-]+)@(.+)", path.read_text(encoding="utf-8")):
            pins.setdefault(action, set()).add(pin)
    assert pins
    assert all(len(found) == 1 for found in pins.values()), pins


def test_the_supported_versions_are_those_that_are_tested() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    workflow = YAML(typ="safe").load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == declared
    assert f'requires-python = ">={declared[0]}"' in project


def test_a_right_tag_passes_and_its_notes_are_the_changelogs(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release(["check", "v1.2.3"], tree) == 0
    assert release(["notes", "v1.2.3"], tree) == 0
    assert capsys.readouterr().out == "- New.\n- More.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "v1.2.4"], "_version.py says 1.2.3"),
        (["notes", "v9.9.9"], "no section `## 9.9.9"),
        (["tree", "base", "ghcr.io/someone/maos-bot:v1"], "no image with a digest"),
        (["chek"], "python requirements/release.py check TAG"),
    ],
)
def test_what_is_wrong_stops_a_release(tree: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(words)):
        release(arguments, tree)


def test_a_version_without_a_date_is_not_released(tree: Path) -> None:
    (tree / "maos_bot" / "_version.py").write_text('__version__ = "1.2.2"\n')
    with pytest.raises(SystemExit, match=r"gives 1\.2\.2 no date"):
        release(["check", "v1.2.2"], tree)


def test_the_moving_tags_action_runs_the_released_image(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "action.yml").write_text((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert release(["tree", "abc", IMAGE], tree) == 0
    body = json.loads(capsys.readouterr().out)
    (entry,) = body["tree"]
    assert (body["base_tree"], entry["path"], entry["mode"]) == ("abc", "action.yml", "100644")
    ours = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))
    made = YAML(typ="safe").load(entry["content"])
    assert made.pop("runs") == {**ours.pop("runs"), "image": f"docker://{IMAGE}"}
    assert made == ours


def test_this_version_has_a_section_in_the_changelog(capsys: pytest.CaptureFixture[str]) -> None:
    assert release(["notes", f"v{__version__}"]) == 0
    assert capsys.readouterr().out.startswith("- ")
