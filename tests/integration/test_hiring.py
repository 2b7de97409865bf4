"""Who may work in a run, on what they begin, and what history says of models: by the real parts, without a provider."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maos_bot.agents.change import LONGEST, change_since, files_of
from maos_bot.agents.planned import PLAN_TITLE
from maos_bot.config import make_config
from maos_bot.crewing import Models
from maos_bot.errors import NothingToDoError
from maos_bot.events import RunStarted, TaskFinished, TaskInfo, TaskStarted, TranscriptAdded, UsageRecorded
from maos_bot.granting import ALL_TOOLS, Grant, bounded, tools_of
from maos_bot.hiring import GoesOn, Hired, going_on, hire
from maos_bot.model import Spec, Task, TaskState, Trigger, Usage
from maos_bot.models.client import Target
from maos_bot.models.prices import load_prices
from maos_bot.models.router import Choice
from maos_bot.spec.load import parse_spec
from maos_bot.store.agents import past_work
from maos_bot.store.db import connect
from maos_bot.store.ingest import Ingester
from maos_bot.store.queries import Queries
from tests.unit.report_streams import Tape

SPEC = """\
goal: Cover the parser.
teams: {code: {max-attempts: 3}}
tasks:
  shell: {run: make}
  look: {agent: Look.}
  edit: {agent: Edit., writes: [a], tools: [edit]}
