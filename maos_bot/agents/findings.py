"""Findings as an agent reports them, checked: what isn't a finding is told back in words, never guessed at (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from maos_bot.frozen import dataclass

SEVERITIES: Final = ("notice", "warning", "failure")
_ALIASES: Final[Mapping[str, str]] = {
    "info": "notice",
    "note": "notice",
    "low": "notice",
    "medium": "warning",
    "high": "failure",
    "error": "failure",
    "critical": "failure",
}
MOST: Final = 200
_LONGEST: Final = 4000  # characters of a message or a suggestion

SCHEMA: Final[Mapping[str, Any]] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "File, relative to the repository's root."},
            "line": {"type": "integer", "minimum": 1},
            "severity": {"enum": list(SEVERITIES)},
            "message": {"type": "string"},
            "suggestion": {"type": "string"},
        },
        "required": ["path", "severity", "message"],
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One defect or remark; `line` counts from 1, None is the whole file."""

    path: str
    severity: str
    message: str
    line: int | None = None
    suggestion: str = ""


def check(given: Sequence[Any]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The findings among `given`, without doubles, and what is wrong with the others."""
    found: dict[Finding, None] = {}
    wrong: list[str] = []
    for number, each in enumerate(given, start=1):
        finding = _finding(each)
        if isinstance(finding, str):
            wrong.append(f"finding {number}: {finding}")
        else:
            found[finding] = None
    if len(found) > MOST:
        wrong.append(f"{len(found)} findings are too many: report the {MOST} that matter most")
    return tuple(found), tuple(wrong)


def _finding(given: Any) -> Finding | str:
    if not isinstance(given, Mapping):
        return "it is not an object"
    said = str(given.get("severity", "")).lower()
    severity = _ALIASES.get(said, said)
    if wrong := _wrong(given, severity):
        return wrong
    return Finding(
        path=str(_plain(given["path"])),
        line=given.get("line"),
        severity=severity,
        message=given["message"].strip()[:_LONGEST],
        suggestion=(given.get("suggestion") or "")[:_LONGEST],
    )


def _wrong(given: Mapping[str, Any], severity: str) -> str:
    path, message, line = given.get("path"), given.get("message"), given.get("line")
    plain = _plain(path) if isinstance(path, str) else None
    if plain is None or not plain.name:
        return "`path` is missing"
    for bad, what in (
        (plain.is_absolute() or ".." in plain.parts, f"`path` {path!r} is not inside the repository"),
        (not isinstance(message, str) or not message.strip(), "`message` is missing"),
        (severity not in SEVERITIES, f"`severity` is none of {', '.join(SEVERITIES)}"),
        (line is not None and (type(line) is not int or line < 1), f"`line` {line!r} is not a whole number from 1"),
        (not isinstance(given.get("suggestion") or "", str), "`suggestion` is not a text"),
    ):
        if bad:
            return what
    return ""


def _plain(path: str) -> PurePosixPath:
    return PurePosixPath(path.strip().removeprefix("./"))
