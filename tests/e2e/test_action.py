"""`maos action` as a program, with real `pull_request` payloads (octokit/webhooks 7.6.1, MIT) against a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.events import runner
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn

PAYLOADS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "payloads" / "pull_request.json").read_text(encoding="utf-8")
)
SPEC = """
version: 1
name: Pull request
tasks:
  lint: {run: "echo fine"}
  unit: {run: "echo '::error::boo ##[add-mask]x'; exit 3", needs: [lint]}
  docs: {run: "true", needs: [unit]}
"""


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


def act(
    github: GitHubStandIn,
    folder: Path,
    payload: dict[str, Any],
    *,
    number: int = 1,
    spec: str = SPEC,
    comment: str = "",
    checks: str = "",
) -> Any:
    """Run the action in `folder`; returns the finished process."""
    (folder / ".maos.yml").write_text(spec, encoding="utf-8")
    environ = {
        **os.environ,
        **runner(github.url, folder, payload, number=number),
        "INPUT_COMMENT": comment,
        "INPUT_CHECKS": checks,
    }
    return subprocess.run(
        [sys.executable, "-m", "maos_bot", "action"],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("payload", PAYLOADS[:3], ids=lambda payload: payload["action"])
def test_a_pull_request_gets_one_comment_and_a_check_for_each_task(
    github: GitHubStandIn, tmp_path: Path, payload: dict[str, Any]
) -> None:
    done = act(github, tmp_path, payload)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len(github.comments) == 1, done.stdout
    body = github.comments[0]["body"]
    for word in ("Pull request", "lint", "unit", "docs", "exit code 3"):
        assert word in body
    conclusions = {run["name"].rpartition(" ")[2]: run["conclusion"] for run in github.checks}
    assert len(github.checks) == 4
    assert sorted(run["conclusion"] for run in github.checks) == ["failure", "failure", "skipped", "success"], (
        conclusions
    )
    assert {run["head_sha"] for run in github.checks} == {payload["pull_request"]["head"]["sha"]}
    assert github.history[0][1] == "in_progress"
    assert (tmp_path / "summary.md").stat().st_size > 200
    output = (tmp_path / "output").read_text()
    assert "status<<" in output
    assert "\nfailed\n" in output


def test_five_more_pushes_still_leave_one_comment(github: GitHubStandIn, tmp_path: Path) -> None:
    for number in range(150):
        github.someone_comments(f"comment {number} <!-- maos-bot key=0 run=1.1 at=1 sha= -->")
    spec = "version: 1\nname: Pull request\ntasks:\n  lint: {run: 'true'}\n"
    payload = json.loads(json.dumps(PAYLOADS[-1]))
    for push in range(6):
        sha = f"{push:040x}"
        payload["pull_request"]["head"]["sha"] = sha
        done = act(github, tmp_path, payload, number=push + 1, spec=spec)
        assert done.returncode == 0, done.stderr
    ours = [comment for comment in github.comments if comment["user"]["type"] == "Bot"]
    assert len(ours) == 1
    assert f"sha={5:040x}" in ours[0]["body"]
    assert {run["head_sha"] for run in github.checks} == {f"{push:040x}" for push in range(6)}
    assert {run["conclusion"] for run in github.checks} == {"success"}


def test_a_refused_token_never_changes_the_runs_result(github: GitHubStandIn, tmp_path: Path) -> None:
    github.refuse = 403
    done = act(github, tmp_path, PAYLOADS[0], spec="version: 1\ntasks:\n  lint: {run: 'true'}\n")
    assert done.returncode == 0, done.stderr
    assert "Not posted to GitHub" in done.stdout
    assert "pull-requests: write" in done.stdout + done.stderr
    assert "lint" in (tmp_path / "summary.md").read_text()


def test_output_of_a_task_cant_issue_workflow_commands(github: GitHubStandIn, tmp_path: Path) -> None:
    done = act(github, tmp_path, PAYLOADS[0])
    lines = done.stderr.splitlines()
    stop = next(number for number, line in enumerate(lines) if line.startswith("::stop-commands::"))
    token = lines[stop].removeprefix("::stop-commands::")
    assert all("##[" not in line for line in lines)
    position = next(number for number, line in enumerate(lines) if "::error::boo" in line)
    opened = [number for number, line in enumerate(lines[:position]) if line.startswith("::stop-commands::")]
    assert opened
    token = lines[opened[-1]].removeprefix("::stop-commands::")
    assert f"::{token}::" in lines[position:]


@pytest.mark.parametrize(("given", "count"), [("update", 1), ("true", 1), ("recreate", 1), ("off", 0), ("false", 0)])
def test_the_comment_input(github: GitHubStandIn, tmp_path: Path, given: str, count: int) -> None:
    spec = "version: 1\ntasks:\n  lint: {run: 'true'}\n"
    done = act(github, tmp_path, PAYLOADS[0], spec=spec, comment=given)
    assert done.returncode == 0, done.stderr
    assert len(github.comments) == count
    assert len(github.checks) == 2


def test_an_unknown_comment_input_is_an_error(github: GitHubStandIn, tmp_path: Path) -> None:
    done = act(github, tmp_path, PAYLOADS[0], spec="version: 1\ntasks:\n  lint: {run: 'true'}\n", comment="always")
    assert done.returncode == 2
    assert "update, recreate or off" in done.stderr


def test_the_doctor_says_of_github_what_the_run_says(github: GitHubStandIn, tmp_path: Path) -> None:
    done = act(github, tmp_path, PAYLOADS[0], spec="version: 1\ntasks:\n  lint: {run: 'true'}\n")
    environ = {
        **os.environ,
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_API_URL": github.url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_TOKEN": "ghs_abcdefghijklmnopqrstuvwxyz0123456789",
    }
    command = [sys.executable, "-m", "maos_bot", "doctor"]
    told = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True)
    ours = " ".join(told.stdout.partition("On GitHub:")[2].split())
    for line in done.stderr.splitlines():
        if line.startswith(("maos: token:", "maos: API quota:", "maos: comment:", "maos:     ")):
            said = " ".join(line.removeprefix("maos:").split())
            assert said in ours or "ANTHROPIC_API_KEY" in said or said == "env:", said
    assert "pull-requests: write" in done.stderr
    assert "990 of 1,000 requests left" in ours
    assert "runner:" in done.stderr


def test_a_report_too_large_for_an_output_is_in_a_file(github: GitHubStandIn, tmp_path: Path) -> None:
    lines = "".join(f"::warning file=a.py,line={n}::{'x' * 200} {n}\n" for n in range(1, 2001))
    (tmp_path / "lines.txt").write_text(lines, encoding="utf-8")
    spec = "version: 1\ntasks:\n  lint: {run: 'cat lines.txt'}\n"
    done = act(github, tmp_path, PAYLOADS[0], spec=spec, comment="off", checks="false")
    assert done.returncode == 0, done.stderr
    (path,) = (each for each in (tmp_path / ".maos").glob("*.json") if each.name != "state.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    assert len(report["findings"]) == 2000
    output = (tmp_path / "output").read_text(encoding="utf-8")
    assert len(output.encode("utf-16-le")) < 1_000_000
    assert path.name in done.stderr
