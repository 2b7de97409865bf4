"""Agents in worktrees through the engine: a scripted provider, real git."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from maos_bot.agents.worktrees import Worktrees
from maos_bot.events import ChangeTaken
from maos_bot.model import Task, TaskState
from maos_bot.models.protocol import Asked
from tests.agent_parts import FolderTools, Scripted, call, crew, finish, say
from tests.integration.running import run
from tests.worktree_parts import TEXT, agent, files_of, repository


def _worktrees(root: Path, *tasks: Task) -> Worktrees:
    return Worktrees(
        root,
        run_id="run-1",
        base="",
        order=[task.id for task in tasks],
        needs={task.id: task.needs for task in tasks},
        make_tools=lambda _, folder: FolderTools(folder),
        environ={"PATH": os.environ["PATH"]},
    )


def test_a_conflict_is_mended_in_its_workers_conversation_and_the_whole_is_one_result(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    tasks = [
        agent("one"),
        agent("two", max_attempts=2, retry_delay_s=0.0),
        agent("last", needs=("one", "two"), verify="grep FIVE a.txt"),
    ]
    ours, theirs = TEXT.replace("line 5\n", "line five\n"), TEXT.replace("line 5\n", "LINE 5\n")
    provider = Scripted(
        {
            "one": [say("", call("write", path="a.txt", text=ours)), finish("one")],
            "two": [
                say("", call("write", path="a.txt", text=theirs)),
                finish("two"),
                say("", call("write", path="a.txt", text=TEXT.replace("line 5\n", "LINE FIVE\n"))),
                finish("mended"),
            ],
            "last": [say("", call("write", path="b.txt", text="b\n")), finish("last")],
        }
    )
    places = _worktrees(root, *tasks)
    # Even one after the other: `two` doesn't need `one`, and so doesn't start from what it came to.
    ran = run(root, *tasks, slots=1, agents=crew(provider, tmp_path, places=places))
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    first, conflict, mended, last = ran.of(ChangeTaken)
    assert (first.task, conflict.conflicts, conflict.branch) == ("one", ("a.txt",), "maos/run-1/two")
    assert (mended.task, mended.attempt, mended.conflicts) == ("two", 2, ())
    assert last.files == ("b.txt",)
    told = [message.text for message in provider.turns[-3].messages if isinstance(message, Asked)]
    assert any("Your copy now holds the current text" in text for text in told)

    merged = asyncio.run(places.result())
    assert merged
    assert merged.tasks == ("one", "two", "last")
    assert "LINE FIVE" in files_of(root, merged.commit)["a.txt"]
    assert "LINE 5" in files_of(root, "maos/run-1/two")["a.txt"]


def test_a_change_outside_of_writes_goes_back_with_the_reason(tmp_path: Path) -> None:
    root = repository(tmp_path / "r")
    task = agent("docs", writes=("docs/**",), max_attempts=1)
    provider = Scripted({"docs": [say("", call("write", path="a.txt", text="x")), finish("done")]})
    ran = run(root, task, agents=crew(provider, tmp_path, places=_worktrees(root, task)))
    assert ran.end("docs").state is TaskState.FAILED
    assert ran.end("docs").reason.startswith("not accepted: a.txt (changed): changed outside `writes` (docs/**)")
    assert files_of(root, "maos/run-1/docs")["a.txt"] == "100644 x"


def test_where_no_folder_can_be_made_the_task_fails_with_the_reason(tmp_path: Path) -> None:
    root = tmp_path / "r"
    (root / ".git").mkdir(parents=True)
    task = agent("one")
    ran = run(root, task, agents=crew(Scripted({}), tmp_path, places=_worktrees(root, task)))
    assert ran.end("one").state is TaskState.FAILED
    assert "can't be read as a git repository" in ran.end("one").reason
