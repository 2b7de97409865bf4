"""`/maos` commands from comment to answer: by whom they count, what they run, and on which commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.events import TOKEN, act_inside, comment_event, git, pull_request, repository
from tests.e2e.github_stand_in import GitHubStandIn

WRITER = "maintainer"


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        stand_in.permissions = {WRITER: "write"}
        yield stand_in


def said(github: GitHubStandIn, body: str, *, login: str = WRITER) -> dict[str, Any]:
    github.someone_comments(body, login=login)
    return github.comments[-1]


def ours(github: GitHubStandIn) -> list[str]:
    return [comment["body"] for comment in github.comments if comment["user"]["type"] == "Bot"]


def test_help_is_answered_in_the_one_comment(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = repository(tmp_path)
    github.pull = pull_request(sha=place.head)
    for _ in range(2):
        command = said(github, "/maos help")
        done = act_inside(github, place.folder, "issue_comment", comment_event(command), capfd, sha=place.base)
        assert done.code == 0, done.err
    (body,) = ours(github)
    assert body.count("/maos approve SHA") == 1
    assert [content for _, content in github.reactions] == ["+1", "+1"]
    assert not (place.folder / "ran.txt").exists()


def test_plan_shows_and_runs_nothing(github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = repository(tmp_path)
    github.pull = pull_request(sha=place.head)
    command = said(github, "/maos plan")
    done = act_inside(github, place.folder, "issue_comment", comment_event(command), capfd, sha=place.base)
    assert done.code == 0, done.err
    assert "```mermaid" in ours(github)[0]
    assert not (place.folder / "ran.txt").exists()


def test_run_takes_the_heads_code_and_the_bases_spec(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evil = "version: 1\ntasks:\n  lint: {run: 'touch evil.txt'}\n"
    place = repository(tmp_path, head_files={".maos.yml": evil})
    github.pull = pull_request(sha=place.head)
    command = said(github, "/maos run lint")
    done = act_inside(github, place.folder, "issue_comment", comment_event(command), capfd, sha=place.base)
    assert done.code == 0, done.err
    assert (place.folder / "ran.txt").exists()
    assert not (place.folder / "evil.txt").exists()
    assert "the head's code" in done.err
    assert {run["head_sha"] for run in github.checks} == {place.head}
    assert place.head[:7] in ours(github)[0]
    assert TOKEN not in git(place.folder, "config", "--list")
    assert github.reactions == [(command["id"], "rocket")]


def test_a_forks_code_runs_for_the_approved_commit_alone(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = repository(tmp_path)
    github.pull = pull_request(sha=place.head, fork=True)

    def ask(body: str, login: str = WRITER) -> str:
        event = comment_event(said(github, body, login=login))
        return act_inside(github, place.folder, "issue_comment", event, capfd, sha=place.base).err

    assert "comes from a fork" in ask("/maos run")
    assert "pull request is at" in ask(f"/maos approve {'b' * 40}")
    assert "only people who may write" in ask(f"/maos approve {place.head}", login="stranger")
    assert "comes from a fork" in ask("/maos run"), "a stranger's approval counted"
    assert not (place.folder / "ran.txt").exists()
    ask(f"/maos approve {place.head}")
    assert (place.folder / "ran.txt").exists()
    (place.folder / "ran.txt").unlink()
    ask("/maos retry lint")
    assert (place.folder / "ran.txt").exists()
    (place.folder / "ran.txt").unlink()
    github.pull["head"]["sha"] = "d" * 40  # pushed after the approval
    assert "comes from a fork" in ask("/maos run")
    assert not (place.folder / "ran.txt").exists()


def test_no_code_runs_where_the_checkout_kept_the_token(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = repository(tmp_path)
    git(place.folder, "config", "http.https://github.com/.extraheader", "AUTHORIZATION: basic eA==")
    github.pull = pull_request(sha=place.head)
    event = comment_event(said(github, "/maos run"))
    done = act_inside(github, place.folder, "issue_comment", event, capfd, sha=place.base)
    assert done.code == 2
    assert "persist-credentials: false" in done.err
    assert not (place.folder / "ran.txt").exists()


def test_cancel_ends_the_run_whose_check_is_under_way(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = repository(tmp_path)
    github.pull = pull_request(sha=place.head)
    check = {"name": "Pull request", "head_sha": place.head, "status": "in_progress", "external_id": "run-1"}
    page = "https://github.com/Codertocat/Hello-World/actions/runs"
    for details in (f"{page}/77", f"{page}/1001", "https://evil.example/actions/runs/../88"):
        github.answer("POST", "/repos/Codertocat/Hello-World/check-runs", {**check, "details_url": details})
    event = comment_event(said(github, "/maos cancel"))
    done = act_inside(github, place.folder, "issue_comment", event, capfd, sha=place.base)
    assert done.code == 0, done.err
    assert github.cancelled == [77]
    assert "Cancelled 1 workflow run" in ours(github)[0]


def test_a_forks_run_is_published_by_the_run_after_it(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = repository(tmp_path)
    fork = {**_pull_request_event(place.head), "number": 2}
    fork["pull_request"]["number"] = 2
    fork["pull_request"]["head"]["repo"]["full_name"] = "stranger/Hello-World"
    done = act_inside(github, place.folder, "pull_request", fork, capfd, events="../events.ndjson")
    assert done.code == 0, done.err
    assert github.comments == github.checks == []
    after = {
        "action": "completed",
        "workflow_run": {
            "head_sha": place.head,
            "head_branch": "topic",
            "head_repository": {"full_name": "stranger/Hello-World"},
        },
        "repository": {"full_name": "Codertocat/Hello-World"},
    }
    github.pull = pull_request(sha=place.head, fork=True)
    (place.folder / "ran.txt").unlink()
    done = act_inside(github, place.folder, "workflow_run", after, capfd, report="../events.ndjson")
    assert done.code == 0, done.err
    assert len(ours(github)) == 1
    assert "As told by the pull request's own run" in ours(github)[0]
    assert {run["head_sha"] for run in github.checks} == {place.head}
    names = {run["name"] for run in github.checks}
    assert names == {"reported: Pull request", "reported: Pull request / lint"}, "a name that no branch's rules require"
    assert not (place.folder / "ran.txt").exists()
    github.comments.clear()
    github.pull["head"]["sha"] = "e" * 40  # the events name a pull request that is elsewhere
    done = act_inside(github, place.folder, "workflow_run", after, capfd, report="../events.ndjson")
    assert ours(github) == []


def _pull_request_event(sha: str) -> dict[str, Any]:
    return {
        "action": "opened",
        "pull_request": pull_request(sha=sha),
        "repository": {"full_name": "Codertocat/Hello-World"},
    }


RETRIED = """version: 1
tasks:
  lint: {run: "echo lint >> ran.log; echo '::warning file=a.py,line=1::from lint'"}
  prepare: {run: "echo prepare >> ran.log"}
  unit: {run: "echo unit >> ran.log; test -f mended", needs: [prepare]}
  report: {run: "echo report >> ran.log", needs: [unit]}
