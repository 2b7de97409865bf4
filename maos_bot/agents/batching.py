"""Which conversation a small task had best be done in: one of its own, or one that has read what it needs (pure).

A worker's conversation is kept when its task was accepted. A later task of the team that only reads may go on from it:
what was read there is in the provider's cache, so it isn't paid for again, but all that was said there is read along in
each turn. Which of the two is dearer is reckoned from the model's prices, from what the conversation has read of the
files that the task names, and from how many turns such tasks take. So how many tasks come to share a conversation
follows from the figures; no number is set. The wall clock loses nothing: a conversation is words, from which many can
go on at once, each their own way; no task waits for another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Task, Usage
from maos_bot.models.prices import Price
from maos_bot.models.protocol import Answered, Message, Returned, Turn
from maos_bot.models.sizes import estimated_tokens

CACHED_S: Final = 240.0  # unused for longer, it may be out of the cache, which keeps it five minutes
USUAL_TURNS: Final = 3.0  # of a small task, where none was measured
READS: Final = frozenset({"read", "search"})
ATOMIC: Final = "qa"  # the team whose tasks stay apart


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """One to go on from: what was said, with which tools and model, on top of whose changes, and when it was used."""

    messages: tuple[Message, ...]
    tools: str  # their signature
    model: str
    base: frozenset[str]  # tasks whose changes the files have in them
    task: str
    used_at: float  # seconds on the caller's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a task's conversation costs by: `price` of its model (None: unknown), the shared `prefix` in tokens, and
    how many `turns` such a task takes alone."""

    price: Price | None
    prefix: int
    turns: float = USUAL_TURNS


def may_share(task: Task, tools: Iterable[str]) -> bool:
    """Whether `task` may be done beside others in one conversation: it only reads, and isn't to stay atomic."""
    return task.team != ATOMIC and task.writes is None and set(tools) <= READS | {"list", "finish"}


def best(
    task: Task,
    known: Sequence[Conversation],
    *,
    terms: Terms,
    tools: str,
    model: str,
    base: frozenset[str],
    now: float,
    most_tokens: int,
) -> tuple[Conversation, float] | None:
    """The conversation in which `task` is expected to cost least, and how many dollars less; None: one of its own."""
    found: tuple[Conversation, float] | None = None
    for each in known:
        if (each.tools, each.model, each.base) != (tools, model, base) or now - each.used_at > CACHED_S:
            continue
        if 2 * size_of(each.messages) > most_tokens:
            continue
        saved = saving(task, each, terms)
        if saved > (found[1] if found else 0.0):
            found = each, saved
    return found


def saving(task: Task, conversation: Conversation, terms: Terms) -> float:
    """Dollars that `task` costs less in `conversation` than alone; negative where it costs more, or nobody knows."""
    if terms.price is None:
        return -1.0
    shared = sum(tokens for path, tokens in files_read(conversation.messages).items() if names(task, path))
    if not shared:
        return -1.0
    read, write = _usd(terms.price, Usage(cache_read_tokens=1)), _usd(terms.price, Usage(cache_write_tokens=1))
    turns = max(2.0, terms.turns)
    alone = shared * write + shared * read * (turns - 2) + terms.prefix * read  # the turn in which it reads is saved
    together = size_of(conversation.messages) * read * (turns - 1)
    return alone - together


def files_read(messages: Iterable[Message]) -> dict[str, int]:
    """The files that were read in a conversation, and about how many tokens each came to."""
    calls: dict[str, str] = {}
    found: dict[str, int] = {}
    for message in messages:
        if isinstance(message, Answered):
            for call in message.calls:
                if call.name == "read" and call.arguments and isinstance(call.arguments.get("path"), str):
                    calls[call.id] = call.arguments["path"]
        elif isinstance(message, Returned):
            for result in message.results:
                if (path := calls.pop(result.call_id, "")) and not result.failed:
                    found[path] = found.get(path, 0) + round(len(result.text) / 3.5)
    return found


def names(task: Task, path: str) -> bool:
    """Whether `task` is about the file `path`: its words or its `inputs` name it."""
    name = PurePosixPath(path).name
    words = task.agent or ""
    said = path in words or re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", words) is not None
    return said or any(fnmatchcase(path, pattern) for pattern in task.inputs)


def size_of(messages: Sequence[Message]) -> int:
    """About how many tokens a conversation is, without the prefix."""
    return estimated_tokens(Turn(model="", messages=tuple(messages)), prefix=False)


def _usd(price: Price, usage: Usage) -> float:
    """A price for one token; where a cache's isn't known it is that of a token that isn't cached."""
    known = price.usd(usage)
    return known if known is not None else price.usd(Usage(input_tokens=1)) or 0.0
