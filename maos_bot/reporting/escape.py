"""Text from users and their programs made harmless for GitHub's markdown and its runners' logs (pure).

Task names, reasons, branches and output are not ours: shown, they must not mention people, link, embed pictures, open
tags, break a table or a fence, command a bot, or pass for one of our hidden markers. GitHub looks for mentions,
references and URLs after rendering, when entities are characters again; so those get a zero-width space inside, all
else an entity.
"""

from __future__ import annotations

import re
import string
from typing import Final
from unicodedata import normalize
from urllib.parse import quote, urlsplit

_GAP: Final = "&#8203;"  # a zero-width space
_ANSI: Final = re.compile(
    r"\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?"  # OSC: titles, hyperlinks
    r"|\x1b[PX^_][^\x1b]{0,4096}(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|\x1b[ -/]*[0-~]?"
)
_COLOUR: Final = re.compile(r"\x1b\[[0-9;:]*m\Z")
# C0 without tab and newline, C1; soft hyphen; zero-width, bidi and invisible marks; BOM; interlinear; tags; surrogates.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_INVISIBLE_BUT_ESCAPE: Final = re.compile(_INVISIBLE.pattern.replace("\x0b-\x1f", "\x0b-\x1a\x1c-\x1f"))
_SPACES: Final = re.compile(r"\s+")
_SPECIAL: Final = re.compile(
    r"(?P<mention>@)"
    r"|(?P<slash>\A/(?=\w))"
    r"|(?P<reference>\#(?=\d)|\bGH-(?=\d))"
    r"|(?P<url>:(?=//)|\bwww\.)"
    r"|(?P<entity>[&<>|\\`*~\[\]$\"]|(?<![^\W_])_|_(?![^\W_]))",
    re.IGNORECASE,
)
_LONGEST_FENCE: Final = 32
_SLASH: Final = re.compile(r"^([^\S\n]*/)(?=[A-Za-z][\w-]*(?:\s|\Z))", re.MULTILINE)  # a bot's command, not a path
# What a runner takes for a command: `##[` anywhere, `::` where a line begins, blanks apart (runner `ActionCommand.cs`).
_COMMAND: Final = re.compile(r"##(?=\[)|(?:^|(?<=[\r\n]))[^\S\r\n]*:(?=:)")


def clean(text: str, *, keep_colour: bool = False) -> str:
    """`text` without terminal sequences, control and invisible characters; lines end in `\\n`.

    A line that was drawn over with carriage returns shows what stood last. `keep_colour` leaves SGR sequences in.
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n").replace("\x85", "\n")
    if "\r" in text:
        text = "\n".join(_last_drawn(line) for line in text.split("\n"))
    if not keep_colour:
        return _INVISIBLE.sub("", _ANSI.sub("", text))
    return _INVISIBLE_BUT_ESCAPE.sub("", _ANSI.sub(lambda found: _colour_only(found.group()), text))


def one_line(text: str, *, limit: int = 200) -> str:
    """`text` cleaned, on one line, at most `limit` characters long (an ellipsis shows a cut)."""
    flat = _SPACES.sub(" ", clean(text)).strip()
    if not flat.isascii():
        flat = normalize("NFC", flat)
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def unissuable(text: str) -> str:
    """`text` with a zero-width space wherever a runner that reads it in a log would see a workflow command."""
    return _COMMAND.sub(lambda found: f"{found.group()}\u200b", text)


def inline(text: str, *, limit: int = 200) -> str:
    """`text` as plain words inside a line, a table cell or a `<summary>`: nothing in it is markup."""
    return _SPECIAL.sub(_disarm, one_line(text, limit=limit))


def code(text: str, *, limit: int = 200) -> str:
    """`text` as a code span, also inside a table cell.

    Where it holds what a code span in a table can't carry in every renderer, it comes as escaped `<code>`.
    """
    flat = one_line(text, limit=limit)
    if not flat:
        return ""
    if "`" in flat or "|" in flat or "\\" in flat or "<!--" in flat:
        return f"<code>{inline(text, limit=limit)}</code>"
    return f"`{flat}`"


def fenced(text: str, *, language: str = "text") -> str:
    """`text` as a code block whose fence is longer than any like run in it, and never longer than 32 characters."""
    safe = clean(text).replace("<!--", "<!\u200b--").strip("\n")
    safe = _SLASH.sub(lambda found: f"{found[1]}\u200b", safe)
    mark = min("`~", key=lambda each: _longest_run(each, safe))
    if _longest_run(mark, safe) >= _LONGEST_FENCE:
        safe = re.sub(f"{mark}{{{_LONGEST_FENCE - 1}}}", lambda found: found.group() + "\u200b", safe)
    fence = mark * max(3, _longest_run(mark, safe) + 1)
    return f"{fence}{language}\n{safe}\n{fence}"


def link(words: str, url: str) -> str:
    """A link where `url` is http(s), else only the words. `words` are ours and already markdown."""
    target = web_address(url)
    return f"[{words}]({target})" if target else words


def web_address(url: str) -> str:
    """`url` safe inside a markdown link; empty where it isn't an http(s) address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return ""
    return quote(url, safe=string.ascii_letters + string.digits + "-._~:/?#@!$&'*+,;=%")


def _longest_run(mark: str, text: str) -> int:
    return max(map(len, re.findall(f"{mark}+", text)), default=0)


def _last_drawn(line: str) -> str:
    parts = [part for part in line.split("\r") if part]
    return parts[-1] if parts else ""


def _colour_only(sequence: str) -> str:
    return sequence if _COLOUR.match(sequence) else ""


def _disarm(found: re.Match[str]) -> str:
    text = found.group()
    if found.lastgroup == "entity":
        return f"&#{ord(text)};"
    return text + _GAP