"""
ANSWER = {"tasks": [{"id": "cover", "agent": "Cover it.", "why": "no test", "team": "code", "needs": ["shell"]}]}


class NoProvider:
    """A door behind which nobody is to be asked."""


def models(*, open_door: bool = True) -> Models:
    chain = (Target(provider="anthropic", model="claude-haiku-5-5"),)
    doors: Any = {"anthropic": NoProvider()} if open_door else {}
    return Models(doors=doors, prices=load_prices(), choose=lambda _: Choice(chain=chain, why=""))


@pytest.fixture
def hired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(text: str = SPEC, *, known: Models | None = None, tasks: tuple[str, ...] = (), **more: Any) -> Hired:
        monkeypatch.setattr("maos_bot.crewing.models_here", lambda *_, **__: known or models())
        config = replace(make_config(cwd=tmp_path), tasks=tasks)
        return hire(parse_spec(text, path=".maos.yml"), config, trigger=Trigger(), **more)

    return make


def test_where_agents_may_not_run_each_of_their_tasks_says_why(hired: Any) -> None:
    made = hired(grant=Grant(agents=False, reason="this pull request comes from a fork"))
    assert made.staff is None
    assert set(made.unavailable) == {"plan", "look", "edit"}
    assert set(made.unavailable.values()) == {"agents may not run here: this pull request comes from a fork"}


def test_agents_of_an_approved_stranger_only_read(hired: Any) -> None:
    made = hired(grant=Grant(tools=("read", "search"), reason="approved"), tasks=("look", "edit"))
    by_id = {task.id: task for task in made.spec.tasks}
    assert by_id["look"].tools == ("read", "search")
    assert made.unavailable == {"edit": "none of its tools may be used here, only read, search"}
    assert "plan" not in by_id, "a run of named tasks plans no goal"


def test_all_tools_are_left_as_the_spec_has_them() -> None:
    task = Task(id="t", agent="x", writes=("a",))
    assert tools_of(task) == ("read", "search", "edit")
    assert bounded([task], Grant()) == (task,)
    assert bounded([task], Grant(tools=("read",)))[0].tools == ("read",)
    assert set(ALL_TOOLS) >= set(tools_of(task))


def test_without_a_key_a_goal_alone_is_nothing_to_do(hired: Any) -> None:
    with pytest.raises(NothingToDoError, match="its goal needs an agent, and no model provider configured"):
        hired("goal: Do it.\n", known=models(open_door=False))


def test_a_run_that_died_has_the_tasks_of_its_goal_again_and_asks_nobody(hired: Any) -> None:
    made = hired(goes_on=GoesOn(goal_tasks=json.dumps(ANSWER)), tasks=("plan", "shell", "cover"))
    (cover,) = [task for task in made.spec.tasks if task.id == "cover"]
    assert cover.needs == ("plan", "shell")
    assert cover.max_attempts == 3, "its team's word holds for it too"
    assert made.staff is not None
    assert made.staff.planned.task.id == "plan"


def test_what_a_model_had_said_for_the_goal_is_found_in_the_stream() -> None:
    tape = Tape()
    infos = (TaskInfo(id="plan", name=PLAN_TITLE, kind="agent"), TaskInfo(id="look", kind="agent"))
    said = {"mode": "pipelined", "strategy": "balanced", "name": "", "spec_path": "", "spec_digest": ""}
    tape.add(RunStarted, 0.0, tasks=infos, **said)
    for task, text in (("plan", "first"), ("look", "other"), ("plan", "second")):
        tape.add(TranscriptAdded, 1.0, task=task, attempt=1, turn=1, role="answered", text=text)
    started = tape.events[0]
    assert isinstance(started, RunStarted)
    assert going_on(started, tape.events) == GoesOn(goal_tasks="second")


def test_history_tells_what_models_came_to_and_what_tasks_use(tmp_path: Path) -> None:
    def attempt(tape: Tape, number: int, task: str, model: str, usd: float | None, state: TaskState) -> None:
        tape.add(TaskStarted, number, task=task, attempt=1)
        for _ in range(2):
            usage = Usage(input_tokens=100, output_tokens=10, cache_read_tokens=50, usd=usd)
            tape.add(UsageRecorded, number + 0.1, task=task, attempt=1, model=model, usage=usage)
        tape.add(TaskFinished, number + 1.0, task=task, attempt=1, state=state, duration_s=1.0)

    connection = connect(tmp_path / "maos.db", create=True)
    for run, state in enumerate((TaskState.SUCCEEDED, TaskState.FAILED)):
        tape = Tape(run_id=f"run-{run}")
        said = {"mode": "pipelined", "strategy": "balanced", "name": "", "spec_path": "", "spec_digest": ""}
        tape.add(RunStarted, 0.0, tasks=(TaskInfo(id="look", kind="agent"), TaskInfo(id="own", kind="agent")), **said)
        attempt(tape, 1, "look", "anthropic/a", 0.5, state)
        attempt(tape, 2, "own", "openai/b", None, TaskState.SUCCEEDED)
        Ingester(connection).write(tape.events)
    connection.close()
    with Queries(tmp_path / "maos.db") as queries:
        past = past_work(queries, {"look": "findings", "own": "text", "never": "text"}, repository="")
    assert past.records == {
        "findings": {"anthropic/a": {"tasks": 2, "accepted": 1, "usd": 2.0}},
        "text": {"openai/b": {"tasks": 2, "accepted": 2, "usd": None}},
    }
    assert past.usual["look"] == Usage(input_tokens=200, output_tokens=20, cache_read_tokens=100, usd=1.0)
    assert past.turns == {"look": 2.0, "own": 2.0}


def test_agents_are_told_of_the_change_as_it_is_now_and_what_was_left_out(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@localhost"]

    def commit(words: str) -> str:
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", words], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "a.py").write_text("one\n")
    base = commit("first")
    (tmp_path / "a.py").write_text("two\n")
    commit("second")
    (tmp_path / "b.py").write_text("new\n")
    assert files_of(tmp_path) == ["a.py", "b.py"]
    assert "-one\n+two" in change_since(tmp_path, base)
    (tmp_path / "a.py").write_text("long\n" * 20_000)
    told = change_since(tmp_path, base)
    assert len(told) < LONGEST * 1.3
    assert "characters more: read the files themselves" in told
    assert change_since(tmp_path, "0" * 40) == ""
    assert files_of(tmp_path / "nowhere") == []


def test_a_run_of_commands_loads_nothing_of_agents(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text("tasks: {t: {run: 'true'}}\n")
    script = (
        "import sys\nfrom maos_bot.cli import main\ntry:\n    main()\nfinally:\n"
        "    print([name for name in sys.modules if name.partition('.')[0] in ('anthropic', 'openai', 'httpx2')"
        " or name.startswith(('maos_bot.agents', 'maos_bot.models', 'maos_bot.hiring', 'maos_bot.crewing'))])\n"
    )
    environ = {"ANTHROPIC_API_KEY": "k", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "--quiet"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_the_spec_of_a_whole_run_is_left_alone_where_there_is_no_agent(hired: Any) -> None:
    spec: Spec = hired("tasks: {look: {agent: Look.}}\n").spec
    assert [task.id for task in spec.tasks] == ["look"]


def test_the_doctor_says_which_providers_are_open_and_what_is_missing(tmp_path: Path) -> None:
    def providers(**environ: str) -> dict[str, str]:
        command = [sys.executable, "-m", "maos_bot", "doctor", "--json"]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PATH": "/nowhere", **environ}, capture_output=True, check=True
        )
        return dict(json.loads(done.stdout)["providers"])

    assert providers() == {}
    opened = providers(ANTHROPIC_API_KEY="k", OPENAI_BASE_URL="http://127.0.0.1:1/v1", MAOS_MODEL_COMMAND="codex")
    assert set(opened) == {"anthropic", "openai", "codex-cli"}
    assert "claude-" in opened["anthropic"]
    assert opened["codex-cli"] == "the program codex, which isn't on the PATH"
