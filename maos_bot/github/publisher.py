"""A sink of run events that keeps the pull request's comment and the check runs true while the run goes on.

`add` folds an event and returns; a thread of its own compares the report with what GitHub has and writes one thing at a
time. Nothing that goes wrong here ends a run: it becomes a problem in words, and the job summary and the database hold
the whole report all the same.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from maos_bot.errors import GitHubError
from maos_bot.events import RunEvent, RunFinished, RunStarted, TaskFinished, TaskStarted
from maos_bot.github.checks import CheckBoard, CheckText, Step
from maos_bot.github.client import GitHubApi
from maos_bot.github.comment import COMMENT_BYTES, MARKER_BYTES, Marker, StickyComment, Written
from maos_bot.github.trigger import WorkflowRun
from maos_bot.model import Trigger
from maos_bot.reporting import markdown
from maos_bot.reporting.report import ReportBuilder, RunReport, TaskReport

COMMENT_EVERY_S: Final = 10.0  # at first; a run of half an hour is told of once a minute
CLOSE_WITHIN_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.25  # how often the report is built anew at most
_RETRY_AFTER_S: Final = 15.0  # before a surface that failed is tried again
_FINAL = frozenset({401, 403, 404, 410})  # asking again won't help
_WORTH_A_LOOK: Final = (RunStarted, TaskStarted, TaskFinished, RunFinished)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishResult:
    """What stands on GitHub now, and what doesn't and why, both in words."""

    comment_url: str = ""
    posted: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class _Surface:
    """The comment, or the checks: whether it may be written now."""

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self.not_before = 0.0

    def open(self, *, closing: bool) -> bool:
        return self.on and (closing or time.monotonic() >= self.not_before)


