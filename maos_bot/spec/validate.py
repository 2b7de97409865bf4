"""Holds composed YAML against the spec's JSON Schema and turns it into plain data, each error at its line.

An interpreter of just those keywords that `schema` produces. It works on the nodes themselves: an unquoted word is
read as what the schema wants there, and a value that is wrong is reported and left out, so that the checks after it
still see everything else.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from maos_bot.spec.nodes import Document, Node, shorten
from maos_bot.spec.nodes import Path as NodePath
from maos_bot.spec.scalars import Fault, check_pattern, read_number, read_switch
from maos_bot.spec.suggest import Suggester

SCHEMA_FILE: Final = Path(__file__).with_name("schema.json")

_MISSING: Final = object()

# What people write who come from other tools, and what it is called here.
_SYNONYMS: Final = {
    "if": "`when: {changed: [...], events: [...], needs: ...}` says under which condition a task runs",
    "on": "the workflow file says when it starts; here a task may say `when: {events: [pull_request]}`",
    "jobs": "tasks stand under `tasks`",
    "steps": "give one `run: |` with several lines, or several tasks that need one another",
    "uses": "actions can't be used here; give the command with `run`",
    "depends_on": "did you mean `needs`?",
    "depends-on": "did you mean `needs`?",
    "dependencies": "did you mean `needs`?",
    "command": "did you mean `run`?",
    "cmd": "did you mean `run`?",
    "script": "did you mean `run`?",
    "prompt": "did you mean `agent`?",
    "timeout": "did you mean `timeout-minutes`?",
    "retry": "use `max-attempts` and `retry-delay-seconds`",
    "retries": "use `max-attempts`: the first attempt counts",
    "environment": "did you mean `env`?",
    "cwd": "did you mean `working-directory`?",
    "before_script": "`setup` steps prepare what every task needs",
    "install": "`setup` steps prepare what every task needs",
    "with": "give inputs as `env`",
}

_NAME_HINT = "use letters, digits, `_`, `-` and `.`, at most 100, the first a letter, a digit or `_`"


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the spec, as shipped; the same object each time."""
    loaded: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return loaded


def validate(document: Document, suggester: Suggester) -> dict[str, Any]:
    """The document as plain data; problems are added to it, and what is wrong is left out of the data."""
    root = document.root
    if root is None:
        return {}
    if not isinstance(root.parts, dict):
        document.add(root.line, root.column, f"a spec is a mapping, not {_kind(root)}", "begin with `tasks:`")
        return {}
    value = _Validator(document, schema(), suggester).read(schema(), root, ())
    return value if isinstance(value, dict) else {}


