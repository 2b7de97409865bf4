"""What agents said and changed, as stored: what a report of a run leaves out."""

# ruff: noqa: S608 - only this module's own words are put into SQL; values are bound

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from maos_bot.events import ChangeTaken, RunEvent, TranscriptAdded, UsageRecorded
from maos_bot.store.codec import event_of
from maos_bot.store.migrations import KINDS
from maos_bot.store.queries import Queries

AT_MOST: Final = 5000  # events of one conversation


def conversation(
    queries: Queries, run_id: str, task: str, attempt: int, *, after_seq: int = 0
) -> list[TranscriptAdded | UsageRecorded]:
    """What an attempt of run `run_id` (its full id) said and was told after event `after_seq`, and what its turns
    cost, in order."""
    found = _events(queries, run_id, task, attempt, (TranscriptAdded, UsageRecorded), after_seq=after_seq)
    return [event for event in found if isinstance(event, TranscriptAdded | UsageRecorded)]


def changes(queries: Queries, run_id: str, task: str, attempt: int) -> list[ChangeTaken]:
    """The changes taken from an attempt, with their patches."""
    found = _events(queries, run_id, task, attempt, (ChangeTaken,))
    return [event for event in found if isinstance(event, ChangeTaken)]


def has_findings(queries: Queries, run_id: str, *, after_seq: int) -> bool:
    """Whether a finding was reported in run `run_id` (its full id) after event `after_seq`."""
    rows = queries.ask(
        "SELECT 1 FROM events WHERE run = (SELECT id FROM runs WHERE run_id = ?) AND seq > ? AND kind = ? LIMIT 1",
        (run_id, after_seq, KINDS["FindingReported"]),
    )
    return bool(rows)


def _events(
    queries: Queries, run_id: str, task: str, attempt: int, kinds: tuple[type[RunEvent], ...], *, after_seq: int = 0
) -> Iterator[RunEvent]:
    names = {KINDS[kind.__name__]: kind.__name__ for kind in kinds}
    rows = queries.ask(
        "SELECT seq, at, kind, body FROM events WHERE run = (SELECT id FROM runs WHERE run_id = ?) AND seq > ?"
        f" AND kind IN ({', '.join(map(str, names))}) AND task = (SELECT id FROM names WHERE name = ?)"
        " AND attempt = ? ORDER BY seq LIMIT ?",
        (run_id, after_seq, task, attempt, AT_MOST),
    )
    for seq, at, kind, body in rows:
        yield event_of(names[kind], run_id=run_id, seq=seq, at=at, task=task, attempt=attempt, body=body)
