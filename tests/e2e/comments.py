"""The pull request's comment as GitHub shows it: `python -m tests.e2e.comments FOLDER` takes pictures of every kind.

Rendered by markdown-it with what GitHub's flavour adds (tables, strikethrough, HTML) under a stylesheet of our own
that is close to GitHub's; the runs are made up, their comments are the real publisher's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from playwright.sync_api import Browser

from maos_bot.events import FindingReported, RunEvent, RunFinished, TaskFinished, UsageRecorded
from maos_bot.model import RunStatus, TaskState, Usage
from maos_bot.reporting import markdown
from maos_bot.reporting.findings import Standing
from maos_bot.reporting.report import report_of
from tests.e2e.dashboard import chromium
from tests.e2e.publishing import trigger_of
from tests.unit.report_streams import START, Job, play

DESK: Final = (1012, 700)  # GitHub's column beside the avatar is 860 wide
PHONE: Final = (390, 800)
_GITHUB: Final = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_PYTEST: Final = """\
============================= test session starts ==============================
platform linux -- Python 3.12.4, pytest-8.3.2, pluggy-1.5.0
rootdir: /github/workspace
collected 214 items

tests/test_signer.py ....................................                [ 16%]
tests/test_timed.py .........F..........                                 [ 26%]

=================================== FAILURES ===================================
____________________ TestTimestampSigner.test_max_age_expired ___________________

    def test_max_age_expired(self, signer):
        signed = signer.sign("value")
        with freeze_time("2030-01-01"):
>           signer.unsign(signed, max_age=10)
E           Failed: DID NOT RAISE <class 'itsdangerous.exc.SignatureExpired'>

