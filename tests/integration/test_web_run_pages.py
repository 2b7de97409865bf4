"""The pages of one run, and of many: graph, resources, log, events, teams, spec, tasks over time, usage, search."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from maos_bot.demo.pipeline import PYTEST_FAILURE, Ending, Job
from maos_bot.events import OutputChunk, RunStarted
from maos_bot.model import TaskState, Trigger, Usage
from maos_bot.reporting.report import report_of
from maos_bot.store.db import open_store
from maos_bot.store.ingest import ingest
from maos_bot.store.queries import Queries
from maos_bot.store.search import search
from tests.factories import START, make_run, store_runs
from web import create_app

NOW = START + 7200.0
SHOP = Trigger(event="pull_request", repository="acme/shop", ref="topic", sha="c0ffee" + "0" * 34, pull_request=7)
FIRST = make_run(run_id="20261126-080000-aaaaaa", trigger=SHOP)
FAILED = make_run(
    run_id="20261126-083000-bbbbbb",
    started_at=START + 1800,
    trigger=SHOP,
    endings={"unit-api": Ending(log=PYTEST_FAILURE)},
    usage={
        "audit": Usage(input_tokens=1000, output_tokens=50, cache_read_tokens=500, usd=0.25),
        "docs": Usage(usd=None),
    },
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    changed = replace(FAILED[0], spec_text="version: 1\nname: Pull request\ntasks: {lint: {run: x}}\n")  # type: ignore[call-arg]
    return store_runs(tmp_path / "maos.db", [FIRST, [changed, *FAILED[1:]]])


@pytest.fixture
def client(path: Path) -> FlaskClient:
    return create_app(path, clock=lambda: NOW).test_client()


def page(client: FlaskClient, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_graph_has_a_link_for_each_task_and_the_observed_path(client: FlaskClient) -> None:
    html = page(client, "/runs/20261126-080000-aaaaaa/graph")
    path = [step.task for step in report_of(FIRST).critical_path]
    assert html.count('<a class="node ') == 12
    for task in ("lint", "smoke"):
        assert f'href="/runs/20261126-080000-aaaaaa/tasks/{task}"' in html
    assert html.count(' critical"') == len(path)
    # 14 needs, of which none is implied by another
    assert html.count('<path class="edge') == 15


def test_resources_show_peaks_as_the_report_says_and_limits(client: FlaskClient) -> None:
    html = page(client, "/runs/20261126-083000-bbbbbb/resources")
    said = report_of(FAILED)
    peaks = dict(re.findall(r'data-figure="([\w-]+)"><data value="([^"]+)"', html))
    assert float(peaks["memory-mb"]) == said.peak.memory_mb
    assert float(peaks["cpu-percent"]) == said.peak.cpu_percent
    assert float(peaks["usd"]) == 0.25
    assert "limit 4.0 GiB" in html
    assert "of waiting by" in html
    assert html.count('class="limit-line"') == 4  # memory, CPU, at once; and the legend


def test_the_log_of_a_run_names_whose_line_is_whose(client: FlaskClient) -> None:
    html = page(client, "/runs/20261126-083000-bbbbbb/log")
    assert "AssertionError" in html
    text = client.get("/runs/20261126-083000-bbbbbb/log.txt")
    assert text.mimetype == "text/plain"
    assert "unit-api | $ pytest -q tests/api\n" in text.text
    assert "\x1b" not in text.text


def test_events_come_in_pages(client: FlaskClient) -> None:
    first = page(client, "/runs/20261126-083000-bbbbbb/events")
    seqs = [int(seq) for seq in re.findall(r'<tr role="row"><td role="cell" class="num">(\d+)<', first)]
    decisions = [e.seq for e in FAILED if type(e).__name__ not in {"OutputChunk", "ResourceSampled"}]
    assert seqs == decisions
    assert "12 tasks, pipelined, balanced" in first
    rest = page(client, f"/runs/20261126-083000-bbbbbb/events?after={decisions[4]}")
    assert "From the start" in rest
    assert f'class="num">{decisions[4]}<' not in rest


def test_the_spec_shows_what_changed_since_the_run_before(client: FlaskClient) -> None:
    html = page(client, "/runs/20261126-083000-bbbbbb/spec")
    assert '<span class="add">+tasks: {lint: {run: x}}</span>' in html
    assert '<span class="del">-tasks:</span>' in html
    assert "Since the run before" not in page(client, "/runs/20261126-080000-aaaaaa/spec")


def test_teams_add_up_to_the_run(client: FlaskClient) -> None:
    html = page(client, "/runs/20261126-083000-bbbbbb/teams")
    for team in ("build", "docs", "qa", "security"):
        assert f"<h3>{team}</h3>" in html
    assert "model-x" in html


def test_a_log_can_be_searched(client: FlaskClient) -> None:
    html = page(client, "/runs/20261126-083000-bbbbbb/tasks/unit-api?q=ORDERS")
    assert html.count("<mark>orders</mark>") == 3
    assert "3 lines with" in html
    assert "No" not in page(client, "/runs/20261126-083000-bbbbbb/tasks/unit-api?q=%3Cb%3E").partition("<h1>")[0]


def test_the_tail_of_a_running_task_is_what_came_since(tmp_path: Path) -> None:
    cut = make_run(cut_at=20.0)
    client = create_app(store_runs(tmp_path / "maos.db", [cut]), clock=lambda: START + 21).test_client()
    chunk = next(e for e in cut if type(e) is OutputChunk and e.task == "types")
    url = f"/runs/{cut[0].run_id}/tail/types?attempt=1"
    answer = client.get(f"{url}&after={chunk.seq - 1}")
    assert answer.status_code == 200
    assert "$ mypy --strict src" in answer.text
    assert f'value="{chunk.seq}"' in answer.text
    assert client.get(f"{url}&after={chunk.seq}").status_code == 204
    ended = client.get(f"/runs/{cut[0].run_id}/tail/install?attempt=1&after=9999")
    assert ended.status_code == 286


def test_runs_with_many_tasks_are_folded_by_stage_and_open_by_link(tmp_path: Path) -> None:
    jobs = tuple(
        Job(id=f"t{n}", team=f"team{n % 3}", command="true", seconds=1.0, needs=(f"t{n - 100}",) if n >= 100 else ())
        for n in range(500)
    )
    run = make_run(jobs=jobs, width=50, endings={"t7": Ending(log=("broke",))})
    client = create_app(store_runs(tmp_path / "maos.db", [run]), clock=lambda: NOW).test_client()
    url = f"/runs/{run[0].run_id}"
    html = page(client, url)
    assert html.count('<li class="lane ') == 5
    assert html.count("data-task=") == 0
    stage = page(client, f"{url}?stage=0")
    assert stage.count("data-task=") == 100
    failed = page(client, f"{url}?state=failed")
    assert re.findall(r'data-task="(\w+)"', failed) == ["t7"]
    first = page(client, f"{url}?state=succeeded")
    assert first.count("data-task=") == 200
    assert "start=200" in first
    assert page(client, f"{url}/graph").count('<a class="node ') == 15
    assert page(client, f"{url}?stage=99").count("data-task=") == 0


def test_comparison_names_what_differs_first(client: FlaskClient) -> None:
    assert client.get("/compare?b=20261126-083000-bbbbbb").location == (
        "/compare?a=20261126-080000-aaaaaa&b=20261126-083000-bbbbbb"
    )
    html = page(client, "/compare?a=20261126-080000-aaaaaa&b=20261126-083000-bbbbbb")
    rows = re.findall(r'<a class="name" href="[^"]*/tasks/([\w-]+)">', html)
    assert rows[0] == "unit-api"
    assert "3 in another state, 0 new, 0 gone" in html
    assert '<span class="add">+tasks: {lint: {run: x}}</span>' in html


def test_tasks_over_time_count_what_happened(client: FlaskClient) -> None:
    html = page(client, "/tasks?sort=failures")
    names = re.findall(r'<a class="name" href="/tasks/([\w-]+)\?', html)
    assert names[0] == "unit-api"
    row = html[html.index(">unit-api</a>") : html.index("</tr>", html.index(">unit-api</a>"))]
    assert "50 %" in row  # failed in one of two runs
    assert re.search(r'data-label="Flaky"><a[^>]*>1<', row)  # the same commit failed and succeeded
    history = page(client, "/tasks/unit-api?repo=acme/shop&kind=failed")
    assert history.count("20261126-083000-bbbbbb/tasks/unit-api") == 1
    assert client.get("/tasks/unheard-of?repo=acme/shop").status_code == 404


def test_usage_adds_up_and_counts_the_unpriced_apart(client: FlaskClient, path: Path) -> None:
    html = page(client, "/usage")
    assert "<b>$0.25</b> and 1 call of unknown price" in html
    assert "acme/shop#7" in html
    assert "1 unpriced" in html
    assert "No model was asked" in page(client, "/usage?repo=elsewhere")


def test_search_finds_runs_tasks_commits_and_logs(path: Path, client: FlaskClient) -> None:
    with Queries(path) as queries:
        assert [(hit.task, hit.line) for hit in search(queries, "assertionerror decimal")] == [
            ("unit-api", "tests/api/test_orders.py:148: AssertionError")
        ]
        for text in ("c0ffee", "topic", "acme/shop", "smoke"):
            assert {hit.run_id for hit in search(queries, text)} == {FIRST[0].run_id, FAILED[0].run_id}, text
        assert search(queries, '"; -- * ( NEAR AND OR') == []
        assert search(queries, "???") == []
    assert "AssertionError" in page(client, "/search?q=assertionerror")
    assert "Nothing was found" in page(client, "/search?q=zebra")


def test_a_run_that_is_folded_anew_is_found_once_and_by_its_new_words(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    database = open_store(path, create=True)
    late = next(e for e in FAILED if type(e) is OutputChunk and e.task == "lint")
    ingest(database, [e for e in FAILED if e is not late])
    ingest(database, [replace(late, text="zebra\n")])
    database.close()
    with Queries(path) as queries:
        assert [hit.task for hit in search(queries, "zebra")] == ["lint"]
        assert len(search(queries, "assertionerror")) == 1


def test_spending_equals_the_runs_whatever_order_events_came_in(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    database = open_store(path, create=True)
    ingest(database, FAILED[40:])
    ingest(database, FAILED[:40])
    rows = list(database.execute("SELECT team, model, calls, unpriced, usd FROM spend ORDER BY team"))
    database.close()
    assert rows == [("docs", "model-x", 1, 1, 0.0), ("security", "model-x", 1, 0, 0.25)]


def test_an_older_database_is_filled_when_it_is_brought_up(tmp_path: Path) -> None:
    from maos_bot.store.migrations import STEPS

    path = store_runs(tmp_path / "maos.db", [FAILED])
    database = open_store(path, create=False)
    wanted = list(database.execute("SELECT * FROM spend ORDER BY team"))
    for statement in (
        *(f"DROP TABLE {table}" for table in ("spend", "documents", "search")),
        *(f"DROP INDEX runs_{index}" for index in ("saved", "failed", "baseline")),
        "ALTER TABLE runs DROP COLUMN saved_s",
        "DELETE FROM _sqlite_migrations WHERE name LIKE '0002%'",
        "PRAGMA user_version = 1",
    ):
        database.execute(statement)
    database.conn.commit()
    database.close()
    database = open_store(path, create=False)
    assert list(database.execute("SELECT * FROM spend ORDER BY team")) == wanted
    assert database.execute("PRAGMA user_version").fetchone()[0] == len(STEPS)
    database.close()
    with Queries(path) as queries:
        assert [hit.run_id for hit in search(queries, "c0ffee")] == [FAILED[0].run_id]


def test_a_live_report_takes_in_what_comes_and_what_comes_late(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    whole = make_run()
    app = create_app(path, clock=lambda: START + 20)
    client = app.test_client()
    late = next(e for e in whole if e.seq > 5 and type(e).__name__ == "TaskFinished")
    cut = [e for e in whole if e.at <= START + 20]
    store_runs(path, [[e for e in cut if e is not late]])
    url = f"/runs/{whole[0].run_id}"
    assert "of 12 tasks done" in page(client, url)
    store_runs(path, [[late]])
    done = sum(t.state is TaskState.SUCCEEDED for t in report_of(cut).tasks.values())
    assert f"{done} of 12 tasks done" in page(client, url)
    store_runs(path, [whole])
    assert "All 12 tasks succeeded" in page(client, url)


def test_a_start_that_tells_of_no_task_is_a_page_too(tmp_path: Path) -> None:
    first = FIRST[0]
    assert isinstance(first, RunStarted)
    start = replace(first, tasks=())
    client = create_app(store_runs(tmp_path / "maos.db", [[start]]), clock=lambda: START + 1).test_client()
    for part in ("", "/graph", "/resources", "/log", "/events", "/teams", "/spec"):
        page(client, f"/runs/{start.run_id}{part}")
