"""Events as GitHub delivers them, derived from real payloads, and `maos action` run inside the test's own process."""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from maos_bot.action import main
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn

PULL_REQUEST: dict[str, Any] = json.loads(
    (Path(__file__).parent / "payloads" / "pull_request.json").read_text(encoding="utf-8")
)[0]
TOKEN = "ghs_abcdefghijklmnopqrstuvwxyz0123456789"
SPEC = "version: 1\nname: Pull request\ntasks:\n  lint: {run: 'echo ran > ran.txt; cat code.txt'}\n"
AT = "2026-11-23T00:00:00Z"


def pull_request(*, sha: str, fork: bool = False, by: str = "User", state: str = "open") -> dict[str, Any]:
    """A pull request as the API gives it, derived from a payload."""
    pull: dict[str, Any] = copy.deepcopy(PULL_REQUEST["pull_request"])
    pull["head"]["sha"] = sha
    pull["base"]["repo"]["full_name"] = REPOSITORY
    pull["head"]["repo"]["full_name"] = "stranger/Hello-World" if fork else REPOSITORY
    pull["user"]["type"] = by
    pull["state"] = state
    return pull


def comment_event(comment: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An `issue_comment` event for a comment that stands on the stand-in; `changes` go over its top level."""
    event = {
        "action": "created",
        "issue": {"number": 2, "state": "open", "pull_request": {"url": "https://api.github.com/x"}},
        "comment": copy.deepcopy(comment),
        "sender": copy.deepcopy(comment["user"]),
        "repository": {"full_name": REPOSITORY},
    }
    return event | changes


@dataclass(frozen=True, kw_only=True, slots=True)
class Acted:
    """What a run of the action left behind."""

    code: int
    out: str
    err: str
    summary: str


def git(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    command = ["git", *names, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@dataclass(kw_only=True, slots=True)
class Repository:
    """A checkout of the base beside its origin, where the head lives too."""

    folder: Path
    base: str
    head: str


def repository(
    folder: Path, *, head_files: dict[str, str] | None = None, base_files: dict[str, str] | None = None
) -> Repository:
    """An origin with a base and a head commit on it, and a workspace at the base."""
    origin, work = folder / "origin", folder / "work"
    origin.mkdir()
    git(origin, "init", "-q")
    for name, text in {".maos.yml": SPEC, "code.txt": "the base's code\n", **(base_files or {})}.items():
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        (origin / name).write_text(text, encoding="utf-8")
    git(origin, "add", ".")
    git(origin, "commit", "-q", "-m", "base")
    base = git(origin, "rev-parse", "HEAD")
    git(origin, "checkout", "-q", "-b", "topic")
    for name, text in {"code.txt": "the head's code\n", **(head_files or {})}.items():
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        (origin / name).write_text(text, encoding="utf-8")
    git(origin, "add", ".")
    git(origin, "commit", "-q", "-m", "head")
    head = git(origin, "rev-parse", "HEAD")
    git(origin, "checkout", "-q", "main")
    git(origin, "config", "uploadpack.allowAnySHA1InWant", "true")
    subprocess.run(["git", "clone", "-q", str(origin), str(work)], check=True, capture_output=True)
    return Repository(folder=work, base=base, head=head)


def act_inside(
    github: GitHubStandIn,
    folder: Path,
    event: str,
    payload: object,
    capfd: pytest.CaptureFixture[str],
    *,
    sha: str = "c" * 40,
    **inputs: str,
) -> Acted:
    """Run the action in this process; `inputs` are its inputs, with `_` for `-`."""
    code = main(environment(github, folder, event, payload, sha=sha, **inputs))
    said = capfd.readouterr()
    summary = (folder.parent / "summary.md").read_text(encoding="utf-8")
    return Acted(code=code, out=said.out, err=said.err, summary=summary)


def environment(
    github: GitHubStandIn, folder: Path, event: str, payload: object, *, sha: str = "c" * 40, **inputs: str
) -> dict[str, str]:
    """What the runner gives the action, with its files beside `folder`."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **runner(github.url, folder, payload, event=event, files=folder.parent),
        "GITHUB_SHA": sha,
        "MAOS_WRITE_PAUSE_S": "0.001",
        **{f"INPUT_{name.upper().replace('_', '-')}": value for name, value in inputs.items()},
    }


def runner(
    url: str, folder: Path, payload: object, *, event: str = "pull_request", files: Path | None = None, number: int = 1
) -> dict[str, str]:
    """The variables that the runner sets for the action in `folder`, and short pauses; its files are in `files`.

    `number` counts the runs of the workflow.
    """
    files = files or folder
    (files / "event.json").write_text(json.dumps(payload), encoding="utf-8")
    for name in ("summary.md", "output"):
        (files / name).write_text("", encoding="utf-8")
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(files / "event.json"),
        "GITHUB_API_URL": url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_STEP_SUMMARY": str(files / "summary.md"),
        "GITHUB_OUTPUT": str(files / "output"),
        "GITHUB_RUN_ID": str(1000 + number),
        "GITHUB_RUN_NUMBER": str(number),
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_WORKFLOW": "CI",
        "INPUT_GITHUB-TOKEN": TOKEN,
        "MAOS_WRITE_PAUSE_S": "0.01",
        "MAOS_RETRY_PAUSE_S": "0.01",
    }
