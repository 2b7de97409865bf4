"""Reports at and over GitHub's limits: each write is taken, and all of a run stands in one place or another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest

from maos_bot.github.workflow import SUMMARY_BYTES
from maos_bot.model import TaskState
from maos_bot.reporting import markdown
from maos_bot.reporting.report import report_of
from tests.e2e.github_stand_in import GitHubStandIn
from tests.e2e.publishing import publish, trigger_of
from tests.unit.report_streams import Job, play

_EVERYTHING = 10**9
_MARK = re.compile(r"mark-[0-9]+-[0-9]+\.")


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


def failing(count: int, *, lines: int, width: int, character: str = "x") -> list[Job]:
    """Tasks that fail; each line of their output is marked."""
    return [
        Job(
            id=f"task-{place:03}",
            ends=TaskState.FAILED,
            output="".join(f"mark-{place}-{line}. {character * width}\n" for line in range(lines)),
        )
        for place in range(count)
    ]


def whole_comment(jobs: Sequence[Job]) -> str:
    """The comment as it were without a limit."""
    return markdown.comment(report_of(play(jobs, trigger=trigger_of())), marker="", limit_bytes=_EVERYTHING).text


def sized(size: int, character: str) -> list[Job]:
    """Tasks whose comment, were there no limit, has exactly `size` characters."""
    width = 120 if character.isascii() else 30

    def jobs(count: int, pad: int = 1) -> list[Job]:
        """One more task fails after `count`, and says `pad` characters."""
        said = Job(id="filler", ends=TaskState.FAILED, output="z" * pad)
        return [*failing(count, lines=38, width=width, character=character), said]

    two, three = (len(whole_comment(jobs(number))) for number in (2, 3))
    count = 2 + (size - two) // (three - two)
    missing = size - len(whole_comment(jobs(count)))
    if missing < 0:
        count -= 1
        missing = size - len(whole_comment(jobs(count)))
    made = jobs(count, 1 + missing)
    assert len(whole_comment(made)) == size
    return made


def everything(github: GitHubStandIn, summary: str, rest: str = "") -> str:
    checks = [run.get("output") or {} for run in github.checks]
    texts = [f"{each.get('summary') or ''}{each.get('text') or ''}" for each in checks]
    return "\n".join((*(comment["body"] for comment in github.comments), *texts, summary, rest))


@pytest.mark.parametrize("character", ["x", "😀"])
@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_a_report_whose_comment_would_have_so_many_characters(github: GitHubStandIn, size: int, character: str) -> None:
    jobs = sized(size, character)
    whole = whole_comment(jobs)
    assert len(whole) == size
    result, _, summary = publish(github, jobs)
    assert result.problems == ()
    (comment,) = github.comments
    assert len(comment["body"].encode()) <= 65_536
    assert "Left out here for its size" in comment["body"]
    wanted = set(_MARK.findall(whole))
    assert len(wanted) > 200
    assert wanted - set(_MARK.findall(everything(github, summary))) == set()
    assert comment["body"].count("```") % 2 == 0
    assert comment["body"].count("<details") == comment["body"].count("</details>")


@pytest.mark.parametrize("over", [-1, 0, 1, 500_000])
def test_a_summary_at_its_limit(over: int) -> None:
    report = report_of(play(failing(40, lines=300, width=90), trigger=trigger_of()))
    whole = markdown.summary(report, limit_bytes=_EVERYTHING).text
    assert len(whole.encode()) > 1024 * 1024
    made = markdown.summary(report, limit_bytes=len(whole.encode()) - over)
    assert len(made.text.encode()) <= len(whole.encode()) - over
    assert (made.left == ()) is (over <= 0)
    assert sum(text.count("mark-") for text in (made.text, made.overflow)) == whole.count("mark-"), "byte for byte"


def test_ten_megabytes_of_report_are_all_somewhere(github: GitHubStandIn) -> None:
    jobs = failing(300, lines=350, width=90)
    result, report, summary = publish(github, jobs)
    assert sum(len(job.output) for job in jobs) > 10_000_000
    assert result.problems == ()
    made = markdown.summary(report, limit_bytes=SUMMARY_BYTES, standing=result.standing)
    assert len(made.text.encode()) <= SUMMARY_BYTES
    whole = markdown.summary(report, limit_bytes=_EVERYTHING, standing=result.standing).text
    there = set(_MARK.findall(f"{made.text}{made.overflow}"))
    assert set(_MARK.findall(whole)) == there
    assert len(there) > 100_000
    assert summary.startswith("### ")
    assert made.text.startswith("### ")
