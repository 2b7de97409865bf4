"""What the driver asks of an attempt, whoever makes it: a process of ours, or an agent that only talks.

Agents live beside the engine, not under it: they come in through `Agents`, wired in `maos_bot.app`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from maos_bot.execution.capture import Capture
from maos_bot.model import Outcome, Task, TaskState


class Attempt(Protocol):
    """A running attempt. It calls back once, with its outcome, and never from inside the call that started it."""

    @property
    def pid(self) -> int | None:
        """Its first process; None where it has none of its own."""

    def end(self, state: TaskState, reason: str, *, grace_s: float = ...) -> None:
        """End it as `state`, by force after `grace_s`; its outcome still comes by the call back."""


class Agents(Protocol):
    """Does the tasks of kind agent."""

    @property
    def over_budget(self) -> str:
        """Which cap kept a task from being done, in words; empty where none did."""

    def refused(self, task: Task) -> str:
        """Why an attempt of `task` isn't to begin at all (the budget is spent); empty where it may."""

    def start(
        self,
        task: Task,
        attempt: int,
        *,
        capture: Capture,
        tell: Callable[..., object],
        ended: Callable[[Outcome], None],
        crashed: Callable[[Exception], None],
    ) -> Attempt:
        """Begin an attempt. `tell(kind, **fields)` emits an event of it, `capture` takes what it prints.

        `ended` is called once; before it `crashed`, for a defect of ours. Raises `StartError`.
        """

    async def close(self) -> None:
        """Let go of connections and worktrees; all attempts have ended."""
