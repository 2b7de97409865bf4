"""The reference pages, made from the code so that they can't differ from it: Markdown by file name."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from ruamel.yaml import YAML

from maos_bot.cli import maos
from maos_bot.errors import ExitCode
from maos_bot.events import EVENT_TYPES, RunEvent, TaskInfo
from maos_bot.github.trust import table_markdown
from maos_bot.spec.schema import json_schema
from maos_bot.store.db import connect

ROOT: Final = Path(__file__).resolve().parents[1]
_EXIT_WORDS: Final = {
    "OK": "all succeeded",
    "TASK_FAILED": "a task failed",
    "CONFIG": "the spec or the configuration can't be used",
    "NOTHING_TO_DO": "nothing to do",
    "OVER_LIMIT": "the budget or a limit was exceeded",
    "GITHUB": "GitHub's API",
    "BUG": "a bug of ours",
    "INTERRUPTED": "interrupted",
}


def pages() -> dict[str, str]:
    """Every page below `reference/`."""
    return {
        "spec-keys.md": "\n".join(_spec_keys()),
        "commands.md": "\n".join(_commands()),
        "action.md": "\n".join(_action()),
        "trust-table.md": "\n".join(_trust()),
        "event-fields.md": "\n".join(_events()),
        "database-schema.md": "\n".join(_database()),
    }


# The task spec


def _spec_keys() -> Iterator[str]:
    schema = json_schema()
    yield "# Keys of the task spec"
    yield ""
    yield "Made from the JSON Schema that `maos schema` prints. [The task spec](../spec.md) says what a schema can't."
    yield from _keys("The file", schema)
    for name, part in schema["$defs"].items():
        if "properties" in part:
            yield from _keys(name, part)


def _keys(title: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield str(part.get("description", ""))
    yield ""
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    needed = part.get("required", ())
    for key, item in part["properties"].items():
        default = "needed" if key in needed else f"`{json.dumps(item['default'])}`" if "default" in item else ""
        named = str(item.get("$ref", "")).rpartition("/")[2]
        meaning = str(item.get("description") or json_schema()["$defs"].get(named, {}).get("description", ""))
        for example in item.get("examples", ())[:1]:
            meaning += f" Such as `{json.dumps(example, ensure_ascii=False)}`."
        yield f"| `{key}` | {_cell(_kind(item))} | {_cell(default)} | {_cell(meaning)} |"


def _kind(item: Mapping[str, Any]) -> str:
    """A value's type in words, with its bounds."""
    if "anyOf" in item:
        return " or ".join(dict.fromkeys(map(_kind, item["anyOf"])))
    if "$ref" in item:
        name = str(item["$ref"]).rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if "properties" in json_schema()["$defs"][name] else _enum(name)
    if "const" in item or "enum" in item:
        return ", ".join(f"`{value}`" for value in item.get("enum", [item.get("const")]))
    if item.get("type") == "array":
        return f"list of {_kind(item['items'])}"
    if item.get("type") == "object":
        return f"name: {_kind(item['additionalProperties'])}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": "empty"}
    bounds = [
        f"{sign} {item[bound]:,.10g}"
        for bound, sign in (("exclusiveMinimum", "more than"), ("minimum", "at least"), ("maximum", "at most"))
        if bound in item
    ]
    return " ".join([words.get(item["type"], item["type"]), f"({', '.join(bounds)})" if bounds else ""]).strip()


def _enum(name: str) -> str:
    return ", ".join(f"`{value}`" for value in json_schema()["$defs"][name]["enum"])


# The command line


def _commands() -> Iterator[str]:
    yield "# Every command with its options"
    yield ""
    yield "Made from the command line itself. [Commands](../cli.md) is the overview."
    yield ""
    yield "## Exit codes"
    yield ""
    yield "| code | means |"
    yield "|---|---|"
    for name, words in _EXIT_WORDS.items():
        yield f"| {getattr(ExitCode, name)} | {words} |"
    context = click.Context(maos, info_name="maos")
    for name in maos.list_commands(context):
        command = maos.get_command(context, name)
        if command is not None and not command.hidden:
            yield from _command(name, command, context)


