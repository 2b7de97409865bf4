"""Git's own three-way merge (`git merge-tree`), and a conflict as it is handed back to the one who is to mend it.

What is handed back is the current tree with nothing of it missing but what the change takes away without a conflict.
Texts that conflict have marks. Where both can't stand at one path (a file and a folder, a file and a link), git would
move either side; here the current one stays where it is and the other lies beside it, so that whoever leaves it at
that takes nothing of others away.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import field, replace
from typing import Final

from maos_bot.agents.git import Git
from maos_bot.agents.objects import TREE, Entry, Objects
from maos_bot.frozen import dataclass

# Renames of folders are a guess that git makes by majority; which it makes must not hang on what came before.
_MERGE: Final = {"merge.directoryRenames": "false", "merge.renames": "true", "merge.renameLimit": "1000"}
_MARK: Final = re.compile(rb"^(?:<{7}|>{7}) [0-9a-f]{40,64}", re.MULTILINE)
_CURRENT: Final = "current"
_YOURS: Final = "yours"
_MOVING: Final = ("CONFLICT (file/directory)", "CONFLICT (distinct types)")  # what git says of moving a side away


@dataclass(frozen=True, kw_only=True, slots=True)
class Merge:
    """What a three-way merge came to; with `conflicts` (paths), `tree` is what is handed back, and `said` the reasons.

    The current side lacks nothing in it, and texts are marked.
    """

    tree: str
    conflicts: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Saying:
    """What git says of some paths."""

    paths: tuple[str, ...]
    text: str


@dataclass(kw_only=True, slots=True)
class _Conflict:
    """A conflict on its way from git's tree to the one that is handed back."""

    objects: Objects
    start: str
    current: str
    tree: str
    paths: set[str]
    sayings: list[_Saying]
    names: dict[str, str]  # git was asked by commit ids, and not by branches of such names: those an agent could move
    notes: list[str] = field(default_factory=list)


def merge_trees(git: Git, objects: Objects, start: str, current: str, after: str) -> Merge | None:
    """The tree `current` with what leads from `start` to `after`; None where git is too old for it."""
    root = objects.commit(start, (), "start", 0)
    ours = objects.commit(current, (root,), _CURRENT, 0)
    yours = objects.commit(after, (root,), _YOURS, 0)
    settings = [part for name, value in _MERGE.items() for part in ("-c", f"{name}={value}")]
    done = git.run(*settings, "merge-tree", "--write-tree", "-z", "--messages", ours, yours, fine=(0, 1, 129))
    if done.returncode == 129:
        return None
    merged, _, rest = done.stdout.partition(b"\0")
    if done.returncode == 0:
        return Merge(tree=merged.decode())
    files, _, messages = rest.partition(b"\0\0")
    conflict = _Conflict(
        objects=objects,
        start=start,
        current=current,
        tree=merged.decode(),
        paths={os.fsdecode(item.split(b"\t", 1)[1]) for item in files.split(b"\0") if b"\t" in item},
        sayings=list(_sayings(messages)),
        names={ours: _CURRENT, yours: _YOURS},
    )
    _leave_out_what_is_none(conflict)
    conflict.paths.update(path for saying in conflict.sayings for path in saying.paths)
    _put_back(conflict)
    _name(conflict)
    said = "\n".join([*(saying.text for saying in conflict.sayings), *conflict.notes])
    return Merge(tree=conflict.tree, conflicts=tuple(sorted(conflict.paths)), said=said)


def _sayings(messages: bytes) -> Iterator[_Saying]:
    parts = messages.split(b"\0")
    place = 0
    while place < len(parts) and parts[place].isdigit():
        end = place + 1 + int(parts[place])
        kind, text = parts[end : end + 2]
        if kind.startswith(b"CONFLICT"):
            paths = tuple(os.fsdecode(path) for path in parts[place + 1 : end])
            yield _Saying(paths=paths, text=text.decode("utf-8", "replace").strip())
        place = end + 2


