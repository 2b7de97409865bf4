"""The addresses of one run: its pages, and what they ask for while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flask import Response, abort, redirect, render_template, stream_with_context, url_for
from htmx_flask import make_response, request  # type: ignore[import-untyped]

from maos_bot.reporting.report import RunReport
from maos_bot.store import talk
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunRow
from web import ansi, run_agents, run_graph, run_page, run_resources, run_text, task_page
from web.conversation import as_text, conversation
from web.site import find, history, now, number, pages, report_of

STOP_POLLING = 286  # htmx: put this in and don't ask again


@pages.get("/runs/<run_id>")
def run(run_id: str) -> Any:
    """One run; the beginning of an id and `latest` lead to the run they mean."""
    return _page("run.html", run_id, _overview, "run")


@pages.get("/runs/<run_id>/live")
def live(run_id: str) -> Any:
    """What changed on the page of a running run after event number `after`: 204 where nothing did."""
    after = number("after", 0)
    with history() as queries:
        row = queries.run(find(queries, run_id))
        if row.status == "running" and row.last_seq <= after:
            return Response(status=204)
        page = _overview(queries, row, report_of(queries, row))
        found = talk.has_findings(queries, row.run_id, after_seq=after)
    body = render_template("live.html", page=page, found=found)
    return make_response(body, 200 if page.head.live else STOP_POLLING)


@pages.get("/runs/<run_id>/graph")
def run_graph_page(run_id: str) -> Any:
    """The graph of the run."""
    return _page("run_graph.html", run_id, lambda _, row, report: run_graph.build(row, report), "run_graph_page")


@pages.get("/runs/<run_id>/resources")
def run_resources_page(run_id: str) -> Any:
    """What the run used over time."""
    return _page("run_resources.html", run_id, run_resources.build, "run_resources_page")


@pages.get("/runs/<run_id>/teams")
def run_agents_page(run_id: str) -> Any:
    """Who worked in the run."""
    return _page("run_agents.html", run_id, lambda _, row, report: run_agents.build(row, report), "run_agents_page")


@pages.get("/runs/<run_id>/log")
def run_log(run_id: str) -> Any:
    """The end of what all tasks printed."""
    return _page("run_log.html", run_id, run_text.log_page, "run_log")


@pages.get("/runs/<run_id>/log.txt")
def run_log_text(run_id: str) -> Any:
    """All that was printed in the run, as plain text."""
    with history() as queries:
        full_id = find(queries, run_id)

    def pieces() -> Iterator[str]:
        with history() as queries:
            yield from run_text.log_lines(queries.iter_log(full_id))

    return Response(stream_with_context(pieces()), mimetype="text/plain")


@pages.get("/runs/<run_id>/events")
def run_events(run_id: str) -> Any:
    """The decisions of the run, 200 from event number `after` on."""
    after = number("after", 0)
    with history() as queries:
        row = queries.run(find(queries, run_id))
        page = run_text.events_page(queries, row, after=after)
    return render_template("run_events.html", page=page)


@pages.get("/runs/<run_id>/spec")
def run_spec(run_id: str) -> Any:
    """The spec of the run, and what changed in it."""
    with history() as queries:
        page = run_text.spec_page(queries, queries.run(find(queries, run_id)))
    return render_template("run_spec.html", page=page)


@pages.get("/runs/<run_id>/tasks/<path:task>")
def task(run_id: str, task: str) -> Any:
    """A task within a run: its attempts and its log (of the last attempt, or of `?attempt=N`; lines with `?q=`)."""
    with history() as queries:
        row = queries.run(find(queries, run_id))
        page = task_page.build(
            queries,
            row,
            report_of(queries, row),
            task,
            attempt=request.args.get("attempt", type=int),
            query=(request.args.get("q") or "").strip()[:200],
        )
        if page is None:
            abort(404, f"Run {row.run_id} has no task {task!r}.")
    return render_template("task.html", page=page)


@pages.get("/runs/<run_id>/tail/<path:task>")
def task_tail(run_id: str, task: str) -> Any:
    """What attempt `attempt` of a running task printed after event number `after`: 204 where that is nothing."""
    after = number("after", 0)
    attempt = number("attempt", 1)
    with history() as queries:
        row = queries.run(find(queries, run_id))
        pieces = queries.output_after(row.run_id, task, attempt, after)
        going = row.status == "running" and queries.is_running(row.run_id, task, attempt)
    if not pieces and going:
        return Response(status=204)
    text = ansi.to_markup("".join(text for _, text in pieces))
    body = render_template("_tail.html", text=text, after=pieces[-1][0] if pieces else after, going=going)
    return make_response(body, 200 if going else STOP_POLLING)


@pages.get("/runs/<run_id>/said/<path:task>")
def task_said(run_id: str, task: str) -> Any:
    """What attempt `attempt` of an agent's running task said after event number `after`: 204 where that is nothing."""
    after = number("after", 0)
    attempt = number("attempt", 1)
    with history() as queries:
        row = queries.run(find(queries, run_id))
        said = conversation(talk.conversation(queries, row.run_id, task, attempt, after_seq=after), after=after)
        going = row.status == "running" and queries.is_running(row.run_id, task, attempt)
    if not said.said and going:
        return Response(status=204)
    body = render_template("_said_since.html", talk=said, going=going)
    return make_response(body, 200 if going else STOP_POLLING)


@pages.get("/runs/<run_id>/conversation/<path:task>")
def task_conversation(run_id: str, task: str) -> Any:
    """The whole conversation of one attempt as plain text."""
    with history() as queries:
        full_id = find(queries, run_id)
        text = "".join(as_text(talk.conversation(queries, full_id, task, number("attempt", 1))))
    return Response(text, mimetype="text/plain")


@pages.get("/runs/<run_id>/log/<path:task>")
def log(run_id: str, task: str) -> Any:
    """The whole stored output of one attempt (by default the last that printed) as plain text."""
    attempt = number("attempt", 0) if "attempt" in request.args else None
    with history() as queries:
        full_id = find(queries, run_id)

    def pieces() -> Iterator[str]:
        with history() as queries:
            yield from queries.iter_output(full_id, task, attempt)

    return Response(stream_with_context(pieces()), mimetype="text/plain")


def _overview(queries: Queries, row: RunRow, report: RunReport) -> run_page.RunPage:
    args = request.args
    stage = args.get("stage", type=int)
    choice = run_page.Choice(
        stage=stage if stage is None or abs(stage) < 2**31 else None,
        state=(args.get("state") or "")[:40],
        start=number("start", 0),
    )
    return run_page.build(queries, row, report, now=now(), choice=choice)


def _page(template: str, run_id: str, build: Callable[[Queries, RunRow, RunReport], Any], endpoint: str) -> Any:
    with history() as queries:
        full_id = find(queries, run_id)
        if full_id != run_id:
            return redirect(url_for(f"pages.{endpoint}", run_id=full_id))
        row = queries.run(full_id)
        page = build(queries, row, report_of(queries, row))
    return render_template(template, page=page)
