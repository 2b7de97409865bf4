"""The worktrees of one run, made ready: given out, looked at, taken from and cleared away; what runs in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maos_bot.agents import folders as worktree
from maos_bot.agents.folders import Folder, Look
from maos_bot.agents.git import Git, GitError
from maos_bot.agents.handover import Keeper, Kept, Merged, patch_between, readable_patch
from maos_bot.agents.merging import Accepted, Merging, Step
from maos_bot.agents.objects import Objects
from maos_bot.agents.origin import borrow, give, look_at
from maos_bot.agents.places import PlaceError, RefusedError
from maos_bot.agents.refusals import marked, refusals
from maos_bot.agents.salvage import leftover, load, salvage, salvage_dead_runs
from maos_bot.agents.scanning import submodules_of
from maos_bot.agents.snapshot import Base, base_of
from maos_bot.agents.threeway import Merge
from maos_bot.agents.workshop import Workshop, named, remove_tree
from maos_bot.frozen import dataclass
from maos_bot.model import Task
from maos_bot.planning.writes import may_change


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A change that was looked at: accepted, or with `conflicts` and kept in `branch`."""

    commit: str
    files: tuple[str, ...]
    added: int = 0
    removed: int = 0
    conflicts: tuple[str, ...] = ()
    branch: str = ""
    patch: str = ""
    advice: str = ""


