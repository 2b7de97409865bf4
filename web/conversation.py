"""An agent's conversation as the page of its task shows it: what it was told, its words, its tools, what turns cost.

Texts are a model's or a tool's: they are shown as text, cut where they are long; the plain text has all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from maos_bot.events import TranscriptAdded, UsageRecorded
from maos_bot.model import Usage
from web import ansi, words

LONGEST: Final = 6_000  # characters of one text on the page
ROOM: Final = 160_000  # characters of all texts on the page
_LINES_OPEN: Final = 6  # a text with more lines is folded
_SHORT: Final = 80  # characters of an argument that stands beside its tool
_WORDS: Final = {"asked": "Told", "answered": "Agent", "called": "Tool", "returned": "Result"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnHead:
    """What a turn of the model cost; figures are None where nothing was recorded."""

    number: int
    model: str
    usage: Usage | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One message; `head` where a turn begins with it. `folded` texts open with a click, on their `first` line."""

    seq: int
    role: str
    word: str
    tool: str
    arguments: tuple[tuple[str, str], ...]
    text: str
    first: str
    folded: bool
    left_out: int
    head: TurnHead | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Messages in order, those before the first `skipped` left out; `after` is the number of the last event in it."""

    said: tuple[Said, ...]
    skipped: int
    after: int


def conversation(events: Sequence[TranscriptAdded | UsageRecorded], *, after: int = 0) -> Conversation:
    """The messages among `events`, with what each turn cost at its head.

    A turn that was paid and whose answer isn't there yet is left for the next look.
    """
    every = list(_said(events))
    kept: list[Said] = []
    room = ROOM
    for one in reversed(every):
        room -= len(one.text) + sum(len(value) for _, value in one.arguments)
        if room < 0 and kept:
            break
        kept.append(one)
    kept.reverse()
    return Conversation(said=tuple(kept), skipped=len(every) - len(kept), after=every[-1].seq if every else after)


def as_text(events: Iterable[TranscriptAdded | UsageRecorded]) -> Iterator[str]:
    """All of it as plain text."""
    for event in events:
        if isinstance(event, UsageRecorded):
            used = event.usage
            tokens = f"{used.input_tokens} in, {used.output_tokens} out, {used.cache_read_tokens} from cache"
            yield f"--- {ansi.plain(event.model)}: {tokens}, {words.usd(used.usd)}\n"
        else:
            yield f"[{_WORDS.get(event.role, event.role)}]\n{ansi.plain(event.text)}\n\n"


def _said(events: Sequence[TranscriptAdded | UsageRecorded]) -> Iterator[Said]:
    paid: UsageRecorded | None = None
    usage: Usage | None = None
    turn = 0
    for event in events:
        if isinstance(event, UsageRecorded):
            paid, usage = event, event.usage if usage is None else usage + event.usage
            continue
        head = None
        if event.role in {"answered", "called"} and (event.turn != turn or paid):
            turn = event.turn
            head = TurnHead(number=turn, model=event.model or (paid.model if paid else ""), usage=usage)
            paid = usage = None
        yield _message(event, head)


def _message(event: TranscriptAdded, head: TurnHead | None) -> Said:
    tool, whole = "", ansi.plain(event.text)
    arguments: tuple[tuple[str, str], ...] = ()
    if event.role == "called":
        tool, arguments, whole = _call(whole)
    text = whole[:LONGEST]
    lines = text.count("\n") + 1
    return Said(
        seq=event.seq,
        role=event.role if event.role in _WORDS else "other",
        word=_WORDS.get(event.role, event.role),
        tool=tool,
        arguments=arguments,
        text=text.rstrip("\n"),
        first=_first(text),
        folded=event.role in {"returned", "asked"} and (lines > _LINES_OPEN or len(text) > 600),
        left_out=len(whole) - len(text),
        head=head,
    )


def _call(text: str) -> tuple[str, tuple[tuple[str, str], ...], str]:
    """The tool, its short arguments, and what of the call is long, as text."""
    tool, _, raw = text.partition(" ")
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError):
        return tool, (), raw
    if not isinstance(given, dict):
        return tool, (), raw
    values = {str(name): _value(value) for name, value in given.items()}
    short = tuple((name, value) for name, value in values.items() if len(value) <= _SHORT and "\n" not in value)
    long = [f"{name}:\n{value}" for name, value in values.items() if (name, value) not in short]
    return tool, short, "\n\n".join(long)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _first(text: str) -> str:
    line = next((line for line in text.split("\n") if line.strip()), "").strip()
    return line if len(line) <= 100 else f"{line[:99]}…"
