"""The addresses of pages over many runs: tasks over time, comparison, usage, search, status."""

from __future__ import annotations

from typing import Any

from flask import abort, redirect, render_template, request, url_for

from maos_bot.store import search as text_search
from web import compare_page, tasks_page, usage_page
from web.site import database, find, history, is_empty, now, pages, report_of


@pages.get("/tasks")
def tasks() -> Any:
    """The tasks of a repository over their last runs."""
    if is_empty():
        return render_template("empty.html")
    args = request.args
    with history() as queries:
        page = tasks_page.build(
            queries, repository=args.get("repo"), text=_text("text"), sort=(args.get("sort") or "name")
        )
    return render_template("tasks.html", page=page)


@pages.get("/tasks/<path:task>")
def task_history(task: str) -> Any:
    """The runs behind one task's figures."""
    with history() as queries:
        page = tasks_page.build_history(queries, task, repository=request.args.get("repo", ""), kind=_text("kind"))
    if page is None:
        abort(404, f"No task {task!r} has ended in this repository.")
    return render_template("task_history.html", page=page)


@pages.get("/compare")
def compare() -> Any:
    """Run `b` against run `a`; without `a` against its baseline, without `b` the latest."""
    if is_empty():
        return render_template("empty.html")
    with history() as queries:
        b = queries.run(find(queries, _text("b") or "latest"))
        if not _text("a"):
            baseline = queries.baseline(b)
            other = baseline.run_id if baseline else queries.previous(b)
            if other is None:
                abort(404, f"There is no run to compare {b.run_id} with yet.")
            return redirect(url_for("pages.compare", a=other, b=b.run_id))
        a = queries.run(find(queries, _text("a")))
        page = compare_page.build(queries, (a, report_of(queries, a)), (b, report_of(queries, b)))
    return render_template("compare.html", page=page)


@pages.get("/usage")
def usage() -> Any:
    """What was spent over the last days."""
    if is_empty():
        return render_template("empty.html")
    days = request.args.get("days", 30, type=int)
    with history() as queries:
        page = usage_page.build(
            queries, days=days if days in usage_page.DAYS else 30, repository=_text("repo"), now=now()
        )
        repositories = queries.values("repository")
    return render_template("usage.html", page=page, repositories=repositories, tokens_of=usage_page.tokens_of)


@pages.get("/search")
def search() -> Any:
    """Runs, tasks, commits and logs that hold all words of `q`."""
    if is_empty():
        return render_template("empty.html")
    query = _text("q")
    with history() as queries:
        hits = text_search.search(queries, query) if query else []
    return render_template("search.html", query=query, hits=hits, words=text_search.words_of(query))


@pages.get("/status")
def status() -> Any:
    """The database itself."""
    if is_empty():
        return render_template("empty.html")
    with history() as queries:
        return render_template("status.html", status=queries.status(), counts=queries.status_counts(), path=database())


def _text(name: str) -> str:
    return (request.args.get(name) or "").strip()[:250]
