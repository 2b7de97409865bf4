"""What the dashboard lets in and what it lets out."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from maos_bot.demo.pipeline import PIPELINE, Ending, renamed
from maos_bot.errors import ConfigError
from maos_bot.events import ChangeTaken, FindingReported, RunEvent, TranscriptAdded, UsageRecorded
from maos_bot.model import Trigger, Usage
from tests.factories import REVIEWERS, START, make_run, store_runs, with_agent
from web import create_app, security
from web.app import HTMX_FILE
from web.serve import Server

CORPUS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "</pre></title></textarea><iframe srcdoc=x>",
    "&lt;b&gt; &#x3c;script&#x3e;",
    "\x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x1b\\",
    '" hx-get="/evil" hx-trigger="load',
)


def agent_words(text: str) -> list[tuple[type[RunEvent], dict[str, Any]]]:
    """What an agent's attempt leaves, with `text` wherever there is a text."""
    long = f"{text}\n" * 12
    call = f"{text} {json.dumps({text: text, 'long': long})}"
    roles = (("asked", long), ("answered", text), ("called", call), ("called", text), ("returned", long), (text, text))
    finding = {"path": text, "line": 3, "message": text, "suggestion": text}
    names = {"files": (text,), "conflicts": (text,), "branch": text, "commit": text}
    return [
        (UsageRecorded, {"model": text, "usage": Usage(input_tokens=1)}),
        *((TranscriptAdded, {"turn": 1, "role": role, "text": said, "model": text}) for role, said in roles),
        (FindingReported, {**finding, "severity": "failure"}),
        (FindingReported, {**finding, "path": "src/a.py", "severity": "warning"}),
        (ChangeTaken, {**names, "patch": f"diff --git a/{text} b/{text}\n@@ -1 +1 @@\n-{text}\n+{text}\n"}),
        (ChangeTaken, names),
    ]