"""


def test_retry_leaves_out_what_succeeded_on_this_commit_and_nothing_needs(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = repository(tmp_path, base_files={".maos.yml": RETRIED})
    github.pull = pull_request(sha=place.head)

    def ask(body: str) -> tuple[int, list[str]]:
        log = place.folder / "ran.log"
        log.unlink(missing_ok=True)
        event = comment_event(said(github, body))
        done = act_inside(
            github, place.folder, "issue_comment", event, capfd, sha=place.base, database="../history/maos.db"
        )
        return done.code, sorted(log.read_text(encoding="utf-8").split()) if log.exists() else []

    assert ask("/maos run") == (1, ["lint", "prepare", "unit"])
    (place.folder / "mended").touch()
    assert ask("/maos retry") == (0, ["prepare", "report", "unit"])
    body = ours(github)[0]
    assert "on this commit" in body
    assert "from lint" in body, "what a reused task had found stands on"
    assert "fixed" not in body
    assert ask("/maos retry") == (0, []), "all of it has succeeded"
    assert ask("/maos retry lint") == (0, ["lint"])
    assert ask("/maos run")[1] == ["lint", "prepare", "report", "unit"], "run doesn't reuse"
    github.pull["head"]["sha"] = place.base
    assert ask("/maos retry")[1] == ["lint", "prepare", "report", "unit"], "another commit"


def test_pull_request_target_runs_nothing_but_the_approved_commit(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = repository(tmp_path, head_files={".maos.yml": "version: 1\ntasks:\n  lint: {run: 'touch evil.txt'}\n"})
    event = _pull_request_event(place.head)
    event["pull_request"] = pull_request(sha=place.head, fork=True)

    def happen() -> int:
        return act_inside(github, place.folder, "pull_request_target", event, capfd, sha=place.base).code

    assert happen() == 3
    said(github, f"/maos approve {place.head}", login="stranger")
    assert happen() == 3
    assert not (place.folder / "ran.txt").exists()
    said(github, f"/maos approve {place.head}")
    assert happen() == 0
    assert (place.folder / "ran.txt").exists()
    assert not (place.folder / "evil.txt").exists()
    (place.folder / "ran.txt").unlink()
    git(place.folder, "checkout", "-q", "--force", place.base)
    event["pull_request"]["head"]["sha"] = "d" * 40  # the next push
    assert happen() == 3
    assert not (place.folder / "ran.txt").exists()


def test_an_approval_that_was_edited_or_taken_back_counts_no_more(
    github: GitHubStandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = repository(tmp_path)
    event = _pull_request_event(place.head)
    event["pull_request"] = pull_request(sha=place.head, fork=True)
    approval = said(github, f"/maos approve {place.head}")
    approval["updated_at"] = "2026-11-24T00:00:00Z"
    assert act_inside(github, place.folder, "pull_request_target", event, capfd, sha=place.base).code == 3
    github.comments.clear()
    assert act_inside(github, place.folder, "pull_request_target", event, capfd, sha=place.base).code == 3
    assert not (place.folder / "ran.txt").exists()
