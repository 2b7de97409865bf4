"""A key that a run knows, printed by its tasks in many encodings, leaves by none of its exits."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from maos_bot.events import ChangeTaken, FindingReported, TranscriptAdded
from maos_bot.model import Task
from maos_bot.store.codec import to_line
from tests.agent_parts import Folders, Scripted, Taken, call, crew, finish, say
from tests.e2e.events import runner
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn
from tests.integration.running import run

KEY = 'k3y/with+odd"signs&=Zq8wKd0pXv6rTn2bLm'
SEEN = "a line that may be seen"
ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: key,
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64-shifted": lambda key: base64.b64encode(f"u:{key}".encode()).decode(),
    "base64-in-lines": lambda key: base64.encodebytes(f"{'x' * 40}{key}".encode()).decode(),
    "url-safe-base64": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "url": lambda key: quote(key, safe=""),
    "hex": lambda key: key.encode().hex(),
    "upper-hex": lambda key: key.encode().hex().upper(),
    "json": lambda key: json.dumps({"key": key}),
    "in-pieces": lambda key: key,
}
EXITS = ("database", "export", "events", "terminal", "outputs", "sarif", "summary", "comment", "checks")
PRINT = """\
import json, os, sys, time
from tests.e2e.test_secret_exits import ENCODINGS, SEEN
name, key = sys.argv[1], os.environ["key"]
text = ENCODINGS[name](key)
half = len(text) // 2 if name == "in-pieces" else 0
print(SEEN)
print(text[:half], end="", flush=True)
if half:
    time.sleep(0.3)
print(text[half:])
with open(f"{name}.sarif", "w") as file:
    where = {"physicalLocation": {"artifactLocation": {"uri": "b.py"}, "region": {"startLine": 1}}}
    result = {"ruleId": "r", "level": "error", "message": {"text": f"in a scan: {text}"}, "locations": [where]}
    json.dump({"version": "2.1.0", "runs": [{"tool": {"driver": {"name": "t"}}, "results": [result]}]}, file)
print("::error file=a.py,line=1::found " + text.replace("\\n", ""))
sys.exit(1)
"""


def spec() -> str:
    tasks: dict[str, Any] = {
        name: {
            "run": f"{sys.executable} print.py {name}",
            "outputs": [f"{name}.sarif"],
            "env": {"key": "${MAOS_TEST_API_KEY}", "PYTHONPATH": str(Path(__file__).parents[2])},
        }
        for name in ENCODINGS
    }
    tasks["said"] = {"run": f"true # {KEY}", "name": f"Named {KEY}"}
    return json.dumps({"version": 1, "name": f"Run {KEY}", "tasks": tasks})


@pytest.fixture(scope="module")
def exits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What left a run by each of its exits."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "print.py").write_text(PRINT)
    (folder / ".maos.yml").write_text(spec())
    pull = {"number": 2, "head": {"sha": "a" * 40, "ref": "topic", "repo": {"full_name": REPOSITORY}}}
    pull["base"] = {"sha": "b" * 40, "ref": "main", "repo": {"full_name": REPOSITORY}}
    event = {"action": "opened", "number": 2, "pull_request": pull, "repository": {"full_name": REPOSITORY}}
    with GitHubStandIn() as github:
        done = program(
            folder,
            "action",
            environ={
                **runner(github.url, folder, event),
                "INPUT_DATABASE": str(folder / "history.db"),
                "INPUT_EVENTS": str(folder / "events.ndjson"),
                "INPUT_SARIF": "findings.sarif",
                "MAOS_TEST_API_KEY": KEY,
            },
        )
        assert done.returncode == 1, done.stderr
        comment, checks = json.dumps(github.comments), json.dumps(github.checks)
    with sqlite3.connect(folder / "history.db") as connection:
        (run_id,) = connection.execute("select run_id from runs").fetchone()
        rows = [str(row) for (table,) in tables(connection) for row in connection.execute(f'select * from "{table}"')]
    connection.close()
    exported = [
        program(folder, "export", run_id, "--format", kind, "--db", str(folder / "history.db")).stdout
        for kind in ("json", "ndjson", "csv")
    ]
    raw = b"".join(path.read_bytes() for path in folder.glob("history.db*")).decode("latin-1")
    return {
        "database": raw + "\n".join(rows),
        "export": "\n".join(exported),
        "events": (folder / "events.ndjson").read_text(),
        # What the runner is told to mask is no leak: it shows neither that line nor the value anywhere.
        "terminal": "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "::add-mask::" not in line),
        "outputs": (folder / "output").read_text(),
        "sarif": (folder / "findings.sarif").read_text(),
        "summary": (folder / "summary.md").read_text(),
        "comment": comment,
        "checks": checks,
    }


def tables(connection: sqlite3.Connection) -> list[tuple[str]]:
    return connection.execute(
        "select name from sqlite_master where type = 'table' and sql like 'create table%'"
    ).fetchall()


def program(folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "maos_bot", *arguments],
        cwd=folder,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def traces(text: str, encoding: str) -> list[str]:
    """Parts of the key's code that stand in `text`, however lines and quotes were escaped around them."""
    joined = re.sub(r"\\r|\\n|\\|\n", "", text)
    code = ENCODINGS[encoding](KEY)
    if encoding == "base64-in-lines":
        code = base64.b64encode(f"{'x' * 40}{KEY}".encode()).decode()[60:]
    code = re.sub(r"\\|\n|[{}]|\"key\": ", "", code).strip('"')
    pieces = [code[start : start + 16] for start in range(len(code) - 15)]
    return [piece for piece in pieces if piece in joined]


@pytest.mark.parametrize("exit_", EXITS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_key_leaves_by_no_exit(exits: dict[str, str], exit_: str, encoding: str) -> None:
    assert traces(exits[exit_], encoding) == []


@pytest.mark.parametrize("exit_", [each for each in EXITS if each != "outputs"])
def test_what_stands_beside_the_key_does_leave(exits: dict[str, str], exit_: str) -> None:
    """Or else the test above would prove nothing."""
    assert "***" in exits[exit_]
    assert SEEN in exits[exit_] or exit_ in ("checks", "sarif")


class Keyed(Folders):
    """Places whose changes are named by the key."""

    async def take(self, task: Task) -> Any:  # noqa: ARG002
        return Taken([f"docs/{KEY}.md"], conflicts=(f"docs/{KEY}.md",), branch=f"kept/{KEY}")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_event_of_an_agent_holds_a_key(tmp_path: Path, encoding: str) -> None:
    said = ENCODINGS[encoding](KEY)
    finding = {"path": "a.py", "line": 1, "severity": "warning", "message": f"see {said}", "suggestion": said}
    script = [say(f"I say {said}", call("write", path="a.md", text=said)), finish(f"done {said}", findings=[finding])]
    provider = Scripted({"job": script})
    made = crew(provider, tmp_path)
    made._places = Keyed(tmp_path)
    task = Task(id="job", agent=f"Use {said}.", report="findings", writes=("docs/**",))
    ran = run(tmp_path, task, agents=made, secrets=(KEY,))
    assert ran.of(FindingReported)
    assert ran.of(ChangeTaken)
    assert len(ran.of(TranscriptAdded)) > 3
    for event in ran.events:
        assert traces(to_line(event), encoding) == []
