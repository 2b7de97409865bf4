"""What an unquoted word means where a number or a switch is wanted, by YAML 1.2's core schema (pure).

Words that YAML 1.1 readers took for something else (`010`, `yes`, `1:30`, `1_000`) are refused with what to write
instead, so that a spec never means two things.
"""

from __future__ import annotations

import math
import re

from maos_bot.spec.nodes import Plain, shorten

_INTEGER = re.compile(r"[-+]?(?:[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASE_60 = re.compile(r"[0-9]+(?::[0-5]?[0-9])+")
_WITH_UNIT = re.compile(r"([0-9.]+)\s*[A-Za-z%$]+")
_SWITCHES = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OLD_SWITCHES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_LONGEST = 40


class Fault(ValueError):  # noqa: N818 - carries words for the user, is always caught inside this package
    """A value that can't be used: what is wrong, and what would be right."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def read_number(text: str, *, whole: bool = False) -> int | float:
    """The finite number that an unquoted word stands for; `4.0` is a whole number too. Raises Fault."""
    wanted = "a whole number" if whole else "a number"
    if type(text) is not Plain:
        raise Fault(f'wants {wanted}, not the text "{shorten(text)}"', "remove the quotes" if _is_number(text) else "")
    if len(text) <= _LONGEST:
        _refuse_octal(text)
        if _INTEGER.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if math.isfinite(number) and not (whole and not number.is_integer()):
                return int(number) if whole else number
    raise Fault(f"wants {wanted}, not `{shorten(text)}`", _number_hint(text))


def read_switch(text: str) -> bool:
    """`true` or `false`. Raises Fault."""
    if type(text) is Plain and text in _SWITCHES:
        return _SWITCHES[text]
    word = text.lower()
    meant = _OLD_SWITCHES.get(word, word if word in _SWITCHES else "")
    raise Fault(f"wants true or false, not `{shorten(text)}`", f"write {meant}, without quotes" if meant else "")


def check_pattern(pattern: str) -> None:
    """Refuse (Fault) what can't be a path pattern relative to the repository's root; `!` in front excludes."""
    bare = pattern.removeprefix("!")
    shown = shorten(pattern)
    if not bare.strip():
        raise Fault("a path pattern can't be empty", "`**` is everything")
    if "\n" in bare:
        raise Fault(f"the path pattern `{shown}` holds a line break", "give each pattern its own list entry")
    if bare.startswith(("/", "~")) or re.match(r"[A-Za-z]:[\\/]", bare):
        raise Fault(f"the path pattern `{shown}` is absolute", "patterns are relative to the repository's root")
    if "\\" in bare:
        raise Fault(f"the path pattern `{shown}` holds a backslash", "separate directories with `/`")
    if ".." in bare.split("/"):
        raise Fault(f"the path pattern `{shown}` leaves the repository", "remove the `..`")
    if _has_open_bracket(bare):
        raise Fault(f"the path pattern `{shown}` has a `[` that is never closed", "close it, or write `[[]` for a `[`")


def _is_number(text: str) -> bool:
    return len(text) <= _LONGEST and _FLOAT.fullmatch(text) is not None


def _refuse_octal(text: str) -> None:
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits.startswith("0") and digits.isascii() and digits.isdigit():
        octal = f" or {int(digits, 8)}" if set(digits) <= set("01234567") else ""
        raise Fault(f"`{text}` is octal to some YAML readers and decimal to others", f"write {int(digits)}{octal}")


def _number_hint(text: str) -> str:
    if len(text) > _LONGEST:
        return ""
    if _BASE_60.fullmatch(text):
        total = 0
        for part in text.split(":"):
            total = total * 60 + int(part)
        return f"YAML 1.2 has no numbers to base 60: write {total}"
    bare = text.replace("_", "").replace(",", "")
    if bare != text and _FLOAT.fullmatch(bare):
        return f"write {bare}"
    if match := _WITH_UNIT.fullmatch(text):
        return f"write the number alone, such as {match[1]}: the key's name says the unit"
    return ""


def _has_open_bracket(pattern: str) -> bool:
    at = pattern.find("[")
    while at >= 0:
        start = at + 2 if pattern[at + 1 : at + 2] in {"!", "^"} else at + 1
        end = pattern.find("]", start + 1)  # a `]` that comes first is a member of the set
        if end < 0:
            return True
        at = pattern.find("[", end + 1)
    return False
