"""The page of a running run: what its polls are answered."""

from __future__ import annotations

import re
from pathlib import Path

from flask.testing import FlaskClient

from maos_bot.events import FindingReported
from maos_bot.store.queries import LOST_AFTER_S
from tests.factories import PIPELINE, REVIEWERS, START, make_run, store_runs
from web import create_app

WHOLE = make_run()
CUT = make_run(cut_at=20.0)
RUN = WHOLE[0].run_id
NOW = START + 21.0


def client_at(path: Path, now: float) -> FlaskClient:
    return create_app(path, clock=lambda: now).test_client()


def test_nothing_new_is_answered_with_204_and_no_body(tmp_path: Path) -> None:
    client = client_at(store_runs(tmp_path / "maos.db", [CUT]), NOW)
    answer = client.get(f"/runs/{RUN}/live?after={CUT[-1].seq}")
    assert (answer.status_code, answer.text) == (204, "")


def test_news_are_answered_with_the_parts_and_the_new_number(tmp_path: Path) -> None:
    client = client_at(store_runs(tmp_path / "maos.db", [CUT]), NOW)
    answer = client.get(f"/runs/{RUN}/live?after={CUT[-1].seq - 3}")
    assert answer.status_code == 200
    assert f'name="after" value="{CUT[-1].seq}"' in answer.text
    parts = re.findall(r'<\w+ (?:type="hidden" )?id="([\w-]+)"[^>]* hx-swap-oob="true"', answer.text)
    assert parts == ["live-after", "live-note", "run-head", "outcome", "figures", "timeline", "tasks"]


def test_findings_come_again_only_where_there_are_new_ones(tmp_path: Path) -> None:
    cut = make_run(jobs=(*PIPELINE, *REVIEWERS), cut_at=38.0)
    found = [event.seq for event in cut if isinstance(event, FindingReported)]
    client = client_at(store_runs(tmp_path / "maos.db", [cut]), cut[-1].at)
    assert 'id="findings"' not in client.get(f"/runs/{RUN}/live?after={found[-1]}").text
    assert "Put the refund" in client.get(f"/runs/{RUN}/live?after={found[-1] - 1}").text


def test_the_end_of_a_run_stops_the_polling(tmp_path: Path) -> None:
    path = store_runs(tmp_path / "maos.db", [CUT])
    client = client_at(path, NOW)
    page = client.get(f"/runs/{RUN}").text
    assert 'hx-trigger="every 1500ms"' in page
    assert 'class="pulse"' in page
    store_runs(path, [WHOLE])
    answer = client.get(f"/runs/{RUN}/live?after={CUT[-1].seq}")
    assert answer.status_code == 286
    assert "The run has ended." in answer.text
    assert "every 1500ms" not in client.get(f"/runs/{RUN}").text


def test_a_run_without_signs_of_life_is_shown_as_lost(tmp_path: Path) -> None:
    client = client_at(store_runs(tmp_path / "maos.db", [CUT]), CUT[-1].at + LOST_AFTER_S + 60)
    page = client.get(f"/runs/{RUN}").text
    assert "Lost: it gave no sign of life any more" in page
    assert "1 minute ago" in page
    assert "every 1500ms" not in page
    assert client.get(f"/runs/{RUN}/live?after={CUT[-1].seq}").status_code == 286
    assert "Lost" in client.get("/?status=lost", headers={"HX-Request": "true"}).text


def test_a_number_that_is_none_counts_as_nothing_seen(tmp_path: Path) -> None:
    client = client_at(store_runs(tmp_path / "maos.db", [CUT]), NOW)
    assert client.get(f"/runs/{RUN}/live?after=x").status_code == 200
