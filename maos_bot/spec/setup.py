"""`setup`: steps that prepare what every task needs, such as a virtual environment or node_modules.

They are tasks of the team `setup` that each other task needs without saying so. Planning, cache, events and reports
know nothing more of them: here they are put before the tasks, their nodes too, so that every later check finds their
lines.

Prepared folders hold thousands of foreign files, among them many a `package.json` and `**/*.py`. So a name among a
step's inputs is the one in the root, and what steps make is nobody's input: that it changed is known from the need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from maos_bot.spec.nodes import Document, Node, shorten

SETUP_TEAM: Final = "setup"

_Pairs = dict[str, tuple[Node, Node]]


def place_setup(document: Document, data: dict[str, Any]) -> tuple[str, ...]:
    """Move the steps in `data` and in the document to the tasks, before all others; the steps' ids."""
    steps: dict[str, dict[str, Any]] = data.pop("setup", {})
    written, tasks = _pairs(document, "setup"), _pairs(document, "tasks")
    if not steps or not (tasks or "goal" in data):
        return ()
    for name in written.keys() & tasks.keys():
        document.at(("tasks", name), f"`{shorten(name)}` is a step of `setup` too", "rename one of them", key=True)
    _graft(document, {**written, **{name: pair for name, pair in tasks.items() if name not in written}})
    ids = tuple(steps)
    made = [
        f"!/{output.strip('/')}/" for step in steps.values() for output in step.get("outputs", ()) if _plain(output)
    ]
    for name, step in steps.items():
        if step.get("inputs"):
            step["inputs"] = [*map(_from_root, step["inputs"]), *made]
        step["team"] = SETUP_TEAM
        step["needs"] = _needs(document, name, step, written)
    others = {name: task for name, task in data.get("tasks", {}).items() if name not in written}
    for task in others.values():
        if task.get("inputs"):
            task["inputs"] = [*task["inputs"], *made]
        task["needs"] = [*ids, *(need for need in task.get("needs", ()) if need not in steps)]
    data["tasks"] = steps | others
    return ids


def _pairs(document: Document, key: str) -> _Pairs:
    """What stands under a key of the file, where that is a mapping."""
    parts = document.root.parts if document.root is not None else None
    found = parts[key][1].parts if isinstance(parts, dict) and key in parts else None
    return found if isinstance(found, dict) else {}


def _graft(document: Document, pairs: _Pairs) -> None:
    """Let `tasks` lead to these nodes."""
    parts = document.root.parts if document.root is not None else {}
    key, value = parts.get("tasks") or parts["setup"]
    parts["tasks"] = (key, Node(None, value.line, value.column, pairs))


def _plain(pattern: str) -> bool:
    """Whether a pattern names one place, and so perhaps a folder."""
    return not pattern.startswith("!") and not any(sign in pattern for sign in "*?[\\")


def _from_root(pattern: str) -> str:
    no, rest = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    return f"{no}{rest}" if rest.startswith(("/", "**/")) else f"{no}/{rest}"


def _needs(document: Document, name: str, step: Mapping[str, Any], steps: _Pairs) -> list[str]:
    """The needs of a step that are steps; a task can't be one, since it needs all of them."""
    needs: list[str] = step.get("needs", [])
    for index, need in enumerate(needs):
        if need not in steps:
            document.at(
                ("setup", name, "needs", index),
                f"unknown step `{shorten(need)}` in `needs`",
                "a step of `setup` can only need another: every task needs all of them",
            )
    return [need for need in needs if need in steps]
