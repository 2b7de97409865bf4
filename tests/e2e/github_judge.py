"""Holds requests and answers to GitHub's own OpenAPI description (`github/openapi.json`, see `trim_openapi.py` there).

Stricter than the description in one point: a field or parameter that it doesn't name is a fault too, as GitHub drops
such silently. Answers may leave fields out: our stand-in claims only what we read. Of refusals (4xx, 5xx) it checks the
form alone, as the description names few of those that GitHub gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import jsonschema  # type: ignore[import-untyped]

_DESCRIPTION: Final = Path(__file__).parent / "github" / "openapi.json"
_JSON: Final = "application/json"
_FORMATS: Final = jsonschema.FormatChecker(formats=())


def _is_instant(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_address(value: object) -> bool:
    return not isinstance(value, str) or bool(re.match(r"[a-z][a-z0-9+.-]*://\S+\Z", value))


_FORMATS.checks("date-time")(_is_instant)
_FORMATS.checks("uri")(_is_address)


def request_faults(method: str, target: str, content: bytes, content_type: str = "") -> list[str]:
    """What GitHub's description finds wrong with a request; `target` is its path and query."""
    parts = urlsplit(target)
    found = _operation(method, parts.path)
    if found is None:
        return [f"{method} {parts.path}: GitHub's API has no such operation"]
    operation, values = found
    faults = [
        *_parameter_faults(operation, "path", values),
        *_parameter_faults(operation, "query", _query(parts.query)),
    ]
    wanted = operation.get("requestBody")
    if wanted is None:
        faults += ["body: this operation takes none"] if content else []
    elif not content:
        faults += ["body: this operation needs one"] if wanted.get("required") else []
    elif content_type.partition(";")[0].strip() != _JSON:
        faults.append(f"body: comes as {content_type or 'nothing'}, not {_JSON}")
    else:
        faults += _faults(_resolved(wanted)["content"][_JSON]["schema"], content, "body", whole=True)
    return [f"{method} {parts.path}: {fault}" for fault in faults]


def answer_faults(method: str, target: str, status: int, content: bytes) -> list[str]:
    """What GitHub's description finds wrong with an answer, as far as it says anything."""
    path = urlsplit(target).path
    where = f"{method} {path} -> {status}"
    if status >= 400:
        said = json.loads(content or b"null")
        return [] if isinstance(said, dict) and "message" in said else [f"{where}: a refusal says a message"]
    found = _operation(method, path)
    if found is None:
        return [f"{where}: GitHub's API has no such operation"]
    response = found[0]["responses"].get(str(status))
    if response is None:
        return [f"{where}: GitHub never answers so"]
    body = _resolved(response).get("content", {}).get(_JSON)
    if body is None:
        return [f"{where}: this answer has no body"] if content else []
    return [f"{where}: {fault}" for fault in _faults(body["schema"], content, "body", whole=False)]


@cache
def _description() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(_DESCRIPTION.read_text(encoding="utf-8"))
    return described


@cache
def _components(*, whole: bool) -> dict[str, Any]:
    schemas = _description()["components"]["schemas"]
    return {"schemas": {name: _json_schema(schema, whole=whole) for name, schema in schemas.items()}}


def _operation(method: str, path: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The operation at an address, and the values in its path."""
    for template, item in _description()["paths"].items():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template)).replace(
            "(?P<path>[^/]+)", "(?P<path>.+)"
        )
        if (found := re.fullmatch(pattern, path)) and method.lower() in item:
            operation = item[method.lower()]
            parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
            return operation | {"parameters": parameters}, {k: unquote(v) for k, v in found.groupdict().items()}
    return None


def _query(text: str) -> dict[str, str]:
    return dict(parse_qsl(text, keep_blank_values=True))


def _parameter_faults(operation: Mapping[str, Any], place: str, values: Mapping[str, str]) -> Iterator[str]:
    known = {each["name"]: each for each in map(_resolved, operation["parameters"]) if each["in"] == place}
    for name in known.keys() - values.keys():
        if known[name].get("required"):
            yield f"{place} {name}: is missing"
    for name, text in values.items():
        if name not in known:
            yield f"{place} {name}: GitHub knows no such parameter"
            continue
        schema = _resolved(known[name]["schema"])
        is_text = schema.get("type", "string") == "string"
        yield from _faults(schema, (json.dumps(text) if is_text else text).encode(), f"{place} {name}", whole=True)


def _faults(schema: Mapping[str, Any], content: bytes, what: str, *, whole: bool) -> list[str]:
    try:
        value = json.loads(content)
    except ValueError:
        return [f"{what}: {content[:80]!r} is no JSON value"]
    document = {"allOf": [_json_schema(schema, whole=whole)], "components": _components(whole=whole)}
    validator = jsonschema.Draft4Validator(document, format_checker=_FORMATS)
    return [
        f"{'.'.join((what, *map(str, fault.absolute_path)))}: {fault.message[-200:]}"
        for fault in validator.iter_errors(value)
    ]


def _resolved(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in value:
        return value
    _, _, kind, name = value["$ref"].split("/")
    found: Mapping[str, Any] = _description()["components"][kind][name]
    return found


def _json_schema(schema: Any, *, whole: bool, named: bool = False, part: bool = False) -> Any:
    """An OpenAPI 3.0 schema as JSON Schema (draft 4) that names no more than it says; `whole` keeps what is required.

    `named`: the keys are properties' names. `part`: of a composition, so that others may name further fields.
    """
    if isinstance(schema, list):
        return [_json_schema(each, whole=whole, part=part) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    if named:
        return {name: _json_schema(each, whole=whole) for name, each in schema.items()}
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "required" and not whole:
            continue
        word = "anyOf" if key == "oneOf" and not whole else key  # without `required`, several may fit
        composed = key in ("allOf", "anyOf", "oneOf")
        made[word] = _json_schema(value, whole=whole, named=key == "properties", part=composed)
    if "properties" in made and not part and not {"additionalProperties", "allOf", "anyOf", "oneOf"} & made.keys():
        made["additionalProperties"] = False
    if not made.pop("nullable", False):
        return made
    return {"anyOf": [{"type": "null"}, made]}
