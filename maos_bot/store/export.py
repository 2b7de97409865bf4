"""A run as a file: JSON, CSV, NDJSON or a Chrome trace, piece by piece.

JSON is the object of `maos run --json`; CSV has a row for each attempt; NDJSON is the exact events, which can be
taken in again; the trace (in `maos_bot.store.trace`) opens in Perfetto.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final, TextIO

from maos_bot.reporting.report import AttemptReport, RunReport, report_of
from maos_bot.store.codec import to_line
from maos_bot.store.queries import Queries
from maos_bot.store.trace import trace_events


class ExportFormat(StrEnum):
    """What a run can be exported as."""

    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"
    TRACE = "trace"


MEDIA_TYPES: Final = {
    ExportFormat.JSON: "application/json",
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.NDJSON: "application/x-ndjson",
    ExportFormat.TRACE: "application/json",
}

_TASK_COLUMNS: Final = ("id", "title", "team", "kind", "stage", "state", "estimate_s")
_ATTEMPT_COLUMNS: Final = (
    "attempt",
    "state",
    "reason",
    "queued_s",
    "wait_reason",
    "freed_by",
    "started_s",
    "finished_s",
    "duration_s",
    "exit_code",
    "cpu_s",
    "peak_memory_mb",
    "output_bytes",
    "omitted_bytes",
)
# `state` is the attempt's, `task_state` what became of the task in the end.
CSV_COLUMNS: Final = (
    "run_id",
    *({"id": "task", "title": "name", "state": "task_state"}.get(name, name) for name in _TASK_COLUMNS),
    *_ATTEMPT_COLUMNS,
)


def export(queries: Queries, run_id: str, form: ExportFormat, out: TextIO) -> None:
    """Write the run (its id, a beginning of it, or `latest`) to `out`; `StoreError` where there is none."""
    out.writelines(pieces(queries, run_id, form))


def pieces(queries: Queries, run_id: str, form: ExportFormat) -> Iterator[str]:
    """The same as text in pieces of bounded size, for a response that is streamed."""
    full_id = queries.find(run_id)
    match form:
        case ExportFormat.NDJSON:
            return (to_line(event) + "\n" for event in queries.iter_events(full_id))
        case ExportFormat.CSV:
            return _csv(_report(queries, full_id))
        case ExportFormat.JSON:
            encoder = json.JSONEncoder(ensure_ascii=False, indent=2)
            return _joined(encoder.iterencode(_report(queries, full_id).to_json()), end="\n")
        case ExportFormat.TRACE:
            return _trace(queries, full_id)


def _report(queries: Queries, run_id: str) -> RunReport:
    return report_of(queries.iter_events(run_id, with_output=False))


def _csv(report: RunReport) -> Iterator[str]:
    """A row for each attempt; a task that nothing ran for has one with attempt 0."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for task in report.tasks.values():
        head = [report.run_id, *_cells(task, _TASK_COLUMNS)]
        for attempt in task.attempt_list:
            writer.writerow([*head, *_cells(attempt, _ATTEMPT_COLUMNS)])
        if not task.attempt_list:
            nothing = AttemptReport(attempt=0, state=task.state, reason=task.reason, finished_s=task.finished_s)
            writer.writerow([*head, *_cells(nothing, _ATTEMPT_COLUMNS)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _cells(row: object, columns: Sequence[str]) -> list[object]:
    return [_cell(getattr(row, name)) for name in columns]


def _cell(value: object) -> object:
    """Times to the microsecond; texts so that a spreadsheet doesn't take them for a formula."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def _trace(queries: Queries, run_id: str) -> Iterator[str]:
    """One trace event a line, the array closed at the end."""
    report = _report(queries, run_id)
    about = {"run_id": report.run_id, "name": report.name, "status": str(report.status), "mode": report.mode}
    yield f'{{"displayTimeUnit":"ms","otherData":{json.dumps(about)},"traceEvents":['
    separator = "\n"
    for event in trace_events(report, queries.samples(run_id)):
        yield separator + json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        separator = ",\n"
    yield "\n]}\n"


def _joined(parts: Iterable[str], *, end: str) -> Iterator[str]:
    """The encoder's crumbs as pieces worth sending."""
    gathered: list[str] = []
    for number, part in enumerate(parts, start=1):
        gathered.append(part)
        if number % 2000 == 0:
            yield "".join(gathered)
            gathered.clear()
    yield "".join(gathered) + end
