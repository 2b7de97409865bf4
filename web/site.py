"""What every route needs: the blueprint, the history it reads, and the present."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Blueprint, abort, current_app, request

from maos_bot.errors import StoreError
from maos_bot.reporting.report import RunReport
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunRow
from web.reports import Reports

pages = Blueprint("pages", __name__)


@contextmanager
def history() -> Iterator[Queries]:
    """The history, open for reading; raises `StoreError` where it can't be read."""
    queries = Queries(database(), clock=current_app.config["MAOS_CLOCK"])
    try:
        yield queries
    finally:
        queries.close()


def database() -> Path:
    """Where the history lies."""
    path: Path = current_app.config["MAOS_DB"]
    return path


def now() -> float:
    """The present, in seconds since the epoch."""
    return float(current_app.config["MAOS_CLOCK"]())


def is_missing() -> bool:
    """Whether nothing was ever written there: no file, or one that a first run has just begun to make."""
    path = database()
    return not path.exists() or (path.is_file() and path.stat().st_size == 0)


def is_empty() -> bool:
    """Whether there is no run to show."""
    if is_missing():
        return True
    with history() as queries:
        return queries.latest_run_id() is None


def find(queries: Queries, run_id: str) -> str:
    """The full id of the run that is meant; ends the request with 404 where none or several are."""
    try:
        return queries.find(run_id)
    except StoreError as error:
        queries.latest_run_id()  # raises where it is the database that can't be read, not the run that is missing
        abort(404, f"{error.message.rpartition(': ')[2]}.")


def number(name: str, default: int, *, most: int = 2**53) -> int:
    """A whole number of the query string, from 0 to `most`; what is none counts as `default`."""
    return max(0, min(request.args.get(name, default, type=int), most))


def report_of(queries: Queries, row: RunRow) -> RunReport:
    """The report of a run, from those kept where it is among them."""
    reports: Reports = current_app.config["MAOS_REPORTS"]
    return reports.get(queries, row, now=now())
