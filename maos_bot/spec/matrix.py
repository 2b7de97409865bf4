"""`matrix`: the combinations of a task, their ids, and `${{ matrix.KEY }}` in its texts.

A variant's id is the task's id and the values of the combination, joined with dots: `unit.3.11.linux`. Dots are safe
in shells, links, file names, Markdown and Mermaid, where brackets, colons and at-signs each mean something somewhere.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from maos_bot.frozen import dataclass
from maos_bot.spec.nodes import Document, shorten
from maos_bot.spec.suggest import Suggester

MAX_VARIANTS: Final = 256  # as GitHub Actions
_LONGEST_PART: Final = 40

_EXPRESSION = re.compile(r"\$\{\{([^{}]*)\}\}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One combination of a matrix, or the task itself where it has none (then without values)."""

    id: str
    values: Mapping[str, str]


def variants_of(document: Document, task_id: str, matrix: Mapping[str, Any] | None) -> list[Variant]:
    """The task's variants in the order of its axes; none after a problem with the matrix was noted."""
    if matrix is None:
        return [Variant(id=task_id, values={})]
    path = ("tasks", task_id, "matrix")
    axes: dict[str, list[str]] = {key: list(dict.fromkeys(items)) for key, items in _axes(matrix)}
    size = math.prod(len(items) for items in axes.values()) + len(matrix.get("include", ()))
    if size > MAX_VARIANTS:
        hint = "leave values out, or split the task"
        document.at(path, f"the matrix of `{shorten(task_id)}` has {size} combinations, more than {MAX_VARIANTS}", hint)
        return []
    for index, entry in enumerate(matrix.get("exclude", ())):
        for key in entry:
            if key not in axes:
                document.at((*path, "exclude", index, key), f"`exclude` names `{shorten(key)}`, no list of this matrix")
    combinations = _combinations(axes, matrix.get("include", ()), matrix.get("exclude", ()))
    if not combinations:
        document.at(path, f"the matrix of `{shorten(task_id)}` leaves no combination", "exclude fewer, or include one")
    return _named(task_id, axes, combinations)


def _axes(matrix: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [(key, items) for key, items in matrix.items() if key not in {"include", "exclude"}]


def _combinations(
    axes: Mapping[str, list[str]], include: list[dict[str, str]], exclude: list[dict[str, str]]
) -> list[dict[str, str]]:
    """GitHub Actions' rules: `include` extends the combinations it contradicts in no axis, else adds one."""
    products = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    kept = [made for made in products if not any(entry and entry.items() <= made.items() for entry in exclude)]
    combinations = [dict(made) for made in kept]
    originals = len(combinations)
    for entry in include:
        fits = [
            made
            for made, original in zip(combinations[:originals], kept, strict=True)
            if all(original.get(key, value) == value for key, value in entry.items())
        ]
        if not fits:
            combinations.append(dict(entry))
        for made in fits:
            made.update(entry)
    return combinations


def _named(task_id: str, axes: Mapping[str, list[str]], combinations: list[dict[str, str]]) -> list[Variant]:
    variants: list[Variant] = []
    taken: dict[str, int] = {}
    for values in combinations:
        # What `include` only adds to a combination doesn't tell it from the others, so it stays out of the id.
        told = [values[key] for key in axes if key in values] if all(key in values for key in axes) and axes else None
        parts = [_part(value) for value in (told if told is not None else values.values())]
        name = ".".join([task_id, *parts])
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            name = f"{name}.{taken[name]}"
        variants.append(Variant(id=name, values=values))
    return variants


def _part(value: str) -> str:
    return _UNSAFE.sub("-", value).strip("-.")[:_LONGEST_PART] or "empty"


class Substitution:
    """Puts one variant's values into the texts of its task; unknown expressions become problems."""

    def __init__(self, document: Document, task_id: str, variant: Variant, suggester: Suggester) -> None:
        self.document = document
        self.task_id = task_id
        self.values = variant.values
        self.suggester = suggester

    def text(self, text: str, *keys: str) -> str:
        """The text with the values in place; `keys` lead to it inside the task."""
        if "${{" not in text:
            return text
        return _EXPRESSION.sub(lambda match: self._value(match, keys), text)

    def texts(self, texts: list[str], key: str) -> tuple[str, ...]:
        return tuple(self.text(text, key) for text in texts)

    def _value(self, match: re.Match[str], keys: tuple[str, ...]) -> str:
        expression = match[1].strip()
        scope, _, name = expression.partition(".")
        if scope == "matrix" and name in self.values:
            return self.values[name]
        if scope != "matrix" and keys[0] in {"agent", "name"}:
            return match[0]  # prose may well speak of workflow expressions
        path = ("tasks", self.task_id, *keys)
        if scope != "matrix":
            self.document.at(
                path,
                f"`${{{{ {shorten(expression)} }}}}` isn't known here",
                "only `matrix.KEY` is; use an environment variable",
            )
        elif not self.values:
            self.document.at(path, f"`{shorten(expression)}` is used, but the task has no `matrix`")
        else:
            hint = self.suggester.nearest(name, self.values) or f"known: {', '.join(self.values)}"
            self.document.at(path, f"the matrix has no `{shorten(name)}` in every combination", hint)
        return match[0]
