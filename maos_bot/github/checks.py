"""The check runs of a run: what each should say, and which write brings GitHub nearer to it.

`CheckBoard` compares the report with what was posted and names one write at a time, so that a slow API never lags
behind by more than the present: `in_progress` first, annotations in batches, the conclusion last. GitHub allows 80
content writes a minute and 500 an hour and a task takes two, so a run of many tasks gets a check only for each task
that failed, and its own check says so; the comment and the summary hold them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from itertools import islice
from typing import Final

from maos_bot.errors import GitHubError
from maos_bot.frozen import dataclass
from maos_bot.github.client import Annotation, Check, CheckWrite, GitHubApi
from maos_bot.model import RunStatus, TaskState, Trigger
from maos_bot.reporting.escape import one_line
from maos_bot.reporting.report import RunReport, TaskReport

MAX_TASK_CHECKS: Final = 40
MAX_FAILED_CHECKS: Final = 35  # of more tasks than that: two writes each, and the rest, are within a minute's 80
ANNOTATIONS_A_WRITE: Final = 50
MAX_NAME: Final = 250  # characters
_PLAINEST: Final = 2
RUN: Final = ""  # the key of the run's own check; tasks go by their id

_CONCLUSIONS: Final[Mapping[TaskState, str]] = {
    TaskState.SUCCEEDED: "success",
    TaskState.CACHED: "success",
    TaskState.FAILED: "failure",
    TaskState.TIMED_OUT: "timed_out",
    TaskState.CANCELLED: "cancelled",
    TaskState.SKIPPED: "skipped",
    TaskState.UPSTREAM_FAILED: "skipped",
}
_RUN_CONCLUSIONS: Final[Mapping[RunStatus, str]] = {
    RunStatus.SUCCEEDED: "success",
    RunStatus.FAILED: "failure",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.OVER_BUDGET: "failure",
    RunStatus.NOTHING: "neutral",
    RunStatus.RUNNING: "cancelled",  # we are closing and it never ended
}


def task_conclusion(task: TaskReport) -> str:
    """GitHub's word for how a task ended; one that hasn't, at the end of all, was cancelled."""
    if task.failed and task.continue_on_error:
        return "neutral"
    return _CONCLUSIONS.get(task.state, "cancelled")


def run_conclusion(status: RunStatus) -> str:
    """GitHub's word for how a run ended."""
    return _RUN_CONCLUSIONS[status]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckText:
    """What a check run says; `summary` and `text` are Markdown, each within GitHub's 65,535 characters."""

    title: str
    summary: str
    text: str = ""
    annotations: tuple[Annotation, ...] = ()


TextOf = Callable[[TaskReport], CheckText]
RunTextOf = Callable[[RunReport], CheckText]


