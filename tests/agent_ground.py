"""Ground for agents' tools in tests: a real worktree, with what must stay out of reach around it, and a way to call."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maos_bot.agents.tools import AgentTools
from maos_bot.execution.confined import AgentCommands
from maos_bot.execution.confinement import Confinement
from maos_bot.model import Task
from maos_bot.models.protocol import ToolCall, ToolResult
from maos_bot.redact import Redactor

SECRET = "out-of-reach-7f3a9c"  # in files around the worktree
KEY = "maos+test/key=Zq8~w4Kd0pXv6rTn2bLm"  # in our environment, and known to the redactor
ALL = ("read", "search", "edit", "run")


@dataclass
class Ground:
    """`work` is the worktree; `outside` and the repository are what nothing may read or change."""

    base: Path
    environ: Mapping[str, str] = field(default_factory=lambda: {**os.environ, "MAOS_TEST_API_KEY": KEY})
    held_by: Confinement | None = None

    def __post_init__(self) -> None:
        self.outside, self.repository, self.work = self.base / "outside", self.base / "repo", self.base / "work"
        (self.outside / "folder").mkdir(parents=True)
        (self.outside / "secret.txt").write_text(f"{SECRET}\n")
        (self.outside / "folder" / "secret.txt").write_text(f"{SECRET}\n")
        (self.outside / "victim.txt").write_text("untouched\n")
        (self.repository / "src").mkdir(parents=True)
        (self.repository / "docs").mkdir()
        (self.repository / "src/a.py").write_text("def foo():\n    return 1\n\n\ndef bar():\n    return 2\n")
        (self.repository / "docs/a.md").write_text("# Docs\n")
        (self.repository / "README.md").write_text("Read me.\n")
        self.git("init", "-q", "-b", "main")
        self.git("config", "http.https://git.example.invalid/.extraheader", f"AUTHORIZATION: basic {SECRET}")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "all")
        self.git("worktree", "add", "-q", "--detach", str(self.work))
        self.redactor = Redactor([KEY])
        self.commands = AgentCommands(redactor=self.redactor, environ=self.environ, held_by=self.held_by)

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.repository), *arguments], check=True, capture_output=True, text=True
        ).stdout

    def tools(self, *kinds: str, writes: tuple[str, ...] | None = None, **values: Any) -> AgentTools:
        task = Task(id="job", agent="Do it.", tools=kinds, writes=writes, **values)
        return AgentTools(self.work, task, commands=self.commands, redactor=self.redactor)

    def close(self) -> None:
        self.commands.close()

    def state(self) -> dict[str, tuple[int, str]]:
        """All around the worktree: each file's mode and content, each link's target."""
        found = {}
        for top in (self.outside, self.repository):
            for path in sorted([top, *top.rglob("*")]):
                mode = path.lstat().st_mode
                if path.is_symlink():
                    content = str(path.readlink())
                else:
                    content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                found[str(path)] = (mode, content)
        return found


def ask(tools: AgentTools, name: str, **arguments: Any) -> ToolResult:
    """Make one call, on a loop of its own."""
    return asyncio.run(tools.call(ToolCall(id="c", name=name, arguments=arguments)))


def processes_with(text: str) -> list[int]:
    """The processes, but ours, whose command line or environment holds `text`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes():
                    found.append(int(folder.name))
    return found
