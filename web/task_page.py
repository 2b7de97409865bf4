"""What the page of a task within a run shows: how it went, why it waited, its attempts, its log; of an agent's task
also what was said, found and changed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from maos_bot.events import ChangeTaken
from maos_bot.model import TaskState, Usage
from maos_bot.reporting.report import RunReport, TaskReport
from maos_bot.store import insight, talk
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunRow
from web import ansi, words
from web.conversation import Conversation, conversation
from web.findings import Findings, findings_of
from web.run_page import rounded, tail
from web.run_text import found_lines
from web.tasks_page import STRIP, SparkBar, spark
from web.timeline import waited_words

PATCH_LIMIT: Final = 128 * 1024  # characters of a patch on the page
LOG_LIMIT: Final = 256 * 1024  # characters of a log on the page; the plain text has all of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Another task of the same run."""

    id: str
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptLine:
    """One attempt in the table."""

    number: int
    mark: words.Mark
    shown: bool
    reason: str
    started_s: float | None
    duration_s: float | None
    cpu_s: float | None
    peak_memory_mb: float | None
    exit_code: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """The log of one attempt, or its end."""

    attempt: int
    text: Markup
    cut: bool
    shown_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeView:
    """A change an agent made; `lines` are those of its patch, each with its kind, and `left_out` how many are not
    shown."""

    commit: str
    files: tuple[str, ...]
    added: int
    removed: int
    conflicts: tuple[str, ...]
    branch: str
    lines: tuple[tuple[str, str], ...]
    left_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPage:
    """Everything that `task.html` shows."""

    run_id: str
    run_name: str
    id: str
    title: str
    mark: words.Mark
    team: str
    stage: int
    duration_s: float | None
    estimate_s: float | None
    basis: str
    headline: str
    waited: str
    going: bool
    attempts: tuple[AttemptLine, ...]
    log: Log | None
    command: str
    needs: tuple[Link, ...]
    needed_by: tuple[Link, ...]
    demand: str
    local_command: str
    repository: str
    usage: Usage
    kind: str
    attempt: int | None  # whose log and conversation are shown
    findings: Findings
    talk: Conversation | None
    changes: tuple[ChangeView, ...]
    bars: tuple[SparkBar, ...]
    query: str
    found: tuple[tuple[int, Markup], ...]
    found_count: int
    last_seq: int


def build(
    queries: Queries, row: RunRow, report: RunReport, task_id: str, *, attempt: int | None = None, query: str = ""
) -> TaskPage | None:
    """The page of one task of a run; None where the run has no such task.

    `attempt` chooses whose log is shown; by default it is the last one's. `query` leaves the lines that hold it.
    """
    run_id = row.run_id
    task = report.tasks.get(task_id)
    if task is None:
        return None
    numbers = [one.attempt for one in task.attempt_list]
    last = 0 if task.state is TaskState.CACHED else numbers[-1] if numbers else None  # 0: as it was printed back then
    shown = attempt if attempt in numbers else last
    going = task.state is TaskState.RUNNING and row.status == "running"
    found: list[tuple[int, Markup]] = []
    count = 0
    if query and shown is not None:
        found, count = found_lines(queries.output(run_id, task_id, shown), query)
    past = insight.task_history(queries, task_id, row.repository, limit=STRIP)
    return TaskPage(
        run_id=run_id,
        run_name=report.name,
        id=task.id,
        title=task.title,
        mark=words.mark(task.state),
        team=task.team,
        stage=task.stage,
        duration_s=task.duration_s,
        estimate_s=task.estimate_s,
        basis=task.basis,
        headline=_headline(task),
        waited=_waited(task),
        going=going,
        attempts=tuple(
            AttemptLine(
                number=one.attempt,
                mark=words.mark(one.state),
                shown=one.attempt == shown and len(numbers) > 1,
                reason=one.reason,
                started_s=one.started_s,
                duration_s=rounded(one.duration_s),
                cpu_s=rounded(one.cpu_s),
                peak_memory_mb=rounded(one.peak_memory_mb),
                exit_code=one.exit_code,
            )
            for one in task.attempt_list
        ),
        log=_log(queries, run_id, task_id, shown) if shown is not None else None,
        command=task.command,
        needs=_links(report, task.needs),
        needed_by=_links(report, tuple(one.id for one in report.tasks.values() if task_id in one.needs)),
        demand=", ".join(f"{name} {value:g}" for name, value in task.demand.items()),
        local_command=shlex.join(["maos", "run", *([report.spec_path] if report.spec_path else []), "--task", task.id]),
        repository=row.repository,
        usage=task.usage,
        kind=task.kind,
        attempt=shown,
        findings=findings_of(task.findings, row),
        talk=_talk(queries, run_id, task, shown),
        changes=_changes(queries, run_id, task, shown),
        bars=spark(past),
        query=query,
        found=tuple(found),
        found_count=count,
        last_seq=row.last_seq,
    )


def _talk(queries: Queries, run_id: str, task: TaskReport, attempt: int | None) -> Conversation | None:
    if task.kind != "agent" or attempt is None:
        return None
    return conversation(talk.conversation(queries, run_id, task.id, attempt))


def _changes(queries: Queries, run_id: str, task: TaskReport, attempt: int | None) -> tuple[ChangeView, ...]:
    if task.kind != "agent" or attempt is None:
        return ()
    return tuple(_change(one) for one in talk.changes(queries, run_id, task.id, attempt))


def _change(change: ChangeTaken) -> ChangeView:
    lines = ansi.plain(change.patch[:PATCH_LIMIT]).splitlines()
    more = change.patch.count("\n", PATCH_LIMIT)
    return ChangeView(
        commit=change.commit,
        files=change.files,
        added=change.added,
        removed=change.removed,
        conflicts=change.conflicts,
        branch=change.branch,
        lines=tuple((_kind_of(line), line) for line in lines),
        left_out=more,
    )


def _kind_of(line: str) -> str:
    if line.startswith(("diff --git ", "index ", "--- ", "+++ ")):
        return "file"
    return {"+": "add", "-": "del", "@": "hunk"}.get(line[:1], "")


def _headline(task: TaskReport) -> str:
    word = words.mark(task.state).word
    took = f" in {words.duration(task.duration_s)}" if task.duration_s is not None and task.ran and task.ended else ""
    which = f" at attempt {task.attempts} of {task.max_attempts}" if task.attempts > 1 else ""
    reason = f": {task.reason}" if task.reason else ""
    saved = f"; {words.duration(task.saved_s)} saved" if task.saved_s is not None else ""
    return f"{word}{took}{which}{reason}{saved}"


def _waited(task: TaskReport) -> str:
    waited = waited_words(task)
    if waited:
        return f"{waited[0].upper()}{waited[1:]}."
    if task.ran:
        return "It started as soon as its needs were met." if task.needs else "It started at once."
    return ""


def _log(queries: Queries, run_id: str, task_id: str, attempt: int) -> Log:
    text, total = tail(queries.iter_output(run_id, task_id, attempt), limit=LOG_LIMIT)
    return Log(
        attempt=attempt,
        text=ansi.to_markup(text),
        cut=len(text) < total,
        shown_bytes=len(text),
        total_bytes=total,
    )


def _links(report: RunReport, ids: tuple[str, ...]) -> tuple[Link, ...]:
    return tuple(Link(id=id_, title=report.tasks[id_].title) for id_ in ids if id_ in report.tasks)
