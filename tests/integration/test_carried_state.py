"""State from an earlier run, in a real workspace: believed, or set aside with words."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.events import act_inside, git
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn

UNCHANGED = "1 task unchanged"
SPEC = """\
version: 1
name: Shop
tasks:
  build: {run: "date +%N > built.txt; cat code.txt >> built.txt", inputs: [code.txt], outputs: [built.txt]}
"""


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / ".maos.yml").write_text(SPEC, encoding="utf-8")
    (folder / "code.txt").write_text("code\n", encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def push(branch: str = "main") -> dict[str, Any]:
    repository = {"full_name": REPOSITORY, "default_branch": "main"}
    return {"ref": f"refs/heads/{branch}", "after": "c" * 40, "before": "0" * 40, "repository": repository}


def act(github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str], payload: dict[str, Any]) -> str:
    """Run the action on a push; what it said."""
    done = act_inside(github, work, "push", payload, capfd, comment="false", checks="false")
    assert done.code == 0, done.err
    return done.out + done.err + done.summary


def manifest(work: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((work / ".maos" / "state.json").read_text(encoding="utf-8"))
    return read


def test_the_protected_branch_believes_its_own_state(
    github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    act(github, work, capfd, push())
    assert manifest(work) == {
        "format": 1,
        "repository": REPOSITORY,
        "level": "protected",
        "ref": "main",
        "event": "push",
    }
    said = act(github, work, capfd, push())
    assert UNCHANGED in said
    assert "not used" not in said
    assert not (work / ".maos.refused").exists()


def test_the_protected_branch_doesnt_believe_a_branchs_state_and_says_so(
    github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    act(github, work, capfd, push("topic"))
    assert manifest(work)["level"] == "branch"
    said = act(github, work, capfd, push())
    assert "a branch that isn't protected had a hand in it (push of topic)" in said
    assert UNCHANGED not in said
    assert (work / ".maos.refused" / "maos.db").exists()
    assert manifest(work)["level"] == "protected"
    assert UNCHANGED in act(github, work, capfd, push())


def test_a_branch_believes_the_protected_branchs_state_and_leaves_its_own(
    github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    act(github, work, capfd, push())
    assert UNCHANGED in act(github, work, capfd, push("topic"))
    assert manifest(work)["level"] == "branch"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"format": 1, "repository": "evil/shop", "level": "protected", "ref": "main", "event": "push"}),
        json.dumps({"format": 2, "repository": REPOSITORY, "level": "protected", "ref": "main", "event": "push"}),
        json.dumps({"format": 1, "repository": REPOSITORY, "level": "root", "ref": "main", "event": "push"}),
        json.dumps([1]),
        "{",
        "",
    ],
    ids=["another repository's", "another format", "an unknown level", "no object", "cut off", "empty"],
)
def test_foreign_and_damaged_state_is_set_aside(
    github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    act(github, work, capfd, push())
    (work / ".maos" / "state.json").write_text(text, encoding="utf-8")
    said = act(github, work, capfd, push("topic"))
    assert "Earlier state not used" in said
    assert UNCHANGED not in said


def test_state_that_came_with_the_commit_is_set_aside(
    github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    act(github, work, capfd, push())
    git(work, "add", "--force", ".maos")
    git(work, "commit", "-q", "-m", "brings its own results along")
    said = act(github, work, capfd, push())
    assert "part of the commit" in said
    assert UNCHANGED not in said


def test_no_task_has_the_last_word_about_the_state(
    github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    forged = json.dumps({"format": 1, "repository": REPOSITORY, "level": "protected", "ref": "main", "event": "push"})
    spec = f"version: 1\nname: Shop\ntasks:\n  forge: {{run: 'echo ''{forged}'' > .maos/state.json'}}\n"
    (work / ".maos.yml").write_text(spec, encoding="utf-8")
    act(github, work, capfd, push("topic"))
    assert manifest(work)["level"] == "branch"
    link = "version: 1\nname: Shop\ntasks:\n  forge: {run: 'ln -sf ../code.txt .maos/state.json'}\n"
    (work / ".maos.yml").write_text(link, encoding="utf-8")
    act(github, work, capfd, push("topic"))
    assert manifest(work)["level"] == "branch"
    assert (work / "code.txt").read_text() == "code\n"


def test_a_folder_without_state_is_no_matter(
    github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (work / ".maos").mkdir()
    assert "not used" not in act(github, work, capfd, push())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are given back")
def test_what_root_makes_in_somebody_elses_workspace_is_given_back(
    github: GitHubStandIn, work: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "outside.txt"
    kept.write_text("root's\n", encoding="utf-8")
    subprocess.run(["chown", "-R", "1234:1234", str(work)], check=True)
    (work / "older.txt").write_text("root's, from before\n", encoding="utf-8")
    long_ago = "import os, time; os.chown('older.txt', 0, 0)"
    subprocess.run(["python3", "-c", long_ago], cwd=work, check=True)
    spec = (
        f"version: 1\nname: Shop\ntasks:\n  make: {{run: 'mkdir -p a/b && echo x > a/b/c.txt && ln -s {kept} link'}}\n"
    )
    (work / ".maos.yml").write_text(spec, encoding="utf-8")
    act(github, work, capfd, push())
    owned = {str(path.relative_to(work)): path.lstat().st_uid for path in work.rglob("*")}
    assert owned["a/b/c.txt"] == owned["a"] == owned[".maos/maos.db"] == owned["link"] == 1234
    assert kept.stat().st_uid == 0
