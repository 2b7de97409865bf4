"""The built image, run as GitHub's runner runs it, by real payloads against the stand-in for GitHub's API."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from maos_bot.store.queries import Queries
from tests.container.runner import RUNNER_UID, TOKEN, Ended, Runner
from tests.e2e.events import PULL_REQUEST, comment_event, git, pull_request
from tests.e2e.github_api import PARTS
from tests.e2e.github_stand_in import GitHubStandIn
from tests.e2e.mock_models import asked, mock_models, tool

SPEC = """\
version: 1
name: Pull request
tasks:
  lint: {run: "git status --porcelain && rg --version > found.txt && id -u >> found.txt"}
  unit: {run: "echo '::error file=code.txt,line=1::broken'; exit 3", needs: [lint]}
  docs: {run: "true", needs: [unit]}
"""
GOOD = "version: 1\nname: Pull request\ntasks:\n  lint: {run: 'mkdir -p made/here && echo ran > made/here/ran.txt'}\n"


def source(folder: Path, spec: str = SPEC, **files: str) -> Path:
    """A repository with a commit."""
    made = folder / "source"
    made.mkdir()
    git(made, "init", "-q")
    for name, text in {".maos.yml": spec, "code.txt": "the base's code\n", **files}.items():
        (made / name).write_text(text, encoding="utf-8")
    git(made, "add", ".")
    git(made, "commit", "-q", "-m", "first")
    return made


def event_of(sha: str, *, fork: bool = False) -> dict[str, Any]:
    """`pull_request`, derived from a real payload: our commit, and for a fork another head repository."""
    payload = copy.deepcopy(PULL_REQUEST)
    payload["pull_request"] = pull_request(sha=sha, fork=fork)
    return payload


def example(name: str) -> dict[str, Any]:
    """The first real payload of an event that GitHub published."""
    path = PARTS / "node_modules" / "@octokit" / "webhooks-examples" / "api.github.com" / "index.json"
    if not path.exists():
        pytest.skip("the payloads are not installed: make stand-ins")
    events = {event["name"]: event["examples"] for event in json.loads(path.read_text(encoding="utf-8"))}
    payload: dict[str, Any] = copy.deepcopy(events[name][0])
    return payload


def stored(runner: Runner) -> tuple[str, str]:
    """Status and event of the newest run in the workspace's database."""
    with contextlib.closing(Queries(runner.workspace / ".maos" / "maos.db")) as queries:
        newest = queries.run(queries.latest_run_id() or "")
        return newest.status, newest.event


def conclusions(github: GitHubStandIn) -> list[str]:
    return sorted(str(run["conclusion"]) for run in github.checks)


def of_root(runner: Runner) -> list[str]:
    """What root owns in the workspace."""
    return [
        str(Path(folder, name).relative_to(runner.workspace))
        for folder, folders, files in os.walk(runner.workspace)
        for name in (*folders, *files)
        if Path(folder, name).lstat().st_uid != RUNNER_UID
    ]


def show(ended: Ended) -> str:
    return f"exit code {ended.code}\n{ended.said}"


