"""git inside a task, in a checkout that belongs to another user, as in a container action."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from maos_bot.execution.environment import with_trusted_checkout


def status(folder: Path, environ: Mapping[str, str]) -> int:
    # git's own switch for tests of this check: it takes every folder for another user's.
    env = {**environ, "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    return subprocess.run(["git", "status"], cwd=folder, env=env, capture_output=True, check=False).returncode


def test_git_works_in_a_checkout_of_another_user(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    assert status(tmp_path, os.environ) != 0
    assert status(tmp_path, with_trusted_checkout(os.environ, tmp_path)) == 0


def test_what_the_environment_told_git_before_stays(tmp_path: Path) -> None:
    before = {**os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "maos.said", "GIT_CONFIG_VALUE_0": "yes"}
    env = with_trusted_checkout(before, tmp_path)
    said = subprocess.run(["git", "config", "maos.said"], env=env, capture_output=True, text=True, check=False).stdout
    assert said == "yes\n"
