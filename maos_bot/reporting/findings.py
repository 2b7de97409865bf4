"""What tasks found in the code: read from workflow-command lines and SARIF, told apart over pushes, written as SARIF.

A finding's fingerprint doesn't hold its line: code that moves keeps its findings. What a task prints is a stranger's
word, so a path that leads out of the repository, or a line that is none, makes it no finding (pure).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from maos_bot.events import FindingReported
from maos_bot.frozen import dataclass
from maos_bot.reporting.escape import clean, one_line
from maos_bot.reporting.excerpt import first_bytes

SEVERITIES: Final = ("error", "warning", "notice")
MOST: Final = 50_000  # of one task; what is beyond is counted
LONGEST_LINE: Final = 16 * 1024
LONGEST_MESSAGE: Final = 4_000  # bytes; GitHub takes 64 KB of an annotation, a reader less
_LINE: Final = re.compile(r"::(error|warning|notice) +([^:\n]*(?::(?!:)[^:\n]*)*)::(.*)", re.DOTALL)
_ROOTS: Final = ("/github/workspace/", "./")
_SARIF_LEVELS: Final = {"error": "error", "warning": "warning", "note": "notice", "none": "notice"}
_TO_SARIF: Final = {"error": "error", "warning": "warning", "notice": "note"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One remark on lines of a file (from 1); `id` is its fingerprint, 12 hexadecimal characters."""

    path: str
    line: int
    message: str
    severity: str = "warning"  # error | warning | notice
    end_line: int = 0
    title: str = ""
    suggestion: str = ""
    task: str = ""
    id: str = ""

    def to_json(self) -> dict[str, str | int]:
        """The finding's object in `maos run --json`."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What was known before this run: the ids that stood at the commit before (None: unknown), and those dismissed."""

    before: frozenset[str] | None = None
    dismissed: frozenset[str] = frozenset()

    def state(self, finding: Finding) -> str:
        """`new`, `persisting`, `dismissed`, or nothing where that isn't known."""
        if finding.id in self.dismissed:
            return "dismissed"
        if self.before is None:
            return ""
        return "persisting" if finding.id in self.before else "new"

    def open(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that nobody dismissed: new ones first, then by weight and place."""
        left = [finding for finding in findings if finding.id not in self.dismissed]
        return sorted(
            left,
            key=lambda each: (self.state(each) == "persisting", SEVERITIES.index(each.severity), each.path, each.line),
        )

    def fixed(self, findings: Iterable[Finding]) -> frozenset[str]:
        """The ids that stood before and stand no more."""
        return (self.before or frozenset()) - {finding.id for finding in findings}


class Lines:
    """Output in pieces to findings; holds back a line until it is whole, and never more than one."""

    __slots__ = ("_rest", "_upto", "found", "left_out")

    def __init__(self) -> None:
        self._rest = ""
        self._upto = 0
        self.found: list[Finding] = []
        self.left_out = 0

    def add(self, offset: int, text: str, *, omitted: int = 0) -> None:
        """Take the piece that began at byte `offset`; after a gap, half a line is no line."""
        if offset < self._upto:
            return
        self._upto = offset + 1
        if omitted:
            self._rest = ""
        if "::" not in text and "::" not in self._rest and ":" not in text[-1:]:
            self._rest = text.rpartition("\n")[2][:LONGEST_LINE] if "\n" in text else (self._rest + text)[:LONGEST_LINE]
            return
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[:LONGEST_LINE]
        for line in lines:
            self._take(line)

    def all(self) -> list[Finding]:
        """What was found so far, a last line without an end included."""
        last = read_line(self._rest)
        return [*self.found, last] if last else list(self.found)

    def _take(self, line: str) -> None:
        finding = read_line(line)
        if finding is None:
            return
        if len(self.found) >= MOST:
            self.left_out += 1
        else:
            self.found.append(finding)


def read_line(line: str) -> Finding | None:
    """The finding in a line like `::error file=a.py,line=3,title=E501::too long`, as linters print for GitHub."""
    line = line.strip()
    if not line.startswith("::") or len(line) > LONGEST_LINE:
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    fields = dict(part.strip().partition("=")[::2] for part in match[2].split(","))
    values = {name.lower(): _unescaped(text, properties=True) for name, text in fields.items()}
    return make(
        path=values.get("file", ""),
        line=_whole(values.get("line")) or 1,
        end_line=_whole(values.get("endline")),
        severity=match[1],
        title=values.get("title", ""),
        message=_unescaped(match[3]),
    )


def from_sarif(document: object) -> Iterator[Finding]:
    """The results of a SARIF 2.1.0 log that stand at a place in a file; whatever else it holds is passed over."""
    for run in _list(_map(document).get("runs")):
        for result in _list(_map(run).get("results")):
            row = _map(result)
            where = _map(_map(next(iter(_list(row.get("locations"))), None)).get("physicalLocation"))
            region = _map(where.get("region"))
            fix = _map(_map(next(iter(_list(row.get("fixes"))), None)).get("description"))
            found = make(
                path=_path_of(_text(_map(where.get("artifactLocation")).get("uri"))),
                line=_number(region.get("startLine")) or 1,
                end_line=_number(region.get("endLine")),
                severity=_SARIF_LEVELS.get(_text(row.get("level")), "warning"),
                title=_text(row.get("ruleId")),
                message=_text(_map(row.get("message")).get("text")),
                suggestion=_text(fix.get("text")),
            )
            if found:
                yield found


def from_event(event: FindingReported) -> Finding | None:
    """The finding that an agent reported; None where it has no place in the repository. Of a file: on its line 1."""
    return make(
        path=event.path,
        line=event.line or 1,
        severity="error" if event.severity == "failure" else event.severity,
        message=event.message,
        suggestion=event.suggestion,
    )


def to_sarif(findings: Iterable[Finding], *, version: str) -> str:
    """All findings as a SARIF 2.1.0 log, for code scanning or an artifact."""
    results = []
    rules: dict[str, None] = {}
    for each in findings:
        rules[each.title or each.task or "maos"] = None
        text = f"{each.message}\n\n{each.suggestion}" if each.suggestion else each.message
        region = {"startLine": each.line} | ({"endLine": each.end_line} if each.end_line else {})
        place = {"physicalLocation": {"artifactLocation": {"uri": each.path}, "region": region}}
        results.append(
            {
                "ruleId": each.title or each.task or "maos",
                "level": _TO_SARIF[each.severity],
                "message": {"text": text},
                "locations": [place],
                "partialFingerprints": {"maos/v1": each.id},
            }
        )
    driver = {"name": "MAOS bot", "version": version, "rules": [{"id": rule} for rule in rules]}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(log, ensure_ascii=False, indent=1)


def make(
    *, path: str, line: int, message: str, severity: str, end_line: int = 0, title: str = "", suggestion: str = ""
) -> Finding | None:
    """A finding, cleaned and bounded; None where it has no place in the repository or says nothing."""
    for root in _ROOTS:
        path = path.removeprefix(root)
    message = first_bytes(clean(message).strip(), LONGEST_MESSAGE)
    title = one_line(title, limit=120)
    parts = path.split("/")
    if not message or not path or len(path) > 1_000 or clean(path) != path or "\n" in path or "\\" in path:
        return None
    if path.startswith(("/", "-", ":")) or "" in parts or ".." in parts or ".git" in parts:
        return None
    if not 1 <= line <= 10_000_000:
        return None
    return Finding(
        path=path,
        line=line,
        end_line=end_line if line < end_line <= line + 10_000 else 0,
        message=message,
        severity=severity,
        title=title,
        suggestion=first_bytes(clean(suggestion).strip(), LONGEST_MESSAGE),
    )


def named(findings: Iterable[Finding], task: str = "") -> tuple[Finding, ...]:
    """The findings with their ids, each once: of the same thing said twice in a file, each has an id of its own."""
    seen: dict[str, int] = {}
    lines: set[tuple[str, int, str, str]] = set()
    done = []
    for each in findings:
        task_id = each.task or task
        same = (each.path, each.line, each.title, each.message)
        if same in lines:
            continue
        lines.add(same)
        words = "\0".join((task_id, each.path, each.title, " ".join(each.message.split())))
        count = seen[words] = seen.get(words, 0) + 1
        digest = sha256(f"{words}\0{count}".encode("utf-8", "replace")).hexdigest()[:12]
        done.append(replace(each, task=task_id, id=digest))
    return tuple(done)


def counted(findings: Sequence[Finding]) -> str:
    """`2 errors, 1 warning`."""
    counts = [(name, sum(each.severity == name for each in findings)) for name in SEVERITIES]
    return ", ".join(f"{count:,} {name}{'' if count == 1 else 's'}" for name, count in counts if count)


def _path_of(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    return unquote(parts.path) if parts.scheme in ("", "file") and not parts.netloc else ""


def _unescaped(text: str, *, properties: bool = False) -> str:
    if properties:
        text = text.replace("%3A", ":").replace("%2C", ",")
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0


def _number(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
