"""Past runs come in from the artifacts of workflow runs: each once, all or nothing, whatever an archive holds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from maos_bot.errors import GitHubError
from maos_bot.events import RunEvent
from maos_bot.github import artifacts as reading
from maos_bot.github.artifacts import Artifacts
from maos_bot.github.client import GitHubClient
from maos_bot.model import Trigger
from maos_bot.store.codec import to_line
from maos_bot.store.queries import Queries
from maos_bot.sync import Synced, take_in
from tests.e2e.github_judge import request_faults
from tests.factories import PIPELINE, make_run

REPOSITORY = "acme/shop"
TOKEN = "a token for tests"


def run_of(number: int, *, repository: str = REPOSITORY) -> list[RunEvent]:
    trigger = Trigger(event="push", repository=repository, ref="main", sha="ab" * 20)
    return make_run(run_id=f"20261126-080000-{number:06x}", trigger=trigger, jobs=PIPELINE[:3], seed=number)


def lines(events: Sequence[RunEvent]) -> bytes:
    return "".join(f"{to_line(event)}\n" for event in events).encode()


def packed(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return target.getvalue()


def of_run(number: int, **options: Any) -> bytes:
    return packed({"maos-events.ndjson": lines(run_of(number, **options))})


@dataclass
class GitHub:
    """A stand-in for the list of artifacts and for the other host that keeps the archives."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # newest first, as GitHub lists them
    archives: dict[int, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # what GitHub\'s description finds wrong
    tokens: list[str | None] = field(default_factory=list)  # what the archives' host was told
    troubles: dict[str, list[int]] = field(default_factory=dict)  # by the ending of a path: statuses, used up
    url: str = ""
    archive_url: str = ""

    def add(self, archive: bytes, *, name: str = "maos", fork: bool = False, **more: Any) -> int:
        number = len(self.rows) + 1
        self.archives[number] = archive
        run = {"head_sha": "cd" * 20, "repository_id": 7, "head_repository_id": 8 if fork else 7}
        digest = f"sha256:{hashlib.sha256(archive).hexdigest()}"
        row = {"id": number, "name": name, "size_in_bytes": len(archive), "expired": False, "digest": digest}
        self.rows.insert(0, {**row, "workflow_run": run, **more})
        return number

    @property
    def fetched(self) -> list[int]:
        return [int(one.split("/")[-2]) for one in self.requests if one.endswith("/zip")]

    def pages_asked(self) -> int:
        return sum("/actions/artifacts?" in one for one in self.requests)


class Handler(BaseHTTPRequestHandler):
    github: ClassVar[GitHub]

    def do_GET(self) -> None:
        github = self.github
        if self.path.startswith("/kept/"):
            github.tokens.append(self.headers.get("Authorization"))
            self._send(200, github.archives[int(self.path.rsplit("/", 1)[1])], "application/zip")
            return
        github.requests.append(self.path)
        github.faults += request_faults("GET", self.path, b"")
        path = urlsplit(self.path).path
        for ending, statuses in github.troubles.items():
            if path.endswith(ending) and statuses:
                self._send(statuses.pop(0), b'{"message": "no"}', "application/json")
                return
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        if path.endswith("/zip"):
            self.send_response(302)
            self.send_header("Location", f"{github.archive_url}/kept/{path.split('/')[-2]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        query = parse_qs(urlsplit(self.path).query)
        page, size = int(query["page"][0]), int(query["per_page"][0])
        body = json.dumps({"total_count": len(github.rows), "artifacts": github.rows[(page - 1) * size : page * size]})
        etag = f'W/"{hashlib.sha256(body.encode()).hexdigest()}"'
        if self.headers.get("If-None-Match") == etag:
            self._send(304, b"", "application/json")
        else:
            self._send(200, body.encode(), "application/json", etag)

    def _send(self, status: int, body: bytes, kind: str, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def github() -> Iterator[GitHub]:
    found = GitHub()
    handler = type("Own", (Handler,), {"github": found})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    found.url, found.archive_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    yield found
    for server in servers:
        server.shutdown()
        server.server_close()
    assert found.faults == []


def sync(github: GitHub, db: Path, *, names: str = "maos*") -> Synced:
    client = GitHubClient(token=TOKEN, repository=REPOSITORY, api_url=github.url, patience_s=0.5)
    artifacts = Artifacts(client, token=TOKEN)
    try:
        return take_in(db, artifacts, repository=REPOSITORY, names=names)
    finally:
        artifacts.close()


def run_ids(db: Path) -> set[str]:
    with Queries(db) as queries:
        return {row.run_id for row in queries.runs(limit=500)}


def test_every_page_is_read_once_and_then_only_what_is_new(github: GitHub, tmp_path: Path) -> None:
    db = tmp_path / "maos.db"
    first = github.add(of_run(1), name="maos-events")
    for _ in range(120):
        github.add(b"not ours", name="coverage")
    second = github.add(of_run(2))
    done = sync(github, db)
    assert (done.looked_at, done.runs, done.passed_over) == (2, 2, ())
    assert github.fetched == [first, second]  # the oldest first
    assert github.pages_asked() == 2
    assert set(github.tokens) == {None}  # the host of the archives is told no token
    with Queries(db) as queries:
        assert queries.events(run_of(1)[0].run_id, with_output=True) == run_of(1)

    again = sync(github, db)
    assert (again.looked_at, again.events) == (0, 0)
    assert github.pages_asked() == 3  # answered with 304: nothing has changed
    third = github.add(of_run(3))
    assert sync(github, db).runs == 1
    assert github.fetched == [first, second, third]
    assert github.pages_asked() == 4  # the first page holds one that is known


def test_a_sync_that_is_broken_off_goes_on_where_it_was(github: GitHub, tmp_path: Path) -> None:
    db = tmp_path / "maos.db"
    numbers = [github.add(of_run(number)) for number in (1, 2, 3)]
    github.troubles[f"/{numbers[1]}/zip"] = [404]
    with pytest.raises(GitHubError, match="could not fetch the artifact"):
        sync(github, db)
    assert run_ids(db) == {run_of(1)[0].run_id}
    assert sync(github, db).runs == 2
    assert github.fetched == [numbers[0], numbers[1], numbers[1], numbers[2]]


def test_a_run_that_is_there_already_changes_nothing(github: GitHub, tmp_path: Path) -> None:
    db = tmp_path / "maos.db"
    github.add(of_run(1), name="maos")
    github.add(of_run(1), name="maos-again")
    done = sync(github, db)
    assert (done.runs, done.events, done.passed_over) == (1, len(run_of(1)), ())


def test_a_forks_artifact_brings_new_runs_alone_with_what_github_knows_of_them(github: GitHub, tmp_path: Path) -> None:
    db = tmp_path / "maos.db"
    github.add(of_run(1))
    github.add(of_run(2, repository="someone/else"), fork=True)
    more = [*run_of(1), replace(run_of(1)[-1], seq=len(run_of(1)) + 1)]
    github.add(packed({"maos-events.ndjson": lines(more)}), fork=True)
    done = sync(github, db)
    assert [one.why for one in done.passed_over] == ["it comes from a fork and adds to a run that is there already"]
    with Queries(db) as queries:
        row = queries.run(run_of(2)[0].run_id)
        assert (row.repository, row.sha, row.is_fork) == (REPOSITORY, "cd" * 20, True)
        assert queries.run(run_of(1)[0].run_id).events == len(run_of(1))


def cut(archive: bytes) -> bytes:
    return archive[: len(archive) // 2]


def locked(archive: bytes) -> bytes:
    """The archive with the flag that says it is encrypted, in both of its headers."""
    changed = bytearray(archive)
    for start, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[changed.index(start) + offset] |= 1
    return bytes(changed)


BAD = {
    "no archive": (b"PK but no more", "can't be read as an archive"),
    "cut off": (cut(of_run(1)), "can't be read as an archive"),
    "encrypted": (locked(of_run(1)), "encrypted"),
    "packed otherwise": (packed({"a.ndjson": lines(run_of(1))}, method=zipfile.ZIP_LZMA), "packed in a way"),
    "a bomb": (packed({"a.ndjson": b"\n" * 40_000_000}), "larger than"),
    "many files": (packed({f"{number}.txt": b"" for number in range(2001)}), "2001 files"),
    "no events": (packed({"report.txt": b"hello"}), "no file of events"),
    "torn": (packed({"a.ndjson": lines(run_of(1))[:-40]}), "the last line doesn't end"),
    "no JSON": (packed({"a.ndjson": lines(run_of(1)) + b"{]\n"}), f"line {len(run_of(1)) + 1}: "),
    "another repository": (of_run(1, repository="acme/other"), "another repository"),
    "without a start": (packed({"a.ndjson": lines(run_of(1)[1:])}), "another repository, or of none"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_archive_is_passed_over_and_leaves_nothing(
    github: GitHub, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_EVENTS_BYTES", 1_000_000)
    archive, why = BAD[what]
    db = tmp_path / "maos.db"
    github.add(archive)
    good = github.add(of_run(9))
    done = sync(github, db)
    assert len(done.passed_over) == 1
    assert why in done.passed_over[0].why
    assert run_ids(db) == {run_of(9)[0].run_id}
    assert sync(github, db).looked_at == 0  # it isn't fetched again
    assert github.fetched[-1] == good


def test_names_in_an_archive_lead_nowhere(github: GitHub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    github.add(packed({"../../evil.ndjson": lines(run_of(1)), "/etc/evil.ndjson": lines(run_of(2)), "../x.txt": b"x"}))
    assert sync(github, home / "maos.db").runs == 2
    assert {path.name.partition("-")[0] for path in tmp_path.rglob("*")} <= {"home", "maos.db"}


def test_an_archive_that_isnt_the_one_listed_or_is_too_large_is_passed_over(github: GitHub, tmp_path: Path) -> None:
    github.add(of_run(1), digest=f"sha256:{'0' * 64}")
    github.add(of_run(2), size_in_bytes=reading.MAX_BYTES + 1)
    github.add(of_run(3), expired=True)
    done = sync(github, tmp_path / "maos.db")
    assert [one.why for one in done.passed_over] == [
        "it isn't what GitHub lists: its SHA-256 is another",
        "it has 67,108,865 bytes; 67,108,864 are taken",
    ]
    assert (done.runs, done.expired) == (0, 1)


def command(github: GitHub, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "GITHUB_API_URL": github.url, "GITHUB_TOKEN": token}
    env.pop("GH_TOKEN", None)
    words = [sys.executable, "-m", "maos_bot", "sync", *arguments]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


def test_the_command_says_what_came_in_and_what_is_missing(github: GitHub, tmp_path: Path) -> None:
    db = str(tmp_path / "maos.db")
    github.add(of_run(1))
    github.add(b"junk", name="maos\x1b[31m")
    done = command(github, REPOSITORY, "--db", db, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["runs"] == 1
    github.add(of_run(2))
    done = command(github, REPOSITORY, "--db", db)
    assert "1 new artifacts of acme/shop: 1 new runs" in done.stderr
    assert "\x1b" not in done.stderr
    github.troubles["/artifacts"] = [404]
    done = command(github, REPOSITORY, "--db", db)
    assert done.returncode == 5
    assert "actions: read" in done.stderr
    done = command(github, REPOSITORY, "--db", db, token="")
    assert done.returncode == 2
    assert "GITHUB_TOKEN" in done.stderr
    assert command(github, "nonsense").returncode == 2
