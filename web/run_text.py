"""The pages of a run that are text: its log, its events, its spec."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from maos_bot.events import (
    ChangeTaken,
    FindingReported,
    RunEvent,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskReady,
    TaskStarted,
    TranscriptAdded,
    UsageRecorded,
)
from maos_bot.reporting.report import RunReport
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunRow
from web import ansi, words
from web.run_head import RunHead, head_of

LOG_LIMIT: Final = 192 * 1024
EVENTS_SHOWN: Final = 200
_DIFF_LIMIT: Final = 96 * 1024  # characters of a spec that are compared line by line


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one attempt printed before another one had its say."""

    task: str
    title: str
    attempt: int
    text: Markup


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPage:
    """Everything that `run_log.html` shows."""

    head: RunHead
    pieces: tuple[Piece, ...]
    whole: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class EventLine:
    """One event in the table."""

    seq: int
    at_s: float
    kind: str
    task: str
    attempt: int | None
    what: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsPage:
    """Everything that `run_events.html` shows."""

    head: RunHead
    lines: tuple[EventLine, ...]
    total: int
    first: bool
    next_after: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecPage:
    """Everything that `run_spec.html` shows; `diff` is against the run before of the same name, if there was one."""

    head: RunHead
    path: str
    digest: str
    text: str
    previous: str | None
    diff: tuple[tuple[str, str], ...]
    same: bool


def log_page(queries: Queries, row: RunRow, report: RunReport) -> LogPage:
    """The end of what all tasks printed, in the order it came in."""
    pieces, whole = queries.log_tail(row.run_id, limit=LOG_LIMIT)
    titles = {task.id: task.title for task in report.tasks.values()}
    return LogPage(
        head=head_of(row),
        pieces=tuple(
            Piece(task=task, title=titles.get(task, task), attempt=attempt, text=ansi.to_markup(text))
            for task, attempt, text in _joined(pieces)
        ),
        whole=whole,
    )


def log_lines(pieces: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    """All of it as plain text, each line with its task before it."""
    for task, attempt, text in _joined(pieces):
        name = ansi.plain(task) + (f" ({attempt})" if attempt > 1 else "")
        yield "".join(f"{name} | {line}\n" for line in ansi.plain(text).rstrip("\n").split("\n"))


def events_page(queries: Queries, row: RunRow, *, after: int) -> EventsPage:
    """Up to 200 decisions after event number `after`."""
    events = queries.decisions(row.run_id, after_seq=after, limit=EVENTS_SHOWN + 1)
    shown = events[:EVENTS_SHOWN]
    return EventsPage(
        head=head_of(row),
        lines=tuple(
            EventLine(
                seq=event.seq,
                at_s=event.at - row.started_at,
                kind=_KINDS.get(type(event), type(event).__name__),
                task=getattr(event, "task", ""),
                attempt=getattr(event, "attempt", None) or None,
                what=_what(event),
            )
            for event in shown
        ),
        total=row.events,
        first=after <= 0,
        next_after=shown[-1].seq if len(events) > EVENTS_SHOWN else None,
    )


def spec_page(queries: Queries, row: RunRow) -> SpecPage:
    """The spec as it was, and what changed in it since the run before."""
    text = queries.spec_text(row.run_id)
    previous = queries.previous(row)
    before = queries.spec_text(previous) if previous else ""
    return SpecPage(
        head=head_of(row),
        path=row.spec_path,
        digest=row.spec_digest,
        text=text,
        previous=previous if before and text else None,
        diff=tuple(diff(before, text)) if before and text and before != text else (),
        same=before == text,
    )


def diff(before: str, after: str) -> Iterator[tuple[str, str]]:
    """The lines that differ with three around them, each with its kind: `add`, `del`, `hunk`, or empty."""
    lines = difflib.unified_diff(before[:_DIFF_LIMIT].splitlines(), after[:_DIFF_LIMIT].splitlines(), lineterm="", n=3)
    for number, line in enumerate(lines):
        if number >= 2:  # the first two name the files
            yield {"+": "add", "-": "del", "@": "hunk"}.get(line[:1], ""), line


def found_lines(text: str, query: str, *, most: int = 500) -> tuple[list[tuple[int, Markup]], int]:
    """The lines of a log that hold `query` in any case, numbered from 1, with it marked; and how many there are."""
    wanted = query.lower()
    found: list[tuple[int, Markup]] = []
    count = 0
    for number, line in enumerate(ansi.plain(text).split("\n"), start=1):
        if wanted in line.lower():
            count += 1
            if len(found) < most:
                found.append((number, _marked(line, wanted)))
    return found, count


def _marked(line: str, wanted: str) -> Markup:
    lowered = line.lower()
    if len(lowered) != len(line):  # letters whose small form is longer: places would not agree
        return escape(line)
    parts: list[Markup] = []
    at = 0
    while (place := lowered.find(wanted, at)) >= 0:
        parts.append(escape(line[at:place]))
        parts.append(Markup("<mark>{}</mark>").format(line[place : place + len(wanted)]))
        at = place + len(wanted)
    return Markup("").join([*parts, escape(line[at:])])


def _joined(pieces: Iterable[tuple[str, int, str]]) -> Iterator[tuple[str, int, str]]:
    """Pieces of one attempt that follow one another as one."""
    last: tuple[str, int] | None = None
    gathered: list[str] = []
    for task, attempt, text in pieces:
        if last is not None and last != (task, attempt):
            yield *last, "".join(gathered)
            gathered = []
        last = (task, attempt)
        gathered.append(text)
    if last is not None:
        yield *last, "".join(gathered)


_KINDS: Final[dict[type[RunEvent], str]] = {
    RunStarted: "run started",
    TaskReady: "ready",
    TaskStarted: "started",
    UsageRecorded: "model turn",
    TranscriptAdded: "message",
    FindingReported: "finding",
    ChangeTaken: "change",
    TaskFinished: "ended",
    RunFinished: "run ended",
}


def _what(event: RunEvent) -> str:  # noqa: PLR0911 - one for each kind
    match event:
        case RunStarted():
            return f"{words.plural(len(event.tasks), 'task')}, {event.mode}, {event.strategy}"
        case TaskReady():
            return f"after {event.freed_by}" if event.freed_by else ""
        case TaskStarted():
            waited = f"waited {words.duration(event.queued_s)}" if event.queued_s >= 0.0005 else ""
            return ": ".join(part for part in (waited, event.wait_reason) if part)
        case UsageRecorded():
            used = event.usage
            return f"{event.model}: {used.input_tokens} in, {used.output_tokens} out, {words.usd(used.usd)}"
        case TranscriptAdded():
            return f"{event.role}: {_shortened(event.text)}"
        case FindingReported():
            place = event.path if event.line is None else f"{event.path}:{event.line}"
            return f"{event.severity}, {place}: {_shortened(event.message)}"
        case ChangeTaken():
            said = f"{words.plural(len(event.files), 'file')}, +{event.added} \N{MINUS SIGN}{event.removed}"
            return f"{said}, in conflict: {', '.join(event.conflicts)}" if event.conflicts else said
        case TaskFinished():
            took = f"after {words.duration(event.duration_s)}" if event.attempt else ""
            again = "" if event.final else "to be tried again"
            return ", ".join(part for part in (words.mark(event.state).word.lower(), took, event.reason, again) if part)
        case RunFinished():
            return ", ".join(part for part in (event.status, words.duration(event.wall_s), event.reason) if part)
    return ""


def _shortened(text: str, most: int = 120) -> str:
    """A text's first line, or what of it fits."""
    line = ansi.plain(text[: 4 * most]).strip().partition("\n")[0]
    return line if len(line) <= most else f"{line[: most - 1]}…"
