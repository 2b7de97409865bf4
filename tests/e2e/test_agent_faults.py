"""What a provider does wrong, at the level of a whole run: each fault ends as it should, and nothing finished is lost.

The faults are those of a mock that isn't ours. All of them happen in one run, to a task each, side by side.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maos_bot.errors import MaosError
from maos_bot.events import TaskStarted, to_dict
from maos_bot.store.queries import Queries
from tests.e2e.mock_models import Fixture, answer, environment, maos, mock_models, ran, repository, tool
from tests.e2e.model_server import ModelServer
from tests.e2e.model_server import answer as broken

pytest.importorskip("anthropic")

ROOT = Path(__file__).parents[2]
DONE: dict[str, Any] = {"toolCalls": [{"name": "finish", "arguments": {"summary": "done"}}]}
USAGE = {"input_tokens": 1000, "output_tokens": 50}


def error(status: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"response": {"error": {"message": "as told", "type": kind}, "status": status, **more}}


LATER = error(429, "rate_limit_error", retryAfter=1)
CUT: dict[str, Any] = {"response": {"content": "x" * 400}, "truncateAfterChunks": 2, "latency": 20}
GARBLED: dict[str, Any] = {"response": {"content": "x"}, "chaos": {"malformedRate": 1}}
SILENT: dict[str, Any] = {"response": {"content": "late"}, "latency": 60_000}
UNKNOWN: dict[str, Any] = {"response": {"toolCalls": [{"name": "launch", "arguments": {}}], "usage": USAGE}}
LOOP: dict[str, Any] = {"response": {"toolCalls": [{"name": "read", "arguments": {"path": "a.txt"}}], "usage": USAGE}}

# name, fault in words, what the mock does, whether it does so each time, a model of its own, state, words of the reason
# fmt: off
TABLE: list[tuple[str, str, dict[str, Any], bool, str, str, str]] = [
    ("t429a", "429 with `retry-after: 1`, once", LATER, False, "haiku-5-5", "succeeded", ""),
    ("t429b", "429 without `retry-after`, once", error(429, "rate_limit_error"), False, "sonnet-5-5", "succeeded", ""),
    ("t429c", "429 each time", LATER, True, "opus-5-5", "failed", "rate limited"),
    ("t529a", "529, once", error(529, "overloaded_error"), False, "opus-4-8", "succeeded", ""),
    ("t529b", "529 each time", error(529, "overloaded_error"), True, "opus-4-7", "failed", "overloaded"),
    ("t500a", "500, once", error(500, "api_error"), False, "opus-4-5", "succeeded", ""),
    ("t500b", "500 each time", error(500, "api_error"), True, "opus-4-1", "failed", "server error"),
    ("cut-a", "the stream ends in the middle, once", CUT, False, "sonnet-4-5", "succeeded", ""),
    ("cut-b", "the stream ends in the middle each time", CUT, True, "haiku-4-5", "failed", "stream cut"),
    ("garbled", "an answer that is no JSON, each time", GARBLED, True, "sonnet-3-7", "failed", "unreadable answer"),
    ("calls", "calls of a tool there isn't, without end", UNKNOWN, True, "opus-4-0", "failed", "not be understood"),
    ("loop", "the same tool call without end", LOOP, True, "sonnet-4-0", "failed", "an endless loop"),
    ("silent", "60 s of silence", SILENT, True, "3-5-haiku", "timed_out", "timed out after 12 s"),
]
# fmt: on


def fixtures() -> list[Fixture]:
    made: list[Fixture] = []
    for name, _, fault, always, *_ in TABLE:
        match = {"userMessage": f"Task {name}:"}
        made.append({"match": match if always else {**match, "sequenceIndex": 0}, **fault})
        if not always:
            made.append({"match": match, "response": {**DONE, "usage": USAGE}})
    return [
        *made,
        tool("Task good:", 0, "write", path="good.txt", text="good\n"),
        tool("Task good:", 1, "finish", summary="written"),
    ]


def spec() -> str:
    tasks: dict[str, Any] = {
        name: {"agent": f"Meet {name}.", "model": f"claude-{model}", "timeout-minutes": 0.2 if name == "silent" else 1}
        for name, _, _, _, model, *_ in TABLE
    }
    tasks |= {
        "good": {"agent": "Write good.txt.", "writes": ["good.txt"], "model": "claude-sonnet-5"},
        "after": {"run": "true", "needs": ["t529b"]},
        "shell": {"run": "echo fine"},
    }
    limits = {"concurrent-agents": 16}
    return json.dumps({"version": 1, "name": "faults", "limits": limits, "budget": {"tokens": 900_000}, "tasks": tasks})


@pytest.fixture(scope="module")
def run_of_faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, dict[str, Any], Path]]:
    folder = repository(tmp_path_factory.mktemp("faults") / "repo", spec(), {"a.txt": "a\n"})
    with mock_models(folder.parent / "mock", fixtures()) as url:
        code, report, _ = ran(folder, url=url)
        yield code, report, folder


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_each_fault_ends_as_it_should(
    run_of_faults: tuple[int, dict[str, Any], Path], row: tuple[str, str, dict[str, Any], bool, str, str, str]
) -> None:
    name, _, _, _, _, state, reason = row
    task = run_of_faults[1]["tasks"][name]
    assert (task["state"], reason in task["reason"]) == (state, True), task["reason"]


def test_arguments_that_are_no_json_are_told_back_and_end_the_task(tmp_path: Path) -> None:
    folder = repository(
        tmp_path / "repo", json.dumps({"tasks": {"t": {"agent": "Look.", "model": "claude-haiku-5-5"}}})
    )

    async def main() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with ModelServer(lambda _: (200, {}, broken('{"path": '), 0.0)) as server:
            _, report, _ = await asyncio.to_thread(ran, folder, url=server.url)
            return report, server.bodies

    report, bodies = asyncio.run(main())
    assert report["tasks"]["t"]["state"] == "failed"
    assert "3 tool calls one after the other could not be understood" in report["tasks"]["t"]["reason"]
    assert len(bodies) == 3
    assert "not a JSON object" in json.dumps(bodies[-1]["messages"][-1])


def test_nothing_that_was_finished_is_lost_and_the_report_is_red(
    run_of_faults: tuple[int, dict[str, Any], Path],
) -> None:
    code, report, folder = run_of_faults
    assert (code, report["status"]) == (1, "failed")
    assert report["tasks"]["good"]["state"] == report["tasks"]["shell"]["state"] == "succeeded"
    assert report["tasks"]["after"]["state"] == "upstream_failed"
    assert "+good" in Path(report["patch"]).read_text()
    assert report["usage"]["input_tokens"] >= 5 * 1000
    assert "t529b" in maos(folder, "show", "latest").stdout


def test_the_documents_show_this_table() -> None:
    text = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    for _, fault, _, _, _, state, reason in TABLE:
        ends = "ends well" if state == "succeeded" else f"`{state}`: {reason}"
        assert f"| {fault} | {ends} |" in text


def test_the_budget_holds_and_the_rest_is_skipped(tmp_path: Path) -> None:
    cap, used = 30_000, {"input_tokens": 6000, "output_tokens": 500}
    tasks: dict[str, Any] = {
        f"t{n}": {"agent": f"Write {n}.", "writes": [f"{n}.txt"], "model": "claude-haiku-5-5"} for n in range(8)
    }
    said = json.dumps({"limits": {"concurrent-agents": 3}, "budget": {"tokens": cap}, "tasks": tasks})
    made: list[Fixture] = []
    for n in range(8):
        made += [
            tool(f"Task t{n}:", 0, "write", usage=used, path=f"{n}.txt", text="x\n"),
            tool(f"Task t{n}:", 1, "finish", usage=used, summary="written"),
        ]
    folder = repository(tmp_path / "repo", said)
    with mock_models(tmp_path / "mock", made) as url:
        code, report, _ = ran(folder, url=url)
    states = [task["state"] for task in report["tasks"].values()]
    assert (code, report["status"]) == (4, "over_budget")
    assert set(states) == {"succeeded", "skipped"}
    skipped = [task["reason"] for task in report["tasks"].values() if task["state"] == "skipped"]
    assert all(reason.startswith("budget: the run may use 30,000 tokens") for reason in skipped)
    spent = report["usage"]["input_tokens"] + report["usage"]["output_tokens"]
    assert spent <= cap + 6500, "by no more than the turn in flight"
    assert Path(report["patch"]).read_text().count("diff --git") == states.count("succeeded")


def test_teams_and_tasks_have_caps_of_their_own(tmp_path: Path) -> None:
    used = {"input_tokens": 6000, "output_tokens": 500}
    said = json.dumps(
        {
            "teams": {"small": {"budget": {"tokens": 8000}}},
            "tasks": {
                "one": {"agent": "Look.", "team": "small", "model": "claude-haiku-5-5"},
                "two": {"agent": "Look.", "team": "small", "model": "claude-haiku-5-5", "needs": ["one"]},
                "own": {"agent": "Look.", "budget": {"tokens": 100}, "model": "claude-haiku-5-5"},
                "free": {"agent": "Look.", "model": "claude-haiku-5-5"},
            },
        }
    )
    made = [answer(f"Task {name}:", 0, usage=used, **DONE) for name in ("one", "two", "own", "free")]
    with mock_models(tmp_path / "mock", made) as url:
        _, report, _ = ran(repository(tmp_path / "repo", said), url=url)
    ends = {name: (task["state"], task["reason"][:16]) for name, task in report["tasks"].items()}
    assert ends == {
        "one": ("succeeded", ""),
        "two": ("skipped", "budget: team sma"),
        "own": ("skipped", "budget: task own"),
        "free": ("succeeded", ""),
    }


TWO = {
    "first": {"agent": "Write a.", "writes": ["a.txt"], "model": "claude-haiku-5-5"},
    "second": {"agent": "Write b.", "writes": ["b.txt"], "needs": ["first"], "model": "claude-haiku-5-5"},
}


def stopped(folder: Path, number: signal.Signals) -> tuple[int, str]:
    """A run that got this signal while its first task was done and its second got no answer."""
    first = [
        tool("Task first:", 0, "write", path="a.txt", text="a\n"),
        tool("Task first:", 1, "finish", summary="wrote a"),
    ]
    silent: Fixture = {"match": {"userMessage": "Task second:"}, **SILENT}
    with mock_models(folder.parent / "mock", [*first, silent]) as url:
        command = [sys.executable, "-m", "maos_bot", "run", "--quiet"]
        process = subprocess.Popen(command, cwd=folder, env=environment(url), stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while "wrote a" not in shown(folder) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_an_interrupted_run_hands_over_what_is_done(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", json.dumps({"tasks": TWO}))
    code, said = stopped(folder, signal.SIGINT)
    assert code == 130, said
    (patch,) = (folder / ".maos").glob("*.patch")
    assert f"git apply .maos/{patch.name}" in said
    assert "a.txt" in patch.read_text()


def test_a_run_that_died_goes_on_with_what_its_agents_had_done(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", json.dumps({"tasks": TWO}))
    assert stopped(folder, signal.SIGKILL)[0] == -signal.SIGKILL
    second = [
        tool("Task second:", 0, "read", path="a.txt"),
        tool("Task second:", 1, "write", path="b.txt", text="b\n"),
        tool("Task second:", 2, "finish", summary="wrote b"),
    ]
    with mock_models(tmp_path / "mock", second) as url:  # who asked for the first again would get no answer
        code, report, said = ran(folder, "--resume", "latest", url=url)
    assert code == 0, said
    assert {name: task["state"] for name, task in report["tasks"].items()} == dict.fromkeys(TWO, "succeeded")
    patch = (folder / report["patch"]).read_text()
    assert "a.txt" in patch
    assert "b.txt" in patch


def shown(folder: Path) -> str:
    """What is stored of the first task's conversation and its end, once its database is there."""
    try:
        with Queries(folder / ".maos" / "maos.db") as queries:
            events = list(queries.iter_events(queries.find("latest"), with_output=False))
    except MaosError:
        return ""
    over = any(isinstance(event, TaskStarted) and event.task == "second" for event in events)
    return json.dumps([to_dict(event) for event in events]) if over else ""
