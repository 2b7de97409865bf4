"""The judge that holds our stand-in's traffic to GitHub's description sees what GitHub would refuse or drop."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.github_judge import answer_faults, request_faults
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn

REPO = f"/repos/{REPOSITORY}"
SHA = "a" * 40
CHECK = {"name": "unit", "head_sha": SHA, "status": "in_progress", "started_at": "2026-11-23T00:00:00Z"}
OUTPUT = {"title": "2 of 3", "summary": "fine"}
ANNOTATION = {"path": "a.py", "start_line": 1, "end_line": 1, "annotation_level": "failure", "message": "no"}
APP = {"slug": "github-actions", "id": 15368}


def judged(method: str, target: str, body: Any = None, content_type: str = "application/json") -> list[str]:
    return request_faults(method, target, b"" if body is None else json.dumps(body).encode(), content_type)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/issues/2/comments", {"body": "hello"}),
        ("GET", "/issues/2/comments?per_page=100&page=2", None),
        ("GET", f"/commits/{SHA}/check-runs?check_name=a%20%2F%20b&filter=all", None),
        ("POST", "/check-runs", CHECK),
        ("POST", "/check-runs", CHECK | {"output": OUTPUT | {"annotations": [ANNOTATION] * 50}}),
        ("PATCH", "/check-runs/7", {"status": "completed", "conclusion": "timed_out", "output": OUTPUT}),
        ("DELETE", "/issues/comments/7", None),
        ("GET", "/contents/a/deep/file.txt?ref=main", None),
    ],
)
def test_a_request_that_github_takes_passes(method: str, path: str, body: Any) -> None:
    assert judged(method, REPO + path, body) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "fault"),
    [
        ("POST", "/issues/2/comments", {"body": 7}, "body.body: 7 is not of type 'string'"),
        ("POST", "/issues/2/comments", {}, "'body' is a required property"),
        ("POST", "/issues/2/comments", None, "needs one"),
        ("POST", "/issues/2/comments", {"body": "x", "colour": "red"}, "colour"),
        ("POST", "/issues/two/comments", {"body": "x"}, "path issue_number"),
        ("GET", "/issues/2/comments?per_page=many", None, "query per_page"),
        ("GET", "/issues/2/comments?pages=2", None, "query pages"),
        ("GET", f"/commits/{SHA}/check-runs?filter=every", None, "query filter"),
        ("POST", "/check-runs", {"name": "unit"}, "'head_sha' is a required property"),
        ("POST", "/check-runs", CHECK | {"status": "finished"}, "body.status"),
        ("POST", "/check-runs", CHECK | {"conclusion": "skipt"}, "body.conclusion"),
        ("POST", "/check-runs", CHECK | {"started_at": "yesterday"}, "body.started_at"),
        ("POST", "/check-runs", CHECK | {"started_at": "2026-11-23T00:00:00"}, "body.started_at"),
        ("POST", "/check-runs", CHECK | {"output": {"title": "no summary"}}, "body.output"),
        ("POST", "/check-runs", CHECK | {"output": OUTPUT | {"summary": "x" * 65_536}}, "too long"),
        ("POST", "/check-runs", CHECK | {"output": OUTPUT | {"annotations": [ANNOTATION] * 51}}, "too long"),
        ("POST", "/check-runs", CHECK | {"output": OUTPUT | {"annotations": [{"path": "x"}]}}, "annotations.0"),
        ("PATCH", "/check-runs/7", {"status": "completed"}, "not valid under any"),
        ("PUT", "/check-runs/7", {"status": "completed"}, "no such operation"),
        ("DELETE", "/issues/comments/7", {"body": "x"}, "takes none"),
        ("GET", "/check_runs", None, "no such operation"),
    ],
)
def test_a_request_that_github_would_refuse_or_drop_is_seen(method: str, path: str, body: Any, fault: str) -> None:
    found = judged(method, REPO + path, body)
    assert any(fault in each for each in found), found


def test_a_body_must_come_as_json() -> None:
    assert judged("POST", f"{REPO}/issues/2/comments", {"body": "x"}, "application/x-www-form-urlencoded")
    assert request_faults("POST", f"{REPO}/issues/2/comments", b"{", "application/json")


@pytest.mark.parametrize(
    ("status", "body", "good"),
    [
        (201, {"id": 1, "status": "in_progress", "conclusion": None, "app": None}, True),
        (201, {"id": 1, "status": "in_progress", "app": APP, "output": {"title": None, "annotations_count": 0}}, True),
        (201, {"id": "1"}, False),
        (201, {"id": 1, "state": "in_progress"}, False),
        (201, {"output": {"annotations": []}}, False),
        (202, {"id": 1}, False),
        (403, {"message": "Resource not accessible by integration"}, True),
        (403, [], False),
    ],
)
def test_an_answer_claims_nothing_that_github_doesnt_say(status: int, body: Any, good: bool) -> None:
    assert (answer_faults("POST", f"{REPO}/check-runs", status, json.dumps(body).encode()) == []) is good


def test_the_stand_in_fails_the_test_that_sent_a_bad_request() -> None:
    def send_it() -> None:
        with GitHubStandIn() as github:
            connection = http.client.HTTPConnection("127.0.0.1", urlsplit(github.url).port or 0, timeout=30)
            body = json.dumps(CHECK | {"status": "finished"})
            connection.request("POST", f"{REPO}/check-runs", body, {"Content-Type": "application/json"})
            connection.getresponse().read()
            connection.close()

    with pytest.raises(AssertionError, match=r"body\.status"):
        send_it()
