"""A sink of run events that keeps the pull request's comment and the check runs true while the run goes on.

`add` folds an event and returns; a thread of its own compares the report with what GitHub has and writes one thing at a
time. Nothing that goes wrong here ends a run: it becomes a problem in words, and the job summary and the database hold
the whole report all the same.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace
from functools import partial
from typing import Final

from maos_bot.errors import GitHubError
from maos_bot.events import RunEvent, RunFinished, RunStarted, TaskFinished, TaskStarted
from maos_bot.frozen import dataclass
from maos_bot.github.checks import CheckBoard, CheckText, Step
from maos_bot.github.client import Annotation, GitHubApi
from maos_bot.github.comment import COMMENT_BYTES, KNOWN_BYTES, MARKER_BYTES, Known, Marker, StickyComment, Written
from maos_bot.github.trigger import WorkflowRun
from maos_bot.model import Trigger
from maos_bot.reporting import markdown
from maos_bot.reporting.findings import Finding, Standing
from maos_bot.reporting.report import ReportBuilder, RunReport, TaskReport

COMMENT_EVERY_S: Final = 10.0  # at first; a run of half an hour is told of once a minute
CLOSE_WITHIN_S: Final = 120.0
_LOOK_EVERY_S: Final = 0.25  # how often the report is built anew at most
_RETRY_AFTER_S: Final = 15.0  # before a surface that failed is tried again
SHORT_COMMENT_BYTES: Final = 8_000  # of a comment that GitHub refused at its full length
CHECK_BYTES: Final = 60_000  # of each text of the run's check: notes come after it
ANNOTATIONS_A_TASK: Final = 250  # five writes
ANNOTATIONS_OF_A_RUN: Final = 1_000
STRANGERS_PREFIX: Final = "reported: "
STRANGERS_NOTE: Final = "*As told by the pull request's own run, whose workflow it may have changed.*\n\n"
SETTLE_S: Final = 1.0  # after the comment's last word, before it is looked for again
_LOOKS: Final = 3  # whether it still stands
_LATEST_S: Final = 1e14
_JOIN_S: Final = 0.5  # between two looks at how much time is left
_REQUEST_S: Final = 30.0
_UNSURE_WRITES: Final = 3  # of the last comment, whose answer never came
_LEVELS: Final = {"error": "failure", "warning": "warning", "notice": "notice"}
_FINAL = frozenset({401, 403, 404, 410})  # asking again won't help
_WORTH_A_LOOK: Final = (RunStarted, TaskStarted, TaskFinished, RunFinished)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishResult:
    """What stands on GitHub now, and what doesn't and why, both in words."""

    comment_url: str = ""
    posted: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    standing: Standing = field(default_factory=Standing)


class _Surface:
    """The comment, or the checks: whether it may be written now."""

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self.failed = False
        self.not_before = 0.0

    def open(self, *, closing: bool) -> bool:
        return self.on and (closing or time.monotonic() >= self.not_before)


