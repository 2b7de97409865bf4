"""What the database tells on the command line: `maos history`, `maos show`, `maos export`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click

from maos_bot.errors import ConfigError, ExitCode
from maos_bot.reporting.plan_view import bar
from maos_bot.reporting.report import RunReport, report_of
from maos_bot.reporting.terminal import MARKS, final_lines, page, printable, seconds
from maos_bot.store.export import ExportFormat
from maos_bot.store.export import export as write_export
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunFilter


def history(db: Path, *, count: int, status: str | None, as_json: bool) -> int:
    """Print the newest `count` runs, all or those of one status."""
    with contextlib.closing(Queries(db)) as queries:
        rows = queries.runs(RunFilter(status=status) if status else RunFilter(), limit=count)
    if as_json:
        names = ("run_id", "name", "status", "mode", "branch", "sha", "event", "started_at", "wall_s", "sequential_s")
        click.echo(json.dumps([{name: getattr(row, name) for name in names} for row in rows], indent=2))
        return ExitCode.OK
    if not rows:
        click.echo("no run yet: `maos run` makes the first", err=True)
        return ExitCode.OK
    from datetime import UTC, datetime

    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("run", "name", "status", "mode", "started (UTC)", "took", "one by one", "speedup"):
        table.add_column(name, justify="right" if name in ("took", "one by one", "speedup") else "left")
    for row in rows:
        started = datetime.fromtimestamp(row.started_at, UTC).strftime("%Y-%m-%d %H:%M")
        speedup = f"{row.sequential_s / row.wall_s:.2f}" if row.sequential_s and row.wall_s else "-"
        table.add_row(
            Text(row.run_id, no_wrap=True),
            Text(printable(row.name)),
            row.status,
            row.mode,
            started,
            seconds(row.wall_s),
            seconds(row.sequential_s),
            speedup,
        )
    page().print(table)
    return ExitCode.OK


def show(db: Path, run_id: str, *, task: str | None, as_json: bool) -> int:
    """Print one run, or one task's output."""
    with contextlib.closing(Queries(db)) as queries:
        found = queries.find(run_id)
        if task is not None:
            report = report_of(queries.events(found))
            if task not in report.tasks:
                raise ConfigError(f"run {found} has no task {task!r}", hint=f"it has {', '.join(report.tasks)}")
            for piece in queries.iter_output(found, task):
                click.echo(printable(piece), nl=False)
            return ExitCode.OK
        report = report_of(queries.events(found))
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        _print_run(report)
    return ExitCode.OK


def export(db: Path, run_id: str, *, kind: str, output: Path | None) -> int:
    """Write one run in another format, to a file or standard output."""
    with contextlib.closing(Queries(db)) as queries, _opened(output) as out:
        write_export(queries, queries.find(run_id), ExportFormat(kind), out)
    return ExitCode.OK


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror}") from error
    with file:
        yield file


def _print_run(report: RunReport) -> None:
    from rich.table import Table
    from rich.text import Text

    console = page()
    console.print(Text(f"{printable(report.name)}  {report.run_id}", style="bold"))
    console.print(f"mode {report.mode}: {report.chosen_because}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for name in ("", "task", "team", "took", "waited", "for", "tries", "peak"):
        table.add_column(name, justify="right" if name in ("took", "waited", "tries", "peak") else "left")
    used = 74 + max((len(task_id) for task_id in report.tasks), default=0)
    width = max(12, min(console.width, 170) - used)
    table.add_column("timeline", no_wrap=True)
    for task in report.tasks.values():
        ran = task.started_s is not None and task.finished_s is not None
        table.add_row(
            MARKS.get(task.state, "·"),
            Text(task.id, no_wrap=True),
            task.team,
            seconds(task.duration_s) if task.ran else "-",
            seconds(task.queued_s) if task.queued_s and task.queued_s >= 0.005 else "",
            Text(printable(task.wait_reason if task.ran else task.reason)),
            str(task.attempts or ""),
            f"{task.peak_memory_mb:.0f} MB" if task.peak_memory_mb is not None else "",
            bar(task.started_s or 0.0, task.finished_s or 0.0, report.wall_s, width) if ran else "",
        )
    console.print(table)
    for line in final_lines(report):
        console.print(line, soft_wrap=True)
