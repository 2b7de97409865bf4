"""The site's sources: made from the code and the documents, all of them in the menu, every link leading somewhere."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from docs.check_links import broken, missing
from docs.site import main as put_together
from maos_bot.cli import maos
from maos_bot.events import EVENT_TYPES
from maos_bot.spec.load import parse_spec
from maos_bot.spec.schema import json_schema

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    assert put_together([str(folder)]) == 0
    return folder


def _menu(item: Any) -> Iterator[str]:
    for value in item.values() if isinstance(item, dict) else item:
        if isinstance(value, str):
            yield value
        else:
            yield from _menu(value)


def test_every_page_is_in_the_menu_once_and_every_link_leads_to_a_file(sources: Path) -> None:
    menu = list(_menu(YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    written = {str(path.relative_to(sources)) for path in sources.rglob("*.md")}
    assert len(menu) == len(set(menu))
    assert set(menu) == written
    assert [fault for name in written for fault in missing(sources / name)] == []


def test_the_reference_names_all_there_is(sources: Path) -> None:
    keys = (sources / "reference/spec-keys.md").read_text(encoding="utf-8")
    schema = json_schema()
    for part in (schema, *(part for part in schema["$defs"].values() if "properties" in part)):
        assert [key for key in part["properties"] if f"| `{key}` |" not in keys] == []
    commands = (sources / "reference/commands.md").read_text(encoding="utf-8")
    for name, command in maos.commands.items():
        section = commands.partition(f"\n## maos {name}\n")[2].partition("\n## ")[0]
        options = [option for each in command.params for option in each.opts if option.startswith("--")]
        assert [option for option in options if option not in section] == []
    events = (sources / "reference/event-fields.md").read_text(encoding="utf-8")
    for name, kind in EVENT_TYPES.items():
        section = events.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        own = [field.name for field in dataclasses.fields(kind) if field.name not in {"run_id", "seq", "at"}]
        assert [field for field in own if f"| `{field}` |" not in section] == []
    action = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))
    page = (sources / "reference/action.md").read_text(encoding="utf-8")
    assert [name for name in [*action["inputs"], *action["outputs"]] if f"| `{name}` |" not in page] == []
    tables = (sources / "reference/database-schema.md").read_text(encoding="utf-8")
    assert all(f"\n## {name}\n" in tables for name in ("runs", "tasks", "attempts", "events", "task_list"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_spec_that_is_shown_is_good(path: Path) -> None:
    shown = re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for text in shown:
        if re.search(r"^(tasks|setup):", text, re.MULTILINE):
            assert parse_spec(text, path=path.name).tasks


def test_a_broken_link_a_missing_anchor_and_a_foreign_font_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a id="here"></a><a href="b.html#here">x</a><a href="#here">x</a>')
    (tmp_path / "b.html").write_text(
        '<a href="c.html">x</a><a href="a.html#here">x</a><a href="https://example.org/">x</a>'
        '<link rel="stylesheet" href="https://example.org/font.css">'
    )
    assert broken(tmp_path) == [
        "a.html: b.html#here has no such anchor",
        "b.html: loads https://example.org/font.css from elsewhere",
        "b.html: c.html is not there",
    ]
