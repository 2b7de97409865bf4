"""What files hold, as SHA-256, without reading again what can't have changed since.

A file whose size, times, inode and mode of access are those of the last look has the content of the last look, unless
it was written in the same tick of the clock: so a digest is remembered only of a file that had been left alone for two
seconds, the coarsest tick any common file system has (git's index goes by the same rule). The change time can't be set
by programs, so copying with times preserved doesn't deceive this.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

QUIET_NS: Final = 2_000_000_000  # for so long a file must have been left alone
MOST: Final = 200_000  # files remembered; beyond that those not asked for in this run are dropped
_PIECE: Final = 1 << 20
_TRIES: Final = 3
_FORMAT: Final = 1

_Known = tuple[int, int, int, int, str]  # size, mtime, ctime (ns), inode, SHA-256


class ChangingFileError(OSError):
    """A file that was written while it was read."""


class Digests:
    """Digests by absolute path; `path` is where they are kept from one run to the next, None for nowhere."""

    def __init__(self, path: Path | None = None, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._now_ns = now_ns
        self._known: dict[str, _Known] = _read(path) if path else {}
        self._asked: set[str] = set()
        self._changed = False
        self.read_files = 0  # how many had to be read

    def of(self, path: str, known_stat: os.stat_result | None = None) -> str:
        """The SHA-256 of the regular file at `path`, symbolic links followed, in hexadecimal.

        `known_stat` is what `os.stat` just said of it. Raises `OSError`, `ChangingFileError` among them.
        """
        found = known_stat or os.stat(path)  # noqa: PTH116 - asked for every input of every task
        signature = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        known = self._known.get(path)
        if known is not None and known[:4] == signature:
            self._asked.add(path)
            return known[4]
        for _ in range(_TRIES):
            looked_at = self._now_ns()
            digest, before, after = _hash(path)
            if before == after:
                self._remember(path, after, digest, looked_at)
                return digest
        raise ChangingFileError(f"{path} keeps changing while it is read")

    def save(self) -> None:
        """Keep what is known for the next run. Raises `OSError`."""
        if not self._path or not self._changed:
            return
        known = self._known
        if len(known) > MOST:
            known = {path: known[path] for path in known.keys() & self._asked}
        body = json.dumps({"format": _FORMAT, "files": known}, separators=(",", ":"))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, seal(body.encode("utf-8")), self._path.parent)
        self._changed = False

    def _remember(self, path: str, signature: tuple[int, int, int, int], digest: str, looked_at: int) -> None:
        self.read_files += 1
        self._asked.add(path)
        if looked_at - max(signature[1], signature[2]) >= QUIET_NS:
            self._known[path] = (*signature, digest)
            self._changed = True
        elif self._known.pop(path, None):
            self._changed = True


def seal(body: bytes) -> bytes:
    """`body` after a line with its SHA-256, so that whoever reads it knows it is whole."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def unseal(data: bytes) -> bytes | None:
    """What was sealed, or None where a byte of it is missing or wrong."""
    digest, newline, body = data.partition(b"\n")
    return body if newline and hashlib.sha256(body).hexdigest().encode() == digest else None


def write_atomically(path: Path, data: bytes, scratch: Path) -> None:
    """Put a whole file in place, or none; `scratch` is a folder on the same file system. Raises `OSError`."""
    handle, name = tempfile.mkstemp(dir=scratch)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)  # noqa: PTH105 - a name, not a Path
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - as above
        raise


def _hash(path: str) -> tuple[str, tuple[int, int, int, int], tuple[int, int, int, int]]:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as in `of`
        before = _signature(file.fileno())
        hasher = hashlib.sha256()
        while piece := file.read(_PIECE):
            hasher.update(piece)
        return hasher.hexdigest(), before, _signature(file.fileno())


def _signature(fd: int) -> tuple[int, int, int, int]:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a regular file")
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _read(path: Path) -> dict[str, _Known]:
    """What an earlier run kept; nothing where it can't be read or isn't whole: it only saves time."""
    try:
        body = unseal(path.read_bytes())
        found = json.loads(body) if body is not None else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        return {}
    return {name: tuple(values) for name, values in found["files"].items()}
