"""The addresses of the dashboard: each opens the history, asks for one page's context and renders it.

Every page is a link or a GET form first. A request by htmx gets the part of the page that it asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Blueprint, Response, abort, current_app, redirect, render_template, stream_with_context, url_for
from htmx_flask import make_response, request  # type: ignore[import-untyped]

from maos_bot.errors import StoreError
from maos_bot.store.queries import Queries
from web import run_page, runs_page, task_page

pages = Blueprint("pages", __name__)

STOP_POLLING = 286  # htmx: put this in and don't ask again


@pages.get("/")
def runs() -> Any:
    """The list of runs, or how to make the first one."""
    if _is_empty():
        return render_template("empty.html")
    form, where, problems = runs_page.read_form(request.args, now=_now())
    htmx = bool(request.htmx) and not request.htmx.history_restore_request
    if problems and htmx:
        # The list stays as it is; the note beside the fields says what is wrong with them.
        return make_response(" ".join(problems.values()), 422, retarget="#filter-note", push_url=False)
    with _history() as queries:
        page = runs_page.build(queries, now=_now(), form=form, where=where, problems=problems, link=_runs_url)
    if page is None:
        return render_template("empty.html")
    if htmx:
        cleared = '<p class="note" id="filter-note" role="alert" hx-swap-oob="true"></p>'
        body = render_template("_results.html", page=page) + cleared
        return make_response(body, push_url=_runs_url(page.form))
    return render_template("runs.html", page=page, form=page.form), 422 if problems else 200


@pages.get("/runs/<run_id>")
def run(run_id: str) -> Any:
    """One run; the beginning of an id and `latest` lead to the run they mean."""
    with _history() as queries:
        full_id = _find(queries, run_id)
        if full_id != run_id:
            return redirect(url_for("pages.run", run_id=full_id))
        page = run_page.build(queries, full_id, now=_now())
    return render_template("run.html", page=page)


@pages.get("/runs/<run_id>/live")
def live(run_id: str) -> Any:
    """What changed on the page of a running run after event number `after`: 204 where nothing did."""
    after = request.args.get("after", 0, type=int)
    with _history() as queries:
        full_id = _find(queries, run_id)
        row = queries.run(full_id)
        if row.status == "running" and row.last_seq <= after:
            return Response(status=204)
        page = run_page.build(queries, full_id, now=_now())
    return make_response(render_template("live.html", page=page), 200 if page.live else STOP_POLLING)


@pages.get("/runs/<run_id>/tasks/<path:task>")
def task(run_id: str, task: str) -> Any:
    """A task within a run: its attempts and its log (of the last attempt, or of `?attempt=N`)."""
    with _history() as queries:
        full_id = _find(queries, run_id)
        page = task_page.build(queries, full_id, task, attempt=request.args.get("attempt", type=int))
        if page is None:
            abort(404, f"Run {full_id} has no task {task!r}.")
    return render_template("task.html", page=page)


@pages.get("/runs/<run_id>/log/<path:task>")
def log(run_id: str, task: str) -> Any:
    """The whole stored output of one attempt (by default the last that printed) as plain text."""
    attempt = request.args.get("attempt", type=int)
    with _history() as queries:
        _find(queries, run_id)

    def pieces() -> Iterator[str]:
        with _history() as queries:
            yield from queries.iter_output(run_id, task, attempt)

    return Response(stream_with_context(pieces()), mimetype="text/plain")


@pages.get("/healthz")
def healthz() -> Any:
    """For a supervisor: 200 while pages can be served, 503 with the reason where the history can't be read."""
    if _is_missing():
        return {"status": "ok", "runs": 0}
    try:
        with _history() as queries:
            return {"status": "ok", "runs": queries.count_runs()}
    except StoreError as error:
        return {"status": "unavailable", "reason": error.message}, 503


@pages.get("/favicon.ico")
def favicon() -> Any:
    """What browsers ask for where no page names it, such as beside plain text."""
    return current_app.send_static_file("maos.svg")


@contextmanager
def _history() -> Iterator[Queries]:
    queries = Queries(current_app.config["MAOS_DB"], clock=current_app.config["MAOS_CLOCK"])
    try:
        yield queries
    finally:
        queries.close()


def _now() -> float:
    return float(current_app.config["MAOS_CLOCK"]())


def _is_missing() -> bool:
    """Whether nothing was ever written there: no file, or one that a first run has just begun to make."""
    path = current_app.config["MAOS_DB"]
    return not path.exists() or (path.is_file() and path.stat().st_size == 0)


def _is_empty() -> bool:
    if _is_missing():
        return True
    with _history() as queries:
        return queries.latest_run_id() is None


def _find(queries: Queries, run_id: str) -> str:
    try:
        return queries.find(run_id)
    except StoreError as error:
        queries.latest_run_id()  # raises where it is the database that can't be read, not the run that is missing
        abort(404, f"{error.message.rpartition(': ')[2]}.")


def _runs_url(form: runs_page.Form, *, before: str = "") -> str:
    values: dict[str, Any] = {**form.query(before=before)}
    return url_for("pages.runs", **values)
