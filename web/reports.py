"""The reports of runs that are looked at again and again, kept for a while.

A run that goes on is folded further from where the last look left it, so that fifty people who watch it cost little
more than one; one that is over is kept as it is. What is kept is bounded, and an event that came late (with a smaller
number than one already there) makes the run be folded anew.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from maos_bot.model import RunStatus
from maos_bot.reporting.report import ReportBuilder, RunReport
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunRow

KEPT: Final = 8
MOST_TASKS: Final = 20_000  # in all that is kept; a larger run's report is not


@dataclass(slots=True)
class _Kept:
    tasks: int = 0
    builder: ReportBuilder = field(default_factory=ReportBuilder)
    last_seq: int = 0
    events: int = 0
    report: RunReport | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Reports:
    """A few reports, the least lately used let go first; may be used by several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, queries: Queries, row: RunRow, *, now: float | None) -> RunReport:
        """The report of a stored run: a running one has lasted until `now`, a lost one ends where it does.

        It covers the events up to `row.last_seq` at least.
        """
        at = now if row.status == RunStatus.RUNNING else None
        kept = self._entry(row)
        with kept.lock:
            if kept.report is not None and (kept.last_seq, kept.events) == (row.last_seq, row.events) and at is None:
                return kept.report
            whole = row.is_complete and kept.events == kept.last_seq
            if not whole and (kept.last_seq, kept.events) != (row.last_seq, row.events):
                kept.builder, kept.last_seq = ReportBuilder(), 0  # something came late, or is missing
            for event in queries.iter_events(row.run_id, after_seq=kept.last_seq, with_output=False, with_talk=False):
                kept.builder.add(event)
            report = kept.builder.report(now=at)
            # What came in since `row` was read is counted then, not now: it is folded again, which changes nothing.
            kept.last_seq, kept.events = row.last_seq, row.events
            kept.report = report if at is None else None
        return report

    def _entry(self, row: RunRow) -> _Kept:
        tasks = sum(row.tasks.values())
        if tasks > MOST_TASKS:
            return _Kept()
        with self._lock:
            kept = self._kept.setdefault(row.run_id, _Kept())
            kept.tasks = tasks
            self._kept.move_to_end(row.run_id)
            held = sum(one.tasks for one in self._kept.values())
            while len(self._kept) > KEPT or held > MOST_TASKS:
                held -= self._kept.popitem(last=False)[1].tasks
        return kept
