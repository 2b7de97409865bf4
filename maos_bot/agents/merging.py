"""Many changes made one: applied in the plan's order, whatever the order in which they came.

The result is a function of the set of accepted changes alone: it is always made anew from the base, change by change
in the plan's order, so that a run with eight workers ends with the bytes of one with a single worker. A change is
accepted if the whole still merges with it. Where changes touch different paths, trees are put together entry by entry;
where they meet, git's own three-way merge decides, which follows renames.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Final

from maos_bot.agents.git import Git, GitError
from maos_bot.agents.objects import TREE, Edits, Objects
from maos_bot.agents.threeway import Merge, merge_trees
from maos_bot.frozen import dataclass

_NO_MERGE_TREE: Final = "this git can't merge texts without a work tree; git 2.38 can"


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """A task's change: from tree `start` to tree `after`. `onto` are tasks whose changes `start` holds already."""

    task: str
    start: str
    after: str
    edits: Edits
    commit: str
    message: str
    onto: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One change applied: the tree that it led to."""

    change: Accepted
    tree: str


@dataclass(slots=True)
class Merging:
    """The changes accepted so far on top of the tree `base`; `order` are task ids, each after what it needs."""

    git: Git
    objects: Objects
    base: str
    order: Sequence[str]
    accepted: dict[str, Accepted] = field(default_factory=dict)
    tip: str = ""
    _place: dict[str, int] = field(default_factory=dict)
    _known: dict[tuple[str, str, str], Merge] = field(default_factory=dict)
    _paths: set[str] = field(default_factory=set)
    _folders: set[str] = field(default_factory=set)
    _met: bool = False  # git has merged something: it may look for renames among all that was added and deleted

    def __post_init__(self) -> None:
        self.tip = self.tip or self.base
        self._place = {task: place for place, task in enumerate(self.order)}

    def add(self, change: Accepted) -> Merge:
        """Accept `change` if the whole still merges; else what it conflicts with, and nothing is changed."""
        if self._is_apart(change):
            return self._accept(change, self.merged(self.tip, change).tree)
        steps, failed = self.fold({**self.accepted, change.task: change}.values())
        if failed is None:
            return self._accept(change, steps[-1].tree)
        last = self.merged(self.tip, change)
        if last.conflicts:
            return last
        # In its place others would no longer merge; after all of them it does.
        # All that differs: where others moved a file, git took the change along to where it is now.
        edits = self.objects.edits(self.tip, last.tree)
        onto = frozenset(self.accepted)
        return self._accept(replace(change, start=self.tip, after=last.tree, edits=edits, onto=onto), last.tree)

    def drop(self, task: str) -> Accepted | None:
        """Take an accepted change out again."""
        change = self.accepted.pop(task, None)
        if change:
            steps, failed = self.fold(self.accepted.values())
            if failed is not None:
                self.accepted[task] = change
                raise GitError(f"what others changed rests on what {task} changed")
            self.tip = steps[-1].tree if steps else self.base
            self._paths, self._folders = set(), set()
            for each in self.accepted.values():
                self._note(each)
        return change

    def below(self, tasks: Iterable[str]) -> tuple[str, frozenset[str]]:
        """The tree with the accepted changes of `tasks` and of all that these rest on, and whose changes they are."""
        chosen: set[str] = set()
        waiting = [task for task in tasks if task in self.accepted]
        while waiting:
            task = waiting.pop()
            if task not in chosen:
                chosen.add(task)
                waiting += [each for each in self.accepted[task].onto if each in self.accepted]
        if not chosen:
            return self.base, frozenset()
        steps, failed = self.fold(self.accepted[task] for task in chosen)
        if failed is None:
            return steps[-1].tree, frozenset(chosen)
        return self.tip, frozenset(self.accepted)  # they merge only with what others did between them

    def fold(self, changes: Iterable[Accepted]) -> tuple[list[Step], Accepted | None]:
        """Apply `changes` in order, from the base; also the one that doesn't merge, at which it ends."""
        tree = self.base
        steps: list[Step] = []
        for change in self._sorted({change.task: change for change in changes}):
            merge = self.merged(tree, change)
            if merge.conflicts:
                return steps, change
            tree = merge.tree
            steps.append(Step(change=change, tree=tree))
        return steps, None

    def merged(self, tree: str, change: Accepted) -> Merge:
        """`tree` with `change`."""
        key = (tree, change.start, change.after)
        if key not in self._known:
            self._known[key] = self._merged(tree, change)
        return self._known[key]

    def _merged(self, tree: str, change: Accepted) -> Merge:
        if tree == change.start:
            return Merge(tree=change.after)
        edits = change.edits
        fitting = {path: after for path, (_, after) in edits.items() if self._fits(tree, path, change)}
        if len(fitting) == len(edits):
            return Merge(tree=self.objects.edited(tree, fitting))
        self._met = True
        merge = merge_trees(self.git, self.objects, change.start, tree, change.after)
        if merge is None:  # every meeting is a conflict then, and the rest is as it would be
            met = tuple(path for path in edits if path not in fitting)
            fitting = {path: after for path, after in fitting.items() if not self.objects.blocker(tree, path)}
            return Merge(tree=self.objects.edited(tree, fitting), conflicts=met, said=_NO_MERGE_TREE)
        return merge

    def _fits(self, tree: str, path: str, change: Accepted) -> bool:
        """Whether `path` stands in `tree` as the change found it, or as it left it, with nothing in its way."""
        objects = self.objects
        before, after = change.edits[path]
        at = objects.entry(tree, path)
        if at is not None and at.mode == TREE:
            return at == objects.entry(change.start, path)  # all of it goes, and nothing was put there since
        if at not in (before, after) or (at is None and before is not None):
            return False  # what both took away one may have moved, and git looks for where to
        if after is None:
            return True
        blocker = objects.blocker(tree, path)
        return not blocker or (blocker in change.edits and change.edits[blocker][1] is None)

    def _accept(self, change: Accepted, tip: str) -> Merge:
        self.accepted[change.task] = change
        self.tip = tip
        self._note(change)
        return Merge(tree=tip)

    def _note(self, change: Accepted) -> None:
        for path in change.edits:
            self._paths.add(path)
            while path := path.rpartition("/")[0]:
                self._folders.add(path)

    def _is_apart(self, change: Accepted) -> bool:
        """Whether no path of `change` is, lies in, or holds one that an accepted change touches."""
        if change.task in self.accepted or change.onto:
            return False
        if self._met and any(None in edit for edit in change.edits.values()):
            return False
        for path in change.edits:
            if path in self._folders:
                return False
            here = path
            while here:
                if here in self._paths:
                    return False
                here = here.rpartition("/")[0]
        return all(self._fits(self.tip, path, change) for path in change.edits)

    def _sorted(self, changes: Mapping[str, Accepted]) -> list[Accepted]:
        """In the plan's order, each after those it rests on."""
        waiting = {task: sum(1 for each in change.onto if each in changes) for task, change in changes.items()}
        ready = [(self._place.get(task, len(self._place)), task) for task, count in waiting.items() if not count]
        heapq.heapify(ready)
        found = []
        while ready:
            _, task = heapq.heappop(ready)
            found.append(changes[task])
            for other, change in changes.items():
                if task in change.onto:
                    waiting[other] -= 1
                    if not waiting[other]:
                        heapq.heappush(ready, (self._place.get(other, len(self._place)), other))
        return found
