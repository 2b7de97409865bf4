"""An agent's conversation as plain text, message by message (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from maos_bot.events import TranscriptAdded

_SAYS: Final = {"asked": "we asked", "answered": "it answered", "called": "it called", "returned": "it got"}
_MARK: Final = "=="


def conversation(events: Iterable[TranscriptAdded]) -> Iterator[str]:
    """The pieces of a task's conversation, a line with who says it before each message."""
    attempt = 0
    for event in events:
        if event.attempt != attempt:
            attempt = event.attempt
            yield f"{_MARK} attempt {attempt}\n\n"
        model = f" ({event.model})" if event.model else ""
        yield f"{_MARK} turn {event.turn}, {_SAYS.get(event.role, event.role)}{model}:\n{event.text.rstrip()}\n\n"
