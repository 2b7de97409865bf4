"""Which files changed is asked of a real git; what it can't say is unknown, never nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from maos_bot.execution.changes import changed_files


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(root: Path, **files: str) -> str:
    for name, text in files.items():
        (root / name).write_text(text)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    commit(root, a="1\n", b="1\n", c="1\n")
    return root


def test_a_pull_request_s_own_changes_and_not_those_of_its_base(repository: Path) -> None:
    git(repository, "switch", "-q", "-c", "topic")
    head = commit(repository, a="2\n", **{"naïve file\n.txt": "new\n"})
    git(repository, "mv", "c", "d")
    head = commit(repository)
    git(repository, "switch", "-q", "main")
    base = commit(repository, b="2\n")
    changes = changed_files(repository, base, head)
    assert changes.files == frozenset({"a", "naïve file\n.txt", "c", "d"})
    assert changes.reason == f"4 changed since {base[:12]}"


def test_without_a_head_the_working_tree_counts_with_what_is_untracked(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    (repository / ".gitignore").write_text("ignored\n")
    (repository / "a").write_text("2\n")
    (repository / "sub").mkdir()
    (repository / "sub" / "new").write_text("x\n")
    (repository / "ignored").write_text("x\n")
    assert changed_files(repository, base).files == frozenset({"a", "sub/new", ".gitignore"})
    assert changed_files(repository / "sub", base).files == frozenset({"a", "sub/new", ".gitignore"})


def test_nothing_changed_is_known_to_be_nothing(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    assert changed_files(repository, base, base).files == frozenset()


@pytest.mark.parametrize("base", ["", "0" * 40, "nope", "--output=stolen", "-a"])
def test_a_base_that_git_does_not_know_is_unknown(repository: Path, base: str) -> None:
    head = git(repository, "rev-parse", "HEAD")
    for changes in (changed_files(repository, base, head), changed_files(repository, base)):
        assert changes.files is None
        assert changes.reason
    assert not (repository / "stolen").exists()


def test_a_shallow_clone_without_the_base_is_unknown(repository: Path, tmp_path: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    commit(repository, a="2\n")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", str(clone))
    changes = changed_files(clone, base, "HEAD")
    assert changes.files is None
    assert "a full clone can" in changes.reason


def test_outside_a_repository_and_without_git_it_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert changed_files(tmp_path, "HEAD").files is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert changed_files(tmp_path, "HEAD").reason == "git was not found"


def test_a_repository_cannot_make_us_run_its_programs(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    trap = repository / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository}/sprung\n")
    trap.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "diff.external", str(trap))
    (repository / "a").write_text("2\n")
    assert changed_files(repository, base).files == frozenset({"a", "trap"})
    assert not (repository / "sprung").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_workspace_of_another_user_can_be_asked(repository: Path) -> None:
    base = git(repository, "rev-parse", "HEAD")
    (repository / "a").write_text("2\n")
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 12345, 12345)
    assert changed_files(repository, base).files == frozenset({"a"})
