"""Reading one run's stored events back, in order, from the three tables that share its numbering."""

# ruff: noqa: S608 - only this module's own words are put into SQL; values are bound

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from maos_bot.events import OutputChunk, ResourceSampled, RunEvent
from maos_bot.store.codec import event_of
from maos_bot.store.migrations import KINDS

_KIND_NAMES: Final = {number: name for name, number in KINDS.items()}
_BY_SEQ: Final = attrgetter("seq")


def read_stream(
    connection: sqlite3.Connection,
    run: int,
    run_id: str,
    *,
    after_seq: int = 0,
    output: bool = True,
    output_text: bool = True,
    talk: bool = True,
) -> Iterator[RunEvent]:
    """The events of run number `run` with a larger `seq` than `after_seq`, in order, a row at a time.

    Without `output` there are no `OutputChunk`s; without `output_text` they are there with an empty text. Without
    `talk` there are no `TranscriptAdded`s.
    """
    parts = [
        read_decisions(connection, run, run_id, after_seq=after_seq, talk=talk),
        _samples(connection, run, run_id, after_seq),
    ]
    if output:
        parts.append(_output(connection, run, run_id, after_seq, text=output_text))
    return heapq.merge(*parts, key=_BY_SEQ)


def read_decisions(
    connection: sqlite3.Connection, run: int, run_id: str, *, after_seq: int = 0, talk: bool = True
) -> Iterator[RunEvent]:
    """Its events that are neither output nor measurements; without `talk` no agent's conversation is among them."""
    silent = "" if talk else f" AND e.kind != {KINDS['TranscriptAdded']}"
    rows = connection.execute(
        "SELECT e.seq, e.at, e.kind, n.name, e.attempt, e.body,"
        " CASE e.kind WHEN 1 THEN (SELECT s.text FROM runs r JOIN specs s ON s.id = r.spec WHERE r.id = e.run) END"
        f" FROM events e LEFT JOIN names n ON n.id = e.task WHERE e.run = ? AND e.seq > ?{silent} ORDER BY e.seq",
        (run, after_seq),
    )
    for seq, at, kind, task, attempt, body, spec_text in rows:
        yield event_of(
            _KIND_NAMES[kind], run_id=run_id, seq=seq, at=at, task=task, attempt=attempt, body=body, spec_text=spec_text
        )


def _samples(connection: sqlite3.Connection, run: int, run_id: str, after_seq: int) -> Iterator[RunEvent]:
    rows = connection.execute(
        "SELECT s.seq, s.at, n.name, s.memory_mb, s.cpu_percent, s.agents, s.tokens_per_minute"
        " FROM samples s LEFT JOIN names n ON n.id = s.task WHERE s.run = ? AND s.seq > ? ORDER BY s.seq",
        (run, after_seq),
    )
    for seq, at, task, memory_mb, cpu_percent, agents, tokens_per_minute in rows:
        yield ResourceSampled(
            run_id=run_id,
            seq=seq,
            at=at,
            task=task or "",
            memory_mb=memory_mb,
            cpu_percent=cpu_percent,
            agents=agents,
            tokens_per_minute=tokens_per_minute,
        )


def _output(connection: sqlite3.Connection, run: int, run_id: str, after_seq: int, *, text: bool) -> Iterator[RunEvent]:
    rows = connection.execute(
        "SELECT o.seq, o.at, n.name, o.attempt, o.offset, o.omitted, iif(?, o.text, '')"
        " FROM output o JOIN names n ON n.id = o.task WHERE o.run = ? AND o.seq > ? ORDER BY o.seq",
        (text, run, after_seq),
    )
    for seq, at, task, attempt, offset, omitted, content in rows:
        yield OutputChunk(
            run_id=run_id,
            seq=seq,
            at=at,
            task=task,
            attempt=attempt,
            text=content,
            offset=offset,
            omitted=omitted,
        )
