"""`maos action`, cancelled as a runner does it: by signals, with ten seconds to say so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.events import PULL_REQUEST, runner
from tests.e2e.github_stand_in import GitHubStandIn

SPEC = """\
version: 1
name: Pull request
tasks:
  polite: {run: "trap 'exit 0' TERM; echo begun; while true; do sleep 0.05; done"}
  first: {run: "true"}
  never: {run: "true", needs: [polite]}
"""


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


def begin(github: GitHubStandIn, folder: Path, **more: str) -> subprocess.Popen[str]:
    (folder / ".maos.yml").write_text(SPEC, encoding="utf-8")
    environ = {**os.environ, **runner(github.url, folder, PULL_REQUEST), **more}
    return subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "action"],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(holds: Any) -> None:
    give_up_at = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def under_way(github: GitHubStandIn) -> bool:
    return any(run["name"].endswith("polite") and run["status"] == "in_progress" for run in github.checks)


def test_what_was_begun_is_closed_as_cancelled(github: GitHubStandIn, tmp_path: Path) -> None:
    process = begin(github, tmp_path)  # with a runner's pause of a second between two writes
    wait_for(lambda: under_way(github))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=9)[0]
    assert process.returncode == 130, said
    conclusions = {run["name"].rpartition(" ")[2]: run["conclusion"] for run in github.checks}
    assert conclusions["polite"] == conclusions["request"] == "cancelled"
    assert "never" not in conclusions  # no check for what never began
    assert "ancelled" in github.comments[0]["body"]
    assert "\ncancelled\n" in (tmp_path / "output").read_text()
    assert "interrupted by SIGINT" in (tmp_path / "summary.md").read_text()


def test_a_signal_before_any_task_ends_it_with_words(github: GitHubStandIn, tmp_path: Path) -> None:
    github.slow_s = 60.0
    process = begin(github, tmp_path)
    wait_for(lambda: bool(github.requests))
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=9)[0]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "before any task began" in (tmp_path / "summary.md").read_text()
