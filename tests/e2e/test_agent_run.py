"""Whole runs with agents, as the program, through Anthropic's SDK to a mock provider that isn't ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from maos_bot.store.queries import Queries
from tests.e2e.events import runner
from tests.e2e.github_stand_in import GitHubStandIn
from tests.e2e.mock_models import Fixture, answer, asked, environment, maos, mock_models, ran, repository, tool
from web import create_app

pytest.importorskip("anthropic")

SPEC = """\
version: 1
name: Goal
goal: Cover the parser, say so in the docs, and review it.
budget: {usd: 5, tokens: 900000}
limits: {concurrent-agents: 4}
defaults: {retry-delay-seconds: 0}
teams:
  code: {max-attempts: 2, max-concurrent-workers: 2}
  docs: {}
  review: {}
tasks:
  check: {run: "test ! -e src/fix.txt || grep -q good src/fix.txt"}
"""
VERIFY = "test ! -e src/fix.txt || grep -q good src/fix.txt"


def job(name: str, team: str, words: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "team": team, "agent": words, "why": f"{name} is wanted", **more}


TASKS = [
    job("fix", "code", "Write good into src/fix.txt.", writes=["src/fix.txt"], verify=VERIFY),
    job("add", "code", "Add src/a.txt.", writes=["src/a.txt"]),
    job("tests", "code", "Cover src/parser.py.", writes=["tests/**"], needs=["add"]),
    job("page", "docs", "Write docs/page.md.", writes=["docs/page.md"], needs=["fix"]),
    job("index", "docs", "Name the page in docs/index.md.", writes=["docs/index.md"], needs=["page"]),
    job("secure", "review", "Look for defects in src/parser.py.", report="findings"),
    job("style", "review", "Look for odd style in src/parser.py.", report="findings"),
    job("sum", "review", "Sum up src/parser.py.", report="text"),
]
PARSER = "def parse(text):\n    return eval(text)\n"
FINDING = {"path": "src/parser.py", "line": 2, "severity": "failure", "message": "eval of what a stranger wrote"}


def does(name: str, *calls: tuple[str, dict[str, Any]]) -> list[Fixture]:
    return [tool(f"Task {name}:", turn, called, **arguments) for turn, (called, arguments) in enumerate(calls)]


def wrote(path: str, text: str) -> tuple[str, dict[str, Any]]:
    return "write", {"path": path, "text": text}


def read(path: str) -> tuple[str, dict[str, Any]]:
    return "read", {"path": path}


def done(summary: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "finish", {"summary": summary, **more}


FIXTURES: list[Fixture] = [
    answer("You plan the work of agents", 0, text=json.dumps({"tasks": TASKS})),
    *does("fix", wrote("src/fix.txt", "bad\n"), done("wrote it")),
    tool("reviewed and not taken", 2, "write", path="src/fix.txt", text="good\n"),
    tool("reviewed and not taken", 3, "finish", summary="mended"),
    *does("add", wrote("src/a.txt", "a\n"), done("added")),
    *does("tests", read("src/a.txt"), wrote("tests/test_parser.py", "assert True\n"), done("covered")),
    *does("page", read("src/fix.txt"), wrote("docs/page.md", "# Page\n"), done("a page")),
    *does(
        "index", read("docs/page.md"), ("edit", {"path": "docs/index.md", "old": "none", "new": "page"}), done("named")
    ),
    *does(
        "secure",
        read("src/parser.py"),
        done("one", findings=[FINDING, {**FINDING, "line": 1, "severity": "warning", "message": "no type"}]),
    ),
    *does("style", read("src/parser.py"), done("none", findings=[])),
    *does("sum", read("src/parser.py"), done("It evaluates texts.")),
]
FILES = {"src/parser.py": PARSER, "docs/index.md": "pages: none\n"}
EXPECTED = {
    "src/fix.txt": "good\n",
    "src/a.txt": "a\n",
    "tests/test_parser.py": "assert True\n",
    "docs/page.md": "# Page\n",
    "docs/index.md": "pages: page\n",
}


def test_a_goal_becomes_eight_tasks_in_three_teams_and_one_patch(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", SPEC, FILES)
    with mock_models(tmp_path / "mock", FIXTURES) as url:
        code, report, said = ran(folder, url=url)
        bodies = asked(url)
    assert code == 0, said
    tasks = report["tasks"]
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(
        ["plan", "check", *(each["id"] for each in TASKS)], "succeeded"
    )
    assert {each["team"] for each in TASKS} == {tasks[each["id"]]["team"] for each in TASKS}
    assert tasks["fix"]["attempts"] == 2
    assert tasks["plan"]["usage"]["input_tokens"] == 1200
    assert [each["severity"] for each in tasks["secure"]["findings"]] == ["error", "warning"]
    turns = len([body for body in bodies if body["messages"]])
    assert report["usage"]["input_tokens"] == 1200 * turns
    assert report["usage"]["usd"] > 0
    patch = Path(report["patch"])
    assert f"git apply {patch.relative_to(folder)}" in said
    assert subprocess.run(["git", "status", "--short"], cwd=folder, capture_output=True, check=True).stdout == b""
    subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True)
    assert {name: (folder / name).read_text() for name in EXPECTED} == EXPECTED
    with Queries(folder / ".maos" / "maos.db") as queries:
        run_id = queries.find("latest")
        stored = [type(event).__name__ for event in queries.iter_events(run_id, with_output=False)]
        row = queries.runs(limit=1)[0]
    assert stored.count("UsageRecorded") == turns
    assert stored.count("ChangeTaken") == 5
    assert stored.count("FindingReported") == 2
    assert row.usd == pytest.approx(report["usage"]["usd"])
    shown = maos(folder, "show", "latest", "--task", "fix").stdout
    assert "it called:\nwrite" in shown
    assert "Your work was reviewed and not taken yet" in shown
    assert "fix is wanted" in maos(folder, "show", "latest", "--task", "plan").stdout
    page = create_app(folder / ".maos" / "maos.db").test_client()
    of_fix = page.get(f"/runs/{run_id}/tasks/fix").text
    assert '<span class="add">+good</span>' in of_fix
    assert of_fix.count('class="turn-head"') == 2  # of its second attempt
    assert "eval of what a stranger wrote" in page.get(f"/runs/{run_id}").text
    prefixes = {json.dumps(body["system"]) for body in bodies if "system" in body}
    assert len(prefixes) <= 1, "all are told the same beginning"


def act(
    tmp_path: Path, folder: Path, url: str, github: GitHubStandIn, *, fork: bool = False
) -> subprocess.CompletedProcess[str]:
    """`maos action` for a pull request at the head of `folder`."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
    payloads = json.loads((Path(__file__).parent / "payloads" / "pull_request.json").read_text(encoding="utf-8"))
    payload = payloads[0]
    payload["pull_request"]["head"]["sha"] = head.stdout.strip()
    if fork:
        payload["pull_request"]["head"]["repo"] |= {"full_name": "stranger/Hello-World", "id": 1, "fork": True}
    return maos(folder, "action", url=url, **runner(github.url, folder, payload, files=tmp_path))


