"""The client, the comment and the checks when GitHub limits, fails, cuts off or refuses: one of each in the end.

Our own stand-in plays GitHub (the emulator knows no such troubles); every request is held to GitHub's description.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from maos_bot.errors import GitHubError
from maos_bot.github.checks import CheckBoard, CheckText
from maos_bot.github.client import Annotation, CheckWrite, GitHubClient
from maos_bot.github.comment import Marker, StickyComment, Written
from maos_bot.model import TaskState, Trigger
from maos_bot.reporting.report import ReportBuilder, RunReport
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn, Trouble
from tests.unit.report_streams import Job, play

SHA = "a" * 40
KEY = "0123456789ab"


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in
        assert stand_in.troubles == [], "a trouble that never happened"


def client_of(github: GitHubStandIn, *, patience_s: float = 60.0, retry_pause_s: float = 0.01) -> GitHubClient:
    return GitHubClient(
        token="ghs_0123456789",
        repository=REPOSITORY,
        api_url=github.url,
        write_pause_s=0.0,
        retry_pause_s=retry_pause_s,
        patience_s=patience_s,
    )


def sticky_of(github: GitHubStandIn, *, number: int = 1, sha: str = SHA) -> StickyComment:
    marker = Marker(key=KEY, number=number, attempt=1, at=number, sha=sha)
    return StickyComment(client_of(github), pull_request=2, marker=marker)


def report_of(*jobs: Job) -> RunReport:
    builder = ReportBuilder()
    for event in play(jobs):
        builder.add(event)
    return builder.report()


def post_all(github: GitHubStandIn, report: RunReport, *, annotations: int = 0) -> CheckBoard:
    """Write every check of a run that ended, as the publisher does."""
    remarks = tuple(
        Annotation(path="a.py", start_line=line, end_line=line, level="warning", message=f"remark {line}")
        for line in range(1, annotations + 1)
    )
    text = CheckText(title="said", summary="all of it", annotations=remarks)
    board, client = CheckBoard(trigger=Trigger(event="pull_request", sha=SHA)), client_of(github)
    while step := board.next_task(report, lambda _: text):
        board.send(client, step)
    return board


LIMITED = {"retry-after": "0"}
RESET = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"}


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(method="POST", ending="/comments", status=429, headers=LIMITED),
        Trouble(
            method="POST",
            ending="/comments",
            status=403,
            said="You have exceeded a secondary rate limit",
            headers=LIMITED,
        ),
        Trouble(method="POST", ending="/comments", status=403, said="API rate limit exceeded", headers=RESET),
        Trouble(method="POST", ending="/comments", status=502, done=True),
        Trouble(method="POST", ending="/comments", done=True, cut=True),
        Trouble(method="GET", ending="/comments", status=503),
        Trouble(method="GET", ending="/comments", cut=True),
    ],
    ids=["429", "secondary limit", "primary limit", "502 after writing", "cut after writing", "503", "cut"],
)
def test_one_comment_stands_after_a_trouble(github: GitHubStandIn, trouble: Trouble) -> None:
    github.troubles = [trouble]
    sticky = sticky_of(github)
    sticky.write("first")
    sticky.write("second")
    assert [comment["body"].partition("\n")[2] for comment in github.comments] == ["second"]
    assert sticky.url


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(method="POST", ending="/check-runs", status=429, headers=LIMITED),
        Trouble(method="POST", ending="/check-runs", status=502, done=True),
        Trouble(method="POST", ending="/check-runs", done=True, cut=True),
        Trouble(method="PATCH", ending="/check-runs/1", status=500),
        Trouble(method="PATCH", ending="/check-runs/1", done=True, cut=True),
    ],
    ids=["429", "502 after writing", "cut after writing", "500 at the end", "cut at the end"],
)
def test_one_check_a_task_stands_after_a_trouble(github: GitHubStandIn, trouble: Trouble) -> None:
    github.troubles = [trouble]
    post_all(github, report_of(Job(id="lint"), Job(id="unit", ends=TaskState.FAILED)))
    assert sorted(run["conclusion"] for run in github.checks) == ["failure", "success"]
    begun = {name for name, state in github.history if state == "in_progress"}
    assert begun == {run["name"] for run in github.checks}


@pytest.mark.parametrize("count", [0, 1, 50, 51, 101])
def test_annotations_come_whole_in_batches_that_github_takes(github: GitHubStandIn, count: int) -> None:
    post_all(github, report_of(Job(id="lint")), annotations=count)
    (run,) = github.checks
    assert run["conclusion"] == "success"
    said = [row["message"] for row in github.annotations.get(run["id"], [])]
    assert said == [f"remark {line}" for line in range(1, count + 1)]
    states = [state for _, state in github.history]
    assert states == ["in_progress"] * (len(states) - 1) + ["success"]


@pytest.mark.parametrize(
    ("status", "word"),
    [(401, "token is wrong"), (403, "checks: write"), (404, "contents: read"), (410, "switched off")],
)
def test_a_refusal_is_final_and_says_what_would_mend_it(github: GitHubStandIn, status: int, word: str) -> None:
    github.troubles = [Trouble(method="POST", ending="/check-runs", status=status, said="no")]
    with pytest.raises(GitHubError, match=word) as raised:
        client_of(github).create_check(CheckWrite(name="lint", sha=SHA))
    assert (raised.value.status, raised.value.unsure) == (status, False)
    assert len(github.requests) == 1


def test_a_wait_longer_than_the_run_has_left_is_not_begun(github: GitHubStandIn) -> None:
    github.troubles = [Trouble(method="POST", ending="/comments", status=429, headers={"retry-after": "3600"})]
    client = client_of(github)
    client.hurry(time.monotonic() + 5.0)
    with pytest.raises(GitHubError, match="rate limit"):
        client.create_comment(2, "hello")
    assert len(github.requests) == 1


def test_a_server_that_only_fails_is_left_when_patience_ends(github: GitHubStandIn) -> None:
    github.troubles = [Trouble(method="GET", ending="/comments", status=503)] * 4
    with pytest.raises(GitHubError, match="503"):
        list(client_of(github, patience_s=1.0, retry_pause_s=0.4).comments(2))
    assert len(github.requests) == 2, "0.4 s were waited, 0.8 s more were too many"
    github.troubles = []


def test_an_older_run_leaves_the_newer_runs_comment(github: GitHubStandIn) -> None:
    older, newer = sticky_of(github, number=7, sha="b" * 40), sticky_of(github, number=8)
    assert older.write("older") is Written.CREATED
    assert newer.write("newer") is Written.UPDATED
    assert older.write("older, at its end") is Written.SUPERSEDED
    assert [comment["body"].partition("\n")[2] for comment in github.comments] == ["newer"]


def test_nobody_elses_comment_is_touched(github: GitHubStandIn) -> None:
    marker = str(Marker(key=KEY, number=1, attempt=1, at=1, sha=SHA))
    github.someone_comments(f"{marker}\nI say so")
    github.someone_comments(f"> {marker}\na quote", login="github-actions[bot]", kind="Bot")
    github.someone_comments(f"{marker}\nanother app", login="other[bot]", kind="Bot")
    sticky = sticky_of(github, number=2)
    sticky.written_by("github-actions")
    sticky.write("ours")
    sticky.write("ours, again")
    assert [comment["body"].rpartition("\n")[2] for comment in github.comments] == [
        "I say so",
        "a quote",
        "another app",
        "ours, again",
    ]


def test_second_comments_of_ours_are_removed(github: GitHubStandIn) -> None:
    marker = str(Marker(key=KEY, number=1, attempt=1, at=1, sha=SHA))
    for text in ("one", "two", "three"):
        github.someone_comments(f"{marker}\n{text}", login="github-actions[bot]", kind="Bot")
    github.troubles = [Trouble(method="DELETE", ending="/issues/comments/3", status=404, said="Not Found")]
    sticky = sticky_of(github, number=2)
    sticky.written_by("github-actions")
    sticky.write("the one")
    assert [comment["body"].rpartition("\n")[2] for comment in github.comments] == ["the one", "three"]


def test_recreated_the_comment_comes_last_and_there_is_one(github: GitHubStandIn) -> None:
    for number in (1, 2, 3):
        github.someone_comments(f"talk {number}")
        marker = Marker(key=KEY, number=number, attempt=1, at=number, sha=SHA)
        sticky = StickyComment(client_of(github), pull_request=2, marker=marker, recreate=True)
        assert sticky.write(f"run {number}") is Written.CREATED
        assert sticky.write(f"run {number}, at its end") is Written.UPDATED
        bodies = [comment["body"].rpartition("\n")[2] for comment in github.comments]
        assert bodies == [*(f"talk {before}" for before in range(1, number + 1)), f"run {number}, at its end"]