@dataclass(slots=True)
class _Posted:
    """What we know GitHub has of one check."""

    check: Check
    annotated: int = 0
    completed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The next write for `key`; `annotated` is how many annotations are posted once it is done."""

    key: str
    write: CheckWrite
    annotated: int = 0


@dataclass(slots=True)
class CheckBoard:
    """All check runs of one run on `trigger.sha`. Not safe for several threads."""

    trigger: Trigger
    max_tasks: int = MAX_TASK_CHECKS
    prefix: str = ""  # of every name
    app: str = ""  # the app GitHub says made our checks
    _posted: dict[str, _Posted] = field(default_factory=dict)
    _given_up: set[str] = field(default_factory=set)
    _plain: dict[str, int] = field(default_factory=dict)  # how far down the ladder: 1 no annotations, 2 few words

    def wanted(self, report: RunReport) -> Sequence[TaskReport]:
        """The tasks that get a check of their own, as far as they have begun or ended."""
        if len(report.tasks) <= self.max_tasks:
            return [task for task in report.tasks.values() if task.ended or task.ran]
        return list(islice((task for task in report.tasks.values() if task.failed), MAX_FAILED_CHECKS))

    def without_check(self, report: RunReport) -> int:
        """How many tasks have none, because there are too many."""
        return max(0, len(report.tasks) - len(self.wanted(report))) if len(report.tasks) > self.max_tasks else 0

    def next_task(
        self, report: RunReport, text_of: TextOf, *, closing: bool = False, begun: bool = False
    ) -> Step | None:
        """The next write for a task's check; with `closing` also for tasks without an end; `begun`: for no new one."""
        wanted = report.tasks.values() if closing and len(report.tasks) <= self.max_tasks else self.wanted(report)
        for task in wanted:
            ended = task.ended or closing
            posted = self._posted.get(task.id)
            if task.id in self._given_up or (posted and (posted.completed or not ended)) or (begun and not posted):
                continue
            return self._step(
                task.id,
                name=self._name(report, task.id),
                text=text_of(task),
                external_id=f"{report.run_id}:{task.id}",
                conclusion=task_conclusion(task) if ended else "",
                started_at=_at(report, task.started_s if task.started_s is not None else task.finished_s),
                completed_at=_at(report, task.finished_s if task.finished_s is not None else report.wall_s),
            )
        return None

    def next_run(self, report: RunReport, text_of: RunTextOf, *, closing: bool = False) -> Step | None:
        """The next write for the run's own check: its begin, and with `closing` its end."""
        posted = self._posted.get(RUN)
        if RUN in self._given_up or (posted and (posted.completed or not closing)):
            return None
        return self._step(
            RUN,
            name=self._name(report),
            text=text_of(report),
            external_id=report.run_id,
            conclusion=run_conclusion(report.status) if closing else "",
            started_at=report.started_at,
            completed_at=_at(report, report.wall_s),
        )

    def send(self, api: GitHubApi, step: Step) -> None:
        """Do one write and remember it; raises `GitHubError`, after which `next_...` names the same write again."""
        posted = self._posted.get(step.key)
        if posted is None:
            check = self._create(api, step.write)
            self.app = check.app or self.app
            self._posted[step.key] = _Posted(check=check)
            return
        api.update_check(posted.check, step.write)
        posted.annotated = step.annotated
        posted.completed = bool(step.write.conclusion)

    def give_up(self, key: str) -> None:
        """Never write this one again: GitHub refused it."""
        self._given_up.add(key)

    def plainer(self, key: str) -> None:
        """GitHub refused what this check says: leave out its annotations, then its texts, then give it up."""
        level = self._plain[key] = self._plain.get(key, 0) + 1
        if level > _PLAINEST:
            self.give_up(key)

    @property
    def plain(self) -> frozenset[str]:
        """The checks that say less than they should."""
        return frozenset(self._plain)

    @property
    def count(self) -> int:
        """How many check runs we have on GitHub."""
        return len(self._posted)

    def unfinished(self, report: RunReport) -> list[str]:
        """The checks that should be complete and aren't, by name."""
        keys = [RUN, *(task.id for task in self.wanted(report))]
        done = {key for key, posted in self._posted.items() if posted.completed}
        return [key or self._name(report) for key in dict.fromkeys((*keys, *self._posted)) if key not in done]

    def _name(self, report: RunReport, task: str = "") -> str:
        """One line within GitHub's bounds: a stored run's words are a stranger's."""
        whole = f"{report.name or 'maos'} / {task}" if task else report.name or "maos"
        return one_line(f"{self.prefix}{whole}", limit=MAX_NAME)

    def _create(self, api: GitHubApi, write: CheckWrite) -> Check:
        try:
            return api.create_check(write)
        except GitHubError as error:
            if not error.unsure:
                raise
            # The answer was lost, perhaps not the check: a second one would stay `in_progress` for ever.
            for found in api.checks(write.sha, write.name):
                if found.external_id == write.external_id:
                    return found
            return api.create_check(write)

    def _step(
        self,
        key: str,
        *,
        name: str,
        text: CheckText,
        external_id: str,
        conclusion: str,
        started_at: float | None,
        completed_at: float | None,
    ) -> Step:
        posted = self._posted.get(key)
        level = self._plain.get(key, 0)
        if level:
            text = replace(text, annotations=())
        if level >= _PLAINEST:
            text = CheckText(title=text.title, summary="GitHub refused the text; it is in the job summary.")
        begin = CheckWrite(
            name=name,
            sha=self.trigger.sha,
            details_url=self.trigger.url,
            external_id=external_id,
            started_at=started_at,
            title=text.title,
            summary=text.summary,
            text=text.text,
        )
        if posted is None:  # the begin, always: readers and rules that wait for it must see it first
            return Step(key=key, write=begin)
        batch = text.annotations[posted.annotated : posted.annotated + ANNOTATIONS_A_WRITE]
        annotated = posted.annotated + len(batch)
        write = replace(begin, annotations=batch)
        if annotated >= len(text.annotations):
            write = replace(write, conclusion=conclusion, completed_at=completed_at)
        return Step(key=key, write=write, annotated=annotated)


def _at(report: RunReport, seconds: float | None) -> float | None:
    """An instant of the run as seconds since the epoch."""
    return None if seconds is None or report.started_at is None else report.started_at + seconds
