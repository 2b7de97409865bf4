"""The list of runs in other orders and forms, and what other programs read."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient

from maos_bot.demo.pipeline import Ending
from maos_bot.model import Trigger, Usage
from maos_bot.store.migrations import SCHEMA_VERSION
from maos_bot.store.queries import Queries
from tests.factories import START, make_history, make_run, store_runs
from web import create_app
from web.machine import ATOM

EMPTY = (
    *("/runs.csv", "/runs.json", "/badge.svg", "/badge.json", "/failed.atom", "/metrics"),
    *("/tasks", "/usage", "/search?q=x", "/status", "/compare"),
)
NOW = START + 3 * 86400.0


def run(
    number: int, *, branch: str = "main", repository: str = "acme/shop", speed: float = 1.0, **more: object
) -> list:  # type: ignore[type-arg]
    return make_run(
        run_id=f"20261126-08{number:02d}00-aaaaaa",
        started_at=START + 600 * number,
        trigger=Trigger(event="push", ref=branch, repository=repository),
        speed=speed,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    runs = [
        run(0),
        run(1, speed=2.0),
        run(2, branch="topic", speed=3.0),
        run(3, branch="topic", speed=1.5, usage={"docs": Usage(input_tokens=10, usd=0.75)}),
        run(4, repository="acme/site", endings={"lint": Ending()}),
        run(5, branch="=cmd()", usage={"docs": Usage(input_tokens=10, usd=None)}),
    ]
    return store_runs(tmp_path / "maos.db", runs)


@pytest.fixture
def client(path: Path) -> FlaskClient:
    return create_app(path, clock=lambda: NOW).test_client()


def numbers(page: str) -> list[int]:
    return [int(found) for found in re.findall(r'id="run-20261126-08(\d\d)00', page)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("repo=acme/site", [4]),
        ("cost=0.5", [3]),
        ("cost=$0.75", [3]),
        ("sort=oldest", [0, 1, 2, 3, 4, 5]),
        ("sort=dearest&cost=0.01", [3]),
        ("sort=longest&repo=acme/shop&branch=topic", [2, 3]),
        ("sort=shortest&branch=topic", [3, 2]),
        ("sort=tokens&cost=0.1", [3]),
    ],
)
def test_filters_and_orders(client: FlaskClient, query: str, found: list[int]) -> None:
    assert numbers(client.get(f"/?{query}").text) == found


@pytest.mark.parametrize("query", ["cost=much", "cost=1.2.3", "cost=-1", "sort=odd", "cost=nan", "cost=1e9"])
def test_what_means_nothing_is_said(client: FlaskClient, query: str) -> None:
    assert client.get(f"/?{query}").status_code == 422
    assert client.get(f"/runs.json?{query}").status_code == 422


def test_the_baseline_is_of_the_same_branch_else_of_the_main_one(path: Path) -> None:
    with Queries(path) as queries:
        rows = {row.run_id[9:13]: row for row in queries.runs()}
        assert queries.baseline(rows["0800"]) is None
        for number, (branch, before) in {
            "0801": ("main", "0800"),
            "0802": ("main", "0801"),
            "0803": ("topic", "0802"),
        }.items():
            baseline = queries.baseline(rows[number])
            assert baseline is not None
            assert (baseline.branch, baseline.run_id[9:13]) == (branch, before)
        assert queries.baseline(rows["0804"]) is None  # another repository


def test_a_run_says_how_it_differs_from_its_baseline_and_leads_there(client: FlaskClient) -> None:
    page = client.get("/?branch=topic").text
    changes = re.findall(r'compare\?a=20261126-08(\d\d)00-aaaaaa&amp;b=20261126-08(\d\d)00-aaaaaa"[^>]*>([^<]*)<', page)
    assert changes == [("02", "03", "-50 %"), ("01", "02", "+50 %")]


def test_the_list_as_csv_and_json_is_the_filtered_one(client: FlaskClient) -> None:
    answer = client.get("/runs.csv?repo=acme/shop&sort=oldest")
    assert answer.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["run_id"][9:13] for row in rows] == ["0800", "0801", "0802", "0803", "0805"]
    assert rows[3]["usd"] == "0.75"
    assert rows[4]["usd"] == ""  # not known
    assert rows[4]["branch"] == "'=cmd()"  # no formula
    whole = client.get("/runs.json?repo=acme/shop").json
    assert whole is not None
    assert [one["run_id"][9:13] for one in whole["runs"]] == ["0805", "0803", "0802", "0801", "0800"]
    assert whole["runs"][0]["usd"] is None
    assert whole["runs"][1]["tasks_succeeded"] == 12


def test_the_list_as_json_holds_every_run_once(tmp_path: Path) -> None:
    runs = make_history(now=NOW, count=60, running=False)
    client = create_app(store_runs(tmp_path / "maos.db", runs), clock=lambda: NOW).test_client()
    for sort in ("", "longest", "dearest"):
        answer = client.get(f"/runs.json?sort={sort}").json
        assert answer is not None
        assert sorted(one["run_id"] for one in answer["runs"]) == sorted(events[0].run_id for events in runs)


def test_the_badge_tells_how_the_last_ended_run_stands(client: FlaskClient) -> None:
    assert client.get("/badge.json?repo=acme/site").json == {
        "schemaVersion": 1, "label": "maos", "message": "failing", "color": "red"
    }  # fmt: skip
    picture = client.get("/badge.svg?repo=acme/shop&label=%3Cscript%3E")
    assert picture.mimetype == "image/svg+xml"
    assert "passing" in picture.text
    assert "<script>" not in picture.text
    ElementTree.fromstring(picture.text)
    assert client.get("/badge.json?repo=nowhere").json["message"] == "no runs"  # type: ignore[index]


def test_the_feed_holds_the_failed_runs(client: FlaskClient) -> None:
    answer = client.get("/failed.atom")
    root = ElementTree.fromstring(answer.data)
    entries = root.findall(f"{{{ATOM}}}entry")
    assert [entry.findtext(f"{{{ATOM}}}id") for entry in entries] == ["http://localhost/runs/20261126-080400-aaaaaa"]
    assert "Pull request failed on main" in (entries[0].findtext(f"{{{ATOM}}}title") or "")


def test_prometheus_can_read_the_figures(client: FlaskClient) -> None:
    text = client.get("/metrics").text
    assert 'maos_runs{status="succeeded"} 5' in text
    assert f"maos_schema_version {SCHEMA_VERSION}\n" in text
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) .+|[a-z_]+(\{[^}]*\})? [-\d.e+]+", line), line


@pytest.mark.parametrize("url", EMPTY)
def test_without_a_database_nothing_breaks(tmp_path: Path, url: str) -> None:
    assert create_app(tmp_path / "none.db").test_client().get(url).status_code == 200
