"""Pages stay small and are answered from indexes, however long the history and however large a run."""

from __future__ import annotations

import gzip
import random
import re
import sqlite3
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from benchmarks._big_history import NOW, build
from benchmarks.dashboard import measure, pages_of, scans_of
from web import create_app

PAGES = tuple(pages_of([""], {"1000 tasks": "", "10000 tasks": ""}, random.Random(1)))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plans don't depend on how much there is: without ANALYZE, SQLite doesn't know."""
    path = tmp_path_factory.mktemp("scale") / "maos.db"
    build(path, runs=80, tell=False)
    return path


@pytest.fixture(scope="module")
def client(history: Path) -> FlaskClient:
    return create_app(history, clock=lambda: NOW).test_client()


@pytest.fixture(scope="module")
def urls(history: Path) -> dict[str, str]:
    connection = sqlite3.connect(history)
    some = [row[0] for row in connection.execute("SELECT run_id FROM runs WHERE name NOT LIKE '%tasks'")]
    big = dict(connection.execute("SELECT name, run_id FROM runs WHERE name LIKE '%tasks'"))
    connection.close()
    return {name: url() for name, url in pages_of(some, big, random.Random(4)).items()}


@pytest.mark.parametrize("page", PAGES)
def test_no_page_reads_a_big_table_from_end_to_end(
    client: FlaskClient, history: Path, urls: dict[str, str], page: str
) -> None:
    connection = sqlite3.connect(history)
    rows, _ = scans_of(client, urls[page], connection)
    connection.close()
    assert rows == []


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_below_60_kb_as_it_is_sent(client: FlaskClient, urls: dict[str, str], page: str) -> None:
    answer = client.get(urls[page], follow_redirects=True)
    assert answer.status_code in {200, 204, 286}
    assert len(gzip.compress(answer.data)) < 60_000


@pytest.mark.parametrize("page", ["run_1000_tasks", "run_10000_tasks"])
def test_a_run_of_very_many_tasks_is_folded_by_stage_and_opens_by_parts(
    client: FlaskClient, urls: dict[str, str], page: str
) -> None:
    first = client.get(urls[page]).text
    assert first.count('class="lane ') == 5
    stage = client.get(f"{urls[page]}?stage=2").text
    assert len(stage) < 1_000_000
    assert stage.count('class="lane ') == 200
    more = re.search(r'<a class="button" href="([^"#]+)#timeline-title">More tasks', stage)
    assert more is None or client.get(more[1].replace("&amp;", "&")).text.count('class="lane ') == 200
    assert (more is None) == (page == "run_1000_tasks")
    failed = client.get(f"{urls[page]}?state=upstream_failed")
    assert failed.status_code == 200
    for part in ("/graph", "/teams", "/resources", "/log", "/events"):
        assert len(client.get(f"{urls[page]}{part}").data) < 1_000_000


def test_the_benchmark_measures_each_page(history: Path) -> None:
    figures = measure(history, rounds=2)
    for name in ("p95_ms", "cpu_p95_ms", "first_cpu_ms", "gzip_kb"):
        assert set(figures[name]) == set(PAGES)
    assert figures["full_scans"] == {}
    assert figures["rss_mb"] > 1
