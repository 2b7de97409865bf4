"""What a run of the same commit by the same spec has finished: what `/maos retry` needn't do again.

A checkout is new each time, and what a finished task left in the old one is gone. So a task is left out only if nothing
that runs now needs it; one that is needed runs again, or comes with its outputs from the cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from maos_bot.errors import StoreError
from maos_bot.frozen import dataclass
from maos_bot.model import GOOD_STATES, RunStatus, Task, TaskKind, TaskState, Trigger
from maos_bot.reporting.findings import Finding
from maos_bot.reporting.report import RunReport, report_of
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunFilter

_LOOKED_AT: Final = 20  # runs of one commit
_REUSABLE: Final = GOOD_STATES - {TaskState.SKIPPED}  # a skip is decided anew: it costs nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """Tasks that are left out, each with the reason in words, and what they had found."""

    reasons: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def finished_before(
    db: Path, tasks: Sequence[Task], *, digest: str, trigger: Trigger, again: Collection[str]
) -> Finished:
    """What the last run on `trigger`'s commit by the spec of `digest` leaves to be reused; `again` names what isn't.

    Nothing where there is no database of such a run. Raises `StoreError` for one that can't be read.
    """
    if not db.is_file() or not trigger.sha:
        return Finished()
    with contextlib.closing(Queries(db)) as queries:
        report = _last_run(queries, digest=digest, trigger=trigger)
    if report is None:
        return Finished()
    good = {task.id for task in report.tasks.values() if task.state in _REUSABLE}
    left_out = _not_needed(tasks, good.difference(again, *(_variants(tasks, name) for name in again)))
    reason = f"succeeded in run {report.run_id}, on this commit"
    return Finished(
        reasons=dict.fromkeys(sorted(left_out), reason),
        findings=tuple(each for task in sorted(left_out) for each in report.tasks[task].findings),
    )


def _last_run(queries: Queries, *, digest: str, trigger: Trigger) -> RunReport | None:
    same = RunFilter(repository=trigger.repository, sha=trigger.sha)
    for row in queries.runs(same, limit=_LOOKED_AT):
        if row.spec_digest == digest and row.status != RunStatus.RUNNING:
            try:
                return report_of(queries.events(row.run_id, with_output=True))
            except ValueError as error:
                raise StoreError(f"run {row.run_id} can't be read: {error}") from error
    return None


def _variants(tasks: Sequence[Task], name: str) -> set[str]:
    """A matrix task's variants go by their base id too."""
    return {task.id for task in tasks if task.matrix and task.id.startswith(f"{name}.")}


def _not_needed(tasks: Sequence[Task], good: set[str]) -> set[str]:
    """Those of `good` that no task needs which isn't left out itself; agents that write are needed for their change."""
    left_out = {task.id for task in tasks if task.id in good and not (task.kind is TaskKind.AGENT and task.writes)}
    while True:
        needed = {need for task in tasks if task.id not in left_out for need in task.needs} & left_out
        if not needed:
            return left_out
        left_out -= needed
