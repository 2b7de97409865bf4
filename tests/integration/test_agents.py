"""Agents through the engine: tools, review, sending back, budget, faults; by a scripted provider."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maos_bot.agents.worker import Bounds
from maos_bot.events import ChangeTaken, FindingReported, TranscriptAdded, UsageRecorded
from maos_bot.model import Budget, Task, TaskState, Team, Usage
from maos_bot.models.client import Target
from maos_bot.models.protocol import Fault, ProviderError, Returned, ToolCall
from maos_bot.reporting.report import report_of
from maos_bot.store.codec import from_line, to_line
from tests.agent_parts import Said, Scripted, call, crew, finish, say
from tests.integration.running import command, run


def agent(task_id: str, **values: Any) -> Task:
    return Task(id=task_id, agent=f"Do what {task_id} says.", retry_delay_s=0.0, **values)


def test_a_task_is_worked_on_with_tools_and_its_change_and_cost_are_recorded(tmp_path: Path) -> None:
    provider = Scripted({"docs": [say("I write.", call("write", path="a.md", text="hello")), finish("wrote a.md")]})
    team = crew(provider, tmp_path)
    ran = run(
        tmp_path,
        agent("docs", team="writers", writes=("a.md",)),
        command("after", "echo after", needs=("docs",)),
        agents=team,
    )
    assert ran.states() == {"docs": TaskState.SUCCEEDED, "after": TaskState.SUCCEEDED}
    (change,) = ran.of(ChangeTaken)
    assert change.files == ("a.md",)
    usages = ran.of(UsageRecorded)
    assert len(usages) == 2
    assert all(each.usage.usd and each.model == "anthropic/claude-haiku-5-5" for each in usages)
    assert [each.role for each in ran.of(TranscriptAdded)] == [
        "asked",
        "answered",
        "called",
        "returned",
        "called",
        "returned",
    ]
    assert "wrote a.md" in ran.output("docs")
    assert provider.closed
    assert [from_line(to_line(event)) for event in ran.events] == ran.events
    report = report_of(ran.events).to_json()
    assert report["tasks"]["docs"]["changes"][0]["files"] == ["a.md"]
    assert report["usage"]["input_tokens"] == 2000
    told = team.lead("writers").get_parallel_capabilities()
    assert (told["attempts"], told["accepted"], told["most_workers_at_once"]) == (1, 1, 1)


def test_work_whose_verify_fails_goes_on_in_its_conversation_and_is_mended(tmp_path: Path) -> None:
    provider = Scripted(
        {
            "fix": [
                say("", call("write", path="x", text="bad")),
                finish("done?"),
                say("", call("write", path="x", text="good")),
                finish("mended"),
            ]
        }
    )
    task = agent("fix", verify="grep good x || { echo 'x must say good'; exit 1; }", max_attempts=2)
    ran = run(tmp_path, task, agents=crew(provider, tmp_path))
    assert ran.states() == {"fix": TaskState.SUCCEEDED}
    assert ran.end("fix").attempt == 2
    last = provider.turns[-1]
    assert any("x must say good" in str(message) for message in last.messages)
    assert last.messages[0] == provider.turns[0].messages[0], "the conversation went on"
    assert {turn.prefix for turn in provider.turns} == {"the shared prefix"}


def test_findings_are_checked_and_become_events(tmp_path: Path) -> None:
    good = {"path": "a.py", "line": 3, "severity": "high", "message": "a defect"}
    bad = {"path": "../secret", "severity": "warning", "message": "out"}
    provider = Scripted({"review": [finish("r", findings=[good, bad]), finish("r", findings=[good, good])]})
    ran = run(tmp_path, agent("review", report="findings", max_attempts=2), agents=crew(provider, tmp_path))
    (finding,) = ran.of(FindingReported)
    assert (finding.path, finding.line, finding.severity, finding.attempt) == ("a.py", 3, "failure", 2)
    (shown,) = report_of(ran.events).tasks["review"].findings
    assert (shown.path, shown.line, shown.severity, shown.message) == ("a.py", 3, "error", "a defect")
    assert shown.task == "review"
    assert shown.id, "findings keep a fingerprint over pushes"


def test_at_the_cap_the_rest_is_skipped_and_what_is_done_stays(tmp_path: Path) -> None:
    used = Usage(input_tokens=9000, output_tokens=1000)
    scripts: dict[str, list[Said]] = {
        name: [say("", call("finish", summary="s"), usage=used)] for name in ("one", "two", "three")
    }
    tasks = [agent("one"), agent("two", needs=("one",)), agent("three", needs=("one",))]
    ran = run(
        tmp_path,
        *tasks,
        command("shell", "echo still", needs=("one",)),
        agents=crew(Scripted(scripts), tmp_path, budget=Budget(tokens=12_000)),
    )
    assert ran.states() == {
        "one": TaskState.SUCCEEDED,
        "two": TaskState.SKIPPED,
        "three": TaskState.SKIPPED,
        "shell": TaskState.SUCCEEDED,
    }
    assert ran.end("two").reason.startswith("budget: the run may use 12,000 tokens")
    assert (ran.finished.status, ran.finished.exit_code) == ("over_budget", 4)
    assert ran.finished.reason.startswith("budget:")


def test_a_budget_spent_to_the_last_token_is_over_too(tmp_path: Path) -> None:
    used = Usage(input_tokens=11_900, output_tokens=100)
    scripts: dict[str, list[Said]] = {"one": [say("", call("finish", summary="s"), usage=used)], "two": []}
    agents = crew(Scripted(scripts), tmp_path, budget=Budget(tokens=12_000))
    ran = run(tmp_path, agent("one"), agent("two", needs=("one",)), agents=agents)
    assert ran.states() == {"one": TaskState.SUCCEEDED, "two": TaskState.SKIPPED}
    assert ran.end("two").attempt == 0
    assert ran.finished.status == "over_budget"


@pytest.mark.parametrize(
    ("script", "state", "reason"),
    [
        pytest.param([say("", call("write", path="x", text="y"))] * 9, "failed", "endless loop", id="loop"),
        pytest.param(
            [say("", ToolCall(id="c", name="write", arguments=None, raw="{"))] * 9,
            "failed",
            "understood",
            id="malformed",
        ),
        pytest.param([say("", call("launch", n=n)) for n in range(9)], "failed", "understood", id="unknown tool"),
        pytest.param([say("I am thinking.")] * 9, "failed", "never finished", id="talk"),
        pytest.param(
            [say("", call("write", path=f"{n}", text="")) for n in range(9)], "failed", "after 7 turns", id="on"
        ),
        pytest.param([ProviderError(Fault.NO_RIGHT, "bad key")], "failed", "key refused: bad key", id="key"),
        pytest.param([ProviderError(Fault.OVERLOADED, "busy")] * 9, "failed", "overloaded: busy", id="outage"),
        pytest.param([9.0], "timed_out", "timed out after 0.3 s", id="silence"),
    ],
)
def test_every_bad_end_has_its_reason(tmp_path: Path, script: list[Said], state: str, reason: str) -> None:
    agents = crew(Scripted({"task": script}), tmp_path, bounds=Bounds(turns=7))
    ran = run(tmp_path, agent("task", timeout_s=0.3 if script == [9.0] else 60.0), agents=agents)
    assert ran.end("task").state == state
    assert reason in ran.end("task").reason
    assert ran.finished.status == "failed"


def test_a_fault_that_passes_costs_nothing_but_time(tmp_path: Path) -> None:
    script: list[Said] = [ProviderError(Fault.CUT, "cut"), ProviderError(Fault.OVERLOADED, "busy"), finish()]
    ran = run(tmp_path, agent("task"), agents=crew(Scripted({"task": script}), tmp_path))
    assert ran.states() == {"task": TaskState.SUCCEEDED}


def test_a_cancelled_run_breaks_conversations_off(tmp_path: Path) -> None:
    provider = Scripted({"task": [60.0]})
    began = time.monotonic()

    def cancel_soon(orchestrator: Any) -> None:
        asyncio.get_running_loop().call_later(0.2, orchestrator.cancel, "enough")

    ran = run(tmp_path, agent("task"), agents=crew(provider, tmp_path), during=cancel_soon)
    assert ran.end("task").state is TaskState.CANCELLED
    assert time.monotonic() - began < 30


def test_agents_wait_side_by_side_and_teams_keep_to_their_workers(tmp_path: Path) -> None:
    scripts: dict[str, list[Said]] = {f"t{n}": [0.2, finish()] for n in range(6)}
    agents = crew(Scripted(scripts), tmp_path, teams={"qa": Team(name="qa", max_concurrent_workers=6)})
    ran = run(tmp_path, *[agent(f"t{n}", team="qa") for n in range(6)], slots=6, agents=agents)
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    assert agents.lead("qa").get_parallel_capabilities()["most_workers_at_once"] == 6


def test_old_results_are_left_out_before_the_context_overflows(tmp_path: Path) -> None:
    writes = [say("", call("write", path=f"f{n}", text=str(n) * 6000)) for n in range(8)]
    provider = Scripted({"task": [*writes, finish()]})
    bounds = Bounds(context_tokens=24_000, max_output_tokens=1000)
    ran = run(tmp_path, agent("task"), agents=crew(provider, tmp_path, bounds=bounds))
    assert ran.states() == {"task": TaskState.SUCCEEDED}
    results = [each for each in provider.turns[-1].messages if isinstance(each, Returned)]
    assert "left out to save room: 6,014 characters" in results[0].results[0].text
    assert "left out" not in results[-1].results[0].text
    assert [tuple(turn.messages[:1]) for turn in provider.turns] == [provider.turns[0].messages] * 9


def test_a_model_that_cannot_call_tools_may_answer_a_question_in_words(tmp_path: Path) -> None:
    own = Target(provider="openai", model="a-model-of-my-own")
    provider = Scripted({"sum": [say("It parses specs."), say("Yes.")], "edit": [say("I would edit.")] * 9})
    tasks = [agent("sum"), agent("edit", writes=("a",))]
    ran = run(tmp_path, *tasks, agents=crew(provider, tmp_path, chain=(own,), reckoned=True))
    assert ran.states() == {"sum": TaskState.SUCCEEDED, "edit": TaskState.FAILED}
    assert "It parses specs." in ran.output("sum")


def test_a_program_that_leads_the_conversation_itself_ends_with_its_words(tmp_path: Path) -> None:
    finding = {"path": "a.py", "line": 1, "severity": "notice", "message": "odd"}
    said = f"Here it is: {json.dumps({'summary': 'one', 'findings': [finding]})}"
    provider = Scripted({"review": [replace(say(said), whole=True)], "sum": [replace(say("Just words."), whole=True)]})
    ran = run(tmp_path, agent("review", report="findings"), agent("sum"), agents=crew(provider, tmp_path))
    assert ran.states() == {"review": TaskState.SUCCEEDED, "sum": TaskState.SUCCEEDED}
    assert [each.message for each in ran.of(FindingReported)] == ["odd"]
    assert len({turn.folder for turn in provider.turns}) == 1, "tasks that only read share a folder"