class Publisher:
    """Keeps GitHub up to date with one run. `add` from any one thread, then `close` once.

    `comment` and `checks` choose what is posted; a comment needs `trigger.pull_request`, checks need `trigger.sha`.
    """

    def __init__(
        self,
        trigger: Trigger,
        api: GitHubApi,
        *,
        workflow_run: WorkflowRun,
        comment: bool = True,
        checks: bool = True,
        comment_every_s: float = COMMENT_EVERY_S,
    ) -> None:
        self._trigger = trigger
        self._api = api
        self._workflow_run = workflow_run
        self._comment_every_s = comment_every_s
        self._builder = ReportBuilder()
        self._board = CheckBoard(trigger=trigger)
        self._sticky: StickyComment | None = None
        self._comment = _Surface(on=comment and trigger.pull_request is not None)
        self._checks = _Surface(on=checks and bool(trigger.sha))
        self._next_comment_at = 0.0
        self._commented = 0  # how many events worth a look the last comment knew
        self._final_comment = False
        self._written: dict[Written, int] = {}
        self._check_writes = 0
        self._problems: dict[str, None] = {}  # in order, each once
        self._deadline: float | None = None
        self._changed = threading.Condition()  # guards the builder and the deadline
        self._seen = 0  # events worth a look
        self._told = 0  # those among them that the last report knew
        self._thread = threading.Thread(target=self._work, name="github-publisher", daemon=True)
        self._thread.start()

    def add(self, event: RunEvent) -> None:
        """Take one event; never waits for the network."""
        with self._changed:
            self._builder.add(event)
            if isinstance(event, _WORTH_A_LOOK):
                self._seen += 1
                self._changed.notify()

    def close(self, *, within_s: float = CLOSE_WITHIN_S) -> PublishResult:
        """Post the final state, taking no longer than about `within_s` seconds, and say what was posted."""
        deadline = time.monotonic() + within_s
        self._api.hurry(deadline)
        with self._changed:
            self._deadline = deadline
            self._changed.notify()
        self._thread.join(within_s + 30.0)  # a request under way has its own time-out
        if self._thread.is_alive():
            self._problem("publishing", "it did not end in time")
        return PublishResult(
            comment_url=self._sticky.url if self._sticky else "",
            posted=tuple(self._posted_in_words()),
            problems=tuple(self._problems),
        )

    def _work(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:  # noqa: BLE001 - the thread's outermost frame: the run must end well without it
            self._problem("publishing", f"stopped by a bug of ours ({type(error).__name__}: {error})")

    def _turn(self) -> bool:
        """Write one thing, or wait for something to write; False when all is done."""
        with self._changed:
            closing = self._deadline is not None
            self._told = self._seen
            report = self._builder.report(now=time.time()) if self._builder.run_id else None
        if report is None:
            if not closing:
                self._wait(None)
            return not closing
        if closing and time.monotonic() >= (self._deadline or 0.0):
            self._count_unposted(report)
            return False
        if self._write_one(report, closing=closing):
            return True
        if closing:
            self._count_unposted(report)
            return False
        time.sleep(_LOOK_EVERY_S)
        waiting = self._comment.on and self._told > self._commented
        self._wait(max(0.0, self._next_comment_at - time.monotonic()) if waiting else None)
        return True

    def _wait(self, seconds: float | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._seen > self._told or self._deadline is not None, seconds)

    def _write_one(self, report: RunReport, *, closing: bool) -> bool:
        """The most useful write that is due: the run's check, the comment, tasks' checks; the run's conclusion last."""
        if self._checks.open(closing=closing) and self._check(self._board.next_run(report, _run_text(report))):
            return True
        if self._comment_is_due(closing=closing):
            self._write_comment(report, closing=closing)
            return True
        if not self._checks.open(closing=closing):
            return False
        if self._check(self._board.next_task(report, partial(_task_text, report), closing=closing)):
            return True
        return closing and self._check(self._board.next_run(report, self._end_text(report), closing=True))

    def _check(self, step: Step | None) -> bool:
        if step is None:
            return False
        try:
            self._board.send(self._api, step)
            self._check_writes += 1
        except GitHubError as error:
            self._problem(f"check {step.write.name}", str(error))
            self._after_failure(self._checks, error)
            if error.status == 422 or self._deadline is not None:
                self._board.give_up(step.key)
        return True

    def _comment_is_due(self, *, closing: bool) -> bool:
        if not self._comment.open(closing=closing):
            return False
        if closing:
            return not self._final_comment
        return self._told > self._commented and time.monotonic() >= self._next_comment_at

    def _write_comment(self, report: RunReport, *, closing: bool) -> None:
        # 1,000 requests an hour are all that the runs of a repository have together: tell long runs less often.
        self._next_comment_at = time.monotonic() + max(self._comment_every_s, report.wall_s / 30)
        self._commented = self._told
        self._final_comment = closing
        if self._sticky is None:
            self._sticky = self._make_sticky(report)
        self._sticky.written_by(self._board.app)
        try:
            written = self._sticky.write(_comment_text(report, COMMENT_BYTES - MARKER_BYTES))
        except GitHubError as error:
            self._problem("comment", str(error))
            self._after_failure(self._comment, error)
            return
        self._written[written] = self._written.get(written, 0) + 1
        newer = self._sticky.superseded_by
        if newer is not None:
            self._comment.on = False
            self._problem("comment", f"left as a newer run wrote it (run {newer.number or '?'} on {newer.sha[:7]})")

    def _make_sticky(self, report: RunReport) -> StickyComment:
        marker = Marker(
            key=self._workflow_run.key or "0",
            number=self._workflow_run.number,
            attempt=self._workflow_run.attempt,
            at=int((report.started_at or 0.0) * 1000),
            sha=self._trigger.sha,
        )
        return StickyComment(self._api, pull_request=self._trigger.pull_request or 0, marker=marker)

    def _after_failure(self, surface: _Surface, error: GitHubError) -> None:
        if error.status in _FINAL:
            surface.on = False
        surface.not_before = time.monotonic() + _RETRY_AFTER_S

    def _end_text(self, report: RunReport) -> CheckText:
        text = _run_text(report)
        missing = self._board.without_check(report)
        if not missing:
            return text
        total = len(report.tasks)
        note = f"{missing} of {total} tasks have no check run of their own: GitHub limits how many may be written."
        return CheckText(title=text.title, summary=f"{text.summary}\n\n{note}", text=text.text)

    def _count_unposted(self, report: RunReport) -> None:
        if self._checks.on and (names := self._board.unfinished(report)):
            self._problem("checks", f"not completed on GitHub: {', '.join(names)}")
        if self._comment.on and not self._final_comment:
            self._problem("comment", "its last state was not posted in time")

    def _problem(self, what: str, why: str) -> None:
        self._problems[f"{what}: {why}"] = None

    def _posted_in_words(self) -> list[str]:
        words = []
        updates = sum(count for written, count in self._written.items() if written is not Written.SUPERSEDED)
        if updates:
            words.append("the comment" if Written.CREATED not in self._written else "a new comment")
        if self._check_writes:
            words.append(f"{self._board.count} check runs")
        return words


def _run_text(report: RunReport) -> CheckText:
    return CheckText(title=_run_title(report), summary=_comment_text(report, COMMENT_BYTES))


def _comment_text(report: RunReport, limit_bytes: int) -> str:
    """The comment without a marker: `StickyComment` puts its own in front."""
    return markdown.comment(report, marker="", limit_bytes=limit_bytes).text


def _task_text(report: RunReport, task: TaskReport) -> CheckText:
    said = markdown.check_output(report, task)
    return CheckText(title=said.title, summary=said.summary, text=said.text)


def _run_title(report: RunReport) -> str:
    if report.running:
        return f"{report.done} of {len(report.tasks)} tasks done"
    counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in report.counts.items())
    return counts or "no task"
