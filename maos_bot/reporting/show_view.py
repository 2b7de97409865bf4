"""`maos show` and `maos history` for people: a run's tasks on a timeline, and the list of past runs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from maos_bot.model import TaskState
from maos_bot.reporting import words
from maos_bot.reporting.escape import one_line
from maos_bot.reporting.lines import COLOURS, MARKS, final_lines
from maos_bot.reporting.page import page, plain_table, say
from maos_bot.reporting.timeline import BarCell, Span
from maos_bot.reporting.view import RunReport, TaskReport

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MOST_WAITS: Final = 5  # the longest of them are listed
_STATUS_COLOURS: Final = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "over_budget": "yellow",
    "running": "blue",
    "lost": "yellow",
    "died": "red",
}


class HistoryRow(Protocol):
    """What the list of runs shows of one."""

    @property
    def run_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def branch(self) -> str: ...
    @property
    def started_at(self) -> float: ...
    @property
    def wall_s(self) -> float | None: ...
    @property
    def sequential_s(self) -> float | None: ...


class FitRow(Protocol):
    """How estimates fitted one task; with `task` empty, all of them."""

    @property
    def task(self) -> str: ...
    @property
    def samples(self) -> int: ...
    @property
    def p50_s(self) -> float: ...
    @property
    def p90_s(self) -> float: ...
    @property
    def error_percent(self) -> float | None: ...
    @property
    def covered_percent(self) -> float | None: ...


def print_fits(rows: Iterable[FitRow], *, console: Console | None = None) -> None:
    """Print how well estimates fitted, all tasks together first."""
    from rich.text import Text

    console = console or page()
    table = plain_table(console)
    table.expand = False
    table.add_column("task", overflow="fold")
    for name in ("attempts", "p50", "p90", "off by", "within p90"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            Text(row.task, style="") if row.task else Text("all tasks", style="bold"),
            f"{row.samples:,}",
            words.duration(row.p50_s),
            words.duration(row.p90_s),
            words.UNKNOWN if row.error_percent is None else f"{row.error_percent:.0f} %",
            words.UNKNOWN if row.covered_percent is None else f"{row.covered_percent:.0f} %",
        )
    console.print(table)
    note = (
        "off by: median of |estimated - measured| over measured; within p90: durations within the 90th percentile of"
        " the attempts before them"
    )
    say(console, Text(note, style="dim"))


def print_run(report: RunReport, *, console: Console | None = None) -> None:
    """Print one run: header, tasks with their timeline, the longest waits, the last words."""
    from rich.text import Text

    console = console or page()
    console.print(Text.assemble((one_line(report.name or report.spec_path), "bold"), f"  {report.run_id}"))
    say(console, Text(_header(report), style="dim"))
    console.print()
    tasks = sorted(report.tasks.values(), key=_by_start)
    table = plain_table(console)
    table.add_column("")
    table.add_column("task", overflow="fold")
    teams = any(task.team for task in tasks)
    peaks = any(task.peak_memory_mb is not None for task in tasks)
    if teams:
        table.add_column("team", overflow="fold")
    for name in ("took", "waited", *(["peak"] if peaks else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(BarCell(spans=(), total_s=report.wall_s), ratio=1)
    for task in tasks:
        took = words.elapsed(report, task) if task.ran else None
        tries = f" x{task.attempts}" if task.attempts > 1 else ""
        noticed = task.queued_s is not None and task.queued_s >= words.NOTICEABLE_S
        table.add_row(
            Text(MARKS[task.state], style=COLOURS[task.state]),
            Text(task.id, style="bold" if task.failed else ""),
            *([Text(one_line(task.team))] if teams else []),
            Text("" if took is None else f"{words.duration(took)}{tries}"),
            words.duration(task.queued_s) if noticed else "",
            *([words.memory(task.peak_memory_mb) if task.peak_memory_mb is not None else ""] if peaks else []),
            _place(report, task),
        )
    console.print(table)
    _print_waits(report, console)
    console.print()
    for line in final_lines(report):
        say(console, Text(line))


def print_history(rows: Iterable[HistoryRow], *, console: Console | None = None) -> None:
    """Print the list of runs, as the rows come (newest first)."""
    from rich.text import Text

    console = console or page()
    table = plain_table(console)
    table.expand = False
    for name in ("", "run", "name", "status", "started (UTC)"):
        table.add_column(name, no_wrap=name != "name", overflow="fold")
    for name in ("took", "one by one", "speedup"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        speedup = row.sequential_s / row.wall_s if row.sequential_s and row.wall_s else None
        style = _STATUS_COLOURS.get(row.status, "")
        table.add_row(
            Text(_status_mark(row.status), style=style),
            row.run_id,
            Text(one_line(row.name, limit=60)),
            Text(row.status.replace("_", " "), style=style),
            datetime.fromtimestamp(row.started_at, UTC).strftime("%Y-%m-%d %H:%M"),
            words.duration(row.wall_s),
            words.duration(row.sequential_s),
            words.times(speedup),
        )
    console.print(table)


def _header(report: RunReport) -> str:
    parts = []
    if report.started_at is not None:
        parts.append(datetime.fromtimestamp(report.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))
    trigger = report.trigger
    parts.extend(one_line(part, limit=80) for part in (trigger.event, trigger.ref, trigger.sha[:7]) if part)
    if report.mode:
        parts.append(f"{report.mode}: {one_line(report.chosen_because, limit=400)}")
    return "  ".join(parts)


def _by_start(task: TaskReport) -> tuple[float, float]:
    """What ran by its start; what did not at the end."""
    start = task.started_s if task.started_s is not None else float("inf")
    return start, task.finished_s if task.finished_s is not None else float("inf")


def _place(report: RunReport, task: TaskReport) -> BarCell | Text:
    from rich.text import Text

    spans: list[Span] = []
    ready = task.ready_s
    for attempt in task.attempt_list:
        if attempt.started_s is not None:
            finish = report.wall_s if attempt.finished_s is None else attempt.finished_s
            spans.append(Span(start_s=attempt.started_s, finish_s=finish, waits_from=ready))
            ready = finish
    if spans:
        return BarCell(spans=tuple(spans), total_s=report.wall_s, style=COLOURS[task.state])
    state = words.STATE_WORDS[task.state]
    return Text(f"{state}: {one_line(task.reason)}" if task.reason else state, style="dim", overflow="fold")


def _print_waits(report: RunReport, console: Console) -> None:
    from rich.text import Text

    waits = [task for task in report.tasks.values() if words.waited(task) and task.wait_reason]
    if not waits:
        return
    waits.sort(key=lambda task: -(task.queued_s or 0.0))
    console.print()
    for place, task in enumerate(waits[:MOST_WAITS]):
        said = f"{task.id} {words.duration(task.queued_s)}  {one_line(task.wait_reason)}"
        label = "" if place else "longest waits"
        say(console, Text.assemble((f"{label:<15}", "dim"), said))
    total = sum(task.queued_s or 0.0 for task in waits)
    if len(waits) > MOST_WAITS:
        console.print(Text(f"{' ' * 15}{len(waits):,} tasks waited, {words.duration(total)} together", style="dim"))


def _status_mark(status: str) -> str:
    try:
        return MARKS[TaskState(status)]
    except ValueError:
        return "?" if status == "lost" else "✗" if status == "died" else "■"
