"""`POST /ingest`: the one route that writes. A run's events as NDJSON, all of them stored or none.

Off unless `create_app` is given an `IngestConfig`. What comes in is checked before anything is stored: the caller, the
size, each event's form and bounds, and that a workflow adds to its own repository's runs alone. Uploading the same
again changes nothing.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from maos_bot.errors import StoreError
from maos_bot.events import EVENT_TYPES, SCHEMA_VERSION, RunEvent, RunFinished, RunStarted, from_dict
from maos_bot.model import RunStatus
from maos_bot.store.db import connect, is_busy
from maos_bot.store.ingest import Ingester
from web.ingest_auth import Caller, Doorkeeper, IngestConfig, RefusedError

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST_EVENTS: Final = 500_000
_LARGEST: Final = 2**53  # the largest whole number every JSON reader keeps
_LATEST: Final = 4e9  # seconds since the epoch, in 2096: what a date can show
_DEEPEST: Final = 12


class BadUploadError(Exception):
    """What is wrong with the body, in words."""


def ingest_blueprint(config: IngestConfig, *, clock: Callable[[], float]) -> Blueprint:
    """The route, for an app that takes uploads."""
    blueprint = Blueprint("ingest", __name__)
    doorkeeper = Doorkeeper(config=config, clock=clock)

    @blueprint.post("/ingest")
    def ingest() -> Any:  # noqa: PLR0911 - one for each kind of refusal
        """Store the events of the body."""
        try:
            caller = doorkeeper.admit(request.headers.get("Authorization", ""))
        except RefusedError as error:
            answer = _say(error.status, str(error))
            if error.status == 401:
                answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        if request.mimetype != "application/x-ndjson" or request.headers.get("Content-Encoding"):
            return _say(415, "the body must be application/x-ndjson, not compressed")
        request.max_content_length = config.max_bytes
        try:
            events = read_events(request.get_data(cache=False))
            _check_runs(events)
            stored = _store(current_app.config["MAOS_DB"], events, caller)
        except RequestEntityTooLarge:
            return _say(413, f"the body may have {config.max_bytes} bytes")
        except ClientDisconnected:
            return _say(400, "the body ended early: nothing was stored")
        except BadUploadError as error:
            return _say(422, f"{error}: nothing was stored")
        except RefusedError as error:
            return _say(error.status, f"{error}: nothing was stored")
        except StoreError as error:
            answer = _say(503, error.message)
            answer.headers["Retry-After"] = "10"
            return answer
        return {"events": len(events), "new": stored}

    return blueprint


def read_events(body: bytes) -> list[RunEvent]:
    """The events of an upload; raises `BadUploadError` naming the line that is none."""
    if not body.endswith(b"\n"):
        raise BadUploadError("the last line doesn't end: the body was cut off, or is empty")
    events: list[RunEvent] = []
    for number, line in enumerate(body.splitlines(), start=1):
        if not line.strip():
            continue
        if len(events) >= _MOST_EVENTS:
            raise BadUploadError(f"there are more than {_MOST_EVENTS} events")
        try:
            events.append(_event(line))
        except (ValueError, RecursionError) as error:
            what = "it is nested too deeply" if isinstance(error, RecursionError) else _first_line(error)
            raise BadUploadError(f"line {number}: {what}") from error
    if not events:
        raise BadUploadError("there is no event")
    return events


def _event(line: bytes) -> RunEvent:
    row = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error type for all that is wrong with a line
    _check_bounds(row)
    cls = EVENT_TYPES.get(str(row.get("type")))
    if cls is None:
        raise ValueError("unknown event type")
    _form(cls.__name__).validate_python({name: value for name, value in row.items() if name != "type"})
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


def _check_runs(events: list[RunEvent]) -> None:
    starts: dict[str, str] = {}
    for event in events:
        if isinstance(event, RunStarted):
            if starts.setdefault(event.run_id, event.trigger.repository) != event.trigger.repository:
                raise BadUploadError(f"run {event.run_id} starts in two repositories")
            ids = [task.id for task in event.tasks]
            if len(set(ids)) != len(ids) or event.seq != 1:
                raise BadUploadError(f"run {event.run_id} doesn't start as a run does")


def _store(path: Path, events: list[RunEvent], caller: Caller) -> int:
    connection = connect(path, create=True)
    run_ids = {event.run_id for event in events}
    try:
        _check_owner(connection, run_ids, caller, new=True)
        return Ingester(connection).write(events, check=lambda: _check_owner(connection, run_ids, caller, new=False))
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise StoreError("the database is busy; try again") from error
        raise StoreError("the database can't be written now") from error
    finally:
        connection.close()


def _check_owner(connection: sqlite3.Connection, run_ids: set[str], caller: Caller, *, new: bool) -> None:
    """That all runs are of the caller's repository: as they stood, where they may be `new`, and as they will stand."""
    if caller.repository is None:
        return
    for run_id in run_ids:
        row = connection.execute("SELECT repository FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None and new:
            continue
        if row is None or str(row[0]).lower() != caller.repository.lower():
            raise RefusedError(403, "a run of another repository, or of none")


def _say(status: int, message: str) -> Response:
    return Response(json.dumps({"error": message}), status=status, mimetype="application/json")


def _first_line(error: ValueError) -> str:
    """The error in one line, without what was uploaded."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"[:200]
    return str(error).partition("\n")[0][:200]
