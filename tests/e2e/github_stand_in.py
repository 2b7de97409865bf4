"""A stand-in for the part of GitHub's API that a run writes to, on loopback; ours, not GitHub's.

It keeps comments and check runs in memory, pages its lists, and is as strict as GitHub where a slip would show:
comments over 65,536 characters, more than 50 annotations, an unknown conclusion, text over 65,535 characters and
unknown fields are answered with 422. Both sides are held to GitHub's OpenAPI description: a request that it forbids,
or an answer of ours that it doesn't know, fails the test that had it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.e2e.github_judge import answer_faults, request_faults

REPOSITORY = "Codertocat/Hello-World"
CHECK_FIELDS = {"name", "head_sha", "details_url", "external_id", "status", "started_at", "conclusion"} | {
    "completed_at",
    "output",
    "actions",
}
CONCLUSIONS = {"action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """What happens to one request: it gets `status`, or with `cut` no answer; with `done` it takes effect before."""

    method: str
    ending: str  # of the path
    status: int = 500
    said: str = "Server Error"
    headers: Mapping[str, str] = field(default_factory=dict)
    done: bool = False
    cut: bool = False
    drips_s: float = 0.0  # the answer comes byte by byte, for so long
    late_s: float = 0.0  # before anything else happens
    always: bool = False  # to each such request, not to one


class GitHubStandIn:
    """Start it as a context manager; `requests` has every method and path, `refuse` answers writes with a status."""

    def __init__(self, *, prefix: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.prefix = prefix
        self._numbers = itertools.count(1)
        self.comments: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.annotations: dict[int, list[dict[str, Any]]] = {}  # by check run; GitHub appends
        self.history: list[tuple[str, str]] = []  # name of a check, its status or conclusion, as written
        self.requests: list[tuple[str, str]] = []
        self.sent_at: list[tuple[float, float, str]] = []  # begin and end of each request, and its method
        self.unchanged = 0  # answers that were "304 Not Modified"
        self.faults: list[str] = []  # what GitHub's description finds wrong, in requests and in answers
        self.refuse: int | None = None
        self.pull: dict[str, Any] = {}  # the pull request, where a test needs one
        self.permissions: dict[str, str] = {}  # by login; anybody else may read
        self.reactions: list[tuple[int, str]] = []
        self.cancelled: list[int] = []
        self.troubles: list[Trouble] = []  # each for one request, the first that fits
        self.slow_s = 0.0  # before each answer
        self.stopped = threading.Event()
        stand_in = self

        class Handler(_Handler):
            github = stand_in

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}{prefix}"

    def __enter__(self) -> GitHubStandIn:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        assert kind is not None or not self.faults, "\n".join(self.faults)

    def someone_comments(self, body: str, *, login: str = "someone", kind: str = "User") -> None:
        """Add a comment that isn't the action's."""
        self.comments.append(self._comment(body, login, kind))

    def forget_checks(self) -> None:
        """Forget the check runs of an earlier push, but not the comment."""
        self.checks.clear()
        self.annotations.clear()

    def trouble(self, method: str, target: str) -> Trouble | None:
        """The trouble that is due for a request; it is used up."""
        for trouble in self.troubles:
            if trouble.method == method and _ends(urlsplit(target).path, trouble.ending):
                if not trouble.always:
                    self.troubles.remove(trouble)
                return trouble
        return None

    def _comment(self, body: str, login: str, kind: str) -> dict[str, Any]:
        number = next(self._numbers)
        return {
            "id": number,
            "url": f"{self.url}/repos/{REPOSITORY}/issues/comments/{number}",
            "html_url": f"https://github.com/{REPOSITORY}/pull/2#issuecomment-{number}",
            "body": body,
            "performed_via_github_app": None,
            "user": {"login": login, "type": kind, "id": 41898282, "url": f"{self.url}/users/{login}"},
            "created_at": "2026-11-23T00:00:00Z",
            "updated_at": "2026-11-23T00:00:00Z",
        }

    def answer(  # noqa: PLR0911, PLR0912 - one branch for each address
        self, method: str, target: str, body: dict[str, Any]
    ) -> tuple[int, Any, int | None]:
        """Status, JSON, and the total of a list that is to be paged."""
        path = urlsplit(target).path.removeprefix(f"/repos/{REPOSITORY}")
        query = parse_qs(urlsplit(target).query)
        if method != "GET" and self.refuse is not None:
            return self.refuse, {"message": "Resource not accessible by integration"}, None
        if path == "/rate_limit":
            core = {"limit": 1000, "remaining": 990, "used": 10, "reset": 1_767_225_600}
            return 200, {"resources": {"core": core}, "rate": core}, None
        if path == "":
            return 200, {"full_name": REPOSITORY, "url": f"{self.url}/repos/{REPOSITORY}", "id": 1}, None
        if re.fullmatch(r"/issues/\d+", path):
            number = int(path.rsplit("/", 1)[1])
            return 200, {"number": number, "url": f"{self.url}/repos/{REPOSITORY}/issues/{number}", "id": 1}, None
        if re.fullmatch(r"/issues/\d+/comments", path):
            if method == "GET":
                return 200, self.comments, len(self.comments)
            return self._write_comment(None, body)
        if found := re.fullmatch(r"/issues/comments/(\d+)", path):
            comment = next((each for each in self.comments if each["id"] == int(found[1])), None)
            if comment is None:
                return 404, {"message": "Not Found"}, None
            if method == "DELETE":
                self.comments.remove(comment)
                return 204, None, None
            return (200, comment, None) if method == "GET" else self._write_comment(comment, body)
        if found := re.fullmatch(r"/commits/([0-9a-f]+)/check-runs", path):
            name = query.get("check_name", [None])[0]
            status = query.get("status", [None])[0]
            runs = [run for run in self.checks if run["head_sha"] == found[1] and name in (None, run["name"])]
            runs = [run for run in runs if status in (None, run["status"])]
            return 200, {"total_count": len(runs), "check_runs": runs}, None
        if found := re.fullmatch(r"/commits/([0-9a-f]+)", path):
            return 200, {"sha": found[1], "url": f"{self.url}/repos/{REPOSITORY}/commits/{found[1]}"}, None
        if re.fullmatch(r"/pulls/\d+", path):
            return (200, self.pull, None) if self.pull else (404, {"message": "Not Found"}, None)
        if found := re.fullmatch(r"/collaborators/([^/]+)/permission", path):
            level = self.permissions.get(unquote(found[1]), "read")
            return 200, {"permission": level, "role_name": level, "user": None}, None
        if found := re.fullmatch(r"/issues/comments/(\d+)/reactions", path):
            self.reactions.append((int(found[1]), body["content"]))
            return 201, {"id": len(self.reactions), "content": body["content"]}, None
        if found := re.fullmatch(r"/actions/runs/(\d+)/cancel", path):
            self.cancelled.append(int(found[1]))
            return 202, {}, None
        if path == "/check-runs":
            return self._write_check(None, body)
        if found := re.fullmatch(r"/check-runs/(\d+)", path):
            run = self.checks[int(found[1]) - 1]
            return (200, run, None) if method == "GET" else self._write_check(run, body)
        return 404, {"message": "Not Found"}, None

    def _write_comment(self, comment: dict[str, Any] | None, body: dict[str, Any]) -> tuple[int, Any, None]:
        if set(body) != {"body"} or not body["body"] or len(body["body"]) > 65_536:
            return 422, {"message": "Validation Failed"}, None
        if comment is not None:
            comment["body"] = body["body"]
            return 200, comment, None
        self.comments.append(self._comment(body["body"], "github-actions[bot]", "Bot"))
        return 201, self.comments[-1], None

    def _write_check(self, run: dict[str, Any] | None, body: dict[str, Any]) -> tuple[int, Any, None]:
        output = body.get("output") or {}
        wrong = (
            set(body) - CHECK_FIELDS
            or (output and not {"title", "summary"} <= set(output))
            or len(output.get("annotations") or []) > 50
            or max(len(output.get("summary") or ""), len(output.get("text") or "")) > 65_535
            or (body.get("conclusion") or "success") not in CONCLUSIONS
            or (run is None and not {"name", "head_sha"} <= set(body))
        )
        if wrong:
            return 422, {"message": "Validation Failed"}, None
        status = 200
        if run is None:
            number = len(self.checks) + 1
            run = {"id": number, "conclusion": None, "app": {"slug": "github-actions", "id": 15368}}
            run |= {
                "url": f"{self.url}/repos/{REPOSITORY}/check-runs/{number}",
                "html_url": f"https://github.com/{number}",
            }
            self.checks.append(run)
            status = 201
        run |= {name: value for name, value in body.items() if name not in ("output", "actions")}
        if output:
            run["output"] = {name: output.get(name) for name in ("title", "summary", "text")}
            self.annotations.setdefault(run["id"], []).extend(output.get("annotations") or [])
            run["output"]["annotations_count"] = len(self.annotations[run["id"]])
        if run.get("conclusion"):
            run["status"] = "completed"  # a conclusion implies it
        self.history.append((run["name"], run.get("conclusion") or run.get("status", "queued")))
        return status, run, None


def _ends(path: str, ending: str) -> bool:
    """Whether a path ends so; an ending in a slash stands for any one number after it."""
    return bool(re.search(rf"{re.escape(ending)}\d+\Z", path)) if ending.endswith("/") else path.endswith(ending)


class _Handler(BaseHTTPRequestHandler):
    github: GitHubStandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets: the second would wait 40 ms for an answer

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length)
        began = time.monotonic()
        self.path = self.path.removeprefix(self.github.prefix)
        self.github.requests.append((self.command, self.path))
        if self.github.slow_s and self.github.stopped.wait(self.github.slow_s):
            self.close_connection = True
            return
        self.github.faults += request_faults(self.command, self.path, sent, self.headers.get("Content-Type", ""))
        body = json.loads(sent or b"{}")
        headers = {"Content-Type": "application/json"}
        trouble = self.github.trouble(self.command, self.path)
        if trouble is not None and trouble.late_s:
            self.github.stopped.wait(trouble.late_s)
            trouble = None if trouble.status == 200 else trouble
        if trouble is None or trouble.done:
            status, value, total = self.github.answer(self.command, self.path, body)
        if trouble is not None:
            if trouble.cut:
                self.close_connection = True
                return
            if trouble.drips_s:
                self._drip(trouble.drips_s)
                return
            status, value, total = trouble.status, {"message": trouble.said}, None
            headers |= trouble.headers
        if total is not None:
            query = parse_qs(urlsplit(self.path).query)
            page, size = int(query.get("page", ["1"])[0]), int(query.get("per_page", ["30"])[0])
            value = value[(page - 1) * size : page * size]
            if page * size < total:
                path = urlsplit(self.path).path
                headers["Link"] = f'<{self.github.url}{path}?per_page={size}&page={page + 1}>; rel="next"'
        content = b"" if value is None else json.dumps(value).encode()
        if self.command == "GET" and status == 200:
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            if self.headers.get("If-None-Match") == headers["ETag"]:
                status, content = 304, b""
                self.github.unchanged += 1
        if status not in (301, 302, 304, 307, 308):
            self.github.faults += answer_faults(self.command, self.path, status, content)
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.github.sent_at.append((began, time.monotonic(), self.command))

    def _drip(self, seconds: float) -> None:
        """An answer that never stops coming, and never comes."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.github.stopped.wait(0.05):
            try:
                self.wfile.write(b" ")
            except OSError:
                return

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the tests read `requests`."""