def _command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield ""
    yield f"## maos {name}"
    yield ""
    yield " ".join((command.help or "").split())
    yield ""
    yield "```console"
    yield "$ " + command.get_usage(context).removeprefix("Usage: ")
    yield "```"
    options = [each for each in command.params if isinstance(each, click.Option)]
    rows = [row for each in options if (row := each.get_help_record(context)) is not None]
    if rows:
        yield ""
        yield "| option | does |"
        yield "|---|---|"
        for option, words in rows:
            yield f"| `{option.replace('|', ', ')}` | {_cell(words)} |"


# The action


def _action() -> Iterator[str]:
    action = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))
    yield "# The action's inputs and outputs"
    yield ""
    yield f"{action['description']} Made from `action.yml`; [On GitHub](../github.md) says what is posted and when."
    yield ""
    yield "## Inputs"
    yield ""
    yield "| input | default | meaning |"
    yield "|---|---|---|"
    for name, item in action["inputs"].items():
        default = f"`{item['default']}`" if "default" in item else ""
        yield f"| `{name}` | {_cell(default)} | {_cell(item['description'])} |"
    yield ""
    yield "## Outputs"
    yield ""
    yield "| output | meaning |"
    yield "|---|---|"
    for name, item in action["outputs"].items():
        yield f"| `{name}` | {_cell(item['description'])} |"


def _trust() -> Iterator[str]:
    yield "# What may happen on which event"
    yield ""
    yield "Made from the function that decides it. [Trust](../trust.md) says why it decides so."
    yield ""
    yield table_markdown().strip()


# Events and the database


def _events() -> Iterator[str]:
    common = [field.name for field in dataclasses.fields(RunEvent)]
    yield "# Fields of the events"
    yield ""
    yield "Made from the classes. [Events](../events.md) says what they mean and how to read them."
    yield ""
    yield f"Every event has {', '.join(f'`{name}`' for name in common)}."
    kinds: dict[str, type[RunEvent] | type[TaskInfo]] = {**EVENT_TYPES, "TaskInfo": TaskInfo}
    for name, kind in kinds.items():
        yield ""
        yield f"## {name}"
        yield ""
        yield " ".join((kind.__doc__ or "").split())
        yield ""
        yield "| field | type | default |"
        yield "|---|---|---|"
        for field in dataclasses.fields(kind):
            if name == "TaskInfo" or field.name not in common:
                yield f"| `{field.name}` | `{_cell(str(field.type))}` | {_cell(_default(field))} |"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    return "empty" if field.default_factory is not dataclasses.MISSING else ""


def _database() -> Iterator[str]:
    yield "# The database's schema"
    yield ""
    yield "Made by making a database. [The database](../store.md) says what is in it, and what to ask it."
    with tempfile.TemporaryDirectory() as folder:
        connection = connect(Path(folder) / "maos.db", create=True)
        try:
            yield from _tables(connection)
        finally:
            connection.close()


def _tables(connection: sqlite3.Connection) -> Iterator[str]:
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY type, name"
    ).fetchall()
    shadows = tuple(f"{name}_" for kind, name, sql in rows if "VIRTUAL TABLE" in sql)
    for kind, name, _ in rows:
        if shadows and name.startswith(shadows):
            continue  # what a full-text index keeps for itself
        yield ""
        yield f"## {name}"
        yield ""
        if kind == "table":
            yield "| column | type | null | key |"
            yield "|---|---|---|---|"
            for _, column, type_, not_null, _, key in connection.execute(f'PRAGMA table_info("{name}")'):
                yield f"| `{column}` | {type_ or 'any'} | {'no' if not_null or key else 'yes'} | {key or ''} |"
        else:
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')]
            yield f"A view: {', '.join(f'`{column}`' for column in columns)}."


def _cell(text: str) -> str:
    """Text that stays in its cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def write(folder: Path, made: Iterable[tuple[str, str]]) -> None:
    """Write pages into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made:
        (folder / name).write_text(text.rstrip() + "\n", encoding="utf-8")
