"""A newcomer's first minutes: `maos init` in a repository without a commit, a run, a push; and what goes wrong then."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.running import maos


def git(folder: Path, *arguments: str) -> None:
    names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    subprocess.run(["git", *names, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def test_from_an_empty_repository_to_a_pushed_spec_that_runs(tmp_path: Path) -> None:
    remote, shop = tmp_path / "remote.git", tmp_path / "shop"
    git(tmp_path, "init", "--bare", str(remote))
    git(tmp_path, "clone", str(remote), str(shop))
    began = maos(shop, "init", "--action", "someone/maos-bot@v0")
    assert began.returncode == 0
    assert began.stderr.splitlines()[:2] == ["wrote  .maos.yml", "wrote  .github/workflows/maos.yml"]
    assert "OWNER" not in (shop / ".github/workflows/maos.yml").read_text()
    first = maos(shop, "run", "--json")
    assert json.loads(first.stdout)["status"] == "succeeded", first.stderr
    git(shop, "add", "-A")
    git(shop, "commit", "-m", "Check with MAOS bot")
    git(shop, "push", "origin", "HEAD")
    assert maos(shop, "run", "--quiet").returncode == 0
    (shop / "spaces.txt").write_text("one \n")
    git(shop, "add", "-A")
    assert maos(shop, "run", "--quiet").returncode == 1
    tracked = subprocess.run(["git", "ls-files"], cwd=shop, capture_output=True, text=True, check=True).stdout.split()
    assert tracked == [".github/workflows/maos.yml", ".maos.yml", "spaces.txt"]


def test_what_exists_is_kept_and_a_folder_below_means_the_root(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / ".maos.yaml").write_text("tasks: {mine: {run: echo mine}}\n")
    (tmp_path / "below").mkdir()
    began = maos(tmp_path / "below", "init")
    assert "kept   .maos.yaml (it exists)" in began.stderr
    assert "put the owner for OWNER in its last line" in began.stderr
    assert not (tmp_path / ".maos.yml").exists()
    assert not (tmp_path / "below/.github").exists()
    assert (tmp_path / ".github/workflows/maos.yml").exists()


def test_without_a_repository_it_says_so_and_still_runs(tmp_path: Path) -> None:
    assert "this is no git repository" in maos(tmp_path, "init").stderr
    assert maos(tmp_path, "run", "--quiet").returncode == 0


def test_a_place_that_cant_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / ".github").write_text("no folder")
    refused = maos(tmp_path, "init")
    assert refused.returncode == 2
    assert "maos.yml: Not a directory" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "`maos init` writes one"),
        (("run", "nope.yml"), "check the name"),
        (("init", "--action", "maos-bot"), "OWNER/NAME@REF"),
        (("rnu",), "Did you mean 'run'?"),
        (("history",), "make one with `maos run`"),
    ],
)
def test_a_slip_is_answered_in_a_line_with_what_to_do(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = maos(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_isnt_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text("tasks:\n  lint: {run: echo}\n  unit: {run: echo}\n")
    assert "there are lint, unit" in maos(tmp_path, "run", "--task", "zzz").stderr
    (tmp_path / ".maos.yml").write_text("tasks:\n  lint: echo hi\n")
    assert "write `{run: echo hi}`" in maos(tmp_path, "validate").stderr
