"""What programs may ask the dashboard, as an OpenAPI 3.1 document: the JSON answers, and `/ingest` where it is on."""

from __future__ import annotations

from typing import Any, Final

from maos_bot._version import __version__
from maos_bot.events import EVENT_TYPES
from web.run_list import SINCES, SORTS, STATES

_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
    "additionalProperties": False,
}
_TEXT: Final = {"type": "string", "description": "the first 250 characters count"}
_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "status": {"type": "string", "enum": ["", *(mark.state for mark in STATES)]},
    "pr": {"type": "string", "pattern": "^#?[0-9]{1,10}$"},
    "since": {"type": "string", "enum": list(SINCES), "description": "or a day, such as 2026-11-24"},
    "min": {"type": "string", "pattern": "^[0-9]{1,6}[smhd]?$", "description": "such as 90s; also 1h 30m"},
    "cost": {"type": "string", "pattern": "^[0-9]{1,6}([.][0-9]{1,4})?$", "description": "in US dollars"},
    "sort": {"type": "string", "enum": list(SORTS)},
}
_MAYBE_NUMBER: Final = {"type": ["number", "null"]}
_RUN: Final = {
    "type": "object",
    "required": ["run_id", "status", "started_at", "wall_s", "usd"],
    "properties": {
        "run_id": {"type": "string"},
        "status": {"enum": ["running", "lost", "succeeded", "failed", "cancelled", "nothing", "over_budget"]},
        "wall_s": _MAYBE_NUMBER,
        "usd": _MAYBE_NUMBER,
    },
}
_RUNS: Final = {
    "type": "object",
    "required": ["runs"],
    "properties": {"runs": {"type": "array", "items": _RUN}},
    "additionalProperties": False,
}
_PROBLEMS: Final = {
    "type": "object",
    "required": ["problems"],
    "properties": {"problems": {"type": "object", "additionalProperties": {"type": "string"}}},
}
_BADGE: Final = {
    "type": "object",
    "required": ["schemaVersion", "label", "message", "color"],
    "properties": {
        "schemaVersion": {"const": 1},
        **{name: {"type": "string"} for name in ("label", "message", "color")},
    },
    "additionalProperties": False,
}
_HEALTH: Final = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"enum": ["ok", "unavailable"]},
        "runs": {"type": "integer", "minimum": 0},
        "reason": {"type": "string"},
    },
    "additionalProperties": False,
}
_STORED: Final = {
    "type": "object",
    "required": ["events", "new"],
    "properties": {name: {"type": "integer", "minimum": 0} for name in ("events", "new")},
    "additionalProperties": False,
}
_EVENT: Final = {
    "type": "object",
    "required": ["type", "run_id", "seq", "at"],
    "properties": {
        "type": {"enum": sorted(EVENT_TYPES)},
        "run_id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
        "seq": {"type": "integer", "minimum": 1},
        "at": {"type": "number", "minimum": 0, "maximum": 4e9},
    },
}
_REFUSALS: Final = {
    "400": "the body ended early",
    "401": "the token is missing or not known",
    "403": "the caller may not add to these runs",
    "413": "the body is too large",
    "415": "the body is of another type",
    "422": "a line holds what is no event",
    "503": "the database is busy",
}


def document(*, ingest: bool) -> dict[str, Any]:
    """The description; with `/ingest` only where uploads are taken."""
    paths: dict[str, Any] = {
        "/runs.json": _get(
            "The runs that the filters leave",
            ("text", "status", "repo", "branch", "pr", "since", "min", "cost", "sort"),
            {"200": _RUNS, "422": _PROBLEMS},
        ),
        "/badge.json": _get("How the last run stands", ("repo", "branch", "label"), {"200": _BADGE}),
        "/healthz": _get("Whether pages can be served", (), {"200": _HEALTH, "503": _HEALTH}),
    }
    if ingest:
        paths["/ingest"] = {"post": _ingest()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "MAOS bot's dashboard", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _get(summary: str, names: tuple[str, ...], answers: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "parameters": [
                {"name": name, "in": "query", "required": False, "schema": _PARAMETERS.get(name, _TEXT)}
                for name in names
            ],
            "responses": {code: _answer(summary, schema) for code, schema in answers.items()},
        }
    }


def _ingest() -> dict[str, Any]:
    return {
        "summary": "Store events, all of them or none",
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "description": "One event a line, as `maos export --format ndjson` writes them; each is an object like:",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}, "itemSchema": _EVENT}},
        },
        "responses": {
            "200": _answer("How many events came, and how many were new", _STORED),
            **{code: _answer(text, _ERROR) for code, text in _REFUSALS.items()},
        },
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
