"""`maos demo-data` fills a database of its own with runs that say that they are made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from maos_bot.cli import maos
from web import create_app


def test_every_page_has_something_to_show_and_says_that_it_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(maos, ["demo-data", "--runs", "80"])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / ".maos" / "maos.db").exists()
    client = create_app(tmp_path / ".maos" / "demo.db").test_client()
    rows = client.get("/runs.json").get_json()["runs"]
    assert len(rows) == 80
    assert all(row["name"].startswith("Simulated: ") and row["repository"] == "demo/shop" for row in rows)
    assert {row["status"] for row in rows} == {"succeeded", "failed", "cancelled"}
    for url in ("/", "/runs/latest", "/tasks", "/usage", "/compare", "/search?q=AssertionError", "/status"):
        answer = client.get(url, follow_redirects=True)
        assert answer.status_code == 200, url
        assert "No runs yet" not in answer.text
    assert "Simulated: " in client.get("/").text
