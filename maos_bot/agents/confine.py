"""A folder that can't be left: files by paths that a model gave, opened step by step from the folder's own descriptor.

No step follows a link, so what is opened is what the path says whoever swaps what meanwhile: there is no moment between
looking and opening. Only plain files are opened, never a device, a pipe or a file that has a second name elsewhere, and
`.git` not under any of the names that some file system takes for it. Files are changed by putting a new one in place.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import stat
import unicodedata
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass

MOST_BYTES: Final = 8 * 2**20  # of a file that is read or written whole
_LONGEST_PATH: Final = 4000  # bytes
_DEEPEST: Final = 100
_OURS: Final = ".maos"  # at the root: what is kept between runs
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS: Final = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class ConfinedError(Exception):
    """A path that isn't opened; the message says which and why, for a model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What is in a folder: `kind` is file, folder, link or other; `size` in bytes."""

    name: str
    kind: str
    size: int


class Confined:
    """The folder `root`. `may_write` tells which paths may be changed; without it none."""

    def __init__(self, root: Path, *, may_write: Callable[[str], bool] | None = None) -> None:
        self._root = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
        self._may_write = may_write
        weakref.finalize(self, os.close, self._root)

    def read(self, path: str) -> bytes:
        """The content of a file. Raises `ConfinedError`."""
        parts = parts_of(path)
        with self._folder(parts[:-1], path) as folder, _opened(folder, parts, path) as (file, found):
            if found.st_size > MOST_BYTES:
                raise ConfinedError(f"{path} is too large to read: {found.st_size:,} bytes; search it instead")
            return _all(file)

    def entries(self, path: str) -> list[Entry]:
        """What is in a folder, by name; `.git` isn't shown."""
        parts = parts_of(path, root=True)
        with self._folder(parts, path) as folder, os.scandir(folder) as found:
            shown = [entry for entry in found if not _is_hidden((*parts, entry.name))]
            return [_entry(entry) for entry in sorted(shown, key=lambda entry: os.fsencode(entry.name))]

    def kind(self, path: str) -> str:
        """What is there: file, folder or other. Raises `ConfinedError` where nothing is, or a link."""
        parts = parts_of(path, root=True)
        if not parts:
            return "folder"
        with self._folder(parts[:-1], path) as folder:
            mode = _look(folder, parts[-1], path).st_mode
        if stat.S_ISLNK(mode):
            raise ConfinedError(f"{path} is a link, and links are not followed; give the path of what it points at")
        return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"

    def files(self, path: str) -> Iterator[str]:
        """The plain files in and below `path` (or itself), depth first, by name; what can't be listed is left out."""
        parts = parts_of(path, root=True)
        with self._folder(parts[:-1], path) as folder:
            if parts and stat.S_ISREG(_look(folder, parts[-1], path).st_mode):
                yield "/".join(parts)
                return
        yield from self._below(parts)

    def write(self, path: str, data: bytes) -> bool:
        """Put a file in place, with its folders; True where there was none before. Raises `ConfinedError`."""
        parts = self._changeable(path)
        if len(data) > MOST_BYTES:
            raise ConfinedError(f"{path} would be too large: {len(data):,} of at most {MOST_BYTES:,} bytes")
        with self._folder(parts[:-1], path, make=True) as folder:
            try:
                before = _look(folder, parts[-1], path)
            except ConfinedError:
                before = None
            if before is not None:
                _plain_or_refuse(before, path)
            _replace(folder, parts[-1], data, before.st_mode & 0o777 if before else 0o644, path)
        return before is None

    def remove(self, path: str) -> None:
        """Remove a file (a link too: itself, never what it points at). Raises `ConfinedError`."""
        parts = self._changeable(path)
        with self._folder(parts[:-1], path) as folder:
            found = _look(folder, parts[-1], path)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                raise ConfinedError(f"{path} is {_kind(found)}; only files can be removed")
            _doing(path, functools.partial(os.unlink, parts[-1], dir_fd=folder))

    def git_link(self) -> bytes | None:
        """What the worktree's own `.git` file says; None where there is no such file."""
        try:
            found = os.stat(".git", dir_fd=self._root, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                return None
            file = os.open(".git", _FILE, dir_fd=self._root)
        except FileNotFoundError:
            return None
        try:
            return _all(file)
        finally:
            os.close(file)

    def restore_git_link(self, before: bytes) -> bool:
        """Put the `.git` file back as it was; whether that was needed. Nothing may be running in the folder."""
        if self.git_link() == before:
            return False
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(".git", dir_fd=self._root, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.rename(".git", f"not-git-{secrets.token_hex(4)}", src_dir_fd=self._root, dst_dir_fd=self._root)
        _replace(self._root, ".git", before, 0o644, ".git")
        return True

    def _changeable(self, path: str) -> tuple[str, ...]:
        parts = parts_of(path)
        if self._may_write is None or not self._may_write("/".join(parts)):
            raise ConfinedError(f"{path} is not among what this task may change")
        return parts

    @contextlib.contextmanager
    def _folder(self, parts: Sequence[str], path: str, *, make: bool = False) -> Iterator[int]:
        """The descriptor of the folder at `parts`, made on the way where asked."""
        folder = os.open(".", _FOLDER, dir_fd=self._root)  # a position in the listing of its own
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        _doing(path, functools.partial(os.mkdir, part, 0o755, dir_fd=folder))
                inner = _open(part, _FOLDER, folder, path)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _below(self, parts: tuple[str, ...]) -> Iterator[str]:
        try:
            entries = self.entries("/".join(parts) or ".")
        except ConfinedError:  # gone meanwhile, or not ours to list
            return
        for entry in entries:
            if entry.kind == "file":
                yield "/".join((*parts, entry.name))
            elif entry.kind == "folder" and len(parts) < _DEEPEST:
                yield from self._below((*parts, entry.name))


def parts_of(path: str, *, root: bool = False) -> tuple[str, ...]:
    """The steps of a path relative to the folder; none of them for the folder itself, where `root` allows that."""
    if not path.isprintable():
        raise ConfinedError(f"{path!r} is not a path: it holds control characters")
    try:
        length = len(os.fsencode(path))
    except UnicodeEncodeError:
        raise ConfinedError(f"{path!r} is not a path: it can't be encoded") from None
    if length > _LONGEST_PATH:
        raise ConfinedError(f"that path is too long: {length:,} bytes")
    if path.startswith("/"):
        raise ConfinedError(f"{path} is absolute; give it relative to the repository's root")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ConfinedError(f"{path} leads upwards; give it from the repository's root, without `..`")
    if _is_hidden(parts):
        raise ConfinedError(f"{path} is not part of the work: `.git` and `.maos` are out of reach")
    if len(parts) > _DEEPEST:
        raise ConfinedError(f"that path is too deep: {len(parts)} folders")
    if not parts and not root:
        raise ConfinedError("the path is empty; name a file")
    return parts


def _is_hidden(parts: Sequence[str]) -> bool:
    return any(_is_git(part) for part in parts) or (bool(parts) and _folded(parts[0]) == _OURS)


def _is_git(part: str) -> bool:
    """Whether some file system takes `part` for `.git`: by case, by what it ignores, by a short name."""
    return any(step == ".git" or (step.startswith("git~") and step[4:].isdigit()) for step in _folded(part).split("/"))


def _folded(part: str) -> str:
    """A name as the most forgiving file systems see it: NTFS takes backslashes for slashes and ignores trailing dots,
    blanks and streams; HFS+ ignores what can't be seen; both, and APFS, ignore case.
    """
    plain = unicodedata.normalize("NFKC", part)
    seen = "".join(char for char in plain if unicodedata.category(char) not in ("Cf", "Mn", "Cc"))
    steps = unicodedata.normalize("NFKC", seen.casefold()).replace("\\", "/").split("/")
    return "/".join(step.split(":")[0].rstrip(" .") for step in steps)


def _open(name: str, flags: int, folder: int, path: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise ConfinedError(_why(error, name, folder, path)) from None


def _why(error: OSError, name: str, folder: int, path: str) -> str:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        found = None
    if found is not None and stat.S_ISLNK(found.st_mode):
        return f"{path}: {name} is a link, and links are not followed; give the path of what it points at"
    if error.errno == errno.ENOENT:
        return f"{path} does not exist"
    if error.errno == errno.ENOTDIR:
        return f"{path}: {name} is not a folder"
    if error.errno == errno.EISDIR:
        return f"{path} is a folder"
    return f"{path} can't be opened: {error.strerror}"


def _doing(path: str, step: Callable[[], None]) -> None:
    try:
        step()
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfinedError(f"{path}: {error.strerror}") from None


def _look(folder: int, name: str, path: str) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        raise ConfinedError(_why(error, name, folder, path)) from None


@contextlib.contextmanager
def _opened(folder: int, parts: Sequence[str], path: str) -> Iterator[tuple[int, os.stat_result]]:
    """A plain file, looked at before it is opened (opening a device may do something) and once more after."""
    _plain_or_refuse(_look(folder, parts[-1], path), path)
    file = _open(parts[-1], _FILE, folder, path)
    try:
        found = os.fstat(file)
        _plain_or_refuse(found, path)
        yield file, found
    finally:
        os.close(file)


def _plain_or_refuse(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        more = ", and links are not followed; give the path of what it points at" if stat.S_ISLNK(found.st_mode) else ""
        raise ConfinedError(f"{path} is {_kind(found)}{more}")
    if found.st_nlink > 1:
        raise ConfinedError(f"{path} has a second name somewhere else (a hard link), and is left alone")


def _kind(found: os.stat_result) -> str:
    return next((words for fits, words in _KINDS if fits(found.st_mode)), "no plain file")


def _entry(entry: os.DirEntry[str]) -> Entry:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:  # gone since the folder was listed
        return Entry(name=entry.name, kind="other", size=0)
    for fits, kind in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link")):
        if fits(found.st_mode):
            return Entry(name=entry.name, kind=kind, size=found.st_size)
    return Entry(name=entry.name, kind="other", size=0)


def _all(file: int) -> bytes:
    """The whole of a file, up to what may be read: it may grow while it is read."""
    pieces: list[bytes] = []
    left = MOST_BYTES + 1
    while left > 0 and (piece := os.read(file, min(left, 2**20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _replace(folder: int, name: str, data: bytes, mode: int, path: str) -> None:
    """A new file under a name of its own, then renamed: nobody sees half of it, and no link or second name is written
    through.
    """
    new = f".maos-{secrets.token_hex(8)}"
    file = _open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, folder, path)
    try:
        try:
            os.fchmod(file, mode)
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
        finally:
            os.close(file)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        raise ConfinedError(f"{path} can't be written: {error.strerror}") from None