def test_on_github_the_comment_has_cost_and_changes_and_findings_become_annotations(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", SPEC, FILES)
    with mock_models(tmp_path / "mock", FIXTURES) as url, GitHubStandIn() as github:
        finished = act(tmp_path, folder, url, github)
        assert finished.returncode == 0, finished.stderr
        (comment,) = github.comments
    body = comment["body"]
    assert "What agents changed" in body
    assert "`docs/index.md`" in body
    assert "$0." in body
    assert "anthropic/claude-" in body
    noted = [row for rows in github.annotations.values() for row in rows]
    assert {(row["path"], row["start_line"], row["annotation_level"]) for row in noted} == {
        ("src/parser.py", 2, "failure"),
        ("src/parser.py", 1, "warning"),
    }
    output = (tmp_path / "output").read_text()
    patch = output.partition("patch<<")[2].splitlines()[1]
    assert (folder / patch).read_text().count("diff --git") == len(EXPECTED)


def test_for_a_fork_no_agent_is_asked_whatever_keys_there_are(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", SPEC + "  look: {agent: Look.}\n", FILES)
    with mock_models(tmp_path / "mock", FIXTURES) as url, GitHubStandIn() as github:
        finished = act(tmp_path, folder, url, github, fork=True)
        assert finished.returncode == 0, finished.stderr
        assert asked(url) == []
    assert "agents may not run here: this pull request comes from a fork" in (tmp_path / "summary.md").read_text()


def test_apply_takes_the_changes_in_or_says_why_not(tmp_path: Path) -> None:
    spec = "tasks:\n  edit: {agent: Say page., writes: [docs/index.md]}\n"
    fixtures = does("edit", ("edit", {"path": "docs/index.md", "old": "none", "new": "page"}), done("said"))
    folder = repository(tmp_path / "fits", spec, FILES)
    (folder / "docs" / "index.md").write_text("pages: none\nnot committed yet\n")
    with mock_models(tmp_path / "mock", fixtures) as url:
        code, report, said = ran(folder, "--apply", url=url)
        assert code == 0, said
        assert (folder / "docs" / "index.md").read_text() == "pages: page\nnot committed yet\n"
        assert "patch" not in report
        spec += "  meddle: {run: 'while ! test -e go; do :; done; echo other > docs/index.md', timeout-minutes: 1}\n"
        spec += "  go: {run: 'touch go', needs: [edit]}\n"
        other = repository(tmp_path / "meddled", spec, FILES)
        code, report, said = ran(other, "--apply", url=url)
    assert code == 0, said
    assert (other / "docs" / "index.md").read_text() == "other\n"
    assert "none was applied" in said
    assert Path(report["patch"]).is_file()


def test_without_a_key_the_run_says_what_it_cannot_do_and_how_to_mend_that(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", SPEC + "  look: {agent: Look.}\n", FILES)
    code, report, _ = ran(folder)
    assert code == 0
    states = {name: (task["state"], task["reason"]) for name, task in report["tasks"].items()}
    assert states["check"][0] == "succeeded"
    assert states["plan"][0] == states["look"][0] == "skipped"
    assert "ANTHROPIC_API_KEY" in states["look"][1]
    assert environment()["PATH"]


def test_a_dearer_plan_waits_until_it_is_approved(tmp_path: Path) -> None:
    spec = "budget: {approve-above: 0.000001}\ntasks:\n  look: {agent: Look.}\n  shell: {run: 'true'}\n"
    folder = repository(tmp_path / "repo", spec, FILES)
    with mock_models(tmp_path / "mock", does("look", done("seen"))) as url:
        code, report, _ = ran(folder, url=url)
        assert code == 0
        assert report["tasks"]["look"]["state"] == "skipped"
        assert "/maos approve" in report["tasks"]["look"]["reason"]
        assert asked(url) == []
        code, report, _ = ran(folder, "--approve", url=url)
    assert report["tasks"]["look"]["state"] == "succeeded"
