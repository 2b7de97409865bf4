"""The dashboard's pages over a real database, through Flask's test client."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from maos_bot.demo.pipeline import PYTEST_FAILURE, Ending
from maos_bot.model import TaskState, Trigger, Usage
from maos_bot.reporting.report import report_of
from maos_bot.store import db
from maos_bot.store.db import open_store
from maos_bot.store.queries import Queries
from tests.factories import START, make_history, make_run, store_runs
from web import create_app

NOW = START + 3600.0
FAILED = make_run(
    run_id="20261126-080000-aaaaaa",
    endings={"unit-api": Ending(log=PYTEST_FAILURE)},
    trigger=Trigger(event="pull_request", ref="feature/x", sha="c0ffee" + "0" * 34, pull_request=412, actor="mira"),
    usage={"docs": Usage(input_tokens=1200, output_tokens=340, usd=0.0123)},
)
GOOD = make_run(
    run_id="20261126-083000-bbbbbb", started_at=START + 1800, name="Main", trigger=Trigger(event="push", ref="main")
)


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return serve(store_runs(tmp_path / "maos.db", [FAILED, GOOD]))


def serve(path: Path, now: float = NOW) -> FlaskClient:
    return create_app(path, clock=lambda: now).test_client()


def text(client: FlaskClient, url: str, status: int = 200, *, htmx: bool = False) -> str:
    response = client.get(url, headers={"HX-Request": "true"} if htmx else {})
    assert response.status_code == status, response.text
    return response.text


def figures(html: str) -> dict[str, float]:
    found = re.findall(r'data-figure="(\w+)"[^>]*><data value="([^"]*)"', html)
    return {name: json.loads(value) for name, value in found}


def test_figures_of_a_run_equal_those_of_its_report(client: FlaskClient) -> None:
    page = text(client, "/runs/20261126-080000-aaaaaa")
    head, _, table = page.partition('id="tasks"')
    shown, said = figures(head), report_of(FAILED).to_json()
    assert shown == {
        "wall_s": said["wall_s"],
        "makespan_s": said["predicted"]["makespan_s"],
        "sequential_s": said["sequential_s"],
        "lower_bound_s": said["predicted"]["lower_bound_s"],
        "speedup": said["speedup"],
        "usd": said["usage"]["usd"],
        "memory_mb": said["peak"]["memory_mb"],
        "cpu_percent": said["peak"]["cpu_percent"],
        "tokens": sum(value for name, value in said["usage"].items() if name.endswith("_tokens")),
    }
    rows = re.findall(r'<tr role="row" data-task="([^"]+)">(.*?)</tr>', table, re.DOTALL)
    assert [name for name, _ in rows] == list(said["tasks"])
    for name, row in rows:
        for key, value in figures(row).items():
            task = said["tasks"][name]
            assert value == (task["usage"] if key == "usd" else task)[key], (name, key)


def test_a_failed_run_says_first_what_failed_and_shows_the_end_of_its_log(client: FlaskClient) -> None:
    page = text(client, "/runs/20261126-080000-aaaaaa")
    assert "unit-api failed</h2>" in page
    assert "AssertionError: assert Decimal(&#39;1.01&#39;)" in page
    assert page.index("AssertionError") < page.index("Timeline")
    assert "2 tasks not reached because of it." in page


def test_the_timeline_draws_each_task_with_its_waits_and_its_plan(client: FlaskClient) -> None:
    page = text(client, "/runs/20261126-080000-aaaaaa")
    assert page.count('<li class="lane ') == 12
    assert page.count('<g class="seg-predicted">') == 11  # the plan of the last lies beyond the end of this run
    assert 'class="seg-resource"' in page
    assert 'class="seg-critical"' in page
    assert "unit-web: succeeded, waited " in page


def test_the_list_names_state_branch_commit_and_tasks(client: FlaskClient) -> None:
    page = text(client, "/")
    for words in ("Failed", "Succeeded", "#412", "feature/x", "c0ffee0", "by mira", "$0.01", "1.5 k"):
        assert words in page
    assert page.index("bbbbbb") < page.rindex("aaaaaa")  # newest first in the table


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("status=failed", ["aaaaaa"]),
        ("status=succeeded", ["bbbbbb"]),
        ("branch=main", ["bbbbbb"]),
        ("pr=412", ["aaaaaa"]),
        ("pr=%23412", ["aaaaaa"]),
        ("text=c0ffee", ["aaaaaa"]),
        ("text=%25", []),
        ("min=10m", []),
        ("min=1s", ["bbbbbb", "aaaaaa"]),
        ("since=2026-11-26", ["bbbbbb", "aaaaaa"]),
        ("since=24h&status=failed&branch=feature/x", ["aaaaaa"]),
        ("status=lost", []),
    ],
)
def test_filters_choose_runs(client: FlaskClient, query: str, found: list[str]) -> None:
    page = text(client, f"/?{query}", htmx=True)
    assert re.findall(r'id="run-[\d-]+-(\w+)"', page) == found


def test_what_was_typed_stays_in_the_form(client: FlaskClient) -> None:
    page = text(client, "/?status=failed&branch=feature%2Fx&min=1s")
    assert '<option value="failed" selected>' in page
    assert 'value="feature/x" list=' in page
    assert "Clear the filters" in page


@pytest.mark.parametrize("query", ["pr=abc", "pr=-1", "min=soon", "since=yesterday", "status=odd", "pr=" + "9" * 40])
def test_a_filter_that_says_nothing_is_named(client: FlaskClient, query: str) -> None:
    assert 'role="alert"></p>' not in text(client, f"/?{query}", 422)
    answer = client.get(f"/?{query}", headers={"HX-Request": "true"})
    assert answer.status_code == 422
    assert answer.headers["HX-Retarget"] == "#filter-note"
    assert "<" not in answer.text


def test_htmx_gets_the_table_alone_and_an_address_to_remember(client: FlaskClient) -> None:
    answer = client.get("/?text=&status=failed&branch=", headers={"HX-Request": "true"})
    assert "<html" not in answer.text
    assert answer.headers["HX-Push-Url"] == "/?status=failed"
    assert "HX-Request" in answer.headers["Vary"]
    restored = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    assert "<html" in client.get("/", headers=restored).text


def test_every_run_comes_once_over_the_pages(tmp_path: Path) -> None:
    runs = make_history(now=NOW, count=120, running=False)
    client = serve(store_runs(tmp_path / "maos.db", runs))
    seen: list[str] = []
    url = "/"
    while url:
        page = text(client, url)
        seen += re.findall(r'id="run-([^"]+)"', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        url = following[1].replace("&amp;", "&") if following else ""
    assert seen == [events[0].run_id for events in sorted(runs, key=lambda events: -events[0].at)]


def test_a_task_page_has_its_attempts_and_the_log_of_each(tmp_path: Path) -> None:
    flaky = Ending(states=(TaskState.FAILED, TaskState.SUCCEEDED), log=("first try broke",))
    run = make_run(endings={"integration": flaky})
    client = serve(store_runs(tmp_path / "maos.db", [run]))
    url = f"/runs/{run[0].run_id}/tasks/integration"
    page = text(client, url)
    assert "Succeeded in " in page
    assert "at attempt 2 of 2" in page
    assert "88 passed" in page
    assert "first try broke" in text(client, f"{url}?attempt=1")
    assert "maos run .maos.yml --task integration" in page
    plain = client.get(f"/runs/{run[0].run_id}/log/integration?attempt=1")
    assert plain.mimetype == "text/plain"
    assert plain.text == "$ pytest -q tests/integration\nfirst try broke\n"


def test_the_beginning_of_an_id_and_latest_lead_to_the_run(client: FlaskClient) -> None:
    assert client.get("/runs/latest").location == "/runs/20261126-083000-bbbbbb"
    assert client.get("/runs/20261126-080000-a").location == "/runs/20261126-080000-aaaaaa"


@pytest.mark.parametrize("url", ["/runs/nope", "/runs/20261126-080000-aaaaaa/tasks/nope", "/nowhere", "/runs/20261126"])
def test_what_does_not_exist_is_a_page_with_the_way_out(client: FlaskClient, url: str) -> None:
    page = text(client, url, 404)
    assert "Back to the runs" in page
    assert "Traceback" not in page


def test_without_a_database_the_first_run_is_explained(tmp_path: Path) -> None:
    client = serve(tmp_path / "none.db")
    assert "maos init" in text(client, "/")
    assert client.get("/healthz").json == {"status": "ok", "runs": 0}
    assert not (tmp_path / "none.db").exists()


def test_a_database_without_runs_explains_the_first_run(tmp_path: Path) -> None:
    open_store(tmp_path / "maos.db", create=True).close()
    assert "maos init" in text(serve(tmp_path / "maos.db"), "/")


def test_a_file_that_is_no_database_is_explained(tmp_path: Path) -> None:
    (tmp_path / "maos.db").write_text("not a database, just text")
    client = serve(tmp_path / "maos.db")
    assert "not an SQLite database" in text(client, "/", 503)
    assert client.get("/healthz").status_code == 503


def test_a_database_from_a_newer_version_is_explained(tmp_path: Path) -> None:
    path = store_runs(tmp_path / "maos.db", [GOOD])
    store = open_store(path, create=False)
    store.execute("PRAGMA user_version = 99")
    store.close()
    assert "Update MAOS bot" in text(serve(path), "/", 503)


def test_looking_changes_nothing_in_the_database(tmp_path: Path) -> None:
    path = store_runs(tmp_path / "maos.db", [GOOD])
    client = serve(path)
    before = path.read_bytes()
    for url in ("/", "/runs/latest", "/runs/20261126-083000-bbbbbb/tasks/lint", "/healthz"):
        client.get(url, follow_redirects=True)
    assert path.read_bytes() == before
    with Queries(path) as queries:
        assert queries.count_runs() == 1


def test_a_locked_database_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.05)
    path = store_runs(tmp_path / "maos.db", [make_run()])
    client = create_app(path).test_client()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        for url in ("/", "/runs/latest", "/usage", "/status"):
            page = text(client, url, 503)
            assert "locked by another process" in page
            assert "Wait for it to end" in page
        assert client.get("/healthz").status_code == 503
    assert client.get("/").status_code == 200
