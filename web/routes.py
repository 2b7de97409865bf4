"""The addresses of the dashboard: each opens the history, asks for one page's context and renders it.

Every page is a link or a GET form first. A request by htmx gets the part of the page that it asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flask import Response, current_app, render_template, stream_with_context, url_for
from htmx_flask import make_response, request  # type: ignore[import-untyped]

from maos_bot.errors import StoreError
from maos_bot.store.rows import LOST, RunFilter, RunRow
from web import machine, run_list, runs_page
from web.openapi import document
from web.site import history, is_empty, is_missing, now, pages

_FILES: Final = {"csv": run_list.as_csv, "json": run_list.as_json}
_NOT_ENDED: Final = frozenset({"running", LOST})
_MIMETYPES: Final = {"csv": "text/csv", "json": "application/json"}


@pages.get("/")
def runs() -> Any:
    """The list of runs, or how to make the first one."""
    if is_empty():
        return render_template("empty.html")
    form, where, problems = run_list.read_form(request.args, now=now())
    htmx = bool(request.htmx) and not request.htmx.history_restore_request
    if problems and htmx:
        # The list stays as it is; the note beside the fields says what is wrong with them.
        return make_response(" ".join(problems.values()), 422, retarget="#filter-note", push_url=False)
    with history() as queries:
        page = runs_page.build(queries, now=now(), form=form, where=where, problems=problems, link=_runs_url)
    if page is None:
        return render_template("empty.html")
    if htmx:
        cleared = '<p class="note" id="filter-note" role="alert" hx-swap-oob="true"></p>'
        body = render_template("_results.html", page=page) + cleared
        return make_response(body, push_url=_runs_url(page.form))
    return render_template("runs.html", page=page, form=page.form), 422 if problems else 200


@pages.get("/runs.<any(csv, json):kind>")
def runs_file(kind: str) -> Any:
    """All runs that the same filters leave, as CSV or JSON."""
    form, where, problems = run_list.read_form(request.args, now=now())
    if problems:
        return {"problems": problems}, 422
    if is_missing():
        return Response("".join(_FILES[kind](iter(()))), mimetype=_MIMETYPES[kind])
    with history():
        pass  # what is wrong with the database is said before the answer begins

    def pieces() -> Iterator[str]:
        with history() as queries:
            yield from _FILES[kind](run_list.every_run(queries, form, where))

    return Response(
        stream_with_context(pieces()),
        mimetype=_MIMETYPES[kind],
        headers={"Content-Disposition": f'inline; filename="runs.{kind}"'},
    )


@pages.get("/badge.<any(svg, json):kind>")
def badge(kind: str) -> Any:
    """How the last ended run stands, of all or of `?repo=`, `?branch=`, as a picture or for shields.io."""
    where = RunFilter(repository=_arg("repo"), branch=_arg("branch"))
    row: RunRow | None = None
    if not is_missing():
        with history() as queries:
            row = next((one for one in queries.runs(where, limit=10) if one.status not in _NOT_ENDED), None)
    label = (_arg("label") or "maos")[:60]
    message, colour, name = machine.badge_words(row)
    if kind == "json":
        return {"schemaVersion": 1, "label": label, "message": message, "color": name}
    picture = render_template("badge.svg", badge=machine.badge(label, message, colour))
    return Response(picture, mimetype="image/svg+xml", headers={"Cache-Control": "no-cache, max-age=60"})


@pages.get("/failed.atom")
def failed() -> Any:
    """The last failed runs as a feed; `?repo=` and `?branch=` leave those of one."""
    rows: list[RunRow] = []
    if not is_missing():
        with history() as queries:
            where = RunFilter(status="failed", repository=_arg("repo"), branch=_arg("branch"))
            rows = queries.runs(where, limit=machine.FEED_SIZE)
    return Response(machine.feed(rows, base=request.host_url, now=now()), mimetype="application/atom+xml")


@pages.get("/metrics")
def metrics() -> Any:
    """The history as figures for Prometheus."""
    if is_missing():
        return Response("", mimetype="text/plain; version=0.0.4")
    with history() as queries:
        return Response(machine.metrics(queries), mimetype="text/plain; version=0.0.4")


@pages.get("/healthz")
def healthz() -> Any:
    """For a supervisor: 200 while pages can be served, 503 with the reason where the history can't be read."""
    if is_missing():
        return {"status": "ok", "runs": 0}
    try:
        with history() as queries:
            return {"status": "ok", "runs": queries.count_runs()}
    except StoreError as error:
        return {"status": "unavailable", "reason": error.message}, 503


@pages.get("/openapi.json")
def openapi() -> Any:
    """What programs may ask."""
    return document(ingest="ingest" in current_app.blueprints)


@pages.get("/favicon.ico")
def favicon() -> Any:
    """What browsers ask for where no page names it, such as beside plain text."""
    return current_app.send_static_file("maos.svg")


def _arg(name: str) -> str | None:
    return (request.args.get(name) or "").strip()[:250] or None


def _runs_url(form: run_list.Form, *, before: str = "", kind: str = "", **changed: str) -> str:
    values: dict[str, Any] = {**form.query(before=before, **changed)}
    return url_for("pages.runs_file", kind=kind, **values) if kind else url_for("pages.runs", **values)
