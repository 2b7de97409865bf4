"""Events that strangers bring, as NDJSON: read strictly, bounded, every field of its type.

What is taken in can be stored and shown; what isn't is named by its line, never repeated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from maos_bot.events import EVENT_TYPES, SCHEMA_VERSION, RunEvent, RunFinished, RunStarted, from_dict
from maos_bot.model import RunStatus

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_EVENTS: Final = 500_000
_LARGEST: Final = 2**53  # the largest whole number every JSON reader keeps
_LATEST: Final = 4e9  # seconds since the epoch, in 2096: what a date can show
_DEEPEST: Final = 12


class BadEventsError(Exception):
    """What is wrong with what was brought, in words."""


def read_events(body: bytes) -> list[RunEvent]:
    """The events of a whole NDJSON text; raises `BadEventsError` naming the line that is none."""
    if not body.endswith(b"\n"):
        raise BadEventsError("the last line doesn't end: the body was cut off, or is empty")
    events: list[RunEvent] = []
    for number, line in enumerate(body.splitlines(), start=1):
        if not line.strip():
            continue
        if len(events) >= MOST_EVENTS:
            raise BadEventsError(f"there are more than {MOST_EVENTS} events")
        try:
            events.append(_event(line))
        except (ValueError, RecursionError) as error:
            what = "it is nested too deeply" if isinstance(error, RecursionError) else _first_line(error)
            raise BadEventsError(f"line {number}: {what}") from error
    if not events:
        raise BadEventsError("there is no event")
    return events


def _event(line: bytes) -> RunEvent:
    row = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error type for all that is wrong with a line
    _check_bounds(row)
    cls = EVENT_TYPES.get(str(row.get("type")))
    if cls is None:
        raise ValueError("unknown event type")
    _form(cls.__name__).validate_json(line, strict=True)  # strict: no text counts as a number
    event = from_dict(row)
    if not _RUN_ID.fullmatch(event.run_id):
        raise ValueError("run_id must be letters, digits, dots, dashes and underscores")
    if not 0 < event.seq <= _LARGEST or not 0 <= event.at <= _LATEST:
        raise ValueError("seq or at is out of bounds")
    if isinstance(event, RunStarted) and event.schema > SCHEMA_VERSION:
        raise ValueError(f"events have schema {event.schema}, this dashboard knows up to {SCHEMA_VERSION}")
    if isinstance(event, RunFinished) and event.status not in set(RunStatus) - {RunStatus.RUNNING}:
        raise ValueError("a run can't end like that")
    return event


@cache
def _form(name: str) -> Any:
    """What checks the types of an event's fields; unknown ones are let by, as everywhere."""
    from pydantic import TypeAdapter  # 0.1 s that a dashboard without /ingest doesn't pay

    return TypeAdapter(EVENT_TYPES[name])


def _check_bounds(value: object, depth: int = 0) -> None:
    """That a value fits into a database and on a page: finite, not too large, not too deep."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict):
        for item in value.values():
            _check_bounds(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_bounds(item, depth + 1)
    elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= _LARGEST):
        raise ValueError("a number is out of bounds")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def check_runs(events: Sequence[RunEvent]) -> None:
    """That each run among `events` starts as a run does, in one repository; raises `BadEventsError`."""
    starts: dict[str, str] = {}
    for event in events:
        if isinstance(event, RunStarted):
            if starts.setdefault(event.run_id, event.trigger.repository) != event.trigger.repository:
                raise BadEventsError(f"run {event.run_id} starts in two repositories")
            ids = [task.id for task in event.tasks]
            if len(set(ids)) != len(ids) or event.seq != 1:
                raise BadEventsError(f"run {event.run_id} doesn't start as a run does")


def _first_line(error: ValueError) -> str:
    """The error in one line, without what was uploaded."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"[:200]
    return str(error).partition("\n")[0][:200]
