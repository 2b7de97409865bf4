"""Each fault at each call: the run's result survives, what can be posted is, and the rest is said."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from maos_bot.github.publisher import PublishResult
from tests.e2e.github_stand_in import GitHubStandIn, Trouble
from tests.e2e.publishing import DOCUMENT, publish, publisher_of, trigger_of
from tests.unit.report_streams import Job, play

CALLS = {
    "read comments": ("GET", "/comments"),
    "create comment": ("POST", "/comments"),
    "update comment": ("PATCH", "/comments/1"),
    "create check": ("POST", "/check-runs"),
    "update check": ("PATCH", "/check-runs/1"),
}
FAULTS = {
    "401": {"status": 401, "said": "Bad credentials"},
    "403 permission": {"status": 403, "said": "Resource not accessible by integration"},
    "403 primary limit": {
        "status": 403,
        "said": "API rate limit exceeded",
        "headers": {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"},
    },
    "403 secondary limit": {
        "status": 403,
        "said": "You have exceeded a secondary rate limit",
        "headers": {"retry-after": "0"},
    },
    "403 long limit": {"status": 403, "said": "secondary rate limit", "headers": {"retry-after": "3600"}},
    "404": {"status": 404, "said": "Not Found"},
    "409": {"status": 409, "said": "Conflict"},
    "422": {"status": 422, "said": "Validation Failed"},
    "429 with header": {"status": 429, "said": "slow down", "headers": {"retry-after": "0"}},
    "429 without header": {"status": 429, "said": "slow down"},
    "500": {"status": 500},
    "502 after writing": {"status": 502, "done": True},
    "cut": {"cut": True},
    "cut after writing": {"cut": True, "done": True},
}
ONCE_IS_MENDED = {
    *("403 primary limit", "403 secondary limit", "409", "422", "429 with header"),
    *("500", "502 after writing", "cut", "cut after writing"),
}
JOBS = [Job(id="lint"), Job(id="unit", output="::error file=a.py,line=1::boo\n")]


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


def publish_twice(github: GitHubStandIn) -> PublishResult:
    """Two pushes, so that the comment is created and then updated; the first is left in peace where that is asked."""
    result, report, summary = publish(github, JOBS, number=2, sha="b" * 40, within_s=15.0, patience_s=8.0)
    assert report.exit_code == 0
    assert "lint" in summary
    return result


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_at_one_call(github: GitHubStandIn, fault: str, call: str) -> None:
    method, ending = CALLS[call]
    if call == "update comment":
        publish(github, JOBS)
        github.checks.clear()
        github.annotations.clear()
    github.troubles = [Trouble(method=method, ending=ending, **FAULTS[fault])]  # type: ignore[arg-type]
    result = publish_twice(github)
    assert github.troubles == [], "the trouble never happened"
    assert len(github.comments) <= 1
    assert len({(run["name"], run["external_id"]) for run in github.checks}) == len(github.checks), "a check twice"
    if fault in ONCE_IS_MENDED and not (fault == "422" and call == "read comments"):
        assert github.comments[0]["body"].count("sha=" + "b" * 40) == 1
        assert {run["conclusion"] for run in github.checks} == {"success"}, result.problems
    else:
        whole = len(github.comments) == 1 and {run["conclusion"] for run in github.checks} == {"success"}
        assert whole or result.problems, "something is missing and nobody said so"


@pytest.mark.parametrize("status", [401, 403, 404, 422, 500])
def test_a_server_that_takes_nothing_is_told_of_and_left(github: GitHubStandIn, status: int) -> None:
    github.refuse = status
    result = publish_twice(github)
    assert github.comments == github.checks == []
    assert any("comment" in problem for problem in result.problems)
    assert any("check" in problem for problem in result.problems)


def test_a_check_whose_annotations_are_refused_is_completed_without(github: GitHubStandIn) -> None:
    github.troubles = [Trouble(method="PATCH", ending="/check-runs/3", status=422, said="Validation Failed")]
    result, _, _ = publish(github, JOBS)
    assert {run["conclusion"] for run in github.checks} == {"success"}
    assert any("422" in problem for problem in result.problems), "it says less than it should"


def test_what_was_mended_is_no_problem(github: GitHubStandIn) -> None:
    github.troubles = [Trouble(method="POST", ending="/comments", status=500)] * 4
    result, _, _ = publish(github, JOBS, within_s=60.0)
    assert len(github.comments) == 1 or result.problems


def test_of_two_runs_at_once_the_newer_ones_comment_stands(github: GitHubStandIn) -> None:
    older = publisher_of(github, number=7, sha="7" * 40)
    newer = publisher_of(github, number=8, sha="8" * 40)
    streams = [(older, play(JOBS, trigger=trigger_of("7" * 40))), (newer, play(JOBS, trigger=trigger_of("8" * 40)))]
    for publisher, events in streams:
        for event in events[:-1]:
            publisher.add(event)
    newer.add(streams[1][1][-1])
    ended = newer.close(within_s=30.0)
    older.add(streams[0][1][-1])  # the older ends last
    left = older.close(within_s=30.0)
    (comment,) = github.comments
    assert "8" * 40 in comment["body"].partition("\n")[0]
    assert ended.problems == ()
    assert any("newer run" in problem for problem in left.problems)
    assert {run["head_sha"][0] for run in github.checks} == {"7", "8"}


def test_a_rerun_takes_over_the_comment_and_posts_its_checks_anew(github: GitHubStandIn) -> None:
    """ "Re-run jobs": the same workflow run and commit, its second attempt; the first one died under way."""
    dead = publisher_of(github, number=5, sha="5" * 40)
    for event in play(JOBS, trigger=trigger_of("5" * 40))[:3]:
        dead.add(event)
    wait_for(lambda: github.comments and github.checks)
    again = publisher_of(github, number=5, attempt=2, sha="5" * 40)
    for event in play(JOBS, trigger=trigger_of("5" * 40)):
        again.add(event)
    assert again.close(within_s=30.0).problems == ()
    (comment,) = github.comments
    assert "run=5.2" in comment["body"].partition("\n")[0]
    newest = {run["name"]: run["conclusion"] for run in github.checks}  # GitHub shows the newest of a name
    assert set(newest.values()) == {"success"}
    assert any("newer run" in problem for problem in dead.close(within_s=30.0).problems)
    assert "run=5.2" in github.comments[0]["body"].partition("\n")[0]


def wait_for(there: Callable[[], object]) -> None:
    until = time.monotonic() + 20.0
    while not there():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def test_runs_that_begin_at_the_same_moment_leave_one_comment(github: GitHubStandIn) -> None:
    publishers = [publisher_of(github, number=number, sha=f"{number}" * 40, settle_s=0.3) for number in range(3, 7)]
    threads = []
    for number, publisher in enumerate(publishers, start=3):
        for event in play(JOBS, trigger=trigger_of(f"{number}" * 40)):
            publisher.add(event)
        threads.append(threading.Thread(target=publisher.close, kwargs={"within_s": 30.0}))
        threads[-1].start()
    for thread in threads:
        thread.join()
    shas = [comment["body"].partition("\n")[0][-44:-4] for comment in github.comments]
    assert shas == ["6" * 40]


def test_the_documents_say_what_comes_of_each_fault_at_each_call() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "tests.e2e.fault_table"],
        cwd=DOCUMENT.parents[1],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-4000:]
    said = DOCUMENT.read_text(encoding="utf-8")
    assert [line for line in made.stdout.splitlines() if line not in said] == []