tests/test_timed.py:61: Failed
=========================== short test summary info ============================
FAILED tests/test_timed.py::TestTimestampSigner::test_max_age_expired - Failed: DID NOT RAISE
======================== 1 failed, 213 passed in 38.21s =========================
"""


def green() -> str:
    jobs = [
        Job(id="lint", seconds=3.2, team="qa", command="ruff check ."),
        Job(id="types", seconds=21.5, team="qa", command="mypy", peak_memory_mb=410),
        Job(id="unit", seconds=38.2, team="qa", needs=("lint",), command="pytest -q", peak_memory_mb=230),
        Job(id="docs", ends=TaskState.CACHED, reason="unchanged since run 20260101-080000-aa11bb"),
        Job(id="package", seconds=6.1, needs=("unit", "types"), command="python -m build"),
    ]
    return _comment(play(jobs, trigger=trigger_of(), predicted={"makespan_s": 47.0, "lower_bound_s": 44.3}))


def failed() -> str:
    jobs = [
        Job(id="lint", seconds=3.2, team="qa"),
        Job(id="unit", seconds=38.2, team="qa", ends=TaskState.FAILED, tries=2, output=_PYTEST, command="pytest -q"),
        Job(id="types", seconds=21.5, team="qa"),
        Job(id="package", seconds=6.1, needs=("unit",)),
        Job(id="publish", seconds=2.0, needs=("package",)),
    ]
    return _comment(play(jobs, trigger=trigger_of(), predicted={"makespan_s": 47.0}))


def many() -> str:
    jobs = [
        Job(
            id=f"test-{place:02}",
            name=f"Part {place} of the suite",
            seconds=4.0 + place % 7,
            team="qa",
            ends=TaskState.FAILED if place in (11, 29) else TaskState.SUCCEEDED,
            output=_PYTEST if place in (11, 29) else "",
            needs=("build",),
        )
        for place in range(1, 40)
    ]
    events = play([Job(id="build", seconds=12.0, command="make build"), *jobs], slots=8, trigger=trigger_of())
    return _comment(events)


def findings() -> str:
    events = play(
        [Job(id="unit", seconds=38.2, command="pytest -q"), Job(id="review", seconds=74.0, team="security")],
        trigger=trigger_of(),
    )
    said = [
        (
            "src/app/session.py",
            41,
            "failure",
            "The session id comes from random.random(), which can be guessed.",
            "Take secrets.token_urlsafe(32).",
        ),
        ("src/app/session.py", 88, "warning", "Cookies are set without Secure and HttpOnly.", "Set both."),
        (
            "src/app/upload.py",
            12,
            "failure",
            "The file's name goes into the path as it came: ../../etc/passwd leaves the folder.",
            "",
        ),
        ("docs/setup.md", None, "notice", "The setup says `chmod 777`, which is no longer needed.", ""),
    ]
    row = {"run_id": events[0].run_id, "task": "review", "attempt": 1}
    found: list[RunEvent] = [
        FindingReported(
            seq=1000 + place,
            at=START + 70,
            path=path,
            line=line,
            severity=severity,
            message=text,
            suggestion=suggestion,
            **row,  # type: ignore[arg-type]
        )
        for place, (path, line, severity, text, suggestion) in enumerate(said)
    ]
    usage = Usage(input_tokens=31_200, output_tokens=2_840, cache_read_tokens=118_000, usd=0.1724)
    found.append(UsageRecorded(seq=1100, at=START + 71, model="claude-sonnet", usage=usage, **row))  # type: ignore[arg-type]
    last = events.pop()
    report = report_of([*_as_agents(events, "review"), *found, replace(last, seq=1200)])
    known = {each.path: each.id for each in report.findings}
    before = frozenset({known["docs/setup.md"], "0123456789ab", "ba9876543210"})
    return markdown.comment(report, marker="", standing=Standing(before=before)).text


def cancelled() -> str:
    jobs = [
        Job(id="lint", seconds=3.2),
        Job(id="unit", seconds=38.2, needs=("lint",)),
        Job(id="types", seconds=21.5),
        Job(id="package", seconds=6.1, needs=("unit",)),
    ]
    return _comment(play(jobs, trigger=trigger_of(), cancelled_at=10.0))


def over_budget() -> str:
    events = play(
        [Job(id="unit", seconds=38.2), Job(id="review", seconds=74.0), Job(id="docs", seconds=30.0, needs=("review",))],
        trigger=trigger_of(),
    )
    events = _as_agents(events, "review", "docs")
    row = {"run_id": events[0].run_id, "task": "review", "attempt": 1}
    usage = Usage(input_tokens=410_000, output_tokens=51_000, usd=2.0311)
    ended = [
        replace(each, state=TaskState.FAILED, reason="the run's budget of $2.00 is spent")
        if isinstance(each, TaskFinished) and each.task == "review"
        else replace(each, state=TaskState.CANCELLED, attempt=0, reason="the run's budget of $2.00 is spent")
        if isinstance(each, TaskFinished) and each.task == "docs"
        else each
        for each in events
        if getattr(each, "task", "") != "docs" or isinstance(each, TaskFinished)
    ]
    last = ended.pop()
    used = UsageRecorded(seq=900, at=START + 73, model="claude-sonnet", usage=usage, **row)  # type: ignore[arg-type]
    end = RunFinished(
        run_id=last.run_id,
        seq=1200,
        at=last.at,
        status=RunStatus.OVER_BUDGET,
        exit_code=4,
        wall_s=last.at - START,
        reason="the budget of $2.00 was spent after 3 turns",
    )
    return _comment([*ended, used, end])


def fork() -> str:
    trigger = replace(trigger_of(), is_fork=True, ref="patch-1")
    events = play([Job(id="lint", seconds=3.2), Job(id="unit", seconds=38.2)], trigger=trigger)
    from maos_bot.github.publisher import STRANGERS_NOTE

    return STRANGERS_NOTE + _comment(events)


def running() -> str:
    jobs = [Job(id="lint", seconds=3.2), Job(id="unit", seconds=38.2), Job(id="types", seconds=21.5)]
    return _comment(play(jobs, trigger=trigger_of(), until=12.0, predicted={"makespan_s": 41.0}))


KINDS: Final[Mapping[str, Callable[[], str]]] = {
    "green": green,
    "failed": failed,
    "40-tasks": many,
    "findings": findings,
    "cancelled": cancelled,
    "over-budget": over_budget,
    "fork": fork,
    "running": running,
}


def page_of(text: str) -> str:
    """The comment in a page that looks like GitHub's."""
    style = Path(__file__).with_name("comments.css").read_text(encoding="utf-8")
    body = _GITHUB.render(text)
    head = '<p class="who"><b>github-actions</b> <span>bot</span> commented <i>now</i></p>'
    return (
        f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'><style>{style}</style>"
        f"<article><header>{head}</header><div class=markdown-body>{body}</div></article>"
    )


def take(folder: Path, browser: Browser) -> Iterator[Path]:
    """A picture of each kind at each width."""
    for name, make in KINDS.items():
        for size, width in (("desk", DESK), ("phone", PHONE)):
            page = browser.new_page(viewport={"width": width[0], "height": width[1]})
            page.set_content(page_of(make()))
            path = folder / f"comment-{name}-{size}.png"
            page.screenshot(path=path, full_page=True)
            page.close()
            yield path


def _comment(events: list[RunEvent]) -> str:
    return markdown.comment(report_of(events), marker="").text


def _as_agents(events: list[RunEvent], *names: str) -> list[RunEvent]:
    """The stream with those tasks an agent's."""
    first = events[0]
    tasks = tuple(
        replace(task, kind="agent", command="Review this change for security defects.") if task.id in names else task
        for task in first.tasks  # type: ignore[attr-defined]
    )
    return [replace(first, tasks=tasks), *events[1:]]  # type: ignore[call-arg]


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/comments")
    target.mkdir(parents=True, exist_ok=True)
    with chromium() as found:
        for picture in take(target, found):
            print(picture)  # noqa: T201 - a program's output