def test_an_own_pull_request_is_run_posted_summed_up_and_stored(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    runner.check_out(source(tmp_path))
    sha = git(tmp_path / "source", "rev-parse", "HEAD")
    ended = runner.run("pull_request", event_of(sha), inputs={"events": "events.ndjson"})
    assert ended.code == 1, show(ended)
    assert "Traceback" not in ended.said
    assert len(github.comments) == 1, show(ended)
    comment = github.comments[0]
    assert "exit code 3" in comment["body"]
    assert "code.txt" in comment["body"]
    assert conclusions(github) == ["failure", "failure", "skipped", "success"], show(ended)
    assert {run["head_sha"] for run in github.checks} == {sha}
    assert ended.outputs["status"] == "failed"
    assert ended.outputs["findings"] == "1"
    assert json.loads(ended.outputs["report-json"])["run_id"] == ended.outputs["run-id"]
    assert "Pull request" in ended.summary
    assert stored(runner) == ("failed", "pull_request")
    assert (runner.workspace / "found.txt").read_text().splitlines()[-1] == "0"  # root, as GitHub runs it
    assert of_root(runner) == []
    assert runner.docker.callers == 0
    assert TOKEN not in ended.said + ended.summary + (runner.workspace / "events.ndjson").read_text()


def test_no_task_finds_the_token_in_what_the_kernel_tells_of_other_processes(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    look = "! cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -a '^INPUT_GITHUB'"
    runner.check_out(source(tmp_path, f"version: 1\ntasks:\n  look: {{run: {json.dumps(look)}}}\n"))
    ended = runner.run("pull_request", event_of(git(tmp_path / "source", "rev-parse", "HEAD")))
    assert ended.code == 0, show(ended)


def test_a_forks_pull_request_runs_and_posts_nothing(runner: Runner, github: GitHubStandIn, tmp_path: Path) -> None:
    runner.check_out(source(tmp_path, GOOD))
    sha = git(tmp_path / "source", "rev-parse", "HEAD")
    ended = runner.run("pull_request", event_of(sha, fork=True))
    assert ended.code == 0, show(ended)
    assert github.comments == github.checks == []
    assert all(method == "GET" for method, _ in github.requests)
    assert "comes from a fork" in ended.said
    assert "lint" in ended.summary
    assert stored(runner) == ("succeeded", "pull_request")
    assert (runner.workspace / "made" / "here" / "ran.txt").stat().st_uid == RUNNER_UID
    assert json.loads((runner.workspace / ".maos" / "state.json").read_text())["level"] == "fork"


def test_a_dispatch_runs_with_checks_and_without_a_comment(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    runner.check_out(source(tmp_path, GOOD))
    ended = runner.run("workflow_dispatch", example("workflow_dispatch"), inputs={"limits": "concurrent-agents=2"})
    assert ended.code == 0, show(ended)
    assert github.comments == []
    assert conclusions(github) == ["success", "success"]
    assert ended.outputs["status"] == "succeeded"
    assert stored(runner) == ("succeeded", "workflow_dispatch")


def test_a_comments_command_runs_the_heads_code_by_the_bases_spec(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    base = source(tmp_path, "version: 1\nname: Pull request\ntasks:\n  lint: {run: cat code.txt}\n")
    runner.check_out(base)
    git(base, "checkout", "-q", "-b", "topic")
    (base / "code.txt").write_text("the head's code\n", encoding="utf-8")
    (base / ".maos.yml").write_text("version: 1\ntasks:\n  lint: {run: 'touch evil.txt'}\n", encoding="utf-8")
    git(base, "commit", "-q", "-a", "-m", "head")
    head = git(base, "rev-parse", "HEAD")
    github.permissions = {"Codertocat": "write"}
    github.pull = pull_request(sha=head)
    event = example("issue_comment")
    github.someone_comments("/maos run lint", login="Codertocat")
    event = {**event, **comment_event(github.comments[-1]), "repository": event["repository"]}
    # The origin is on this machine: mounted where git looks for it, and root's like the container.
    ended = runner.run("issue_comment", event, flags=["-v", f"{base}:{base}:ro"], env={"MAOS_WRITE_PAUSE_S": "0.01"})
    assert ended.code == 0, show(ended)
    assert "the head's code" in ended.said
    assert not (runner.workspace / "evil.txt").exists()
    assert {run["head_sha"] for run in github.checks} == {head}
    assert stored(runner) == ("succeeded", "issue_comment")
    assert of_root(runner) == []


AGENT = """\
version: 1
name: Pull request
budget: {usd: 1}
tasks:
  words: {agent: "Write the words into words.txt.", writes: [words.txt]}
"""
KEY = "sk-ant-test-0123456789"
ALONE_S = 0.25  # what `maos --version` takes in a new container on 2 cores that nobody else uses


def test_an_agents_task_asks_the_model_provider_and_leaves_a_patch(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    fixtures = [
        tool("Task words:", 0, "write", path="words.txt", text="fine words\n"),
        tool("Task words:", 1, "finish", summary="written"),
    ]
    runner.check_out(source(tmp_path, AGENT))
    sha = git(tmp_path / "source", "rev-parse", "HEAD")
    with mock_models(tmp_path / "mock", fixtures) as url:
        keys = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}
        ended = runner.run("pull_request", event_of(sha), env=keys)
        assert asked(url)
    assert ended.code == 0, show(ended)
    assert float(ended.outputs["cost-usd"]) > 0
    assert int(ended.outputs["tokens"]) > 0
    assert "+fine words" in (runner.workspace / ended.outputs["patch"]).read_text()
    assert conclusions(github) == ["success", "success"]
    assert "words" in github.comments[0]["body"]
    told = "\n".join(line for line in ended.said.splitlines() if not line.startswith("::add-mask::"))
    assert KEY not in told + ended.summary
    assert of_root(runner) == []


CANCELLED = """\
version: 1
name: Pull request
tasks:
  first: {run: "true"}
  polite: {run: "trap 'echo bye; exit 0' TERM; echo begun; while true; do sleep 0.1; done", needs: [first]}
  deaf: {run: "trap '' TERM; echo begun; sleep 617.23 & wait; sleep 617.23", needs: [first]}
  never: {run: "true", needs: [polite, deaf]}
"""


def test_a_cancelled_run_stops_everything_and_says_so_in_time(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    runner.check_out(source(tmp_path, CANCELLED))
    sha = git(tmp_path / "source", "rev-parse", "HEAD")
    name = f"maos-cancel-{os.getpid()}"
    process = runner.start("pull_request", event_of(sha), name=name)
    wait_for(lambda: sum(run["status"] == "in_progress" for run in github.checks) >= 3)
    took_s = runner.cancel(process)
    said = process.communicate()[0]
    ended = runner.ended(process.returncode, said)
    print(f"cancelled in {took_s:.1f} s")
    assert took_s < 9.0, show(ended)
    assert ended.code == 130, show(ended)
    assert conclusions(github) == ["cancelled", "cancelled", "cancelled", "success"], show(ended)
    assert "ancelled" in github.comments[0]["body"]
    assert ended.outputs["status"] == "cancelled"
    assert "interrupted by SIGINT" in ended.summary
    assert stored(runner) == ("cancelled", "pull_request")
    assert of_root(runner) == []
    assert name not in runner.engine.command("ps", "-a", "--format", "{{.Names}}").stdout
    assert running("sleep 617.23") == []


def test_a_run_that_is_cancelled_while_github_hangs_still_ends_in_time(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    runner.check_out(source(tmp_path, CANCELLED))
    sha = git(tmp_path / "source", "rev-parse", "HEAD")
    process = runner.start("pull_request", event_of(sha))
    wait_for(lambda: sum(run["status"] == "in_progress" for run in github.checks) >= 3)
    github.slow_s = 30.0
    took_s = runner.cancel(process)
    ended = runner.ended(process.returncode, process.communicate()[0])
    print(f"cancelled in {took_s:.1f} s while GitHub hangs")
    assert took_s < 10.0, show(ended)
    assert ended.outputs["status"] == "cancelled", show(ended)
    assert stored(runner) == ("cancelled", "pull_request")
    assert of_root(runner) == []


def test_only_the_workspace_and_temporary_folders_are_written(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    runner.check_out(source(tmp_path, GOOD))
    sha = git(tmp_path / "source", "rev-parse", "HEAD")
    name = f"maos-diff-{os.getpid()}"
    process = runner.start("pull_request", event_of(sha), name=name, keep=True)
    process.communicate(timeout=120)
    try:
        changed = runner.engine.command("diff", name).stdout.splitlines()
    finally:
        runner.engine.command("rm", "--force", name)
    paths = [line.split(maxsplit=1)[1] for line in changed]
    # What the engine itself makes: mount points and the files it mounts.
    engines = ("/github", "/etc", "/run", "/var", "/dev", "/proc", "/sys", "/tmp")
    assert [path for path in paths if not path.startswith(engines)] == []
    files = [path for path in paths if path.startswith("/var") and not path.startswith("/var/run")]
    assert set(files) <= {"/var"}
    left = {path.name for path in runner.workspace.iterdir()}
    assert left == {".git", ".maos", ".maos.yml", "code.txt", "made"}
    assert list((runner.root / "home").iterdir()) == []


def test_the_first_task_starts_soon_after_the_container(runner: Runner, github: GitHubStandIn, tmp_path: Path) -> None:
    runner.check_out(source(tmp_path, GOOD))
    sha = git(tmp_path / "source", "rev-parse", "HEAD")
    waits, busy = [], 1.0
    for _ in range(3):
        began = time.monotonic()
        runner.engine.command("run", "--rm", "--network", "host", runner.engine.image, "--version")
        busy = max(1.0, (time.monotonic() - began) / ALONE_S)  # a machine that has other things to do takes longer
        began = time.time()
        ended = runner.run("pull_request", event_of(sha), inputs={"events": "events.ndjson"})
        assert ended.code == 0, show(ended)
        events = [json.loads(line) for line in (runner.workspace / "events.ndjson").read_text().splitlines()]
        waits.append((next(each["at"] for each in events if each["type"] == "TaskStarted") - began, busy))
    print("first task after", ", ".join(f"{wait:.2f} s ({busy:.1f} times as busy as alone)" for wait, busy in waits))
    assert min(wait / busy for wait, busy in waits) < 1.5, waits


def wait_for(holds: Any, seconds: float = 60.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def running(words: str) -> list[str]:
    """Processes of this machine whose command line is exactly `words`."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.strip() == words]
