"""One task's folder: a git worktree of the run's own repository, checked out, looked at and set back."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from maos_bot.agents.git import Git, GitError
from maos_bot.agents.objects import TREE, Edit, Objects
from maos_bot.agents.scanning import LARGEST, remove, scan
from maos_bot.agents.workshop import remove_tree
from maos_bot.frozen import dataclass

_LARGEST_KEPT: Final = 2**30  # bytes: it passes through memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a folder holds: the edits that lead from its start to `tree`, and what can't be taken, in words."""

    edits: dict[str, Edit]
    tree: str
    wrong: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True)
class Folder:
    """A task's folder. A change counts from the tree `start`; `checked_out` is what git put there.

    The two differ where a conflict was handed back: then texts with marks were checked out. `index` lies out of the
    agent's reach, whatever its own git does in the folder.
    """

    task: str
    path: Path
    index: Path
    start: str
    checked_out: str
    commit: str  # of `start`
    onto: frozenset[str] = frozenset()
    counts: bool = True  # False: its task only looks, and what its commands leave behind is nobody's work
    differing: frozenset[str] = frozenset()  # paths of `start` and `checked_out`
    conflicts: tuple[str, ...] = ()
    kept: str = ""  # the branch that its last change is kept in
    ready: Look | None = field(default=None, compare=False)  # as it was when it was verified

    def to_json(self) -> dict[str, Any]:
        """What must be known to save its work later."""
        return {
            "path": str(self.path),
            "index": self.index.name,
            "start": self.start,
            "checked_out": self.checked_out,
            "commit": self.commit,
            "counts": self.counts,
            "kept": self.kept,
        }


def check_out(git: Git, folder: Folder) -> None:
    """Fill the folder, of which the worktree was added already."""
    folder.index.parent.mkdir(exist_ok=True)
    git.run("read-tree", "--reset", "-u", folder.checked_out, folder=folder.path, index=folder.index)
    shutil.copy2(folder.index, _admin(git, folder) / "index")  # for the git that the agent or its `verify` may use


def add_worktree(git: Git, folder: Folder, sparse: Path | None) -> None:
    """Make the worktree, with nothing in it. One at a time: `git worktree add` races with itself."""
    git.run("worktree", "add", "--quiet", "--detach", "--no-checkout", str(folder.path), folder.commit)
    if sparse:
        for place in (git.git_dir, _admin(git, folder)):
            (place / "info").mkdir(exist_ok=True)
            shutil.copyfile(sparse, place / "info" / "sparse-checkout")


def look(git: Git, objects: Objects, folder: Folder, submodules: Sequence[str], *, all_of_it: bool = False) -> Look:
    """What the folder holds now; with `all_of_it` also what is never taken, as far as a commit can hold it."""
    found = scan(
        git,
        objects,
        folder.path,
        folder.index,
        submodules=submodules,
        largest=_LARGEST_KEPT if all_of_it else LARGEST,
        inner=all_of_it,
    )
    tree = objects.edited(folder.checked_out, found.entries)
    edits: dict[str, Edit] = {}
    for path in sorted(folder.differing.union(found.entries)):
        before, after = objects.entry(folder.start, path), objects.entry(tree, path)
        after = None if after and after.mode == TREE else after
        if before != after and not (after is None and before and before.mode == TREE):
            edits[path] = (before, after)
    return Look(edits=edits, tree=tree, wrong=tuple(found.wrong))


def set_to(git: Git, folder: Folder, tree: str, *, index: Path | None = None) -> None:
    """Make the folder hold exactly `tree`, and what git ignores."""
    index = index or folder.index
    git.run("read-tree", "--reset", "-u", tree, folder=folder.path, index=index)
    said = git.run("ls-files", "-z", "--others", "--exclude-standard", folder=folder.path, index=index).stdout
    root = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in said.split(b"\0"):
            if path := os.fsdecode(name):
                if path.endswith("/"):
                    remove_tree(folder.path / path)
                else:
                    remove(root, path)
    finally:
        os.close(root)


def set_back(git: Git, folder: Folder, tree: str) -> None:
    """Undo what came into the folder after it held `tree`, without a change's counting from anywhere else."""
    index = folder.index.with_suffix(".back")
    shutil.copy2(folder.index, index)
    try:
        set_to(git, folder, tree, index=index)
    finally:
        index.unlink(missing_ok=True)


def delete(git: Git, folder: Folder, lock: AbstractContextManager[object]) -> None:
    """Remove the folder, and git's knowledge of it; that under `lock`: `git worktree add` reads what it has of all."""
    name = folder.path.name
    admin, gone = git.git_dir / "worktrees" / name, git.git_dir / f"removed-{name}-{time.monotonic_ns()}"
    with lock:
        if admin.is_dir():
            admin.rename(gone)
    remove_tree(folder.path)
    remove_tree(gone)
    with contextlib.suppress(FileNotFoundError):
        folder.index.unlink()


def _admin(git: Git, folder: Folder) -> Path:
    """Where git keeps what it knows of the worktree: under the last part of its path, which is unique here."""
    place = git.git_dir / "worktrees" / folder.path.name
    if not place.parent.is_dir():
        raise GitError(f"{folder.path} is no worktree any more")
    return place
