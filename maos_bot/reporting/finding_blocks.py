"""Findings as blocks of GitHub markdown: the newest and heaviest openly, the rest behind clicks (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from maos_bot.reporting import words
from maos_bot.reporting.blocks import ROWS_AT_ONCE, details
from maos_bot.reporting.escape import code, inline
from maos_bot.reporting.findings import Finding, Standing, counted
from maos_bot.reporting.view import RunReport

SHOWN: Final = 10  # openly
_MESSAGE: Final = 300  # characters of a message in a table; the annotation has all of it


def finding_blocks(report: RunReport, standing: Standing) -> Iterator[str]:
    """The line that counts them with the first few, then whole tables of the others; nothing where there are none."""
    listed = standing.open(report.findings)
    line = _counts(report, standing, listed)
    if not line:
        return
    yield f"{line}\n\n{_table(listed[:SHOWN], standing)}" if listed else line
    rest = listed[SHOWN:]
    for start in range(0, len(rest), ROWS_AT_ONCE):
        rows = rest[start : start + ROWS_AT_ONCE]
        which = f" ({start + 1:,} to {start + len(rows):,} of {len(rest):,})" if len(rest) > ROWS_AT_ONCE else ""
        yield details(f"{words.number(len(rows), 'more finding')}{which}: {counted(rows)}", _table(rows, standing))


def _counts(report: RunReport, standing: Standing, listed: Sequence[Finding]) -> str:
    states = [standing.state(finding) for finding in report.findings]
    parts = [
        *(f"{states.count(state):,} {state}" for state in ("new", "persisting") if states.count(state)),
        *([f"{fixed:,} fixed"] if not report.running and (fixed := len(standing.fixed(report.findings))) else []),
        *([f"{states.count('dismissed'):,} dismissed"] if "dismissed" in states else []),
    ]
    left_out = sum(task.findings_left_out for task in report.tasks.values())
    if left_out:
        parts.append(f"{left_out:,} beyond what is kept")
    if not parts and not listed:
        return ""
    said = ": ".join(text for text in (counted(listed), ", ".join(parts)) if text)
    return f"**Findings** · {said}"


def _table(rows: Sequence[Finding], standing: Standing) -> str:
    lines = ["| | Finding | Id to dismiss |", "|:--|:--|:--|"]
    for each in rows:
        state = standing.state(each)
        mark = f"**{state}**&nbsp;{each.severity}" if state == "new" else each.severity
        what = inline(f"{each.title}: {each.message}" if each.title else each.message, limit=_MESSAGE)
        if each.suggestion:
            what += f"<br>Suggested: {inline(each.suggestion, limit=_MESSAGE)}"
        lines.append(f"| {mark} | {code(f'{each.path}:{each.line}', limit=200)}<br>{what} | {code(each.id)} |")
    return "\n".join(lines)
