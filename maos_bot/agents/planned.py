"""What the project manager did before a run began, told as the run's first task.

The tasks of a goal must be known before the run can be planned, so the model is asked first. Its words, its usage and
how it ended are kept, and told when the run has a stream to tell them to. Nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from maos_bot.model import Outcome, Task, TaskState

PLAN_TITLE: Final = "Plan the goal"
_NAMES: Final = ("plan", "plan-goal", "plan-the-goal")


@dataclass(kw_only=True, slots=True)
class Planned:
    """The task of the project manager, and all that came of it; `told` are events yet to be told."""

    task: Task
    outcome: Outcome = field(default_factory=lambda: Outcome(state=TaskState.SUCCEEDED))
    words: str = ""
    told: list[tuple[type[Any], dict[str, Any]]] = field(default_factory=list)

    def tell(self, kind: type[Any], **values: Any) -> None:
        """Keep an event until there is a run."""
        self.told.append((kind, values))


def plan_task(goal: str, taken: Sequence[str]) -> Task:
    """The task that stands for the planning of `goal`; its id is none of `taken`."""
    name = next((name for name in _NAMES if name not in taken), f"{_NAMES[0]}-{len(taken)}")
    return Task(id=name, agent=goal, name=PLAN_TITLE, report="plan", max_attempts=1)
