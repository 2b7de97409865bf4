"""Findings and large reports on GitHub: within every limit, nothing lost, and told apart from push to push."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from maos_bot.model import TaskState
from tests.e2e.github_stand_in import GitHubStandIn
from tests.e2e.publishing import publish
from tests.unit.report_streams import Job


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


def lines(*places: tuple[int, str]) -> str:
    return "".join(f"::warning file=a.py,line={line}::{words}\n" for line, words in places)


@pytest.mark.parametrize("count", [0, 1, 50, 51, 101, 10_000])
def test_no_finding_is_lost(github: GitHubStandIn, count: int) -> None:
    jobs = [Job(id="lint", output=lines(*((line, f"remark no{line}.") for line in range(1, count + 1))))]
    result, report, summary = publish(github, jobs)
    assert result.problems == ()
    assert len(report.findings) == count
    noted = [row["message"] for rows in github.annotations.values() for row in rows]
    assert len(noted) == min(count, 250)
    body = github.comments[0]["body"]
    assert len(body) <= 65_536
    assert (f"{count:,} warning" in body) is (count > 0)
    shown = set(re.findall(r"remark no(\d+)\.", " ".join((*noted, body, summary))))
    assert shown == {str(line) for line in range(1, count + 1)}, "a finding stands nowhere"
    run = next(run for run in github.checks if run["name"] == "Pull request")
    assert run["conclusion"] == "success"
    assert ("have no annotation" in run["output"]["summary"]) is (count > 250)


def test_findings_are_new_persisting_fixed_from_push_to_push(github: GitHubStandIn) -> None:
    def push(number: int, *places: tuple[int, str]) -> str:
        publish(github, [Job(id="lint", output=lines(*places))], number=number, sha=f"{number:040x}")
        (comment,) = github.comments
        return str(comment["body"])

    assert "new" not in push(1, (1, "one"), (2, "two")), "there was nothing to compare with"
    assert "1 new, 1 persisting, 1 fixed" in push(2, (5, "one"), (9, "three"))
    assert "1 new, 1 persisting, 1 fixed" in push(2, (5, "one"), (9, "three")), "the same commit again"
    assert "2 fixed" in push(3)
    assert "fixed" not in push(4)


@pytest.mark.parametrize("character", ["x", "é", "😀", "`", "<", "@", "\\"])
@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
def test_logs_of_any_size_and_script_are_taken(github: GitHubStandIn, size: int, character: str) -> None:
    jobs = [Job(id=f"t{n}", ends=TaskState.FAILED, output=f"{character * 99}\n" * (size // 100)) for n in range(3)]
    result, _, summary = publish(github, jobs)
    assert result.problems == ()
    assert len(github.comments[0]["body"].encode()) <= 65_536
    assert {run["conclusion"] for run in github.checks} == {"failure"}
    assert len(summary.encode()) <= 1024 * 1024


def test_five_hundred_tasks_are_all_somewhere(github: GitHubStandIn) -> None:
    jobs = [
        Job(id=f"task-{n:03}", ends=TaskState.FAILED if n % 9 == 0 else TaskState.SUCCEEDED, output="boo\n" * 3000)
        for n in range(500)
    ]
    result, report, summary = publish(github, jobs)
    assert result.problems == ()
    run = next(run for run in github.checks if run["name"] == "Pull request")["output"]
    texts = f"{github.comments[0]['body']} {run['summary']} {run['text'] or ''} {summary}"
    assert {task for task in report.tasks if f"`{task}`" not in texts} == set()
    assert len(summary.encode()) <= 1024 * 1024
    assert len(github.checks) == 36
