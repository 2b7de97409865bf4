"""Searching a worktree: by ripgrep where it is there, else by a program of our own that gives the same answers.

Either is a process of its own, so that a pattern which takes forever is simply ended, and says only where it found
something. The lines themselves are read by `Confined`: what isn't read by that is in no answer.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from maos_bot.agents.confine import Confined, ConfinedError, parts_of
from maos_bot.frozen import dataclass

MOST_LINES: Final = 200
MOST_OF_A_FILE: Final = 50
_LONGEST_PATTERN: Final = 1000
_MOST_READ: Final = 16 * 2**20  # bytes, of all the files that an answer shows lines of
_LINE: Final = re.compile(r"(?P<path>[^\0\n]+)\0(?P<line>\d+):")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What to look for: a regular expression, or with `literal` a plain text; in `path`, in files named like `glob`."""

    pattern: str
    path: str = "."
    glob: str = ""
    literal: bool = False
    ignore_case: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A command line that searches, the exit codes that mean an answer, and whether it has to be held in the folder.

    Our own needn't be: it opens files by `Confined` alone.
    """

    argv: tuple[str, ...]
    answers: tuple[int, ...]
    held: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One line that fits."""

    path: str
    line: int
    text: str


def check(query: Query) -> str:
    """What is wrong with a query; empty where nothing is. Raises `ConfinedError` for its path."""
    parts_of(query.path, root=True)
    if not query.pattern:
        return "the pattern is empty"
    if len(query.pattern) > _LONGEST_PATTERN:
        return f"the pattern is too long: {len(query.pattern):,} of at most {_LONGEST_PATTERN:,} characters"
    if "\n" in query.pattern or "\0" in query.pattern or "\0" in query.glob or "\n" in query.glob:
        return "the pattern is for single lines: it can't hold a line break"
    if query.glob.startswith("!"):
        return "the glob names the files to search, not those to leave out"
    return ""


def programs(query: Query, *, holds: bool) -> Iterator[Program]:
    """What to try, best first. Ripgrep opens files by their paths, so it is taken only where being held `holds`.

    It reads no settings, follows no link and knows no ignore files: what it finds hangs on the query alone.
    """
    ripgrep = shutil.which("rg") if holds else None
    if ripgrep:
        argv = (
            *(ripgrep, "--no-config", "--no-follow", "--no-ignore", "--hidden", "--no-messages", "--color=never"),
            *("--sort=path", "--null", "--line-number", "--with-filename", "--no-heading", "--one-file-system"),
            *("--only-matching", "--replace=", f"--max-count={MOST_OF_A_FILE}", "--max-filesize=8M", "--no-mmap"),
            *("--encoding=none", *(f"--glob={glob}" for glob in _globs(query.glob)), "--glob=!.git", "--glob=!/.maos"),
            *(("--fixed-strings",) if query.literal else ()),
            *(("--ignore-case",) if query.ignore_case else ()),
            *("--regexp", query.pattern, "--", query.path),
        )
        yield Program(argv=argv, answers=(0, 1), held=True)
    own = (sys.executable, "-I", "-m", "maos_bot.agents.searching")
    flags = (str(int(query.literal)), str(int(query.ignore_case)))
    yield Program(argv=(*own, query.pattern, query.path, query.glob, *flags), answers=(0,), held=False)


def _globs(glob: str) -> tuple[str, ...]:
    """To ripgrep a glob is about files alone: what lies in a folder that fits is said in so many words."""
    if not glob:
        return ()
    inside = f"{glob.rstrip('/')}/**"
    return (glob, inside if "/" in glob.rstrip("/") else f"**/{inside}")


def lines_of(text: str) -> list[str]:
    """The lines of a text, without their ends; a line break at its end begins no further line."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def places(said: str) -> list[tuple[str, int]]:
    """Where a program found something: path and line, in its order, each once."""
    found = (
        (match["path"].removeprefix("./"), int(match["line"])) for match in map(_LINE.match, said.split("\n")) if match
    )
    return list(dict.fromkeys(found))


def hits(found: Sequence[tuple[str, int]], files: Confined, show: Callable[[str], str]) -> list[Hit]:
    """The lines at these places, read in confinement; places that can't be read so, or in binary files, are left out,
    and so is what would take reading too much.

    `show` makes what may be seen of a file's whole text, line by line.
    """
    by_path: dict[str, list[int]] = {}
    for path, line in found:
        by_path.setdefault(path, []).append(line)
    shown: list[Hit] = []
    size = 0
    for path, numbers in by_path.items():
        if size > _MOST_READ:
            break
        try:
            data = files.read(path)
        except ConfinedError:
            continue
        if b"\0" in data:
            continue
        size += len(data)
        lines = lines_of(show(data.decode("utf-8", "replace")))
        shown += [Hit(path=path, line=number, text=lines[number - 1]) for number in numbers if number <= len(lines)]
    return shown
