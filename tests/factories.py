"""Believable runs (`maos_bot.demo`), and how they get into a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maos_bot.demo.agents import REVIEWERS
from maos_bot.demo.pipeline import PIPELINE, Ending, Job
from maos_bot.demo.runs import START, make_history, make_run
from maos_bot.events import RunEvent, TaskFinished
from maos_bot.store.writer import StoreWriter

__all__ = ["PIPELINE", "REVIEWERS", "START", "Ending", "Job", "make_history", "make_run", "store_runs", "with_agent"]


def store_runs(path: Path, runs: Sequence[Sequence[RunEvent]]) -> Path:
    """Write whole streams into the database at `path`, and return it."""
    writer = StoreWriter(path)
    try:
        for events in runs:
            for event in events:
                writer.add(event)
    finally:
        writer.close()
    return path


def with_agent(
    events: Sequence[RunEvent],
    task: str,
    said: Sequence[tuple[type[RunEvent], dict[str, Any]]],
    *,
    attempt: int = 1,
) -> list[RunEvent]:
    """The run with these events of an agent's attempt right before its end, numbered anew."""
    end = next(index for index, event in enumerate(events) if isinstance(event, TaskFinished) and event.task == task)
    first = events[0]
    more = [cls(run_id=first.run_id, seq=1, at=events[end].at, task=task, attempt=attempt, **v) for cls, v in said]  # type: ignore[call-arg]
    return [replace(event, seq=seq) for seq, event in enumerate([*events[:end], *more, *events[end:]], start=1)]
