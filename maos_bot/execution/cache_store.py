"""What cached tasks left, on disk: entries by key, contents by their SHA-256. Safe for any number of runs at once.

Everything is written whole under another name and then renamed, so a reader finds all of it or nothing; nothing waits
for the disk, because whatever a crash leaves is told by its digest and made again. Only `prune` and `clear` take
things away, one at a time, and a content that vanishes under a reader is a miss, no more.

    entries/TASK/KEY    a sealed JSON object: what one run of the task left
    blobs/AB/SHA256     contents of output files
    tmp/                what is being written
    digests             `maos_bot.execution.digests`
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from maos_bot.execution.digests import seal, unseal, write_atomically
from maos_bot.frozen import dataclass

FORMAT: Final = 1
GRACE_S: Final = 3600.0  # so long a content without an entry is left alone: its entry may be on its way
_PIECE: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_KINDS: Final = frozenset({"file", "link", "dir"})


class CorruptError(Exception):
    """An entry or content that isn't what was written; it has been removed."""


@dataclass(frozen=True, slots=True)
class Output:
    """One thing a task left: `content` is a file's SHA-256 or a link's target; `mode` the permission bits."""

    path: str
    kind: str
    mode: int = 0
    size: int = 0
    content: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What one run of a task left. `log` has its output as (text, offset in bytes, bytes omitted before it)."""

    key: str
    task: str
    run_id: str
    made_at: float  # seconds since the epoch
    duration_s: float
    outputs: tuple[Output, ...] = ()
    log: tuple[tuple[str, int, int], ...] = ()
    output_bytes: int = 0
    omitted_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes of its output files."""
        return sum(output.size for output in self.outputs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """An entry in a list: when it was last used (seconds since the epoch), and the bytes of its own file."""

    entry: Entry
    used_at: float
    file_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What was taken away, and what is left."""

    entries: int = 0
    blobs: int = 0
    freed_bytes: int = 0
    left_entries: int = 0
    left_bytes: int = 0


class CacheStore:
    """The cache below `folder`, which the first thing that is kept makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries = str(folder / "entries")
        self._scratch = folder / "tmp"
        self._made = False

    # Entries

    def entry(self, task: str, key: str) -> Entry | None:
        """What is kept under `key`. Raises `CorruptError` for a damaged entry, after removing it, and `OSError`."""
        name = self._entry_name(task, key)
        try:
            with open(name, "rb", buffering=0) as file:  # noqa: PTH123 - asked for each task of each run
                data = file.read()
        except FileNotFoundError:
            return None
        entry = _parse(data)
        if entry is None or entry.key != key or entry.task != task:
            with contextlib.suppress(OSError):
                os.unlink(name)  # noqa: PTH108
            raise CorruptError("its entry is damaged")
        return entry

    def add(self, entry: Entry) -> None:
        """Keep `entry`, whose contents were put before. Raises `OSError`."""
        path = self._entry_path(entry.task, entry.key)
        self._prepare()
        path.parent.mkdir(parents=True, exist_ok=True)
        body = json.dumps({"format": FORMAT, **asdict(entry)}, separators=(",", ":"))
        write_atomically(path, seal(body.encode("utf-8")), self._scratch)

    def touch(self, entry: Entry) -> None:
        """Note that `entry` was used now."""
        with contextlib.suppress(OSError):  # read-only: then nothing is pruned either
            os.utime(self._entry_name(entry.task, entry.key))

    def drop(self, entry: Entry) -> None:
        """Take `entry` away."""
        with contextlib.suppress(FileNotFoundError):
            self._entry_path(entry.task, entry.key).unlink()

    def of_task(self, task: str) -> Iterator[Entry]:
        """All that is kept of one task; damaged ones are passed over."""
        for path in self._files(self._entry_path(task, "x").parent):
            with contextlib.suppress(OSError):
                entry = _parse(path.read_bytes())
                if entry is not None and entry.task == task:
                    yield entry

    def all(self) -> list[Found]:
        """Every entry that is whole, the one used last first."""
        found = []
        for path in self._files(self.folder / "entries", "*/*"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                entry = _parse(path.read_bytes())
                if entry is not None:
                    found.append(Found(entry=entry, used_at=stat.st_mtime, file_bytes=stat.st_size))
        return sorted(found, key=lambda each: (-each.used_at, each.entry.key))

    # Contents

    def put(self, source: str, digest: str, size: int) -> None:
        """Keep the content of the file `source`, which is `digest`. Raises `OSError`, also where it isn't that."""
        path = self._blob_path(digest)
        with contextlib.suppress(OSError):
            if path.stat().st_size == size:
                os.utime(path)  # `prune` leaves alone what was just wanted
                return
        self._prepare()
        path.parent.mkdir(parents=True, exist_ok=True)
        name = self._copy(source, digest)
        if name is None:
            raise OSError("it was written while it was kept")
        os.replace(name, path)  # noqa: PTH105 - a name, not a Path

    def take(self, digest: str, mode: int) -> str:
        """A fresh copy of a content, with permissions `mode`, to be renamed. Raises `CorruptError`, `OSError`."""
        path = self._blob_path(digest)
        self._prepare()
        try:
            name = self._copy(str(path), digest)
        except FileNotFoundError:
            raise CorruptError("a content it needs is missing") from None
        if name is None:
            with contextlib.suppress(OSError):
                path.unlink()
            raise CorruptError("a content it needs is damaged")
        os.chmod(name, mode)  # noqa: PTH101
        return name

    def new_name(self) -> str:
        """A name among the temporary files that nothing has. Raises `OSError`."""
        self._prepare()
        handle, name = tempfile.mkstemp(dir=self._scratch)
        os.close(handle)
        os.unlink(name)  # noqa: PTH108
        return name

    def _copy(self, source: str, digest: str) -> str | None:
        """A copy of `source` among the temporary files; None where its content isn't `digest`."""
        handle, name = tempfile.mkstemp(dir=self._scratch)
        try:
            hasher = hashlib.sha256()
            with os.fdopen(handle, "wb", buffering=0) as copy, open(source, "rb", buffering=0) as file:  # noqa: PTH123
                while piece := file.read(_PIECE):
                    hasher.update(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[copy.write(view) :]
            if hasher.hexdigest() == digest:
                return name
        except BaseException:
            os.unlink(name)  # noqa: PTH108
            raise
        os.unlink(name)  # noqa: PTH108
        return None

    # Housekeeping

    def verify(self) -> list[str]:
        """Read everything; remove what is damaged, and say what that was, a line each."""
        wrong = []
        for path in list(self._files(self.folder / "blobs", "*/*")):
            if _digest_of(path) != path.name:
                path.unlink(missing_ok=True)
                wrong.append(f"content {path.name[:12]}: damaged, removed")
        for path in list(self._files(self.folder / "entries", "*/*")):
            entry = _parse(path.read_bytes())
            if entry is None or entry.key != path.name:
                path.unlink(missing_ok=True)
                wrong.append(f"entry {path.name[:12]}: damaged, removed")
                continue
            missing = [each.path for each in entry.outputs if each.kind == "file" and not self._has(each)]
            if missing:
                path.unlink(missing_ok=True)
                wrong.append(f"entry {path.name[:12]} of {entry.task}: lacks {', '.join(missing[:3])}, removed")
        return wrong

    def prune(self, max_bytes: int, *, grace_s: float = GRACE_S) -> Removed | None:
        """Remove what was used longest ago until at most `max_bytes` are left; None where another process does it."""
        if not self.folder.is_dir():
            return Removed()
        with self._locked() as locked:
            return self._prune(max_bytes, grace_s) if locked else None

    def _prune(self, max_bytes: int, grace_s: float) -> Removed:
        entries = freed = total = left = 0
        kept: set[str] = set()
        full = False
        for found in self.all():
            new = {each.content: each.size for each in found.entry.outputs if each.kind == "file"}
            more = found.file_bytes + sum(size for digest, size in new.items() if digest not in kept)
            full = full or total + more > max_bytes
            if full:
                self.drop(found.entry)
                entries += 1
                freed += found.file_bytes
            else:
                kept |= new.keys()
                total += more
                left += 1
        blobs = 0
        for path in [*self._files(self.folder / "blobs", "*/*"), *self._files(self._scratch)]:
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.name not in kept and time.time() - stat.st_mtime >= grace_s:
                    path.unlink()
                    blobs += 1
                    freed += stat.st_size
        return Removed(
            entries=entries,
            blobs=blobs,
            freed_bytes=freed,
            left_entries=left,
            left_bytes=self.size(),
        )

    def size(self) -> int:
        """Bytes of entries and contents."""
        total = 0
        for part in ("entries", "blobs"):
            for path in self._files(self.folder / part, "*/*"):
                with contextlib.suppress(FileNotFoundError):
                    total += path.stat().st_size
        return total

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)

    def _prepare(self) -> None:
        if not self._made:
            self._scratch.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), (self.folder / ".gitignore").open("x") as file:
                file.write("*\n")
            self._made = True

    def _has(self, output: Output) -> bool:
        try:
            return self._blob_path(output.content).stat().st_size == output.size
        except OSError:
            return False

    def _entry_path(self, task: str, key: str) -> Path:
        return Path(self._entry_name(task, key))

    def _entry_name(self, task: str, key: str) -> str:
        digest = hashlib.sha256(task.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._entries}/{digest[:32]}/{key}"

    def _blob_path(self, digest: str) -> Path:
        return self.folder / "blobs" / digest[:2] / digest

    @staticmethod
    def _files(folder: Path, pattern: str = "*") -> Iterator[Path]:
        return (path for path in folder.glob(pattern) if path.is_file())


def _parse(data: bytes) -> Entry | None:
    body = unseal(data)
    if body is None:
        return None
    try:
        row: dict[str, Any] = json.loads(body)
        if row.pop("format") != FORMAT:
            return None
        outputs = tuple(Output(**each) for each in row.pop("outputs"))
        log = tuple((str(text), int(offset), int(omitted)) for text, offset, omitted in row.pop("log"))
        return Entry(outputs=outputs, log=log, **row) if all(map(_is_safe, outputs)) else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_safe(output: Output) -> bool:
    """Whether it lies inside the tree it is to be put in: an entry may come from another machine's cache."""
    parts = output.path.split("/")
    inside = bool(output.path) and not {"", ".", ".."} & set(parts) and parts[0] not in {".git", ".maos"}
    whole = output.kind != "file" or bool(_DIGEST.match(output.content))
    return inside and whole and output.kind in _KINDS and 0 <= output.mode <= 0o777 and output.size >= 0


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
