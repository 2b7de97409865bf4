"""The app factory: one Flask app over one database file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from flask import Flask, render_template, url_for
from htmx_flask import Htmx  # type: ignore[import-untyped]
from werkzeug.exceptions import HTTPException

from maos_bot._version import __version__
from maos_bot.errors import StoreError
from web import history_routes, routes, run_routes, words
from web.ingest_auth import IngestConfig
from web.ingest_routes import ingest_blueprint
from web.reports import Reports
from web.security import LOOPBACK_HOSTS, protect
from web.sign_in import SignIn, require
from web.site import pages

ROUTES: Final = (routes, run_routes, history_routes)  # loading them puts their pages on the blueprint
HTMX_FILE: Final = "vendor/htmx-2.0.11-d6fdc75f.min.js"

# No inline style, no evaluated attribute, no request elsewhere; pages come from here when the reader goes back.
HTMX_CONFIG: Final = {
    "includeIndicatorStyles": False,
    "allowEval": False,
    "allowScriptTags": False,
    "selfRequestsOnly": True,
    "historyCacheSize": 0,
    "historyRestoreAsHxRequest": False,
    "timeout": 10_000,
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "422", "swap": True},
        {"code": "[45]..", "swap": False, "error": True},
    ],
}


def create_app(
    db_path: Path,
    *,
    clock: Callable[[], float] = time.time,
    hosts: Collection[str] = LOOPBACK_HOSTS,
    ingest: IngestConfig | None = None,
    sign_in: SignIn | None = None,
) -> Flask:
    """The dashboard over the database at `db_path`, which may not exist yet; it is only read, but for `/ingest`.

    `/ingest` takes uploads, and is there only where `ingest` says from whom.

    `clock` gives the present in seconds since the epoch; `hosts` are the names it answers to beside loopback
    addresses (`web.security`). With `sign_in` readers have to say who they are; without, `web.serve` serves this
    machine alone.
    """
    app = Flask(__name__, static_folder="static", template_folder="templates")
    app.config.update(MAOS_DB=db_path, MAOS_CLOCK=clock, MAOS_REPORTS=Reports(), MAX_CONTENT_LENGTH=64 * 1024)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(_FILTERS)
    Htmx(app)
    protect(app, hosts=hosts)
    if sign_in is not None:
        require(app, sign_in)
    app.register_blueprint(pages)
    if ingest is not None:
        app.register_blueprint(ingest_blueprint(ingest, clock=clock))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(StoreError, _store_error)

    digests: dict[str, str] = {}

    def asset(name: str) -> str:
        """The address of a static file, which changes when the file does."""
        if name not in digests:
            data = (Path(app.static_folder or "") / name).read_bytes()
            digests[name] = hashlib.sha256(data).hexdigest()[:8]
        return url_for("static", filename=name, v=digests[name])

    @app.context_processor
    def for_every_page() -> dict[str, Any]:
        return {
            "asset": asset,
            "mark": words.mark,
            "htmx_file": HTMX_FILE,
            "htmx_config": json.dumps(HTMX_CONFIG),
            "version": __version__,
            "database": db_path.name,
            "now": clock(),
        }

    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 30 * words.DAY  # safe: a changed file has another address
    return app


def _exact(value: float) -> str:
    """A figure as `maos show --json` writes it."""
    return json.dumps(value)


_FILTERS: Final = {
    "ago": words.ago,
    "count": words.count,
    "duration": words.duration,
    "exact": _exact,
    "instant": words.instant,
    "iso": words.iso,
    "memory": words.memory,
    "plural": words.plural,
    "size": words.size,
    "tick": words.tick,
    "usd": words.usd,
}


def _http_error(error: HTTPException) -> Any:
    if error.response is not None or (error.code or 500) < 400:
        return error
    page = render_template("error.html", title=error.name, message=error.description or "", hint="")
    return page, error.code or 500


def _store_error(error: StoreError) -> Any:
    page = render_template(
        "error.html", title="The history can't be read", message=error.message, hint=_sentence(error.hint)
    )
    return page, 503


def _sentence(hint: str) -> str:
    return f"{hint[:1].upper()}{hint[1:]}." if hint else ""
