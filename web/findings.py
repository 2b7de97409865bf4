"""Findings of agents as pages show them: the worst first, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from maos_bot.reporting.findings import SEVERITIES, Finding
from maos_bot.store.rows import RunRow
from web import words
from web.run_head import file_address

SHOWN: Final = 10  # the rest is folded
MOST: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingLine:
    """One finding; `url` leads to its line on the web, where that is known."""

    mark: words.Mark
    path: str
    line: int
    url: str
    title: str
    message: str
    suggestion: str
    task: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """The findings of a run or a task: the first ones, those folded, and how many there are in all."""

    first: tuple[FindingLine, ...]
    folded: tuple[FindingLine, ...]
    total: int
    tally: str

    @property
    def left_out(self) -> int:
        return self.total - len(self.first) - len(self.folded)


def findings_of(found: Iterable[Finding], row: RunRow) -> Findings:
    """The findings by weight, then by place."""
    every = sorted(found, key=lambda one: (SEVERITIES.index(one.severity), one.path, one.line))
    lines = tuple(
        FindingLine(
            mark=words.severity(one.severity),
            path=one.path,
            line=one.line,
            url=file_address(row, one.path, one.line),
            title=one.title,
            message=one.message,
            suggestion=one.suggestion,
            task=one.task,
        )
        for one in every[:MOST]
    )
    counts = {level: sum(one.severity == level for one in every) for level in SEVERITIES}
    tally = ", ".join(words.plural(number, level) for level, number in counts.items() if number)
    return Findings(first=lines[:SHOWN], folded=lines[SHOWN:], total=len(every), tally=tally)
