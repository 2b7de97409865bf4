"""Believable runs (`maos_bot.demo`), and how they get into a database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maos_bot.demo.pipeline import PIPELINE, Ending, Job
from maos_bot.demo.runs import START, make_history, make_run
from maos_bot.events import RunEvent
from maos_bot.store.writer import StoreWriter

__all__ = ["PIPELINE", "START", "Ending", "Job", "make_history", "make_run", "store_runs"]


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
