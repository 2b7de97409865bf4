"""The mock provider `aimock`, which isn't ours, as a program on loopback; and `maos` run against it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

PARTS = Path(__file__).with_name("models")
NODE = Path(sys.executable).with_name("node")
MOCK = PARTS / "node_modules" / ".bin" / "aimock"
USAGE = {"input_tokens": 1200, "output_tokens": 80}

Fixture = dict[str, Any]


@contextlib.contextmanager
def mock_models(folder: Path, fixtures: Sequence[Fixture]) -> Iterator[str]:
    """Answer by `fixtures`; the address."""
    if not (NODE.exists() and MOCK.exists()):
        pytest.skip("make stand-ins installs the mock provider")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": fixtures}), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = MOCK.resolve().with_name("cli.js")
    command = [str(NODE), str(program), "-p", str(port), "-f", str(folder / "fixtures.json"), "--strict"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def asked(url: str) -> list[dict[str, Any]]:
    """The requests that the mock got."""
    with urllib.request.urlopen(f"{url}/__aimock/journal") as journal:
        rows = json.load(journal)
    return [row["body"] for row in rows]


def answer(task: str, turn: int, *, text: str = "", usage: dict[str, int] | None = None, **more: Any) -> Fixture:
    """What is said to the message that has `task` in it, when the conversation has had `turn` answers."""
    response: dict[str, Any] = {"content": text} if text else {}
    response |= {"usage": usage or USAGE, **more}
    return {"match": {"userMessage": task, "turnIndex": turn}, "response": response}


def tool(task: str, turn: int, name: str, *, usage: dict[str, int] | None = None, **arguments: Any) -> Fixture:
    """The same, as a call of a tool."""
    calls = [{"name": name, "arguments": arguments}]
    return answer(task, turn, usage=usage, toolCalls=calls)


def repository(folder: Path, spec: str, files: dict[str, str] | None = None) -> Path:
    """A git repository with a spec and files, and one commit."""
    folder.mkdir(parents=True)
    for name, text in {".maos.yml": spec, ".gitignore": ".maos/\n", **(files or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    return folder


def environment(url: str = "", **more: str) -> dict[str, str]:
    """Ours without any provider but the one at `url`."""
    hidden = ("ANTHROPIC_", "OPENAI_", "GEMINI_", "MAOS_", "GITHUB_", "INPUT_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    door = {"ANTHROPIC_API_KEY": "test-key-0123456789", "ANTHROPIC_BASE_URL": url} if url else {}
    return {**plain, **door, **more}


def maos(folder: Path, *arguments: str, url: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """The command line in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "maos_bot", *arguments],
        cwd=folder,
        env=environment(url, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ran(folder: Path, *arguments: str, url: str = "", **more: str) -> tuple[int, dict[str, Any], str]:
    """`maos run --json`: exit code, report, and what it said on standard error."""
    done = maos(folder, "run", "--json", *arguments, url=url, **more)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr
