"""The run's stream into SQLite, off the run's path.

`StoreWriter.add` puts an event on a queue and returns; a thread of its own commits what has gathered, every 50 ms or
500 events, and at once when a run ends, or a task that took long enough for its end to be worth that. A database that
fails never stops a run: what can't be stored is written to `NAME.rescue.ndjson` beside it, `close` says so, and the
next writer that can takes it in.

When is an event safe? Once `acknowledged_seq` has reached it: then it outlives the death of this process at any
instant. A power cut may cost the last second of a running run (a commit a second, and those that begin and end a run,
wait for the disk): waiting for it 20 times a second would slow the very tasks that are being measured.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from maos_bot.errors import StoreError
from maos_bot.events import OutputChunk, RunEvent, RunFinished, RunStarted, TaskFinished
from maos_bot.store.db import connect, explain, is_busy
from maos_bot.store.ingest import Ingester
from maos_bot.store.rescue import RescueFile, rescue_path, take_in

BATCH_S: Final = 0.05
BATCH_EVENTS: Final = 500
SYNC_S: Final = 1.0
WORTH_S: Final = 0.5  # an attempt that took longer is stored at once: after a crash it would be repeated
# Where the disk can't keep up, `add` waits rather than let memory grow without end.
MAX_QUEUED_EVENTS: Final = 200_000
MAX_QUEUED_TEXT: Final = 64 * 2**20
_MAX_BATCH: Final = 5000
_TRIES_WHEN_LOCKED: Final = 3  # each waits as long as `db.BUSY_TIMEOUT_S`


class StoreWriter:
    """Stores events in the background; `add` may be called from any thread.

    Use it as a context manager, or call `close`: only then is it certain that all was stored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: deque[RunEvent] = deque()
        self._queued_text = 0
        self._wake = threading.Event()  # there is something to do
        self._now = threading.Event()  # and it should be done at once
        self._room = threading.Condition()
        self._closing = False
        self._acknowledged = 0
        self._failure: Exception | None = None
        self._rescue = RescueFile(rescue_path(path))
        self._lost = 0
        self._connection: sqlite3.Connection | None = None
        self._ingester: Ingester | None = None
        self._synced_at = 0.0
        self._thread = threading.Thread(target=self._work, name="maos-store", daemon=True)
        self._thread.start()

    @property
    def acknowledged_seq(self) -> int:
        """The `seq` of the last event that is committed, of the run that was added last; 0 before the first."""
        return self._acknowledged

    @property
    def failure(self) -> Exception | None:
        """Why events are no longer stored, if so."""
        return self._failure

    def add(self, event: RunEvent) -> None:
        """Queue one event. Waits only where 200,000 events or 64 MiB of output are still to be written."""
        if self._closing:
            raise RuntimeError("add() after close()")
        if type(event) is OutputChunk:
            with self._room:
                self._queued_text += len(event.text)
                if self._queued_text > MAX_QUEUED_TEXT:
                    self._wait_for_room()
        elif type(event) is RunFinished or (type(event) is TaskFinished and event.duration_s >= WORTH_S):
            self._now.set()
        self._queue.append(event)
        waiting = len(self._queue)
        if waiting >= BATCH_EVENTS:
            self._now.set()
            if waiting >= MAX_QUEUED_EVENTS:
                with self._room:
                    self._wait_for_room()
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Commit all that was added. Raises `StoreError`, saying what was saved where, if that was not possible."""
        self._closing = True
        self._wake.set()
        self._now.set()
        self._thread.join()
        if isinstance(self._failure, StoreError):
            raise self._whole_story(self._failure)
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait_for_room(self) -> None:
        self._now.set()
        self._wake.set()
        self._room.wait_for(lambda: len(self._queue) < MAX_QUEUED_EVENTS and self._queued_text <= MAX_QUEUED_TEXT)

    def _work(self) -> None:
        try:
            self._open()
            while True:
                self._wake.wait()
                self._now.wait(BATCH_S)
                self._wake.clear()
                self._now.clear()
                closing = self._closing
                while batch := self._take():
                    self._store(batch)
                if closing:
                    return
        finally:
            self._shut()

    def _open(self) -> None:
        try:
            self._connection = connect(self._path, create=True)
            self._ingester = Ingester(self._connection)
            take_in(self._rescue.path, self._ingester)
        except sqlite3.Error as error:
            self._failure = explain(error, self._path)
        except Exception as error:  # noqa: BLE001 - close() raises it: a run must not end for this
            self._failure = error

    def _take(self) -> list[RunEvent]:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), _MAX_BATCH))]
        text = sum(len(event.text) for event in batch if type(event) is OutputChunk)
        with self._room:
            self._queued_text -= text
            self._room.notify_all()
        return batch

    def _store(self, batch: Sequence[RunEvent]) -> None:
        if self._failure is None:
            try:
                self._commit(batch)
            except sqlite3.Error as error:
                self._failure = explain(error, self._path)
            except Exception as error:  # noqa: BLE001 - close() raises it: a run must not end for this
                self._failure = error
            else:
                self._acknowledged = batch[-1].seq
                return
        try:
            self._rescue.write(batch)
        except OSError:
            self._lost += len(batch)  # close() tells

    def _commit(self, batch: Sequence[RunEvent]) -> None:
        if self._connection is None or self._ingester is None:
            raise RuntimeError("the database is not open")
        now = time.monotonic()
        wait_for_disk = now - self._synced_at >= SYNC_S or any(type(e) in {RunStarted, RunFinished} for e in batch)
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if wait_for_disk else 'NORMAL'}")
        tries = 0
        while True:
            try:
                self._ingester.write(batch)
                break
            except sqlite3.OperationalError as error:
                tries += 1
                if not is_busy(error) or self._closing or tries >= _TRIES_WHEN_LOCKED:
                    raise
        if wait_for_disk:
            self._synced_at = now

    def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _whole_story(self, failure: StoreError) -> StoreError:
        parts = [failure.message]
        hints = [failure.hint]
        if self._rescue.saved:
            parts.append(f"{self._rescue.saved} events are in {self._rescue.path} instead")
            hints.append("the next run that can use the database takes them in")
        if self._lost:
            parts.append(f"{self._lost} events could be saved nowhere")
        return StoreError(", ".join(parts), hint="; ".join(hints))