class Yard:
    """One lock guards what threads share; folders are filled and looked through outside of it."""

    def __init__(
        self, root: Path, run_id: str, wanted: str, order: Sequence[str], needs: Mapping[str, Sequence[str]]
    ) -> None:
        self._lock = threading.RLock()
        self._run = named(run_id)
        self._run_id = run_id
        self._needs = needs
        self._at = int(time.time())
        self._origin = look_at(root)
        self._shop = Workshop(root, self._run)
        try:
            self._make_ready(wanted, order)
        except BaseException:
            self._shop.leave(clean=False)
            raise

    def _make_ready(self, wanted: str, order: Sequence[str]) -> None:
        shop, origin = self._shop, self._origin
        state = shop.state()
        self._git = Git(git_dir=shop.repository) if state else self._new_repository()
        self._objects = Objects(self._git, origin.algorithm)
        known = state.get("base")
        if known:
            self.base = Base(**known)
        else:
            self.base = base_of(origin, self._git, self._objects, wanted=wanted, at=self._at)
        # From here on bytes in folders are the bytes in commits: no line ends are changed, whatever attributes say.
        attributes = "* -text !eol !ident !filter !working-tree-encoding !diff !merge !conflict-marker-size\n"
        (self._git.git_dir / "info" / "attributes").write_text(attributes, encoding="utf-8")
        self._exclude = state.get("exclude", self.base.commit if wanted else origin.head)
        self._keeper = Keeper(git=self._git, origin=origin, run=self._run, base=self.base.tree, without=self._exclude)
        self._merging = Merging(self._git, self._objects, self.base.tree, order)
        self._submodules = submodules_of(self._git, self.base.tree)
        self._folders: dict[str, Folder] = {}
        self._kept: list[Kept] = []
        self._untaken: dict[str, Accepted] = {}
        self._conflicts: dict[str, tuple[str, ...]] = {}
        saved = list(salvage_dead_runs(origin, self._run))
        if state:  # this run died before, and goes on
            load(self._merging, state)
            saved += salvage(self._git, self._objects, self._keeper, state)
        self.saved = tuple(saved)
        self.notices = [self.base.notice] if self.base.notice else []
        self.notices += [
            f"{each.task or 'a run'} is kept in {each.branch or 'its folder'}: {each.why}" for each in saved
        ]
        self._kept += [each for each in saved if each.branch.startswith(f"maos/{self._run}/")]
        self._work = shop.new_work()
        self._save()

    def _new_repository(self) -> Git:
        repository = self._shop.repository
        if repository.exists():
            remove_tree(repository)
        return borrow(self._origin, repository)

    # A task's folder

    def open(self, task: Task) -> Path:
        with self._lock:
            if folder := self._folders.get(task.id):
                if folder.path.is_dir():
                    return folder.path
                del self._folders[task.id]  # the agent removed it
                worktree.delete(self._git, folder, self._lock)
            if task.id in self._merging.accepted:
                self.untake(task)  # its end was never recorded: it is done anew
            tree, onto = self._merging.below(self._above(task))
            name = named(task.id)
            folder = Folder(
                task=task.id,
                path=self._work / name,
                index=self._git.git_dir / "taken" / f"{name}.index",
                start=tree,
                checked_out=tree,
                commit=self._commit_of(onto),
                onto=onto,
                counts=may_change(task),
            )
            self._folders[task.id] = folder
            self._in_whole(folder, lambda: worktree.add_worktree(self._git, folder, self._origin.sparse))
        self._in_whole(folder, lambda: worktree.check_out(self._git, folder))
        with self._lock:
            self._save()
        return folder.path

    def _in_whole(self, folder: Folder, step: Callable[[], object]) -> None:
        """Do a step of making `folder`, or let there be no such folder."""
        try:
            step()
        except BaseException:
            with self._lock:
                del self._folders[folder.task]
                worktree.delete(self._git, folder, self._lock)
            raise

    def hold(self, task: Task) -> Look:
        """What is in the folder, to be taken as it is now."""
        return self._look(self._folder(task))

    def set_back(self, task: Task, held: Look) -> None:
        """Undo what `verify` did in the folder."""
        folder = self._folder(task)
        if not held.wrong:
            worktree.set_back(self._git, folder, held.tree)
            folder.ready = held

    def take(self, task: Task) -> Taken | None:
        folder = self._folder(task)
        if not folder.counts:
            return None
        held, folder.ready = folder.ready or self._look(folder), None
        if not held.edits and not held.wrong:
            return None
        self._check(task, folder, held)
        added, removed = self._objects.line_counts(folder.start, held.tree)
        patch = readable_patch(self._git, folder.start, held.tree)
        with self._lock:
            change = self._change(task, folder, held)
            merge = self._merging.add(change)
            taken = Taken(commit=change.commit, files=tuple(held.edits), added=added, removed=removed, patch=patch)
            if merge.conflicts:
                taken = self._hand_back(folder, change, merge, taken)
                self._save()
                return taken
            self._conflicts.pop(task.id, None)
            del self._folders[task.id]
            self._save()
        worktree.delete(self._git, folder, self._lock)
        return taken

    def untake(self, task: Task) -> None:
        """Take an accepted change out of the result again; it is kept at the end."""
        with self._lock:
            try:
                change = self._merging.drop(task.id)
            except GitError as error:
                self.notices.append(f"the change of {task.id} stays, though its attempt was ended: {error}")
                return
            if change:
                self._untaken[task.id] = change
                self._save()

    def _folder(self, task: Task) -> Folder:
        with self._lock:
            folder = self._folders.get(task.id)
        if folder is None:
            raise PlaceError(f"{task.id} has no folder")
        return folder

    def _look(self, folder: Folder) -> Look:
        return worktree.look(self._git, self._objects, folder, self._submodules)

    def _check(self, task: Task, folder: Folder, held: Look) -> None:
        wrong = [*held.wrong, *refusals(task, held.edits, self._objects, held.tree)]
        if left := marked(folder.conflicts, self._objects, held.tree):
            wrong.append(
                f"{', '.join(left)}: conflict marks are left; keep what both sides meant, and remove the marks"
            )
        if wrong:
            raise RefusedError("\n".join(wrong))

    def _change(self, task: Task, folder: Folder, held: Look) -> Accepted:
        message = f"{task.title}\n\nMAOS-Task: {task.id}\nMAOS-Run: {self._run_id}"
        return Accepted(
            task=task.id,
            start=folder.start,
            after=held.tree,
            edits=held.edits,
            commit=self._objects.commit(held.tree, [folder.commit], message, self._at),
            message=message,
            onto=folder.onto,
        )

    def _hand_back(self, folder: Folder, change: Accepted, merge: Merge, taken: Taken) -> Taken:
        """Keep a change that doesn't merge, and set its folder to the current text with its own between marks."""
        why = f"conflicts in {', '.join(merge.conflicts)}"
        folder.kept = self._keep(folder.task, change.commit, why)
        self._conflicts[folder.task] = merge.conflicts
        tip = self._merging.tip
        folder.start, folder.onto = tip, frozenset(self._merging.accepted)
        folder.commit = self._commit_of(folder.onto)
        folder.conflicts = merge.conflicts
        folder.differing = frozenset(self._objects.edits(tip, merge.tree))
        worktree.set_to(self._git, folder, merge.tree)
        folder.checked_out = merge.tree
        return replace(taken, conflicts=merge.conflicts, branch=folder.kept, advice=_advice(merge, folder.kept))

    def _above(self, task: Task) -> Collection[str]:
        """All that `task` needs, however indirectly."""
        found: set[str] = set()
        waiting = list(self._needs.get(task.id, task.needs))
        while waiting:
            need = waiting.pop()
            if need not in found:
                found.add(need)
                waiting += self._needs.get(need, ())
        return found

    # What comes of it

    def result(self) -> Merged | None:
        with self._lock:
            steps = self._steps()
            kept = tuple(sorted(self._kept, key=lambda each: (each.task, each.branch)))
            if not steps and not kept:
                return None
            commit = self._chain(steps)
            tree = steps[-1].tree if steps else self.base.tree
            paths = {path for step in steps for path in step.change.edits}
            return Merged(
                base=self.base.commit,
                commit=commit,
                tree=tree,
                patch=patch_between(self._git, self.base.tree, tree),
                files=tuple(sorted(path for path in paths if self._is_new(path, tree))),
                tasks=tuple(step.change.task for step in steps),
                kept=kept,
                conflicts=dict(self._conflicts),
            )

    def _steps(self) -> list[Step]:
        """All accepted changes applied; one that no longer merges, against all expectation, is kept and reported."""
        while True:
            steps, failed = self._merging.fold(self._merging.accepted.values())
            if failed is None:
                return steps
            del self._merging.accepted[failed.task]
            tree = steps[-1].tree if steps else self.base.tree
            self._conflicts[failed.task] = self._merging.merged(tree, failed).conflicts
            self._keep(failed.task, failed.commit, f"conflicts in {', '.join(self._conflicts[failed.task])}")

    def _is_new(self, path: str, tree: str) -> bool:
        return self._objects.entry(self.base.tree, path) != self._objects.entry(tree, path)

    def hand_over(self, commit: str) -> None:
        """Copy the result's commits into the user's repository."""
        if self._origin.git_dir:
            give(self._git, self._origin, commit, without=self._exclude)

    def close(self) -> Merged | None:
        with self._lock:
            stays = [folder.task for folder in self._folders.values() if not self._is_saved(folder)]
            for change in self._untaken.values():
                try:
                    self._keep(change.task, change.commit, "its attempt ended before the change was recorded")
                except (GitError, OSError) as error:
                    stays.append(change.task)
                    self.notices.append(f"the change of {change.task} could not be kept yet: {error}")
            merged = self.result()
            self._objects.close()
            clean = not stays
            try:
                if merged and merged.tasks:
                    self.hand_over(merged.commit)
                if clean:
                    remove_tree(self._work)
                self._shop.leave(clean=clean)
            except (GitError, OSError) as error:  # the next run in this repository tries again
                self.notices.append(f"what agents did stays in {self._shop.folder}: {error}")
                self._shop.leave(clean=False)
            return merged

    def _is_saved(self, folder: Folder) -> bool:
        """Keep what `folder` holds beyond what is kept already; False where that failed, and it must stay."""
        if not folder.counts:
            return True
        if not folder.path.is_dir():
            self._kept.append(Kept(task=folder.task, branch="", why="its folder was removed"))
            return True
        try:
            left = leftover(self._git, self._objects, folder, self._submodules, self._at)
            if left.commit:
                self._keep(folder.task, left.commit, left.why)
            elif left.why:
                self._kept.append(Kept(task=folder.task, branch="", why=left.why))
        except (GitError, OSError, ValueError) as error:
            self._kept.append(Kept(task=folder.task, branch="", why=f"left in {folder.path}: {error}"))
            return False
        return True

    def _keep(self, task: str, commit: str, why: str) -> str:
        kept = self._keeper.keep(task, commit, why)
        self._kept.append(kept)
        return kept.branch

    def _commit_of(self, tasks: Collection[str]) -> str:
        """A commit with the changes of `tasks`, which merge."""
        accepted = self._merging.accepted
        return self._chain(self._merging.fold(accepted[task] for task in tasks)[0])

    def _chain(self, steps: Sequence[Step]) -> str:
        commit = self.base.commit
        for step in steps:
            commit = self._objects.commit(step.tree, [commit], step.change.message, self._at)
        return commit

    def _save(self) -> None:
        self._shop.save(
            {
                "base": {"commit": self.base.commit, "tree": self.base.tree, "notice": self.base.notice},
                "exclude": self._exclude,
                "work": str(self._work),
                "order": list(self._merging.order),
                "accepted": [
                    {
                        "task": each.task,
                        "start": each.start,
                        "after": each.after,
                        "commit": each.commit,
                        "message": each.message,
                        "onto": sorted(each.onto),
                    }
                    for each in (*self._merging.accepted.values(),)
                ],
                "untaken": {task: change.commit for task, change in self._untaken.items()},
                "folders": {task: folder.to_json() for task, folder in self._folders.items()},
                "conflicts": self._conflicts,
            }
        )


def _advice(merge: Merge, branch: str) -> str:
    return (
        f"{merge.said}\nYour copy now holds the current text, with yours between conflict marks where both could be "
        "set side by side (<<<<<<< current, =======, >>>>>>> yours). A file without marks holds the current side alone "
        "if it was there; where yours can't stand at the same path it lies beside it (NAME~yours): put what counts of "
        "it where it belongs, and remove it. Make your change on top, and leave no mark. Your version is kept in "
        f"{branch}."
    ).strip()