class Elements(HTMLParser):
    """Collects tags and attributes as a browser would find them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}


def elements(html: str) -> Elements:
    parser = Elements()
    parser.feed(html)
    return parser


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return create_app(store_runs(tmp_path / "maos.db", [make_run()]), clock=lambda: START + 999).test_client()


@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_is_only_text(tmp_path: Path, text: str) -> None:
    jobs = renamed(PIPELINE[:4], text)
    jobs = (*jobs[:3], replace(jobs[3], kind="agent"))
    trigger = Trigger(event=text, actor=text, ref=text, sha=text, repository=text, url=text, pull_request=1)
    bad = {jobs[1].id: Ending(reason=text, log=(text,))}
    run = make_run(name=text, jobs=jobs, trigger=trigger, endings=bad)
    run = with_agent(run, jobs[3].id, agent_words(text))
    going = make_run(run_id="20261126-090000-cccccc", name=text, jobs=jobs, trigger=trigger, cut_at=12.0)
    client = create_app(store_runs(tmp_path / "maos.db", [run, going]), clock=lambda: START + 13).test_client()
    tame_run = make_run(jobs=(*PIPELINE, *REVIEWERS))
    tame = create_app(store_runs(tmp_path / "tame.db", [tame_run]), clock=lambda: START + 13).test_client()
    task, agent = (quote(job.id, safe="") for job in (jobs[1], jobs[3]))
    name = quote(text)
    urls = (
        "/",
        f"/?text={name}&branch={name}&pr={name}&repo={name}",
        f"/runs/{name}",
        f"/tasks?repo={name}",
        f"/tasks/{task}?repo={name}",
        f"/search?q={name}",
        f"/usage?repo={name}",
        f"/compare?a={run[0].run_id}&b={going[0].run_id}",
        f"/compare?a={name}&b={name}",
        "/status",
    )
    of_runs = (
        "/runs/{}",
        "/runs/{}/live",
        *(f"/runs/{{}}/{part}" for part in ("graph", "resources", "teams", "log", "events", "spec")),
        f"/runs/{{}}/tasks/{task}",
        f"/runs/{{}}/tasks/{task}?q={name}",
        f"/runs/{{}}/tail/{task}?attempt=1",
        f"/runs/{{}}/tasks/{agent}",
        f"/runs/{{}}/said/{agent}?attempt=1",
    )
    pages = ("/", "/nowhere", "/tasks", "/usage", "/search?q=lint", "/status", "/compare?a=latest&b=latest")
    of_run = ("", "/graph", "/resources", "/teams", "/log", "/events", "/spec", "/tasks/lint", "/tasks/lint?q=passed",
              "/tasks/review", "/tasks/api-docs")  # fmt: skip
    known = elements(
        "".join(
            tame.get(url, follow_redirects=True).text
            for url in (*pages, *(f"/runs/20261126-080000-4f2a9c{part}" for part in of_run))
        )
    )
    allowed_tags = known.tags | {
        "pre",
        "noscript",
        "input",
        "table",
        "code",
        "span",
        "mark",
        "h3",
        "details",
        "summary",
    }
    for url in (*urls, *(one.format(which[0].run_id) for one in of_runs for which in (run, going))):
        answer = client.get(url)
        assert answer.status_code in {200, 204, 286, 302, 404, 422}, url
        found = elements(answer.text)
        assert found.tags <= allowed_tags, url
        for name, value in found.attributes:
            assert not name.startswith("on"), (url, name)
            assert name != "style"
            assert not value.strip().lower().startswith("javascript:") or name in {
                "value",
                "title",
                "aria-label",
                "data-task",
            }
            if name in {"href", "src", "action", "hx-get"}:
                assert value.startswith(("/", "#")), (url, name, value)
        assert "49" not in re.findall(r"<h1>(.*?)</h1>", answer.text)
    for url in (f"/runs/{run[0].run_id}/log/{task}", f"/runs/{run[0].run_id}/conversation/{agent}?attempt=1"):
        assert client.get(url).mimetype == "text/plain"


@pytest.mark.parametrize("url", ["/", "/runs/latest", "/nowhere", "/healthz", "/static/maos.css"])
def test_every_answer_carries_the_policy(client: FlaskClient, url: str) -> None:
    with client.get(url) as answer:
        headers = answer.headers
    for name, value in security.HEADERS.items():
        assert headers[name] == value
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_pages_hold_no_inline_script_or_style(client: FlaskClient) -> None:
    for url in ("/", "/runs/20261126-080000-4f2a9c", "/runs/20261126-080000-4f2a9c/tasks/lint"):
        page = client.get(url).text
        assert not re.search(r"<script(?![^>]* src=)", page)
        assert "<style" not in page
        assert not re.search(r"\sstyle=", page)
        assert not re.search(r"https?://", page.replace("http://www.w3.org/2000/svg", ""))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8300", 200),
        ("127.0.0.1", 200),
        ("127.0.0.9:1", 200),
        ("[::1]:8300", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("192.168.1.5", 421),
    ],
)
def test_only_names_of_this_machine_are_answered(client: FlaskClient, host: str, status: int) -> None:
    assert client.get("/", headers={"Host": host}).status_code == status


def test_a_name_can_be_allowed(tmp_path: Path) -> None:
    client = create_app(tmp_path / "none.db", hosts={"maos.example"}).test_client()
    assert client.get("/", headers={"Host": "maos.example"}).status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_can_be_written(client: FlaskClient, method: str) -> None:
    for url in ("/", "/runs/latest", "/healthz"):
        assert getattr(client, method)(url, data="x").status_code == 405


def test_the_vendored_script_is_the_one_its_name_says() -> None:
    path = Path(create_app(Path("none.db")).static_folder or "") / HTMX_FILE
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:8] == path.name.split("-")[2].split(".")[0]
    assert (path.parent / "htmx-LICENSE.txt").exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(create_app(tmp_path / "none.db"), host="localhost", port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.close()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_port_0_takes_a_free_port_and_serves(server: Server) -> None:
    with urllib.request.urlopen(server.url + "healthz", timeout=5) as answer:
        assert answer.status == 200
        assert "Server" not in answer.headers


def test_a_taken_port_is_said_with_the_way_out(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"port {server.port}: address already in use; choose another port"):
        Server(create_app(tmp_path / "none.db"), host="127.0.0.1", port=server.port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_machines_are_not_served(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="nobody would be asked"):
        Server(create_app(tmp_path / "none.db"), host=host, port=0)
