"""Terminal output made safe for a page (pure): colours become spans with classes, everything else stays text.

Only "select graphic rendition" sequences are understood; cursor moves, titles, links and other control characters
are dropped. A carriage return inside a line starts the line over, as it does on a terminal, so that a progress bar
shows its last state.
"""

from __future__ import annotations

import re
from typing import Final

from markupsafe import Markup, escape

_ESCAPE: Final = re.compile(
    r"\x1b\[(?P<sgr>[0-9;:]*)m"  # colours
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # any other control sequence
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links and other strings
    r"|\x1b[ -/]*[0-~]?"  # two-character sequences, and a lone escape
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # control characters but tab, newline, carriage return
)
# Direction overrides can make a line read as something else than it is.
_BIDI: Final = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\N{REPLACEMENT CHARACTER}")
_NAMES: Final = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def plain(text: str) -> str:
    """The text alone: no escape sequence, no control character, one state of each overwritten line."""
    return _overwrite(_ESCAPE.sub("", text.replace("\r\n", "\n"))).translate(_BIDI)


def to_markup(text: str) -> Markup:
    """The text as HTML: colours as `<span class="a-red a-bold">`, all else escaped."""
    parts: list[Markup] = []
    style: tuple[str, ...] = ()
    at = 0
    text = _overwrite(text.replace("\r\n", "\n")).translate(_BIDI)
    for match in _ESCAPE.finditer(text):
        parts.append(_span(text[at : match.start()], style))
        at = match.end()
        codes = match.group("sgr")
        if codes is not None:
            style = _restyle(style, codes)
    parts.append(_span(text[at:], style))
    return Markup("").join(parts)


def _span(text: str, style: tuple[str, ...]) -> Markup:
    if not text:
        return Markup("")
    if not style:
        return escape(text)
    return Markup('<span class="{}">{}</span>').format(" ".join(style), text)


def _restyle(style: tuple[str, ...], codes: str) -> tuple[str, ...]:
    kept = list(style)
    numbers = [int(part) if part.isdigit() and len(part) < 4 else 0 for part in re.split("[;:]", codes)]
    index = 0
    while index < len(numbers):
        code = numbers[index]
        index += 1
        if code == 0:
            kept = []
        elif code == 1:
            kept = [*(name for name in kept if name != "a-bold"), "a-bold"]
        elif code == 22:
            kept = [name for name in kept if name != "a-bold"]
        elif code in (38, 48, 58):
            # 256 colours and RGB have no place in two colour schemes with known contrast: they are read and dropped.
            index += {5: 2, 2: 4}.get(numbers[index] if index < len(numbers) else 0, 1)
            kept = [name for name in kept if name == "a-bold"] if code == 38 else kept
        elif code == 39 or 30 <= code <= 37 or 90 <= code <= 97:
            kept = [name for name in kept if name == "a-bold"]
            if code != 39:
                kept.append(f"a-{_NAMES[code % 10]}")
    return tuple(kept)


def _overwrite(text: str) -> str:
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
