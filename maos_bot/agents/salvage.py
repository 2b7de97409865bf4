"""Saving the work of runs that died: what they had accepted, and what their agents had in hand.

A dead run is one whose lock nobody holds. All of it is committed and kept as branches `maos/RUN/...` of the user's
repository before a single file is removed; what can't be kept stays where it is and is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maos_bot.agents.folders import Folder, look
from maos_bot.agents.git import Git, GitError
from maos_bot.agents.handover import Keeper, Kept
from maos_bot.agents.merging import Accepted, Merging
from maos_bot.agents.objects import Objects
from maos_bot.agents.origin import Origin
from maos_bot.agents.scanning import submodules_of
from maos_bot.agents.workshop import dead_runs, remove_tree
from maos_bot.frozen import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Leftover:
    """A commit of what lay in a folder, and why it is no part of the result; both empty where that is nothing."""

    commit: str = ""
    why: str = ""


def leftover(git: Git, objects: Objects, folder: Folder, submodules: Sequence[str], at: int) -> Leftover:
    """What `folder` holds beyond what was put there. Raises `GitError`, `OSError` or `ValueError`."""
    held = look(git, objects, folder, submodules, all_of_it=True)
    why = "it was not taken" + (f"; not kept: {'; '.join(held.wrong)}" if held.wrong else "")
    if not held.edits or held.tree == folder.checked_out:
        return Leftover(why=why) if held.wrong else Leftover()
    message = f"Work on {folder.task} that was not taken"
    return Leftover(commit=objects.commit(held.tree, [folder.commit], message, at), why=why)


def load(merging: Merging, state: Mapping[str, Any]) -> None:
    """Put what `state` says was accepted into `merging`."""
    for row in state["accepted"]:
        edits = merging.objects.edits(row["start"], row["after"])
        change = Accepted(**{**row, "edits": edits, "onto": frozenset(row["onto"])})
        merge = merging.add(change)
        if merge.conflicts:
            raise GitError(f"internal error: the saved change of {change.task} doesn't merge: {merge.said}")


def salvage(git: Git, objects: Objects, keeper: Keeper, state: Mapping[str, Any]) -> list[Kept]:
    """Keep what lies in the folders of a run that died, then remove them."""
    submodules = submodules_of(git, state["base"]["tree"])
    at = int(time.time())
    found = []
    for task, row in state["folders"].items():
        folder = Folder(**{**row, "path": Path(row["path"]), "index": git.git_dir / "taken" / row["index"]}, task=task)
        if not (folder.counts and folder.path.is_dir() and folder.index.is_file()):
            continue  # nothing was to be changed, nothing was yet, or the folder was removed by others
        left = leftover(git, objects, folder, submodules, at)
        why = f"the run ended in the middle; {left.why}"
        if left.commit:
            found.append(keeper.keep(task, left.commit, why))
        elif left.why:
            found.append(Kept(task=task, branch=folder.kept, why=why))
    for task, commit in state["untaken"].items():
        found.append(keeper.keep(task, commit, "its attempt ended before the change was recorded"))
    remove_tree(Path(state["work"]))
    if (git.git_dir / "worktrees").is_dir():
        remove_tree(git.git_dir / "worktrees")
    return found


def salvage_dead_runs(origin: Origin, but: str) -> Iterator[Kept]:
    """Keep and remove what dead runs in this repository left, other than the run named `but`."""
    for name, folder, state in _readable(origin.root, but):
        try:
            if state:
                yield from _salvage_whole(origin, name, folder, state)
            remove_tree(folder)
        except (GitError, OSError, KeyError, TypeError, ValueError) as error:
            yield Kept(task="", branch="", why=f"what run {name} left in {folder} could not be kept: {error}")


def _readable(root: Path, but: str) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    try:
        yield from dead_runs(root, but=but)
    except GitError:
        return  # of an unreadable one nothing is known: it stays


def _salvage_whole(origin: Origin, run: str, folder: Path, state: Mapping[str, Any]) -> list[Kept]:
    git = Git(git_dir=folder / "repo.git")
    objects = Objects(git, origin.algorithm)
    keeper = Keeper(git=git, origin=origin, run=run, base=state["base"]["tree"], without=state["exclude"])
    try:
        found = salvage(git, objects, keeper, state)
        merging = Merging(git, objects, state["base"]["tree"], state["order"])
        load(merging, state)
        steps, _ = merging.fold(merging.accepted.values())
        if steps:
            commit = state["base"]["commit"]
            for step in steps:
                commit = objects.commit(step.tree, [commit], step.change.message, int(time.time()))
            why = f"the run ended in the middle; it had accepted {', '.join(step.change.task for step in steps)}"
            found.append(keeper.keep("result", commit, why))
        return found
    finally:
        objects.close()
