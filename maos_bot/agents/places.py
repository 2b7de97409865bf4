"""Where agents work and with what, as they see it: a folder of their own, its tools, and the change that comes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from maos_bot.model import Task
from maos_bot.models.protocol import Tool, ToolCall, ToolResult


class Finish(Protocol):
    """What a worker says when it is done."""

    @property
    def summary(self) -> str: ...

    @property
    def findings(self) -> Sequence[Any]:
        """As the model gave them: objects yet to be checked."""


class Tools(Protocol):
    """The tools of one worker, confined to its folder."""

    @property
    def tools(self) -> tuple[Tool, ...]: ...

    @property
    def finished(self) -> Finish | None: ...

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one call. What fails is a result that says so, never an exception."""


class Change(Protocol):
    """What a worker changed."""

    @property
    def commit(self) -> str: ...

    @property
    def files(self) -> Sequence[str]: ...

    @property
    def added(self) -> int: ...

    @property
    def removed(self) -> int: ...

    @property
    def conflicts(self) -> Sequence[str]: ...

    @property
    def branch(self) -> str:
        """Where it is kept if it doesn't merge."""

    @property
    def patch(self) -> str:
        """It as `git diff` writes it, for people: binary files are named alone, a long one is cut."""

    @property
    def advice(self) -> str:
        """What its worker is to know to mend the conflicts."""


class PlaceError(Exception):
    """A place that can't be given, or work that can't be taken out of it; the message says why, for the user."""


class RefusedError(Exception):
    """A change that may not be taken (outside `writes`, a link out, `.git`); the message tells the worker why."""


class Places(Protocol):
    """Gives each task its folder and takes what it changed."""

    async def open(self, task: Task) -> Path:
        """The folder of `task`; the same one again where its work was sent back."""

    def tools(self, task: Task, folder: Path) -> Tools:
        """A fresh set of tools in it."""

    async def verify(self, task: Task, folder: Path) -> str:
        """Run `task.verify` there; what it said where it failed, empty where it passed."""

    async def take(self, task: Task) -> Change | None:
        """Take the change and apply it; None where nothing was changed. Raises `RefusedError`."""

    async def close(self) -> None:
        """Clean up; what was not taken is kept as the places see fit, never silently dropped."""
