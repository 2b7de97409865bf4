"""The commit that agents start from: a recorded one, or HEAD with what the user hasn't committed yet.

The user's uncommitted work is part of what agents are to work on. It becomes a commit in the run's own repository, by
a copy of the index; the user's index, stash and HEAD stay as they are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from maos_bot.agents.git import Git, GitError
from maos_bot.agents.objects import FILE, PROGRAM, Entry, Objects, tree_of
from maos_bot.agents.origin import Origin
from maos_bot.agents.scanning import scan, submodules_of
from maos_bot.frozen import dataclass

_LARGEST: Final = 20 * 2**20  # bytes of an uncommitted file: what is larger is data rather than text to work on
_MOST: Final = 50_000
_SHOWN: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """Where a run's agents start. `notice` says what is in it beyond a commit of the user's; empty for nothing."""

    commit: str
    tree: str
    notice: str = ""


def base_of(origin: Origin, git: Git, objects: Objects, *, wanted: str, at: int) -> Base:
    """The commit `wanted` as it is, or without it HEAD with what isn't committed. Raises `GitError`."""
    if wanted:
        commit = git.text("rev-parse", "--verify", "--end-of-options", f"{wanted}^{{commit}}")
        return Base(commit=commit, tree=tree_of(objects, commit))
    head = tree_of(objects, origin.head) if origin.head else ""
    index = git.git_dir / "snapshot.index"
    git = replace(git, more=origin.settings)
    tree = _copied_index(origin, git, index, head)
    submodules = submodules_of(git, tree) if tree else []
    found = scan(git, objects, origin.root, index, submodules=submodules, largest=_LARGEST, most=_MOST)
    entries = {path: entry for path, entry in found.entries.items() if path.split("/", 1)[0] != ".maos"}
    filtered = _filtered(git, origin.root, entries)
    entries = _converted(git, origin.root, {p: e for p, e in entries.items() if p not in filtered})
    tree = objects.edited(tree, entries)
    left_out = [*(each for each in found.wrong if "submodule" not in each), *(f"{p} (filtered)" for p in filtered)]
    if tree == head:
        return Base(commit=origin.head, tree=tree)
    commit = objects.commit(tree, [origin.head] if origin.head else [], "Work that was not committed yet", at)
    return Base(commit=commit, tree=tree, notice=_notice(origin, git, (head, tree), left_out))


def _copied_index(origin: Origin, git: Git, index: Path, head: str) -> str:
    """Make `index` a copy of the user's; the tree it stands for. Without one that can be copied, HEAD's."""
    theirs = origin.git_dir / "index" if origin.git_dir else None
    if theirs and theirs.is_file():
        shutil.copy2(theirs, index)  # with its time: git goes by it
        try:
            return git.text("write-tree", index=index)
        except GitError:  # a merge under way, or an index in several files
            index.unlink()
    if head:
        git.run("read-tree", head, index=index)
    return head


def _filtered(git: Git, root: Path, paths: Collection[str]) -> list[str]:
    """Those of `paths` whose content in a commit is made by a program (Git LFS and the like), which isn't run here."""
    if not paths:
        return []
    asked = b"".join(os.fsencode(path) + b"\0" for path in paths)
    said = git.run("check-attr", "-z", "--stdin", "filter", folder=root, stdin=asked).stdout.split(b"\0")
    rows = zip(said[0::3], said[2::3], strict=False)
    return [os.fsdecode(path) for path, value in rows if value not in (b"unspecified", b"unset")]


def _converted(git: Git, root: Path, entries: Mapping[str, Entry | None]) -> dict[str, Entry | None]:
    """`entries` with line ends and encodings as they are in commits."""
    files = [
        path
        for path, entry in entries.items()
        if entry and entry.mode in (FILE, PROGRAM) and "\n" not in path and not path.startswith('"')
    ]
    if not files:
        return dict(entries)
    asked = b"".join(os.fsencode(path) + b"\n" for path in files)
    oids = git.run("hash-object", "-w", "--stdin-paths", folder=root, stdin=asked).stdout.decode().split()
    made = dict(entries)
    for path, oid in zip(files, oids, strict=True):
        entry = entries[path]
        made[path] = replace(entry, oid=oid) if entry else None
    return made


def _notice(origin: Origin, git: Git, trees: tuple[str, str], left_out: list[str]) -> str:
    before, after = trees
    where = f"commit {origin.head[:12]}" if origin.head else "nothing"
    if origin.git_dir is None:
        text = f"{origin.root} is no git repository: agents start from a copy of its files"
    elif before:
        names = git.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after).stdout
        paths = [os.fsdecode(name) for name in names.split(b"\0") if name]
        more = len(paths) - _SHOWN
        listed = ", ".join(paths[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        text = f"agents start from {where} with what is not committed: {listed}"
    else:
        text = "there is no commit yet: agents start from the files as they are"
    return text + (f"; left out: {', '.join(left_out)}" if left_out else "")
