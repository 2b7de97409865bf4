"""Events that couldn't be stored, kept as NDJSON beside the database until a writer can take them in.

One file serves all processes: whoever appends to it or empties it holds a lock on it meanwhile.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from maos_bot.events import RunEvent
from maos_bot.store.codec import from_line, to_line
from maos_bot.store.ingest import Ingester


def rescue_path(database: Path) -> Path:
    """Where the events of `database` go when it fails."""
    return database.with_name(database.name + ".rescue.ndjson")


class RescueFile:
    """Appends events; the file is made by the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.saved = 0

    def write(self, events: Sequence[RunEvent]) -> None:
        """Append all of `events` and wait for the disk; raises `OSError` where even that is impossible."""
        # The line feed ahead ends whatever a writer before us had to cut short.
        data = ("\n" + "".join(to_line(event) + "\n" for event in events)).encode()
        fd = _open_locked(self.path)
        try:
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        self.saved += len(events)


def take_in(path: Path, ingester: Ingester, *, wait: bool = False) -> int:
    """Store what an earlier writer had to leave in `path`; how many events were new.

    Lines that can't be read stay in the file; without any it is removed. A file that another process is busy with
    is left for later, unless asked to `wait`.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    with os.fdopen(fd, "r+", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return 0
        unreadable: list[str] = []
        stored = ingester.write(_readable(file, unreadable))
        if unreadable:
            file.seek(0)
            file.truncate()
            file.writelines(unreadable)
        else:
            path.unlink(missing_ok=True)
        return stored


def _readable(lines: Iterable[str], unreadable: list[str]) -> Iterator[RunEvent]:
    for line in lines:
        if not line.strip():
            continue
        try:
            event = from_line(line)
        except ValueError:
            unreadable.append(line)
        else:
            yield event


def _open_locked(path: Path) -> int:
    """The file, locked, and certainly the one that has this name: another process may just have emptied it."""
    while True:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink > 0:
            return fd
        os.close(fd)
