"""Agents for tests: a provider that answers by script, and places that are plain folders with the simplest tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maos_bot.agents.crew import Crew
from maos_bot.agents.places import Places
from maos_bot.agents.turns import Turns
from maos_bot.agents.worker import Bounds
from maos_bot.model import Budget, Task, Team, Usage
from maos_bot.models.budget import Ledger
from maos_bot.models.client import ModelClient, Target
from maos_bot.models.prices import Prices, load_prices
from maos_bot.models.protocol import Answer, Asked, ProviderError, Tool, ToolCall, ToolResult, Turn
from maos_bot.models.router import Choice
from maos_bot.resources.token_rate import TokenRates

TARGET = Target(provider="anthropic", model="claude-haiku-5-5")
USAGE = Usage(input_tokens=1000, output_tokens=100)

Said = Answer | ProviderError | float  # a float is a silence, in seconds, before the next of the script


def say(text: str = "", *calls: ToolCall, usage: Usage = USAGE) -> Answer:
    return Answer(text=text, calls=calls, usage=usage, model=TARGET.model)


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(id=f"call-{name}", name=name, arguments=arguments, raw=json.dumps(arguments))


def finish(summary: str = "done", **more: Any) -> Answer:
    return say("", call("finish", summary=summary, **more))


class Scripted:
    """Answers each task by its script, found by the task's name in the last message that has one; keeps every turn."""

    name = "scripted"

    def __init__(self, scripts: Mapping[str, Sequence[Said]], *, otherwise: Callable[[], Answer] | None = None) -> None:
        self._scripts = {task: list(script) for task, script in scripts.items()}
        self._otherwise = otherwise
        self.turns: list[Turn] = []
        self.closed = False

    async def answer(self, turn: Turn, on_text: Callable[[str], None] | None = None) -> Answer:  # noqa: ARG002
        self.turns.append(turn)
        first = next(each for each in reversed(turn.messages) if isinstance(each, Asked) and "Task " in each.text)
        script = next((script for task, script in self._scripts.items() if f"Task {task}:" in first.text), [])
        while script:
            said = script.pop(0)
            if isinstance(said, ProviderError):
                raise said
            if isinstance(said, Answer):
                return said
            await asyncio.sleep(said)
        assert self._otherwise, f"the script has ended: {first.text}"
        return self._otherwise()

    async def warm(self) -> None:
        pass

    async def count_tokens(self, turn: Turn) -> int:  # noqa: ARG002
        return 1000

    async def close(self) -> None:
        self.closed = True


@dataclass
class Finished:
    summary: str
    findings: Sequence[Any]


class FolderTools:
    """Write and finish."""

    def __init__(self, folder: Path, names: Sequence[str] = ("write", "finish")) -> None:
        self._folder = folder
        self.finished: Finished | None = None
        self.tools = tuple(Tool(name=name, description=name, schema={"type": "object"}) for name in names)

    async def call(self, call: ToolCall) -> ToolResult:
        arguments = call.arguments or {}
        if call.name == "finish":
            self.finished = Finished(arguments["summary"], arguments.get("findings", []))
        elif call.name == "read":
            return ToolResult(call_id=call.id, text="line\n" * 3000)
        else:
            (self._folder / arguments["path"]).write_text(arguments["text"])
        return ToolResult(call_id=call.id, text=f"now it reads: {arguments.get('text')}")


@dataclass
class Taken:
    files: Sequence[str]
    commit: str = "0" * 40
    added: int = 1
    removed: int = 0
    conflicts: Sequence[str] = ()
    branch: str = ""
    patch: str = ""
    advice: str = ""


@dataclass
class Folders:
    """A folder for each task; what is in it is its change."""

    root: Path
    opened: dict[str, Path] = field(default_factory=dict)
    closed: bool = False
    tool_names: Sequence[str] = ("write", "finish")

    async def open(self, task: Task) -> Path:
        if task.id not in self.opened:
            self.opened[task.id] = self.root / f"work-{task.id}"
            self.opened[task.id].mkdir()
        return self.opened[task.id]

    def tools(self, task: Task, folder: Path) -> FolderTools:  # noqa: ARG002
        return FolderTools(folder, self.tool_names)

    async def verify(self, task: Task, folder: Path) -> str:
        process = await asyncio.create_subprocess_shell(
            task.verify, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said = (await process.communicate())[0].decode()
        return said or f"exit code {process.returncode}" if process.returncode else ""

    async def take(self, task: Task) -> Taken | None:
        files = sorted(path.name for path in self.opened[task.id].iterdir())
        return Taken(files) if files else None

    async def close(self) -> None:
        self.closed = True


def crew(
    provider: Scripted,
    root: Path,
    *,
    budget: Budget | None = None,
    bounds: Bounds | None = None,
    teams: Mapping[str, Team] | None = None,
    prices: Prices | None = None,
    chain: tuple[Target, ...] = (TARGET,),
    tool_names: Sequence[str] = ("write", "finish"),
    reckoned: bool = False,
    places: Places | None = None,
) -> Crew:
    prices = prices or load_prices()

    async def no_sleep(_: float) -> None:
        await asyncio.sleep(0)

    turns = Turns(
        Ledger(budget or Budget()),
        prices,
        lambda report: ModelClient(
            {target.provider: provider for target in chain},
            rates=TokenRates(now=0.0),
            prices=prices,
            report=report,
            sleep=no_sleep,
        ),
    )
    return Crew(
        turns=turns,
        places=places or Folders(root, tool_names=tool_names),
        choose=lambda _: Choice(chain=chain, why="the test says so"),
        teams=teams or {},
        prefix="the shared prefix",
        bounds=bounds,
        prices=prices if reckoned else None,
    )
