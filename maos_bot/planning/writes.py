"""What a task may write, and which tasks may write the same (pure).

Patterns are those of .gitignore, taken from the root: a name without a slash means the one there, since what fits one
too many would be written over. Two tasks that may write the same file and don't need each other are put in order when
planning: side by side, one would only work on a text that the other is replacing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Task, TaskKind
from maos_bot.planning.graph import build_graph

_ANY: Final = "**"


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Two tasks that may write the same, in the order they are to run, and a pattern of the first that says where."""

    first: str
    second: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.second} starts after {self.first}: both may write {self.pattern}"


def may_write(patterns: Sequence[str] | None) -> Callable[[str], bool]:
    """Whether a path (with `/`, from the root) may be written; None allows every one, an empty list none."""
    if patterns is None:
        return lambda _: True
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(_anchored(pattern) for pattern in patterns).match_file


def may_change(task: Task) -> bool:
    """Whether an agent's task is there to change files: it has `writes`, or the tool `edit` and no bound."""
    return bool(task.writes) or (task.writes is None and "edit" in task.tools)


def overlapping_writes(tasks: Sequence[Task]) -> list[Overlap]:
    """Every two agent tasks whose `writes` overlap though neither needs the other, however indirectly."""
    return _overlaps(tasks, ordering=False)


def in_writing_order(tasks: Sequence[Task]) -> tuple[tuple[Task, ...], tuple[Overlap, ...]]:
    """`tasks` with the needs that put overlapping writers in order, and what was put in order for it.

    The one that comes first when all run one after the other stays first. Raises `SpecError` as `build_graph` does.
    """
    added = _overlaps(tasks, ordering=True)
    more: dict[str, list[str]] = {}
    for overlap in added:
        more.setdefault(overlap.second, []).append(overlap.first)
    return tuple(
        replace(task, needs=(*task.needs, *more[task.id])) if task.id in more else task for task in tasks
    ), tuple(added)


def common_pattern(ones: Iterable[str], others: Sequence[str]) -> str:
    """A pattern of `ones` that may name a file which `others` name too; empty where there is none."""
    return next((one for one in ones if any(_meet(one, other) for other in others)), "")


def _overlaps(tasks: Sequence[Task], *, ordering: bool) -> list[Overlap]:
    """With `ordering`, each overlap found counts as a need from then on."""
    if sum(1 for task in tasks if _writes(task)) < 2:
        return []
    graph = build_graph(tasks, [0.0] * len(tasks))
    above: dict[int, int] = {}  # task -> the tasks before it, as bits
    writers: list[int] = []
    found = []
    for number in graph.order:
        before = 0
        for need in graph.preds[number]:
            before |= above[need] | 1 << need
        if _writes(tasks[number]):
            for earlier in reversed(writers):
                if before >> earlier & 1:
                    continue
                if pattern := common_pattern(tasks[earlier].writes or (), tasks[number].writes or ()):
                    found.append(Overlap(first=tasks[earlier].id, second=tasks[number].id, pattern=pattern))
                    before |= (above[earlier] | 1 << earlier) if ordering else 0
            writers.append(number)
        above[number] = before
    return found


def _writes(task: Task) -> bool:
    return task.kind is TaskKind.AGENT and bool(task.writes)


def _anchored(pattern: str) -> str:
    no, rest = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    return f"{no}{rest}" if rest.startswith(("/", "**/", "#")) else f"{no}/{rest}"


@lru_cache(maxsize=4096)
def _meet(one: str, other: str) -> bool:
    """Whether some path fits both; said too often rather than too seldom (`[...]` counts as any one character)."""
    if one.startswith("!") or other.startswith("!"):
        return False
    return _parts_meet(tuple(part for part in one.split("/") if part), tuple(part for part in other.split("/") if part))


@lru_cache(maxsize=4096)
def _parts_meet(ones: tuple[str, ...], others: tuple[str, ...]) -> bool:
    if not ones or not others:
        return True  # a pattern that names a folder names all below it
    if ones[0] == _ANY:
        return _parts_meet(ones[1:], others) or _parts_meet(ones, others[1:])
    if others[0] == _ANY:
        return _parts_meet(others, ones)
    return _names_meet(_signs(ones[0]), _signs(others[0])) and _parts_meet(ones[1:], others[1:])


@lru_cache(maxsize=4096)
def _names_meet(ones: tuple[str, ...], others: tuple[str, ...]) -> bool:
    if not ones or not others:
        return all(sign == "*" for sign in (*ones, *others))
    if ones[0] == "*":
        return _names_meet(ones[1:], others) or _names_meet(ones, others[1:])
    if others[0] == "*":
        return _names_meet(others, ones)
    same = ones[0] == others[0] or "?" in (ones[0], others[0])
    return same and _names_meet(ones[1:], others[1:])


def _signs(name: str) -> tuple[str, ...]:
    """A name's characters; a wildcard is `*` or `?`, and a character that was written `\\*` is two."""
    signs = []
    place = 0
    while place < len(name):
        sign = name[place]
        end = name.find("]", place + 2) if sign == "[" else -1
        if sign == "\\" and place + 1 < len(name):
            following = name[place + 1]
            signs.append(f"\\{following}" if following in "*?" else following)
            place += 1
        elif end > 0:
            signs.append("?")
            place = end
        else:
            signs.append(sign)
        place += 1
    return tuple(signs)
