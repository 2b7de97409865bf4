"""Git objects, read through one lasting git and written by ourselves.

Taking a change is then a matter of a few files instead of a few processes each, which is what makes many small agent
tasks cheap. Objects are written loose, as gitrepository-layout(5) has them; names are `str` as the file system's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from maos_bot.agents.git import Git, GitError
from maos_bot.frozen import dataclass

FILE: Final = "100644"
PROGRAM: Final = "100755"
LINK: Final = "120000"
TREE: Final = "40000"
SUBMODULE: Final = "160000"
_NUMSTAT: Final = ("-r", "--numstat", "--no-renames", "--no-textconv", "--no-ext-diff")
_END: Final = "that was all"
_WHO: Final = "MAOS bot <maos-bot@localhost>"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a tree has under a name."""

    mode: str
    oid: str


Edit = tuple[Entry | None, Entry | None]  # what stood at a path and what stands there now; None is nothing
Edits = Mapping[str, Edit]


class Objects:
    """The objects of the repository `git`, whose own object folder is written to. Safe to use from several threads."""

    def __init__(self, git: Git, algorithm: str) -> None:
        self._git = git
        self._algorithm = algorithm
        self._folder = git.git_dir / "objects"
        self._trees: dict[str, Mapping[str, Entry]] = {}
        self._reader: subprocess.Popen[bytes] | None = None
        self._counter: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    # Reading

    def read(self, oid: str) -> bytes:
        """The content of an object. Raises `GitError` where it isn't there."""
        with self._lock:
            reader = self._reader = self._reader or self._git.pipe("cat-file", "--batch")
            if reader.stdin is None or reader.stdout is None:
                raise GitError("git cat-file has no pipes")
            try:
                reader.stdin.write(f"{oid}\n".encode())
                reader.stdin.flush()
                head = reader.stdout.readline().split()
                data = reader.stdout.read(int(head[2]) + 1) if len(head) == 3 else b""
            except (OSError, ValueError) as error:
                raise GitError(f"git cat-file: {error}") from error
        if not data:
            raise GitError(f"the object {oid} is missing; in a partial clone it was never fetched")
        return data[:-1]

    def tree(self, oid: str) -> Mapping[str, Entry]:
        """A tree's entries by name; nothing for the empty oid."""
        if not oid:
            return {}
        known = self._trees.get(oid)
        if known is None:
            known = self._trees[oid] = dict(_entries(self.read(oid), len(oid) // 2))
        return known

    def entry(self, tree: str, path: str) -> Entry | None:
        """What `tree` has at `path`."""
        *folders, name = path.split("/")
        for folder in folders:
            found = self.tree(tree).get(folder)
            if found is None or found.mode != TREE:
                return None
            tree = found.oid
        return self.tree(tree).get(name)

    def blocker(self, tree: str, path: str) -> str:
        """The part of `path` that is no folder in `tree`, so that nothing can stand at `path`; empty for none."""
        parts = path.split("/")
        for place, name in enumerate(parts[:-1]):
            found = self.tree(tree).get(name)
            if found is None:
                return ""
            if found.mode != TREE:
                return "/".join(parts[: place + 1])
            tree = found.oid
        return ""

    def edits(self, one: str, other: str) -> dict[str, Edit]:
        """What leads from tree `one` to `other`, by path: a file that becomes a folder is gone, and others are new."""
        found: dict[str, Edit] = {}
        self._differing(one, other, "", found)
        return found

    def _differing(self, one: str, other: str, above: str, found: dict[str, Edit]) -> None:
        before, after = self.tree(one), self.tree(other)
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name), after.get(name)
            if was == now:
                continue
            inner = [each.oid if each and each.mode == TREE else "" for each in (was, now)]
            if any(inner):
                self._differing(inner[0], inner[1], f"{above}{name}/", found)
            left = None if inner[1] else now
            if left or not inner[0]:
                found[above + name] = (was, left)

    def line_counts(self, one: str, other: str) -> tuple[int, int]:
        """Lines added and removed between two trees; what isn't text has none."""
        with self._lock:
            counter = self._counter = self._counter or self._git.pipe("diff-tree", "--stdin", *_NUMSTAT)
            # A line that names no object comes back as it is, and with it all that was printed before.
            lines = _asked(counter, f"{one} {other}\n{_END}\n", until=f"{_END}\n".encode())
        added = removed = 0
        for line in lines:
            plus, tab, rest = line.partition(b"\t")
            if tab and plus != b"-":
                added, removed = added + int(plus), removed + int(rest.split(b"\t", 1)[0])
        return added, removed

    def close(self) -> None:
        """End the gits that answer."""
        with self._lock:
            pipes = [pipe for pipe in (self._reader, self._counter) if pipe]
            self._reader = self._counter = None
        for pipe in pipes:
            with contextlib.suppress(OSError):
                pipe.communicate()

    # Writing

    def write(self, kind: str, data: bytes) -> str:
        """Store an object; its id."""
        whole = b"%s %d\0%s" % (kind.encode(), len(data), data)
        oid = hashlib.new(self._algorithm, whole, usedforsecurity=False).hexdigest()
        path = self._folder / oid[:2] / oid[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            fd, name = tempfile.mkstemp(prefix="tmp_obj_", dir=path.parent)
            with os.fdopen(fd, "wb") as file:
                file.write(zlib.compress(whole, 1))
            os.chmod(name, 0o444)  # noqa: PTH101
            os.replace(name, path)  # noqa: PTH105
        return oid

    def edited(self, tree: str, edits: Mapping[str, Entry | None]) -> str:
        """`tree` with `edits`; a folder that becomes empty goes. Raises `ValueError` where a file is in the way."""
        return self._edited(tree, edits) or self.write("tree", b"")

    def _edited(self, tree: str, edits: Mapping[str, Entry | None]) -> str:
        entries = dict(self.tree(tree))
        below: dict[str, dict[str, Entry | None]] = {}
        for path, entry in edits.items():
            name, slash, rest = path.partition("/")
            if slash:
                below.setdefault(name, {})[rest] = entry
            elif entry is None:
                entries.pop(name, None)
            else:
                entries[name] = entry
        for name, inner in below.items():
            at = entries.get(name)
            if at is not None and at.mode != TREE:
                if any(inner.values()):
                    raise ValueError(f"{name} would be a file and a folder")
                continue
            oid = self._edited(at.oid if at else "", inner)
            if oid:
                entries[name] = Entry(TREE, oid)
            else:
                entries.pop(name, None)
        if not entries:
            return ""
        oid = self.write("tree", _tree_data(entries))
        self._trees[oid] = entries
        return oid

    def commit(self, tree: str, parents: Sequence[str], message: str, at: int) -> str:
        """A commit of `tree` at an instant in seconds since the epoch."""
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {_WHO} {at} +0000", f"committer {_WHO} {at} +0000", "", message.rstrip("\n") + "\n"]
        return self.write("commit", "\n".join(lines).encode("utf-8", "replace"))


def tree_of(objects: Objects, commit: str) -> str:
    """The tree of a commit."""
    return objects.read(commit).split(b"\n", 1)[0].split()[1].decode()


def _asked(pipe: subprocess.Popen[bytes], text: str, *, until: bytes) -> list[bytes]:
    """What `pipe` says to `text`, line by line, before the line `until`."""
    if pipe.stdin is None or pipe.stdout is None:
        raise GitError("git was started without pipes")
    try:
        pipe.stdin.write(text.encode())
        pipe.stdin.flush()
        lines = []
        while (line := pipe.stdout.readline()) != until:
            if not line:
                raise GitError("git ended while it was asked")
            lines.append(line)
    except OSError as error:
        raise GitError(f"git can't be asked: {error}") from error
    return lines


def _entries(data: bytes, width: int) -> Iterator[tuple[str, Entry]]:
    place = 0
    while place < len(data):
        end = data.index(b"\0", place)
        mode, name = data[place:end].split(b" ", 1)
        place = end + 1 + width
        yield os.fsdecode(name), Entry(mode.decode(), data[end + 1 : place].hex())


def _tree_data(entries: Mapping[str, Entry]) -> bytes:
    def order(item: tuple[bytes, Entry]) -> bytes:
        name, entry = item
        return name + b"/" if entry.mode == TREE else name

    named = sorted(((os.fsencode(name), entry) for name, entry in entries.items()), key=order)
    return b"".join(b"%s %s\0%s" % (entry.mode.encode(), name, bytes.fromhex(entry.oid)) for name, entry in named)
