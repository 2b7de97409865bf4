"""What a run's agents came to as a whole, and the ways to hand it over: a patch, the work tree, or a branch."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Final

from maos_bot.agents.git import Git, GitError
from maos_bot.agents.origin import Origin, borrow, keep
from maos_bot.agents.places import PlaceError
from maos_bot.agents.workshop import named
from maos_bot.frozen import dataclass

_SHOWN: Final = (
    "diff",
    "--find-renames",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)
_DIFF: Final = (*_SHOWN, "--binary", "--full-index")
READABLE: Final = 256 * 1024  # bytes of a patch that people are shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Work that is not in the result, and where it is: a branch, or a patch file where there is no repository.

    `patch` is the same work from the run's base: on a runner that is thrown away, a branch is no safe place.
    """

    task: str
    branch: str
    why: str
    patch: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """All accepted changes on top of `base`, in the plan's order: `commit`, its `tree`, and the patch between them.

    `conflicts` are the paths, by task, of changes that never merged; `kept` is all that isn't in the result.
    """

    base: str
    commit: str
    tree: str
    patch: bytes
    files: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    conflicts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeper:
    """Keeps the work of one run's tasks. `base` is the tree they started from, `without` what the user has already."""

    git: Git
    origin: Origin
    run: str
    base: str
    without: str

    def keep(self, task: str, commit: str, why: str) -> Kept:
        """Keep `commit` as a branch, or as a patch where there is no repository. Raises `GitError` or `OSError`."""
        name = f"{self.run}/{named(task)}"
        patch = patch_between(self.git, self.base, commit)
        if self.origin.git_dir:
            branch = keep(self.git, self.origin, commit, name, without=self.without)
        else:
            folder = self.origin.root / ".maos" / "kept"
            names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
            path = next(path for each in names if not (path := folder / f"{each}.patch").exists())
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(patch)
            branch = str(path)
        return Kept(task=task, branch=branch, why=why, patch=patch)


def patch_between(git: Git, base: str, commit: str) -> bytes:
    """What leads from one commit or tree to another, as `git apply` takes it."""
    return git.run(*_DIFF, base, commit).stdout


def readable_patch(git: Git, base: str, commit: str) -> str:
    """The same for people: binary files are named alone, and what is longer than `READABLE` bytes is cut at a line."""
    whole = git.run(*_SHOWN, base, commit).stdout
    shown = whole if len(whole) <= READABLE else whole[:READABLE].rpartition(b"\n")[0] + b"\n"
    return shown.decode(errors="replace")


def apply_patch(origin: Origin, patch: bytes) -> None:
    """Apply `patch` to the files at the origin's root, all of it or nothing; the index is left as it is.

    No filter of the repository's runs. Raises `PlaceError` where the files are no longer what the patch was made for.
    """
    if not patch:
        return
    with tempfile.TemporaryDirectory(prefix="maos-apply-") as name:
        git = borrow(origin, Path(name) / "repo.git")
        git = Git(git_dir=git.git_dir, more={k: v for k, v in origin.settings.items() if "sparse" not in k})
        try:
            git.run("apply", "--binary", "--whitespace=nowarn", "-", folder=origin.root, stdin=patch)
        except GitError as error:
            raise PlaceError(
                f"the agents' changes don't fit the files as they are now, so none was applied: {error}"
            ) from error


def make_branch(origin: Origin, name: str, commit: str) -> None:
    """Make the branch `name` at `commit`, whose objects are there. Raises `PlaceError`."""
    if origin.git_dir is None:
        raise PlaceError(f"{origin.root} is no git repository, so there can be no branch")
    ref = f"refs/heads/{name}"
    if name.startswith("-") or origin.git.run("check-ref-format", ref, fine=(0, 1)).returncode:
        raise PlaceError(f"{name!r} can't be the name of a branch")
    there = origin.git.run("rev-parse", "--verify", "--quiet", ref, fine=(0, 1, 128)).stdout.decode().strip()
    if there == commit:
        return
    if there:
        raise PlaceError(f"there is a branch {name} already; it was left as it is")
    origin.git.run("update-ref", "-m", "maos: result", ref, commit, "0" * len(commit))
