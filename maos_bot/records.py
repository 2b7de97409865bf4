"""What the database tells on the command line: `maos history`, `maos show`, `maos export`."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TextIO

import click

from maos_bot.errors import ConfigError, ExitCode
from maos_bot.events import TranscriptAdded
from maos_bot.model import RunStatus
from maos_bot.reporting.escape import clean
from maos_bot.reporting.report import report_of
from maos_bot.reporting.show_view import print_fits, print_history, print_run
from maos_bot.reporting.transcript import conversation
from maos_bot.store.baselines import fits
from maos_bot.store.db import connect, explain
from maos_bot.store.export import ExportFormat
from maos_bot.store.export import export as write_export
from maos_bot.store.prune import prune as forget_runs
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunFilter
from maos_bot.store.run_lock import has_died


def history(db: Path, *, count: int, status: str | None, as_json: bool) -> int:
    """Print the newest `count` runs, all or those of one status."""
    with contextlib.closing(Queries(db)) as queries:
        rows = queries.runs(RunFilter(status=status) if status else RunFilter(), limit=count)
    died = {row.run_id: None for row in rows if row.status == RunStatus.RUNNING and has_died(db, row.run_id)}
    if as_json:
        names = ("run_id", "name", "status", "mode", "branch", "sha", "event", "started_at", "wall_s", "sequential_s")
        known = [{name: getattr(row, name) for name in names} | {"died": row.run_id in died} for row in rows]
        click.echo(json.dumps(known, indent=2))
        return ExitCode.OK
    if not rows:
        click.echo("no run yet: `maos run` makes the first", err=True)
        return ExitCode.OK
    shown = [replace(row, status=DIED) if row.run_id in died else row for row in rows]
    print_history(shown)
    if died:
        click.echo(f"died before the end: `maos run --resume {next(iter(died))}` goes on with it", err=True)
    return ExitCode.OK


def estimates(db: Path, *, count: int, as_json: bool) -> int:
    """Print how well estimates fitted the attempts of the newest `count` runs."""
    with contextlib.closing(Queries(db)) as queries:
        rows = fits(queries.estimated(runs=count))
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        click.echo("no task has succeeded yet: `maos run` gives the first figures", err=True)
    else:
        print_fits(rows)
    return ExitCode.OK


DIED = "died"
_MESSAGE = ("attempt", "turn", "role", "text", "model")
DEMO_LABEL = "Simulated: "
_AGE = re.compile(r"(\d{1,5})([hdw])")
_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def prune(db: Path, *, keep: str, as_json: bool) -> int:
    """Forget the runs that started longer ago than `keep`, such as `90d`; raises `ConfigError` where that is no age."""
    age = _AGE.fullmatch(keep.strip().lower())
    if age is None or int(age[1]) == 0:
        raise ConfigError(f"--keep {keep!r} is no age", hint="write hours, days or weeks: 36h, 90d, 12w")
    done = forget_runs(db, before=time.time() - int(age[1]) * _SECONDS[age[2]])
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        freed = (done.bytes_before - done.bytes_after) / 2**20
        click.echo(f"{done.runs} runs removed, {done.kept} kept, {freed:.1f} MiB freed", err=True)
    return ExitCode.OK


def fill(db: Path, *, runs: int) -> int:
    """Write `runs` made-up runs that end now, in a repository of their own, into the database."""
    from maos_bot.demo.runs import make_history
    from maos_bot.store.ingest import Ingester

    history = make_history(now=time.time(), count=runs, running=False, repository="demo/shop", label=DEMO_LABEL)
    connection = connect(db, create=True)
    with contextlib.closing(connection):
        try:
            Ingester(connection).write(event for events in history for event in events)
        except sqlite3.Error as error:
            raise explain(error, db) from error
    click.echo(f"{runs} made-up runs are in {db}, in the repository demo/shop; none of them ran", err=True)
    click.echo(f"next: maos dashboard --db {db}", err=True)
    return ExitCode.OK


def show(db: Path, run_id: str, *, task: str | None, as_json: bool, spec: bool = False) -> int:
    """Print one run, one task's conversation and output, or the spec as it was (without secrets)."""
    with contextlib.closing(Queries(db)) as queries:
        found = queries.find(run_id)
        if spec:
            click.echo(clean(queries.spec_text(found)), nl=False)
            return ExitCode.OK
        if task is not None:
            events = queries.events(found)
            report = report_of(events)
            if task not in report.tasks:
                raise ConfigError(f"run {found} has no task {task!r}", hint=f"it has {', '.join(report.tasks)}")
            said = [event for event in events if isinstance(event, TranscriptAdded) and event.task == task]
            if as_json:
                rows = [{name: getattr(event, name) for name in _MESSAGE} for event in said]
                click.echo(json.dumps({"transcript": rows}, indent=2, ensure_ascii=False))
                return ExitCode.OK
            for piece in conversation(said):
                click.echo(clean(piece), nl=False)
            for piece in queries.iter_output(found, task):
                click.echo(clean(piece), nl=False)
            return ExitCode.OK
        report = report_of(queries.events(found))
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        print_run(report)
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