class Publisher:
    """Keeps GitHub up to date with one run. `add` from any one thread, then `close` once.

    `comment` and `checks` choose what is posted; a comment needs `trigger.pull_request`, checks need `trigger.sha`.
    `recreate` makes a new comment for each run instead of changing the last one's. `told_by_stranger` says that the
    events come from a run that had no rights here.
    """

    def __init__(
        self,
        trigger: Trigger,
        api: GitHubApi,
        *,
        workflow_run: WorkflowRun,
        comment: bool = True,
        recreate: bool = False,
        checks: bool = True,
        comment_every_s: float = COMMENT_EVERY_S,
        settle_s: float = SETTLE_S,
        dismissed: Callable[[], frozenset[str]] | None = None,
        told_by_stranger: bool = False,
    ) -> None:
        self._trigger = trigger
        self._api = api
        self._workflow_run = workflow_run
        self._comment_every_s = comment_every_s
        self._builder = ReportBuilder()
        # A check by any name would pass for one that a branch's rules require.
        self._board = CheckBoard(trigger=trigger, prefix=STRANGERS_PREFIX if told_by_stranger else "")
        self._note = STRANGERS_NOTE if told_by_stranger else ""
        self._sticky: StickyComment | None = None
        self._recreate = recreate
        self._dismissed = dismissed
        self._standing: Standing | None = None  # unknown until it was asked for
        self._more: tuple[Finding, ...] = ()
        self._comment_bytes = COMMENT_BYTES - MARKER_BYTES - KNOWN_BYTES - len(self._note)
        self._comment = _Surface(on=comment and trigger.pull_request is not None)
        self._checks = _Surface(on=checks and bool(trigger.sha))
        self._next_comment_at = 0.0
        self._commented = 0  # how many events worth a look the last comment knew
        self._final_comment = False
        self._unsure_writes = 0
        self._settle_s = settle_s
        self._looks = 0
        self._last_text = ""
        self._ended: RunReport | None = None
        self._last_written_at = 0.0
        self._written: dict[Written, int] = {}
        self._check_writes = 0
        self._problems: dict[str, str] = {}  # what isn't as it should be, and why: gone when it is mended
        self._deadline: float | None = None
        self._hurried: float | None = None  # when the runner ends us
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

    def add_findings(self, findings: Iterable[Finding]) -> None:
        """Take findings that stand in files, not in the events; they are shown on the run's own check."""
        with self._changed:
            self._more = (*self._more, *findings)

    def close(self, *, within_s: float = CLOSE_WITHIN_S) -> PublishResult:
        """Post the final state, taking no longer than about `within_s` seconds, and say what was posted."""
        with self._changed:
            self._deadline = min(time.monotonic() + within_s, self._hurried or math.inf)
            self._changed.notify()
        self._api.hurry(self._deadline)
        while self._thread.is_alive() and time.monotonic() < self._give_up_at():
            self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            self._problem("publishing", "it did not end in time")
        return PublishResult(
            comment_url=self._sticky.url if self._sticky else "",
            posted=tuple(self._posted_in_words()),
            problems=tuple(f"{what}: {why}" for what, why in self._problems.items()),
            standing=self._standing or Standing(),
        )

    def hurry(self, deadline: float) -> None:
        """The run is being ended from outside, by `deadline` (monotonic): only what was begun is brought to its end."""
        with self._changed:
            self._hurried = deadline
            if self._deadline is not None:
                self._deadline = min(self._deadline, deadline)
            self._changed.notify()
        self._api.hurry(deadline)

    def _give_up_at(self) -> float:
        """When even a request under way isn't waited for any more; it has its own time-out."""
        deadline = self._deadline or 0.0
        return deadline if self._hurried else deadline + _REQUEST_S

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
            report = self._report()
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
            if not self._settled():
                return True
            self._count_unposted(report)
            return False
        self._rest()
        waiting = self._comment.on and self._told > self._commented
        self._wait(max(0.0, self._next_comment_at - time.monotonic()) if waiting else None)
        return True

    def _report(self) -> RunReport | None:
        """The run as it is now; one that has ended is put together once, as that takes a while where it is large."""
        if self._ended is not None:
            return self._ended
        if not self._builder.run_id:
            return None
        report = self._builder.report(now=time.time())
        if self._more:
            report = replace(report, more_findings=self._more)
        if self._deadline is not None and not report.running:
            self._ended = report
        return report

    def _rest(self) -> None:
        """Let a moment pass, so that a storm of events isn't a storm of reports; the end of the run cuts it short."""
        with self._changed:
            self._changed.wait_for(lambda: self._deadline is not None, _LOOK_EVERY_S)

    def _wait(self, seconds: float | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._seen > self._told or self._deadline is not None, seconds)

    def _write_one(self, report: RunReport, *, closing: bool) -> bool:
        """The most useful write that is due: the run's check, the comment, tasks' checks; the run's conclusion last.

        A comment that failed comes after the checks at the end: what hangs must not take the time of what works.
        """
        checks = self._checks.open(closing=closing)
        if checks and self._check(self._board.next_run(report, self._run_text)):
            return True
        late = closing and self._comment.failed
        if not late and self._comment_is_due(closing=closing):
            self._write_comment(report, closing=closing)
            return True
        if checks and self._write_check(report, closing=closing):
            return True
        if late and self._comment_is_due(closing=closing):
            self._write_comment(report, closing=closing)
            return True
        return False

    def _write_check(self, report: RunReport, *, closing: bool) -> bool:
        text_of = partial(self._task_text, report)
        if self._check(self._board.next_task(report, text_of, closing=closing, begun=self._hurried is not None)):
            return True
        return closing and self._check(self._board.next_run(report, self._end_text, closing=True))

    def _check(self, step: Step | None) -> bool:
        if step is None:
            return False
        try:
            self._board.send(self._api, step)
            self._check_writes += 1
            if step.key not in self._board.plain:
                self._mended(f"check {step.write.name}")
        except GitHubError as error:
            self._problem(f"check {step.write.name}", str(error))
            self._after_failure(self._checks, error)
            if error.status == 422:
                self._board.plainer(step.key)
                self._checks.not_before = 0.0
            elif self._deadline is not None:
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
            standing = self._look_back(self._sticky)
            self._last_text = self._comment_text(report, standing)
            written = self._sticky.write(self._last_text)
            self._last_written_at = time.monotonic()
        except GitHubError as error:
            self._problem("comment", str(error))
            self._after_failure(self._comment, error)
            if error.status == 422:
                self._shorten()
            elif error.unsure and closing and self._unsure_writes < _UNSURE_WRITES:
                self._unsure_writes += 1  # the next write looks first whether this one happened
                self._final_comment = False
            return
        if self._comment_bytes > SHORT_COMMENT_BYTES:
            self._mended("comment")
        self._written[written] = self._written.get(written, 0) + 1
        self._give_way(self._sticky)

    def _give_way(self, sticky: StickyComment) -> None:
        newer = sticky.superseded_by
        if newer is not None:
            self._comment.on = False
            self._problem("comment", f"left as a newer run wrote it (run {newer.number or '?'} on {newer.sha[:7]})")

    def _settled(self) -> bool:
        """Whether the comment's last word stands; where an older run has written over it, it is to be written again."""
        sticky = self._sticky
        if sticky is None or not (self._comment.on and self._final_comment) or self._hurried or self._looks >= _LOOKS:
            return True
        self._looks += 1
        time.sleep(max(0.0, min(self._last_written_at + self._settle_s, self._deadline or 0.0) - time.monotonic()))
        try:
            stands = sticky.stands(self._last_text)
        except GitHubError:  # it was written: whether it was written over since is all that isn't known
            return True
        self._give_way(sticky)
        self._final_comment = stands
        return stands

    def _look_back(self, sticky: StickyComment) -> Standing:
        """What was known of findings before this run's first write; asked once."""
        if self._standing is None:
            before = sticky.known_before()
            try:
                dismissed = self._dismissed() if self._dismissed else frozenset[str]()
            except GitHubError as error:
                self._problem("dismissed findings", str(error))
                dismissed = frozenset()
            self._standing = Standing(before=before, dismissed=dismissed)
        return self._standing

    def _shorten(self) -> None:
        """GitHub refused the comment: say less at once, then nothing."""
        if self._comment_bytes <= SHORT_COMMENT_BYTES:
            self._comment.on = False
        self._comment_bytes = SHORT_COMMENT_BYTES
        self._final_comment = False
        self._comment.not_before = self._next_comment_at = 0.0

    def _comment_text(self, report: RunReport, standing: Standing) -> str:
        """The comment without its marker (`StickyComment` puts it in front): known findings, then the report."""
        now = standing.before if report.running else frozenset(finding.id for finding in report.findings)
        text = markdown.comment(report, marker="", limit_bytes=self._comment_bytes, standing=standing).text
        return f"{Known(before=standing.before, now=now)}\n{self._note}{text}"

    def _run_text(self, report: RunReport) -> CheckText:
        said = markdown.run_check_output(report, limit_bytes=CHECK_BYTES, standing=self._standing)
        title = _running_title(report) if report.running else said.title
        return CheckText(title=title, summary=said.summary, text=said.text)

    def _task_text(self, report: RunReport, task: TaskReport) -> CheckText:
        said = markdown.check_output(report, task)
        remarks = _annotations(self._open(task.findings), ANNOTATIONS_A_TASK) if task.ended else ()
        return CheckText(title=said.title, summary=said.summary, text=said.text, annotations=remarks)

    def _open(self, findings: Iterable[Finding]) -> Sequence[Finding]:
        return (self._standing or Standing()).open(findings)

    def _make_sticky(self, report: RunReport) -> StickyComment:
        marker = Marker(
            key=self._workflow_run.key or "0",
            number=self._workflow_run.number,
            attempt=self._workflow_run.attempt,
            at=_milliseconds(report.started_at),
            sha=self._trigger.sha,
        )
        number = self._trigger.pull_request or 0
        return StickyComment(self._api, pull_request=number, marker=marker, recreate=self._recreate)

    def _after_failure(self, surface: _Surface, error: GitHubError) -> None:
        surface.failed = True
        if error.status in _FINAL:
            surface.on = False
        surface.not_before = time.monotonic() + _RETRY_AFTER_S

    def _end_text(self, report: RunReport) -> CheckText:
        text = self._run_text(report)
        missing = self._board.without_check(report)
        checked = {task.id for task in self._board.wanted(report)}
        own = [each for task in report.tasks.values() if task.id not in checked for each in task.findings]
        remarks = _annotations(self._open((*own, *report.more_findings)), ANNOTATIONS_OF_A_RUN)
        notes = []
        if missing:
            total = len(report.tasks)
            notes.append(
                f"{missing} of {total} tasks have no check run of their own: GitHub limits how many may be written."
            )
        unmarked = len(self._open(own)) + len(self._open(report.more_findings)) - len(remarks)
        unmarked += sum(max(0, len(task.findings) - ANNOTATIONS_A_TASK) for task in self._board.wanted(report))
        if unmarked > 0:
            notes.append(f"{unmarked:,} findings have no annotation, for GitHub's limits: they are in the SARIF file.")
        summary = "\n\n".join((text.summary, *notes))
        return replace(text, summary=summary, annotations=remarks)

    def _count_unposted(self, report: RunReport) -> None:
        if self._checks.on and (names := self._board.unfinished(report)):
            self._problem("checks", f"not completed on GitHub: {', '.join(names)}")
        if self._comment.on and not self._final_comment:
            self._problem("comment", "its last state was not posted in time")

    def _problem(self, what: str, why: str) -> None:
        self._problems[what] = why

    def _mended(self, what: str) -> None:
        self._problems.pop(what, None)

    def _posted_in_words(self) -> list[str]:
        words = []
        updates = sum(count for written, count in self._written.items() if written is not Written.SUPERSEDED)
        if updates:
            words.append("the comment" if Written.CREATED not in self._written else "a new comment")
        if self._check_writes:
            words.append(f"{self._board.count} check runs")
        return words


def _annotations(findings: Sequence[Finding], most: int) -> tuple[Annotation, ...]:
    return tuple(
        Annotation(
            path=each.path,
            start_line=each.line,
            end_line=each.end_line or each.line,
            level=_LEVELS[each.severity],
            message=f"{each.message}\n\nSuggested: {each.suggestion}" if each.suggestion else each.message,
            title=each.title,
        )
        for each in findings[:most]
    )


def _milliseconds(at: float | None) -> int:
    """An instant as a marker can hold it; a stranger's stream may give any number."""
    return int(at * 1000) if at is not None and 0.0 < at < _LATEST_S else 0


def _running_title(report: RunReport) -> str:
    return f"{report.done} of {len(report.tasks)} tasks done"
