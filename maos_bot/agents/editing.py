"""Replacing text in a file exactly, on bytes, so that nothing else of it changes (pure)."""

from __future__ import annotations

from typing import Final

from maos_bot.frozen import dataclass

_MOST_NAMED: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """The file as it becomes, and the lines where the replaced text began."""

    data: bytes
    lines: tuple[int, ...]


def replaced(data: bytes, old: str, new: str, *, everywhere: bool = False) -> Change | str:
    """`data` with `new` for `old`; where it isn't there exactly once, what is wrong.

    A file whose lines end with CR LF may be given with plain line feeds.
    """
    if b"\0" in data:
        return "a binary file is not edited"
    if old == new:
        return "`old` and `new` are the same"
    wanted, put = old.encode(), new.encode()
    if wanted not in data and b"\r\n" in data and b"\r" not in wanted:
        wanted, put = wanted.replace(b"\n", b"\r\n"), put.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    lines = _lines_with(data, wanted)
    if not lines:
        return "`old` is not in the file" + _near(data, old)
    if len(lines) > 1 and not everywhere:
        named = ", ".join(map(str, lines[:_MOST_NAMED])) + (", ..." if len(lines) > _MOST_NAMED else "")
        return f"`old` is there {len(lines)} times, at lines {named}: give more of what stands around it"
    return Change(data=data.replace(wanted, put), lines=lines)


def _lines_with(data: bytes, wanted: bytes) -> tuple[int, ...]:
    lines, line, counted = [], 1, 0
    place = data.find(wanted)
    while place >= 0:
        line += data.count(b"\n", counted, place)
        counted = place
        lines.append(line)
        place = data.find(wanted, place + len(wanted))
    return tuple(lines)


def _near(data: bytes, old: str) -> str:
    """Where its first line stands with other blanks, which is the usual slip."""
    first = next((line.strip() for line in old.splitlines() if line.strip()), "")
    if not first:
        return ""
    text = data.decode("utf-8", "replace")
    found = [number for number, line in enumerate(text.split("\n"), start=1) if first in line]
    if not found:
        return ": read it again"
    return f"; its first line is like line {found[0]}: the blanks, or what follows, are others. Read it again"
