"""Full-text search over runs and what their tasks printed: putting a run in when it ends, and asking.

What is put in is bounded: the words of the run and its tasks, and of each attempt the last `TAIL_FAILED` characters of
its output where it failed, `TAIL_GOOD` where it didn't, `RUN_LIMIT` in all, failures first. It happens once, in the
commit that ends the run, on the writer's thread.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from maos_bot.frozen import dataclass

if TYPE_CHECKING:
    from maos_bot.store.queries import Queries  # which a run that only stores has no use for

TAIL_FAILED: Final = 8 * 1024
TAIL_GOOD: Final = 1024
RUN_LIMIT: Final = 128 * 1024
_LOOKED_AT: Final = 400  # hits whose run is looked up for one page of answers
_GOOD: Final = ("succeeded", "cached")
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|.?)", re.DOTALL)
_WORD: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One answer: a run, or an attempt of a task in it; `line` is the line of its log that holds a word, if any."""

    run_id: str
    name: str
    status: str
    branch: str
    started_at: float
    task: str
    attempt: int | None
    state: str
    line: str


def index_run(connection: sqlite3.Connection, run: int) -> None:
    """Put the run in, in place of what stood there of it; part of the caller's transaction."""
    connection.execute("DELETE FROM documents WHERE run = ?", (run,))
    words, tasks = connection.execute(
        "SELECT r.words, (SELECT group_concat(n.name, ' ') FROM tasks t JOIN names n ON n.id = t.task"
        " WHERE t.run = r.id) FROM runs r WHERE r.id = ?",
        (run,),
    ).fetchone()
    documents: list[tuple[int | None, int | None, str]] = [(None, None, f"{words} {(tasks or '')[:RUN_LIMIT]}")]
    documents += _printed(connection, run)
    for task, attempt, text in documents:
        cursor = connection.execute("INSERT INTO documents (run, task, attempt) VALUES (?, ?, ?)", (run, task, attempt))
        connection.execute("INSERT INTO search (rowid, text) VALUES (?, ?)", (cursor.lastrowid, text))


def _printed(connection: sqlite3.Connection, run: int) -> Iterator[tuple[int, int, str]]:
    left = RUN_LIMIT
    attempts = connection.execute(
        "SELECT task, attempt, state IN (?, ?) AS good FROM attempts WHERE run = ? AND output_bytes > 0 ORDER BY good",
        (*_GOOD, run),
    ).fetchall()
    for task, attempt, good in attempts:
        text = _tail(connection, run, task, attempt, limit=min(left, TAIL_GOOD if good else TAIL_FAILED))
        left -= len(text)
        if text:
            yield task, attempt, _ESCAPES.sub("", text)
        if left <= 0:
            return


def _tail(connection: sqlite3.Connection, run: int, task: int, attempt: int, *, limit: int) -> str:
    pieces: list[str] = []
    size = 0
    rows = connection.execute(
        "SELECT text FROM output WHERE run = ? AND task = ? AND attempt = ? ORDER BY seq DESC", (run, task, attempt)
    )
    for (text,) in rows:
        pieces.append(text)
        size += len(text)
        if size >= limit:
            break
    rows.close()
    return "".join(reversed(pieces))[-limit:] if limit else ""


def words_of(text: str) -> tuple[str, ...]:
    """The words that a search for `text` looks for, in lower case: letters and digits, at most eight."""
    return tuple(dict.fromkeys(word.lower() for word in _WORD.findall(text)))[:8]


def search(queries: Queries, text: str, *, limit: int = 50) -> list[Hit]:
    """What holds every word of `text`, newest first; nothing where it has none.

    The last may be the beginning of a word where it is none itself: the index streams whole words, and has to put
    together all that a beginning means, which takes long for a common one in a big history.
    """
    words = words_of(text)
    if not words:
        return []
    whole = " ".join(f'"{word}"' for word in words)
    rows = _found(queries, whole, limit)
    if not rows and not queries.ask("SELECT rowid FROM search WHERE search MATCH ? LIMIT 1", (f'"{words[-1]}"',)):
        rows = _found(queries, f"{whole}*", limit)
    return [
        Hit(
            run_id=run_id,
            name=name,
            status=status,
            branch=branch,
            started_at=started_at,
            task=task or "",
            attempt=attempt,
            state=state or "",
            line=_line(queries, (run, number, attempt), words) if number is not None else "",
        )
        for run, number, attempt, run_id, name, status, branch, started_at, task, state in rows
    ]


def _found(queries: Queries, asked: str, limit: int) -> list[tuple[Any, ...]]:
    return queries.ask(
        "SELECT d.run, d.task, d.attempt, r.run_id, r.name, r.status, r.branch, r.started_at, n.name, a.state"
        " FROM (SELECT rowid AS id FROM search WHERE search MATCH ? ORDER BY rowid DESC LIMIT ?) f"
        " CROSS JOIN documents d ON d.id = f.id JOIN runs r ON r.id = d.run LEFT JOIN names n ON n.id = d.task"
        " LEFT JOIN attempts a ON a.run = d.run AND a.task = d.task AND a.attempt = d.attempt LIMIT ?",
        (asked, _LOOKED_AT, limit),
    )


def _line(queries: Queries, key: tuple[int, int, int], words: tuple[str, ...]) -> str:
    """The last line that holds one of the words."""
    pieces: list[str] = []
    size = 0
    sql = "SELECT text FROM output WHERE run = ? AND task = ? AND attempt = ? ORDER BY seq DESC LIMIT 200"
    for (text,) in queries.ask(sql, key):
        pieces.append(text)
        size += len(text)
        if size >= TAIL_FAILED:
            break
    tail = _ESCAPES.sub("", "".join(reversed(pieces)))
    for line in reversed(tail.splitlines()):
        lowered = line.lower()
        if any(word in lowered for word in words):
            return line.strip()[:300]
    return ""
