"""Which files of a work tree fit patterns, and what they are: the inputs and outputs of cached tasks.

Patterns are those of .gitignore, from the repository's root. `inputs` go by these rules as they are, so a name without
a slash counts in every folder; `outputs` are taken from the root (`anchored`), because what fits one too many there
would be overwritten. `.git` and `.maos` never belong to either.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass

_OURS: Final = frozenset({".git", ".maos"})  # at the root
# With a slash, so from the root; no magic, no blank, nothing that a first or last character could mean.
_PLAIN: Final = re.compile(r"(?=.*/)/?(?P<path>[\w.@+,=~-]+(?:/[\w.@+,=~-]+)*)(?P<below>/\*\*)?")
_MAGIC: Final = frozenset("*?[\\")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in the tree: `path` from the root with `/`; `kind` is file, link, dir or other.

    `found` is what `lstat` said; `target` what a link points at.
    """

    path: str
    kind: str
    found: os.stat_result
    target: str = ""

    @property
    def mode(self) -> int:
        """The permission bits."""
        return stat.S_IMODE(self.found.st_mode) & 0o777


Listing = list[Item]
Memo = dict[object, object]


def anchored(patterns: Sequence[str]) -> tuple[str, ...]:
    """`patterns` so that a name without a slash means the one at the root."""
    found = []
    for pattern in patterns:
        no, rest = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
        found.append(f"{no}{rest}" if rest.startswith(("/", "**/")) else f"{no}/{rest}")
    return tuple(found)


class FileTree:
    """The files below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._fits: dict[tuple[str, ...], Callable[[str], bool]] = {}

    def matching(self, patterns: Sequence[str], *, follow: bool, memo: Memo) -> list[Item]:
        """What fits `patterns`, by path: files and links, with `follow` also what lies behind a link to a folder,
        without it also folders. Raises `OSError` where a folder can't be read.

        `memo` keeps listings of folders; pass an empty one to look afresh.
        """
        key = (tuple(patterns), follow)
        known = memo.get(key)
        if known is not None:
            return known  # type: ignore[return-value]
        fits = self.fits(patterns)
        skipped = _skipped(patterns)
        found: dict[str, Item] = {}
        for start in _starts(patterns):
            for item in self._walk(start, follow=follow, skipped=skipped, memo=memo):
                name = f"{item.path}/" if item.kind == "dir" else item.path
                if follow and item.kind == "dir":
                    continue
                if item.path not in found and fits(name):
                    found[item.path] = item
        result = [found[path] for path in sorted(found)]
        memo[key] = result
        return result

    def fits(self, patterns: Sequence[str]) -> Callable[[str], bool]:
        """Whether a path (a folder's with a slash at its end) fits `patterns`."""
        key = tuple(patterns)
        if key not in self._fits:
            self._fits[key] = _compiled(key)
        return self._fits[key]

    def item(self, path: str) -> Item | None:
        """What is at `path`, None for nothing."""
        try:
            return _item(path, os.lstat(f"{self.root}/{path}"), f"{self.root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _walk(self, start: str, *, follow: bool, skipped: frozenset[str], memo: Memo) -> Iterator[Item]:
        if start:
            item = self.item(start)
            if item is None or start.split("/", 1)[0] in _OURS:
                return
            yield item
            if not self._leads_on(item, follow=follow):
                return
        # A link back to the root leads to what is looked at anyway, and to what is ours.
        waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(start, (_identity(self.root),) if start else ())]
        while waiting:
            folder, above = waiting.pop()
            if follow:
                here = _identity(f"{self.root}/{folder}")
                if here in above:
                    continue  # a link to a folder we came through
                above = (*above, here)
            for item in self._list(folder, memo):
                if item.path not in skipped:
                    yield item
                    if self._leads_on(item, follow=follow):
                        waiting.append((item.path, above))

    def _leads_on(self, item: Item, *, follow: bool) -> bool:
        """Whether there is something below it to look at."""
        return item.kind == "dir" or (follow and item.kind == "link" and os.path.isdir(f"{self.root}/{item.path}"))  # noqa: PTH112

    def _list(self, folder: str, memo: Memo) -> Listing:
        known = memo.get(folder)
        if known is not None:
            return known  # type: ignore[return-value]
        before = f"{folder}/" if folder else ""
        with os.scandir(f"{self.root}/{folder}") as entries:
            listing = [
                item
                for entry in entries
                if (folder or entry.name not in _OURS) and (item := _entry(before + entry.name, entry))
            ]
        memo[folder] = listing
        return listing


def _compiled(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Patterns to a test. One that names files or a whole folder in so many words needs no regular expression, which
    would take a quarter of a millisecond to make for each.
    """
    if len(patterns) == 1 and (match := _PLAIN.fullmatch(patterns[0])):
        whole, inside = match["path"], match["path"] + "/"
        if match["below"]:
            return lambda path: path.startswith(inside)
        return lambda path: path == whole or path.startswith(inside)
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(patterns).match_file


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116
    return found.st_dev, found.st_ino


def _entry(path: str, entry: os.DirEntry[str]) -> Item | None:
    try:
        return _item(path, entry.stat(follow_symlinks=False), entry.path)
    except FileNotFoundError:  # gone since the folder was listed
        return None


def _item(path: str, found: os.stat_result, where: str) -> Item:
    mode = found.st_mode
    if stat.S_ISREG(mode):
        return Item(path, "file", found)
    if stat.S_ISDIR(mode):
        return Item(path, "dir", found)
    if stat.S_ISLNK(mode):
        return Item(path, "link", found, os.readlink(where))  # noqa: PTH115
    return Item(path, "other", found)


def _starts(patterns: Sequence[str]) -> list[str]:
    """The folders (or files) below which alone something can fit, none inside another."""
    starts = {_prefix(pattern) for pattern in patterns if pattern.strip() and not pattern.startswith(("!", "#"))}
    return [start for start in starts if not any(_above(other, start) for other in starts)]


def _above(other: str, start: str) -> bool:
    return other != start and (not other or start.startswith(other + "/"))


def _prefix(pattern: str) -> str:
    """The folders a pattern names in so many words; none for one that counts in every folder."""
    text = pattern.strip()
    if "/" not in text.rstrip("/"):
        return ""
    parts = []
    for part in text.strip("/").split("/"):
        if not part or part in {".", ".."} or _MAGIC & set(part):
            break
        parts.append(part)
    return "/".join(parts)


def _skipped(patterns: Sequence[str]) -> frozenset[str]:
    """Folders that a last `!folder/` takes out whole, so that nobody need look into them."""
    found = set()
    for pattern in reversed(patterns):
        if not pattern.startswith("!"):
            break
        text = pattern[1:].removesuffix("/**")
        if text.startswith("/") and not _MAGIC & set(text):
            found.add(text.strip("/"))
    return frozenset(found)
