"""Every page of the dashboard is valid HTML, by html-validate's rules of the standard."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from maos_bot.demo.pipeline import PIPELINE, Ending, renamed
from maos_bot.model import Trigger
from tests.factories import START, make_history, make_run, store_runs
from web import create_app

VALIDATOR = Path(__file__).parent / "browser" / "validate.cjs"
OF_RUN = ("", "/graph", "/resources", "/teams", "/log", "/events", "/spec", "/live")
OF_TASK = ("/tasks/unit-api", "/tasks/unit-api?q=orders", "/tasks/review", "/tasks/api-docs", "/tasks/integration")
OVER_TIME = ("/", "/?status=nonsense", "/?text=nothing-like-it", "/tasks", "/tasks/unit-api?repo=acme/shop", "/compare")
OTHERS = ("/usage", "/usage?days=90", "/search", "/search?q=AssertionError", "/status", "/nowhere", "/runs/nope")
HOSTILE = "\"'><b id=1>&amp;\u202e"


def validated(pages: dict[str, str]) -> list[dict[str, object]]:
    """What the validator finds wrong with these pages."""
    node = shutil.which("node")
    if node is None or not (VALIDATOR.parent / "node_modules" / "html-validate").is_dir():
        reason = "html-validate is not installed: run `make stand-ins`"
        if os.environ.get("MAOS_REQUIRE_STAND_INS"):
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [node, str(VALIDATOR)], input=json.dumps(pages), capture_output=True, text=True, check=True, timeout=120
    )
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def whole(name: str, html: str) -> str:
    """A part as it stands in a page."""
    if not name.endswith("/live"):
        return html
    return f"<!doctype html><html lang='en'><head><title>x</title></head><body><main>{html}</main></body></html>"


def test_every_page_is_valid(tmp_path: Path) -> None:
    history = make_history(now=START, count=60)
    folded = make_run(
        run_id="20261126-070000-bbbbbb",
        started_at=START - 9000,
        jobs=[job for number in range(20) for job in renamed(PIPELINE, f"part {number}")],
    )
    path = store_runs(tmp_path / "maos.db", [*history, folded])
    client = create_app(path, clock=lambda: START).test_client()
    runs = (history[-2][0].run_id, history[-1][0].run_id, folded[0].run_id)
    urls = [*OVER_TIME, *OTHERS, *(f"/runs/{run}{part}" for run in runs for part in OF_RUN)]
    urls += [f"/runs/{run}{part}" for run in runs[:2] for part in OF_TASK]
    pages = {url: whole(url, client.get(url, follow_redirects=True).text) for url in urls}
    empty = create_app(tmp_path / "none.db").test_client()
    pages |= {"empty": empty.get("/").text}
    (tmp_path / "junk.db").write_bytes(b"this is no database at all, whatever its name says")
    pages |= {"broken": create_app(tmp_path / "junk.db").test_client().get("/").text}
    assert validated(pages) == []


def test_pages_stay_valid_whatever_texts_hold(tmp_path: Path) -> None:
    jobs = renamed(PIPELINE[:4], HOSTILE)
    trigger = Trigger(event=HOSTILE, actor=HOSTILE, ref=HOSTILE, sha=HOSTILE, repository=HOSTILE, url=HOSTILE)
    run = make_run(
        name=HOSTILE, jobs=jobs, trigger=trigger, endings={jobs[1].id: Ending(reason=HOSTILE, log=(HOSTILE,))}
    )
    client = create_app(store_runs(tmp_path / "maos.db", [run]), clock=lambda: START + 99).test_client()
    urls = [
        "/",
        "/tasks",
        "/status",
        "/compare?a=latest&b=latest",
        *(f"/runs/{run[0].run_id}{part}" for part in OF_RUN),
    ]
    assert validated({url: whole(url, client.get(url, follow_redirects=True).text) for url in urls}) == []


def test_the_validator_finds_what_is_wrong() -> None:
    page = "<!doctype html><html lang='en'><head><title>x</title></head><body><ul><p id='a' id='a'>y</ul></body></html>"
    assert {str(fault["rule"]) for fault in validated({"bad": page})} >= {"no-dup-attr", "element-permitted-content"}
