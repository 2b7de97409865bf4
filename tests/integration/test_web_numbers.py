"""The numbers on pages are those that `maos show --json` prints of the same run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from maos_bot.cli import maos
from tests.factories import START, make_history, store_runs
from web import create_app, words

HISTORY = make_history(now=START, count=20)
FAILED, CACHED, CANCELLED, PUSHED = (
    next(run for run in reversed(HISTORY) if wanted in str(run[-1]) + str(run[0].trigger))  # type: ignore[attr-defined]
    for wanted in ("status='failed'", "docs/api-reference", "status='cancelled'", "ref='main'")
)
RUNS = {"failed": FAILED, "cached": CACHED, "cancelled": CANCELLED, "pushed": PUSHED}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_runs(tmp_path_factory.mktemp("numbers") / "maos.db", HISTORY)


@pytest.fixture(scope="module")
def client(database: Path) -> FlaskClient:
    return create_app(database, clock=lambda: START).test_client()


def said_of(database: Path, run_id: str) -> dict[str, Any]:
    done = CliRunner().invoke(maos, ["show", run_id, "--db", str(database), "--json"], catch_exceptions=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def figures(html: str) -> dict[str, float]:
    found = re.findall(r'data-figure="(\w+)"[^>]*><data value="([^"]*)"', html)
    return {name: json.loads(value) for name, value in found}


def known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def tokens_of(usage: dict[str, Any]) -> int:
    return sum(value for name, value in usage.items() if name.endswith("_tokens"))


@pytest.mark.parametrize("which", RUNS)
def test_the_page_of_a_run(client: FlaskClient, database: Path, which: str) -> None:
    run_id = RUNS[which][0].run_id
    said = said_of(database, run_id)
    head, _, table = client.get(f"/runs/{run_id}").text.partition('id="tasks"')
    assert figures(head) == known(
        {
            "wall_s": said["wall_s"],
            "makespan_s": said["predicted"]["makespan_s"],
            "sequential_s": said["sequential_s"],
            "lower_bound_s": said["predicted"]["lower_bound_s"],
            "speedup": said["speedup"],
            "saved_s": said["saved_s"],
            "usd": said["usage"]["usd"],
            "tokens": tokens_of(said["usage"]) or None,
            "memory_mb": said["peak"]["memory_mb"],
            "cpu_percent": said["peak"]["cpu_percent"],
        }
    )
    rows = re.findall(r'<tr role="row" data-task="([^"]+)">(.*?)</tr>', table, re.DOTALL)
    assert [name for name, _ in rows] == list(said["tasks"])
    for name, row in rows:
        task = said["tasks"][name]
        keys = ("queued_s", "duration_s", "estimate_s", "peak_memory_mb", "attempts")
        assert figures(row) == known({key: task[key] for key in keys} | {"usd": task["usage"]["usd"]}), name


@pytest.mark.parametrize("which", RUNS)
def test_the_pages_of_its_tasks(client: FlaskClient, database: Path, which: str) -> None:
    run_id = RUNS[which][0].run_id
    for name, task in said_of(database, run_id)["tasks"].items():
        page = client.get(f"/runs/{run_id}/tasks/{quote(name)}").text
        last = re.findall(r'<tr role="row">(.*?)</tr>', page, re.DOTALL)
        if task["attempts"]:
            shown = [json.loads(one) for one in re.findall(r'<data value="([^"]*)"', last[-1])]
            assert shown == [
                one for one in (task["duration_s"], task["cpu_s"], task["peak_memory_mb"]) if one is not None
            ]
        if tokens_of(task["usage"]):
            assert figures(page) == known({"usd": task["usage"]["usd"]})
        assert page.count('<li class="finding ') == len(task["findings"])


def test_the_list_of_runs_and_its_json(client: FlaskClient, database: Path) -> None:
    rows = {row["run_id"]: row for row in client.get("/runs.json").get_json()["runs"]}
    page = client.get("/").text
    for run in RUNS.values():
        run_id = run[0].run_id
        said, row = said_of(database, run_id), rows[run_id]
        assert row["wall_s"] == pytest.approx(said["wall_s"], abs=1e-6)
        assert row["sequential_s"] == pytest.approx(said["sequential_s"], abs=1e-6)
        assert row["saved_s"] == pytest.approx(said["saved_s"] or 0.0, abs=1e-6)
        assert row["usd"] == pytest.approx(said["usage"]["usd"])
        assert row["input_tokens"] == said["usage"]["input_tokens"]
        assert {state: row[f"tasks_{state}"] for state in said["counts"]} == said["counts"]
        line = page[page.index(f'id="run-{run_id}"') :].partition("</tr>")[0]
        shown = [json.loads(one) for one in re.findall(r'<data value="([^"]*)"', line)]
        assert shown == [pytest.approx(said["wall_s"], abs=1e-6)]


@pytest.mark.parametrize("which", RUNS)
def test_the_times_beside_the_timeline(client: FlaskClient, database: Path, which: str) -> None:
    run_id = RUNS[which][0].run_id
    tasks = said_of(database, run_id)["tasks"]
    lanes = re.findall(
        r'<a class="lane-name"[^>]* href="[^"]*/tasks/([^"]+)".*?<span class="lane-time">([^<]+)</span>',
        client.get(f"/runs/{run_id}").text,
        re.DOTALL,
    )
    assert {unquote(name): time for name, time in lanes} == {
        name: words.duration(task["duration_s"]) for name, task in tasks.items()
    }
