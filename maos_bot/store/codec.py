"""Events as rows and back, and as lines of NDJSON (pure).

A row's `body` holds only what differs from the event class's defaults, so that most are a few bytes: a default in
`maos_bot.events` is part of the format, and changing one needs a migration.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any, Final

from maos_bot.events import (
    EVENT_TYPES,
    OutputChunk,
    ResourceSampled,
    RunEvent,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskInfo,
    TaskReady,
    TaskStarted,
    from_dict,
    to_dict,
)
from maos_bot.model import TaskState, Trigger, Usage

_MAX_SEQ: Final = 2**53  # the largest whole number every JSON reader keeps
_IN_COLUMNS: Final = frozenset({"run_id", "seq", "at", "task", "attempt", "spec_text"})


def _optional_fields(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    found = []
    for item in fields(cls):
        default = item.default if item.default_factory is MISSING else item.default_factory()
        found.append((item.name, default))
    return tuple(found)


def _body_fields(cls: type[Any]) -> tuple[tuple[tuple[str, Any], ...], Callable[[Any], tuple[Any, ...]]]:
    """Names and defaults, and what gets the values in their order; one more, so that it is always a tuple."""
    optional = tuple((name, default) for name, default in _optional_fields(cls) if name not in _IN_COLUMNS)
    return optional, attrgetter(*(name for name, _ in optional), "seq")


_BODY: Final = {cls: _body_fields(cls) for cls in EVENT_TYPES.values() if cls not in {OutputChunk, ResourceSampled}}
# The types that pages read by the thousand, and that need no care: each with the names of its fields.
_PLAIN: Final = {
    cls.__name__: (cls, frozenset(item.name for item in fields(cls)))
    for cls in (TaskReady, TaskStarted, TaskFinished, RunFinished)
}
_NESTED: Final = {cls: _optional_fields(cls) for cls in (Trigger, TaskInfo, Usage)}


def _differing(value: Any) -> Any:
    """For the JSON encoder: what it doesn't know, as plain values."""
    known = _NESTED.get(type(value))
    if known is None:
        return dict(value)  # a mapping of another kind
    return {name: item for name, default in known if (item := getattr(value, name)) != default}


_encode: Final[Callable[[Any], str]] = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=_differing
).encode


def body_of(event: RunEvent) -> str:
    """What of the event has no column of its own: a JSON object, or nothing where all is default."""
    optional, values_of = _BODY[type(event)]
    values = {
        name: value for (name, default), value in zip(optional, values_of(event), strict=False) if value != default
    }
    return clean(_encode(values)) if values else ""


def event_of(
    type_name: str,
    *,
    run_id: str,
    seq: int,
    at: float,
    task: str | None,
    attempt: int | None,
    body: str,
    spec_text: str | None = None,
) -> RunEvent:
    """The event that `body_of` and the columns came from."""
    row: dict[str, Any] = json.loads(body) if body else {}
    row["run_id"], row["seq"], row["at"] = run_id, seq, at
    if task is not None:
        row["task"] = task
    if attempt is not None:
        row["attempt"] = attempt
    if spec_text is not None:
        row["spec_text"] = spec_text
    plain = _PLAIN.get(type_name)
    if plain is None or not row.keys() <= plain[1]:
        return from_dict(row | {"type": type_name})
    if "state" in row:
        row["state"] = TaskState(row["state"])
    return plain[0](**row)


def clean(text: str) -> str:
    """The text with what UTF-8 can't carry (lone surrogates) replaced by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def to_line(event: RunEvent) -> str:
    """The event as one line of NDJSON, without the line feed."""
    return clean(json.dumps(to_dict(event), ensure_ascii=False, separators=(",", ":")))


def from_line(line: str) -> RunEvent:
    """The event of one line of NDJSON; raises `ValueError` for anything else."""
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error type for all that is wrong with a line
    event = from_dict(row)
    if not isinstance(event.run_id, str) or not event.run_id:
        raise ValueError("run_id must be a text")
    if type(event.seq) is not int or not 0 < event.seq <= _MAX_SEQ:
        raise ValueError("seq must be a whole number from 1")
    if type(event.at) not in {int, float} or not math.isfinite(event.at):
        raise ValueError("at must be seconds since the epoch")
    return event


def from_lines(lines: Iterable[str]) -> Iterator[RunEvent]:
    """The events of an NDJSON text. Blank lines are skipped, and so is a last line that was cut short.

    Raises `ValueError` with the line's number for anything else that is no event.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = from_line(line)
        except ValueError as error:
            if not line.endswith("\n"):  # only the last can lack it: a writer died in the middle
                return
            raise ValueError(f"line {number}: {error}") from error
        yield event


def spec_text_of(event: RunEvent) -> str:
    """The spec's text where the event carries one; it is stored once for all runs that share it."""
    return clean(event.spec_text) if type(event) is RunStarted else ""
