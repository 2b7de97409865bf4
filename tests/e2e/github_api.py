"""GitHub's API from parts that aren't ours: `emulate` keeps the state, `prism` holds requests to GitHub's OpenAPI.

    maos -> recorder (this module) -> prism (openapi.json, GitHub's own description, trimmed) -> emulate

What `emulate` does otherwise than GitHub (it keeps annotations by replacing, takes 51 of them and comments of any
size, knows no reactions) no test relies on; those rules are in `github_stand_in.py`.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.events import TOKEN
from tests.e2e.github_stand_in import REPOSITORY

NODE: Final = Path(sys.executable).with_name("node")  # `make` puts one there that is new enough for emulate
PARTS: Final = Path(__file__).parent / "github"
OWNER_TOKEN: Final = "owner"
SEED: Final = {
    "tokens": {
        TOKEN: {"login": "github-actions[bot]", "scopes": ["repo"]},
        OWNER_TOKEN: {"login": "Codertocat", "scopes": ["repo"]},
    },
    "github": {
        "users": [{"login": "Codertocat"}, {"login": "github-actions[bot]", "type": "Bot"}],
        "repos": [{"owner": "Codertocat", "name": "Hello-World", "auto_init": True}],
    },
}
START_S: Final = 30.0
STOP_S: Final = 10.0
_PASSED_ON: Final = ("Accept", "Authorization", "Content-Type", "User-Agent", "X-GitHub-Api-Version", "If-None-Match")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request as it was sent, and what GitHub's description finds wrong with it."""

    method: str
    path: str
    body: Any
    status: int
    violations: tuple[str, ...]


class GitHubApi:
    """The address to talk to, and what was asked of it. `requests` grows in the order of the answers."""

    def __init__(self, upstream: int) -> None:
        self.requests: list[Request] = []
        self._upstream = upstream
        api = self

        class Handler(_Recorder):
            github = api

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def violations(self) -> list[str]:
        return [f"{sent.method} {sent.path}: {each}" for sent in self.requests for each in sent.violations]

    def sent(self, method: str, ending: str) -> list[Request]:
        return [each for each in self.requests if each.method == method and each.path.split("?")[0].endswith(ending)]

    def ask(self, method: str, path: str, body: Any = None, *, token: str = OWNER_TOKEN) -> Any:
        """Ask for something beside the action, as the repository's owner unless `token` says otherwise."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "User-Agent": "a-test"}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=START_S)
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, f"/repos/{REPOSITORY}{path}", content, headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert answer.status < 400, f"{method} {path}: {answer.status} {said!r}"
        return json.loads(said) if said else None

    def push(self, text: str) -> str:
        """A commit on the branch `changes`; returns its SHA."""
        content = {"message": text, "content": base64.b64encode(text.encode()).decode(), "branch": "changes"}
        made = self.ask("PUT", f"/contents/{abs(hash(text))}.txt", content)
        sha: str = made["commit"]["sha"]
        return sha

    def open_pull_request(self) -> tuple[int, str]:
        """A pull request from `changes`: its number and the SHA of its head."""
        main = self.ask("GET", "/branches/main")["commit"]["sha"]
        self.ask("POST", "/git/refs", {"ref": "refs/heads/changes", "sha": main})
        sha = self.push("first")
        number: int = self.ask("POST", "/pulls", {"title": "Changes", "head": "changes", "base": "main"})["number"]
        return number, sha


class _Recorder(BaseHTTPRequestHandler):
    github: GitHubApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _pass_on(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.github._upstream, timeout=START_S)
        connection.request(self.command, self.path, content or None, headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        found = json.loads(answer.headers.get("sl-violations") or "[]")
        self.github.requests.append(
            Request(
                method=self.command,
                path=self.path,
                body=json.loads(content) if content else None,
                status=answer.status,
                violations=tuple(
                    f"{'.'.join(each['location'])}: {each['message']}"
                    for each in found
                    if each["location"][0] == "request" and self.headers.get("User-Agent") != "a-test"
                ),
            )
        )
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "connection", "keep-alive", "transfer-encoding", "date"}:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _pass_on  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the tests read `requests`."""


@contextmanager
def github_api(folder: Path) -> Iterator[GitHubApi]:
    """All three parts, running; `folder` takes the seed and the parts' logs. Skips where they aren't installed."""
    programs = {name: PARTS / "node_modules" / ".bin" / name for name in ("emulate", "prism")}
    if not all(program.exists() for program in (NODE, *programs.values())):
        if os.environ.get("MAOS_REQUIRE_STAND_INS"):
            pytest.fail("emulate and prism are not installed: make stand-ins")
        pytest.skip("emulate and prism are not installed: make stand-ins")
    emulate_port, prism_port = _free_ports(2)
    api = GitHubApi(prism_port)
    seed = folder / "seed.json"
    seed.write_text(json.dumps(SEED), encoding="utf-8")
    commands = {
        "emulate": f"start --service github --port {emulate_port} --base-url {api.url} --seed {seed}",
        "prism": f"proxy -p {prism_port} openapi.json http://127.0.0.1:{emulate_port}",
    }
    running = []
    threading.Thread(target=api.server.serve_forever, daemon=True).start()
    try:
        for name, words in commands.items():
            with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
                command = [str(NODE), str(programs[name]), *words.split()]
                running.append(subprocess.Popen(command, cwd=PARTS, stdout=log, stderr=log, start_new_session=True))
        for port in (emulate_port, prism_port):
            _wait_for(port, running, folder)
        yield api
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        api.server.shutdown()
        api.server.server_close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(port: int, running: list[subprocess.Popen[bytes]], folder: Path) -> None:
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
            assert all(process.poll() is None for process in running), _logs(folder)
        else:
            return
    raise AssertionError(f"nothing answers on port {port}: {_logs(folder)}")


def _logs(folder: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.log")))
