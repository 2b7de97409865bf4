"""`maos action` against GitHub's published description and an emulator that isn't ours (see `github_api`)."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from maos_bot.errors import GitHubError
from maos_bot.github.artifacts import Artifacts
from maos_bot.github.capability import quota
from maos_bot.github.client import Annotation, CheckWrite, GitHubClient
from maos_bot.github.desk import Desk
from tests.e2e.events import TOKEN, runner
from tests.e2e.github_api import GitHubApi, github_api
from tests.e2e.github_judge import request_faults
from tests.e2e.github_stand_in import REPOSITORY

PAYLOADS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "payloads" / "pull_request.json").read_text(encoding="utf-8")
)
SPEC = """
version: 1
name: Pull request
tasks:
  lint: {run: "echo fine"}
  unit: {run: "echo one line of it; exit 3", needs: [lint]}
  docs: {run: "true", needs: [unit]}
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubApi]:
    with github_api(tmp_path_factory.mktemp("parts")) as api:
        yield api


@pytest.fixture
def github(parts: GitHubApi) -> GitHubApi:
    parts.requests.clear()
    return parts


def payload_of(action: str, number: int, sha: str) -> dict[str, Any]:
    """A real payload, derived: the emulator's number and SHA in place of those it was recorded with."""
    payload = copy.deepcopy(next(each for each in PAYLOADS if each["action"] == action))
    payload["number"] = payload["pull_request"]["number"] = number
    payload["pull_request"]["head"]["sha"] = sha
    return payload


def act(github: GitHubApi, folder: Path, payload: dict[str, Any], *, run: int) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / ".maos.yml").write_text(SPEC, encoding="utf-8")
    environ = {**os.environ, **runner(github.url, folder, payload, number=run)}
    command = [sys.executable, "-m", "maos_bot", "action"]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False)


def test_pushes_to_a_pull_request_leave_one_comment_and_checks_on_each_head(github: GitHubApi, tmp_path: Path) -> None:
    number, sha = github.open_pull_request()
    github.ask("POST", f"/issues/{number}/comments", {"body": "Looks good to me."})
    heads = [sha]
    for run in range(1, 7):
        action = "opened" if run == 1 else "synchronize"
        done = act(github, tmp_path / "work", payload_of(action, number, heads[-1]), run=run)
        assert done.returncode == 1, done.stderr
        assert "Not posted" not in done.stdout, done.stdout
        comments = github.ask("GET", f"/issues/{number}/comments")
        assert [each["user"]["login"] for each in comments] == ["Codertocat", "github-actions[bot]"]
        assert heads[-1][:7] in comments[1]["body"]
        if run < 6:
            heads.append(github.push(f"push {run}"))
    for head in heads:
        runs = github.ask("GET", f"/commits/{head}/check-runs")["check_runs"]
        assert {each["name"].rpartition(" ")[2]: each["conclusion"] for each in runs} == {
            "request": "failure",
            "lint": "success",
            "unit": "failure",
            "docs": "skipped",
        }, runs
        assert {each["status"] for each in runs} == {"completed"}
    created = github.sent("POST", "/check-runs")
    assert len(created) == 24
    assert {(each.body["status"], each.body.get("conclusion")) for each in created} == {("in_progress", None)}
    assert github.violations() == []
    # The judge of our own stand-in's traffic agrees with prism.
    for sent in created + github.sent("POST", f"/issues/{number}/comments"):
        assert request_faults(sent.method, sent.path, json.dumps(sent.body).encode(), "application/json") == []


def test_every_kind_of_request_is_one_that_githubs_description_knows(github: GitHubApi) -> None:
    """What `emulate` doesn't know it refuses; prism has judged the request before."""
    client = GitHubClient(token=TOKEN, repository=REPOSITORY, api_url=github.url, write_pause_s=0.0, retry_pause_s=0.0)
    number = github.ask("POST", "/issues", {"title": "A place to talk"})["number"]
    main = github.ask("GET", "/branches/main")["commit"]["sha"]
    desk = Desk(client, number)
    comment = client.create_comment(number, "/maos help")
    page = f"https://github.com/{REPOSITORY}/actions/runs/77"
    begun = CheckWrite(name="lint", sha=main, title="a", summary="b", external_id="run-1", details_url=page)
    check = client.create_check(begun)
    remark = Annotation(path="a.py", start_line=1, end_line=1, level="warning", message="c", title="d")
    asked: list[Callable[[], object]] = [
        lambda: quota(client),
        lambda: desk.permission("Codertocat"),
        desk.pull,
        lambda: desk.unchanged(comment.id, comment.body),
        lambda: desk.react(comment.id, "rocket"),
        lambda: desk.approved(main),
        desk.dismissed,
        lambda: desk.cancel(main),
        lambda: list(client.comments(number)),
        lambda: list(client.checks(main, "lint")),
        lambda: client.update_comment(comment, "changed"),
        lambda: client.update_check(
            check,
            CheckWrite(name="lint", sha=main, conclusion="success", title="a", summary="b", annotations=(remark,)),
        ),
        lambda: client.delete_comment(comment),
        lambda: list(Artifacts(client, token=TOKEN).pages()),
    ]
    github.requests.clear()
    for ask in asked:
        with contextlib.suppress(GitHubError):
            ask()
    kinds = {
        (each.method, re.sub(r"/([0-9a-f]{40}|[0-9]+)(?=/|$)", "/N", each.path.split("?")[0]))
        for each in github.requests
    }
    assert len(kinds) >= 12, sorted(kinds)
    assert github.violations() == []
    for sent in github.requests:
        body = b"" if sent.body is None else json.dumps(sent.body).encode()
        assert request_faults(sent.method, sent.path, body, "application/json") == []


def test_a_request_that_githubs_description_forbids_is_seen(github: GitHubApi) -> None:
    bad = {"name": "x", "head_sha": "a" * 40, "status": "finished"}
    answer = requests.post(
        f"{github.url}/repos/{REPOSITORY}/check-runs",
        json=bad,
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=30,
    )
    assert answer.status_code
    assert any("status" in each for each in github.violations())
    assert request_faults("POST", f"/repos/{REPOSITORY}/check-runs", json.dumps(bad).encode(), "application/json")