def _leave_out_what_is_none(conflict: _Conflict) -> None:
    """Git says that a folder is in the way also of a file that the other side hadn't changed, and moves none then."""
    real = [
        saying
        for saying in conflict.sayings
        if not saying.text.startswith(_MOVING[0])
        or any(oid in path and _there(conflict, path) for path in saying.paths for oid in conflict.names)
    ]
    if real or conflict.paths:
        conflict.sayings = real


def _there(conflict: _Conflict, path: str) -> bool:
    return conflict.objects.entry(conflict.tree, path) is not None


def _put_back(conflict: _Conflict) -> None:
    """Have the current side where it was, wherever git moved it away, and what came in its place beside it."""
    objects = conflict.objects
    for path in sorted(conflict.paths):
        held = objects.entry(conflict.current, path)
        if held is None or held.mode == TREE:
            continue
        now = objects.entry(conflict.tree, path)
        aside = _aside(conflict, path, held)
        if not aside and now is not None and now.mode != TREE:
            continue  # it is there, marked where it had to be
        if not aside and held == objects.entry(conflict.start, path):
            continue  # nobody else changed it, so to take it away is no conflict
        edits: dict[str, Entry | None] = dict.fromkeys([path, *aside])
        beside = ""
        if now is not None:
            beside = _free(objects, (conflict.current, conflict.tree), f"{path}~{_YOURS}")
            edits[beside] = now  # a file, a link, or a folder with all that is in it
            conflict.paths.add(beside)
        edits[path] = held
        conflict.tree = objects.edited(conflict.tree, edits)
        conflict.paths.difference_update(aside)
        _say_of(conflict, path, aside, beside)


def _aside(conflict: _Conflict, path: str, held: Entry) -> list[str]:
    """Where git moved to what stood at `path`; nothing where it didn't."""
    commit = next(oid for oid, name in conflict.names.items() if name == _CURRENT)
    objects = conflict.objects
    return [
        each
        for each in sorted(conflict.paths)
        if each.startswith(f"{path}~{commit}")
        and objects.entry(conflict.current, each) is None
        and objects.entry(conflict.tree, each) == held
    ]


def _say_of(conflict: _Conflict, path: str, aside: list[str], beside: str) -> None:
    """Say what is so now where git said that it moved the current side."""
    sayings = []
    for saying in conflict.sayings:
        if path in saying.paths and saying.text.startswith(_MOVING):
            continue
        text = saying.text
        for each in aside:
            text = text.replace(each, path)
        sayings.append(replace(saying, text=text))
    conflict.sayings = sayings
    both = f"CONFLICT: {path} can't be two things; the current one stays there, and yours is {beside}."
    conflict.notes.append(both if beside else f"CONFLICT: {path} stays as it is now: others changed it.")


def _name(conflict: _Conflict) -> None:
    """Put words for commit ids: in marks, in names of files put beside others, in what is said."""
    objects = conflict.objects

    def named(text: str) -> str:
        for oid, name in conflict.names.items():
            text = text.replace(oid, name)
        return text

    paths = set()
    for path in sorted(conflict.paths):
        entry = objects.entry(conflict.tree, path)
        new = named(path)
        if entry is not None and new != path:
            new = _free(objects, (conflict.current, conflict.tree), new)
        paths.add(new)
        if entry is None:
            continue
        made = entry
        if entry.mode != TREE:
            data = objects.read(entry.oid)
            marked = _MARK.sub(lambda mark: named(mark[0].decode()).encode(), data)
            if marked != data:
                made = replace(entry, oid=objects.write("blob", marked))
        if new != path:
            conflict.sayings = [replace(each, text=each.text.replace(path, new)) for each in conflict.sayings]
        if (new, made) != (path, entry):
            conflict.tree = objects.edited(conflict.tree, {path: None, new: made})
    conflict.paths = paths
    conflict.sayings = [replace(each, text=named(each.text)) for each in conflict.sayings]


def _free(objects: Objects, trees: tuple[str, ...], name: str) -> str:
    """`name`, or as much like it as none of `trees` has."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(each for each in names if all(objects.entry(tree, each) is None for tree in trees))
