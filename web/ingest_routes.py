"""`POST /ingest`: the one route that writes. A run's events as NDJSON, all of them stored or none.

Off unless `create_app` is given an `IngestConfig`. What comes in is checked before anything is stored: the caller, the
size, each event's form and bounds, and that a workflow adds to its own repository's runs alone. Uploading the same
again changes nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from maos_bot.errors import StoreError
from maos_bot.events import RunEvent
from maos_bot.store.db import connect, is_busy
from maos_bot.store.ingest import Ingester
from maos_bot.store.intake import BadEventsError, check_runs, read_events
from maos_bot.store.synced import note_intake
from web.ingest_auth import Caller, Doorkeeper, IngestConfig, RefusedError


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
            check_runs(events)
            stored = _store(current_app.config["MAOS_DB"], events, caller, at=clock())
        except RequestEntityTooLarge:
            return _say(413, f"the body may have {config.max_bytes} bytes")
        except ClientDisconnected:
            return _say(400, "the body ended early: nothing was stored")
        except BadEventsError as error:
            return _say(422, f"{error}: nothing was stored")
        except RefusedError as error:
            return _say(error.status, f"{error}: nothing was stored")
        except StoreError as error:
            answer = _say(503, error.message)
            answer.headers["Retry-After"] = "10"
            return answer
        return {"events": len(events), "new": stored}

    return blueprint


def _store(path: Path, events: list[RunEvent], caller: Caller, *, at: float) -> int:
    connection = connect(path, create=True)
    run_ids = {event.run_id for event in events}
    try:
        _check_owner(connection, run_ids, caller, new=True)

        def check() -> None:
            _check_owner(connection, run_ids, caller, new=False)
            note_intake(connection, "upload", at=at)

        return Ingester(connection).write(events, check=check)
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