class _Validator:
    def __init__(self, document: Document, root: dict[str, Any], suggester: Suggester) -> None:
        self.document = document
        self.definitions: dict[str, Any] = root["$defs"]
        self.suggester = suggester
        self.patterns: dict[str, re.Pattern[str]] = {}

    def read(self, schema: dict[str, Any], node: Node, path: NodePath) -> Any:
        """The node's value by this schema, or `_MISSING` after a problem was noted."""
        schema = self._resolved(schema)
        choices = schema.get("anyOf")
        if choices is not None:
            return self._choice(choices, node, path)
        wanted = schema["type"]
        if wanted == "object":
            return self._object(schema, node, path)
        if wanted == "array":
            return self._array(schema, node, path)
        if node.parts is not None or node.data is None:
            return self._wrong(node, path, f"wants {_WORDS[wanted]}, not {_kind(node)}")
        try:
            return self._scalar(wanted, schema, node.data)
        except Fault as fault:
            return self._wrong(node, path, fault.message, fault.hint)

    def _choice(self, choices: list[dict[str, Any]], node: Node, path: NodePath) -> Any:
        by_type = {self._type(choice): choice for choice in choices}
        form = "object" if isinstance(node.parts, dict) else "array" if node.parts is not None else ""
        if form in by_type:
            return self.read(by_type[form], node, path)
        if "array" in by_type:  # one word, or a list of them
            if node.parts is not None:
                return self._wrong(node, path, f"wants text or a list of it, not {_kind(node)}")
            value = self.read(by_type["string"], node, path)
            return value if value is _MISSING else [value]
        word = next((choice["const"] for choice in choices if "const" in choice), None)
        if word is not None:
            return self._or_word(word, [choice for choice in choices if "const" not in choice], node, path)
        if node.parts is not None or (node.data is None and "null" not in by_type):
            return self._wrong(node, path, f"wants text, a number or a switch, not {_kind(node)}")
        return "" if node.data is None else str(node.data)  # as written: `3.10` is not 3.1

    def _or_word(self, word: str, others: list[dict[str, Any]], node: Node, path: NodePath) -> Any:
        """`auto`, or what else is allowed."""
        if node.parts is None and node.data == word:
            return None
        if node.parts is None and node.data is not None and self._type(others[0]) in {"number", "integer"}:
            try:
                return self._scalar(self._type(others[0]), others[0], node.data)
            except Fault as fault:
                message = re.sub(r"^wants (a (?:whole )?number)", rf"wants \1 or `{word}`", fault.message)
                return self._wrong(node, path, message, fault.hint)
        return self.read(others[0], node, path)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in schema:
            return schema
        found: dict[str, Any] = self.definitions[schema["$ref"].rpartition("/")[2]]
        return found

    def _type(self, schema: dict[str, Any]) -> str:
        return str(self._resolved(schema)["type"])

    def _scalar(self, wanted: str, schema: dict[str, Any], text: str) -> Any:
        if wanted in {"number", "integer"}:
            return self._number(wanted, schema, text)
        if wanted == "boolean":
            return read_switch(text)
        known = schema.get("enum")
        if known is not None and text not in known:
            hint = self.suggester.nearest(text, known) or f"use one of {', '.join(known)}"
            raise Fault(f"can't be `{shorten(text)}`", hint)
        if "minLength" in schema and not text.strip():
            raise Fault("can't be empty")
        pattern = schema.get("pattern")
        if pattern is not None and not self._matches(pattern, text):
            raise Fault(f"can't be `{shorten(text)}`", _pattern_hint(pattern))
        if schema.get("format") == "path-pattern":
            check_pattern(text)
        return str(text)

    def _number(self, wanted: str, schema: dict[str, Any], text: str) -> int | float:
        number = read_number(text, whole=wanted == "integer")
        least, above, most = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
        if "const" in schema and number != schema["const"]:
            raise Fault(f"can't be {shorten(text)}", f"this MAOS bot reads version {schema['const']}")
        if least is not None and number < least:
            raise Fault(f"must be at least {least:g}, not {shorten(text)}")
        if above is not None and number <= above:
            raise Fault(f"must be more than {above:g}, not {shorten(text)}")
        if most is not None and number > most:
            raise Fault(f"must be at most {most:,.10g}, not {shorten(text)}")
        return number

    def _matches(self, pattern: str, text: str) -> bool:
        compiled = self.patterns.get(pattern)
        if compiled is None:
            # `$` of JSON Schema is the very end; Python's lets a line break pass.
            compiled = self.patterns[pattern] = re.compile(pattern.replace("$", r"\Z"))
        return compiled.search(text) is not None

    def _array(self, schema: dict[str, Any], node: Node, path: NodePath) -> Any:
        if not isinstance(node.parts, list):
            return self._wrong(node, path, f"wants a list, not {_kind(node)}")
        if len(node.parts) < schema.get("minItems", 0):
            return self._wrong(node, path, "can't be an empty list")
        items = schema["items"]
        values = [self.read(items, part, (*path, index)) for index, part in enumerate(node.parts)]
        return [value for value in values if value is not _MISSING]

    def _object(self, schema: dict[str, Any], node: Node, path: NodePath) -> Any:
        if not isinstance(node.parts, dict):
            bare = node.data is not None and len(path) == 2 and path[0] in {"tasks", "setup"}
            hint = f"write `{{run: {shorten(node.data)}}}`" if bare else ""
            return self._wrong(node, path, f"wants keys and values, not {_kind(node)}", hint)
        known: dict[str, Any] = schema.get("properties", {})
        others = schema.get("additionalProperties")
        names = schema.get("propertyNames", {}).get("pattern")
        values: dict[str, Any] = {}
        for key, (key_node, value_node) in node.parts.items():
            part = known.get(key, others)
            if not part:
                self._unknown(key, key_node, known)
                continue
            if names is not None and not self._matches(names, key):
                self._note(key_node, f"`{shorten(key)}` can't be used as a name", _pattern_hint(names))
                continue
            if value_node.is_empty and not _allows_nothing(part):
                self._note(key_node, f"`{shorten(key)}` has no value", "give it one, or remove the key")
                continue
            value = self.read(part, value_node, (*path, key))
            if value is not _MISSING:
                values[key] = value
        for key in schema.get("required", ()):
            if key not in node.parts:
                self._wrong(node, path, f"lacks `{key}`")
        return values

    def _unknown(self, key: str, node: Node, known: dict[str, Any]) -> None:
        hint = _SYNONYMS.get(key) or self.suggester.nearest(key, list(known))
        self._note(node, f"unknown key `{shorten(key)}`", hint or f"known here: {', '.join(known)}")

    def _wrong(self, node: Node, path: NodePath, message: str, hint: str = "") -> Any:
        name = next((str(step) for step in reversed(path) if isinstance(step, str)), "the file")
        text = (
            f"`{shorten(name)}`: {message}"
            if message.startswith(("`", "the ", "a "))
            else f"`{shorten(name)}` {message}"
        )
        if isinstance(node.parts, dict) and path:
            self.document.at(path, text, hint)
        else:
            self._note(node, text, hint)
        return _MISSING

    def _note(self, node: Node, message: str, hint: str) -> None:
        self.document.add(node.line, node.column, message, hint)


_WORDS = {"string": "text", "number": "a number", "integer": "a whole number", "boolean": "true or false"}


def _kind(node: Node) -> str:
    if isinstance(node.parts, dict):
        return "keys and values"
    if isinstance(node.parts, list):
        return "a list"
    return "nothing" if node.data is None else f"`{shorten(node.data)}`"


def _allows_nothing(schema: dict[str, Any]) -> bool:
    return any(choice.get("type") == "null" for choice in schema.get("anyOf", ()))


def _pattern_hint(pattern: str) -> str:
    if "{0}" in pattern.replace("\\", ""):
        return "use bash, sh, python, pwsh, or a command that holds {0} where the script's path goes"
    if pattern.startswith("^[^="):
        return "a variable's name holds no `=` and no space"
    return _NAME_HINT
