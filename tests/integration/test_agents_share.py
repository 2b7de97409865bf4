"""Small tasks of a team in one conversation, through the engine: less is paid, and each outcome is its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from maos_bot.events import TaskStarted
from maos_bot.model import Task, TaskState, Usage
from maos_bot.models.protocol import Answer, Asked, Fault, ProviderError, Tool, signature
from tests.agent_parts import Said, Scripted, call, crew, finish, say
from tests.integration.running import Ran, command, run

READS = ("read", "finish")


def looks(count: int, *, team: str = "review") -> list[Task]:
    return [Task(id=f"t{n}", agent=f"Look for point {n} in src/a.py.", team=team) for n in range(count)]


def reading() -> Answer:
    return say("", call("read", path="src/a.py"))


def shown(tmp_path: Path, scripts: dict[str, list[Said]], tasks: list[Task], *, slots: int = 1) -> tuple[Ran, Scripted]:
    provider = Scripted(scripts)
    ran = run(tmp_path, *tasks, slots=slots, agents=crew(provider, tmp_path, tool_names=READS, reckoned=True))
    return ran, provider


def test_tasks_about_one_file_go_on_from_one_conversation(tmp_path: Path) -> None:
    scripts: dict[str, list[Said]] = {"t0": [reading(), finish("a")], "t1": [finish("b")], "t2": [finish("c")]}
    ran, provider = shown(tmp_path, scripts, looks(3))
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    assert len(provider.turns) == 4
    first, second, third = (turn.messages for turn in provider.turns[1:])
    assert second[: len(first)] == third[: len(first)] == first, "each goes its own way from there"
    assert "goes on from the conversation of t0: about $0." in ran.output("t1")
    assert "goes on from the conversation of t0" in ran.output("t2")
    assert "conversation" not in ran.output("t0")


def test_one_that_fails_takes_no_other_down_and_is_not_gone_on_from(tmp_path: Path) -> None:
    refused = ProviderError(Fault.REFUSED_REQUEST, "no")
    scripts: dict[str, list[Said]] = {
        "t0": [reading(), finish("a")],
        "t1": [refused],
        "t2": [finish("c")],
        "t3": [finish("d")],
    }
    ran, _ = shown(tmp_path, scripts, looks(4))
    assert ran.states() == {
        "t0": TaskState.SUCCEEDED,
        "t1": TaskState.FAILED,
        "t2": TaskState.SUCCEEDED,
        "t3": TaskState.SUCCEEDED,
    }
    assert "goes on from the conversation of t0" in ran.output("t2")
    assert "goes on from the conversation of t0" in ran.output("t3")


def test_no_task_waits_for_a_conversation(tmp_path: Path) -> None:
    scripts: dict[str, list[Said]] = {f"t{n}": [0.1, reading(), finish("x")] for n in range(4)}
    ran, _ = shown(tmp_path, scripts, looks(4), slots=4)
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    assert not any("conversation" in ran.output(f"t{n}") for n in range(4))


def test_many_go_on_from_one_conversation_at_once(tmp_path: Path) -> None:
    scripts: dict[str, list[Said]] = {"t0": [reading(), finish("x")]}
    scripts |= {f"t{n}": [0.2, finish("y")] for n in range(1, 5)}
    first, *others = looks(5)
    ran, provider = shown(tmp_path, scripts, [first, *(replace(each, needs=("t0",)) for each in others)], slots=4)
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    assert all("goes on from the conversation of t0" in ran.output(each.id) for each in others)
    starts = [ran.of(TaskStarted, each.id)[0].at for each in others]
    assert max(starts) < min(ran.end(each.id).at for each in others), "side by side"
    assert len(provider.turns) == 6


def test_work_of_qa_stays_apart(tmp_path: Path) -> None:
    scripts: dict[str, list[Said]] = {f"t{n}": [reading(), finish("x")] for n in range(2)}
    ran, _ = shown(tmp_path, scripts, looks(2, team="qa"))
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    assert "conversation" not in ran.output("t1")


@pytest.mark.parametrize("joined_usd", [0.9, 0.001], ids=["dearer", "cheaper"])
def test_what_was_measured_overrules_what_was_reckoned(tmp_path: Path, joined_usd: float) -> None:
    def cost(usd: float) -> Answer:
        return say("", call("finish", summary="x"), usage=Usage(input_tokens=10, output_tokens=1, usd=usd))

    alone = [Task(id=f"t{n}", agent=f"Look in src/{n}.py.", team="r") for n in range(3)]
    others = [Task(id=f"s{n}", agent=f"Look for {n} in src/0.py.", team="r") for n in range(4)]
    scripts: dict[str, list[Said]] = {
        f"t{n}": [say("", call("read", path=f"src/{n}.py")), cost(0.01)] for n in range(3)
    }
    scripts |= {f"s{n}": [cost(joined_usd)] for n in range(4)}
    ran, _ = shown(tmp_path, scripts, [*alone, *others])
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    joined = [f"s{n}" for n in range(4) if "goes on from" in ran.output(f"s{n}")]
    assert joined == (["s0", "s1", "s2"] if joined_usd > 0.01 else ["s0", "s1", "s2", "s3"])


def test_readers_share_a_folder_only_on_top_of_the_same_changes(tmp_path: Path) -> None:
    scripts: dict[str, list[Said]] = {name: [finish("x")] for name in ("edit", "r0", "r1", "r2", "r3", "r4")}
    tasks = [
        Task(id="edit", agent="Edit.", writes=("a",)),
        command("between", "true", needs=("edit",)),
        *(Task(id=f"r{n}", agent="Look.", needs=needs) for n, needs in enumerate(((), (), ("between",), ("between",)))),
        Task(id="r4", agent="Look.", needs=("edit", "between")),
    ]
    _, provider = shown(tmp_path, scripts, tasks)
    folders = {name: folder for name, folder in _folders(provider) if name.startswith("r")}
    assert folders["r0"] == folders["r1"]
    assert folders["r2"] == folders["r3"] != folders["r0"]


def _folders(provider: Scripted) -> list[tuple[str, str]]:
    said = [(turn.messages[0], turn.folder) for turn in provider.turns]
    return [(each.text.split(":")[0].removeprefix("Task "), folder) for each, folder in said if isinstance(each, Asked)]


def test_tools_that_are_described_otherwise_are_another_beginning() -> None:
    one, other = (Tool(name="finish", description=words, schema={}) for words in ("with findings", "without"))
    assert signature([one]) != signature([other])
    assert signature([one]) == signature([Tool(name="finish", description="with findings", schema={})])
