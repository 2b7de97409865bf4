"""The user's repository as agents need it: looked at once, borrowed from, and given kept work and results.

Nothing of it is changed but for objects and branches of ours that are added: its index, stash, HEAD, worktrees,
configuration and hooks are left alone, and none of them runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Final

from maos_bot.agents.git import Git, GitError, clean_environment, run_git
from maos_bot.frozen import dataclass

# What decides how bytes in a work tree and bytes in a commit differ, and which files count. Nothing here runs anything.
_KEPT_SETTINGS: Final = (
    "core.autocrlf",
    "core.eol",
    "core.safecrlf",
    "core.filemode",
    "core.symlinks",
    "core.ignorecase",
    "core.excludesfile",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
)
_KEPT: Final = "maos"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """What lies at `root`; without a repository there, `git_dir` is None. `head` is empty before a first commit."""

    root: Path
    git_dir: Path | None = None  # of this checkout
    common_dir: Path | None = None
    head: str = ""
    algorithm: str = "sha1"
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def git(self) -> Git:
        if self.common_dir is None:
            raise GitError(f"{self.root} is no git repository")
        return Git(git_dir=self.common_dir)

    @property
    def sparse(self) -> Path | None:
        """The patterns of a sparse checkout; None where all is checked out."""
        path = self.git_dir / "info" / "sparse-checkout" if self.git_dir else None
        return path if path and self.settings.get("core.sparsecheckout") == "true" and path.is_file() else None


def look_at(root: Path) -> Origin:
    """Find out what is at `root`. Raises `GitError` where git can't say."""
    if not (root / ".git").exists():
        run_git(["version"], env=clean_environment())  # that it is here at all
        return Origin(root=root)
    env = clean_environment() | {"GIT_CEILING_DIRECTORIES": str(root.parent)}
    ask = ["-c", f"safe.directory={root}", "-c", "core.fsmonitor=false", "rev-parse", "--path-format=absolute"]
    ask += ["--git-dir", "--git-common-dir", "--show-object-format", "HEAD^{commit}"]
    done = run_git(ask, env=env, folder=root, fine=(0, 128))
    git_dir, common_dir, algorithm, *rest = os.fsdecode(done.stdout).splitlines() or [""] * 3
    if not algorithm:
        raise GitError(f"{root} can't be read as a git repository: {done.stderr.decode('utf-8', 'replace').strip()}")
    head = "" if done.returncode else rest[0]  # none before the first commit
    names = "|".join(name.replace(".", r"\.") for name in _KEPT_SETTINGS)
    # The user's own settings count here, and reading them runs nothing.
    theirs = {name: value for name, value in env.items() if not name.startswith("GIT_CONFIG_")}
    ask = ["config", "-z", "--get-regexp", f"^({names})$"]
    listed = run_git(ask, env=theirs | {"GIT_DIR": git_dir}, fine=(0, 1)).stdout
    pairs = (item.partition("\n") for item in os.fsdecode(listed).split("\0") if item)
    return Origin(
        root=root,
        git_dir=Path(git_dir),
        common_dir=Path(common_dir),
        head=head,
        algorithm=algorithm,
        settings={name: value or "true" for name, _, value in pairs},
    )


def borrow(origin: Origin, folder: Path) -> Git:
    """Make a bare repository in `folder` that has all objects of `origin` and shares nothing else with it."""
    made = ["init", "--quiet", "--bare", "--template=", f"--object-format={origin.algorithm}", str(folder)]
    run_git(made, env=clean_environment())
    (folder / "info").mkdir(exist_ok=True)
    excluded = ""
    if origin.common_dir:
        objects = origin.common_dir / "objects"
        (folder / "objects" / "info").mkdir(exist_ok=True)
        (folder / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects) + b"\n")
        if (shallow := origin.common_dir / "shallow").is_file():
            shutil.copyfile(shallow, folder / "shallow")
        if (rules := origin.common_dir / "info" / "exclude").is_file():
            excluded = rules.read_text(encoding="utf-8", errors="surrogateescape")
    rules = folder / "info" / "exclude"
    rules.write_text(f"{excluded}\n/.maos/\n", encoding="utf-8", errors="surrogateescape")
    git = Git(git_dir=folder)
    # For the git that an agent or its `verify` may use there.
    settings = (
        "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
        "[user]\n\tname = MAOS bot\n\temail = maos-bot@localhost\n[commit]\n\tgpgSign = false\n"
    )
    with (folder / "config").open("a", encoding="utf-8") as file:
        file.write(settings)
    if origin.sparse:
        git.run("config", "core.sparseCheckout", "true")
        git.run("config", "core.sparseCheckoutCone", origin.settings.get("core.sparsecheckoutcone", "false"))
    return git


def give(git: Git, origin: Origin, commit: str, *, without: str = "") -> None:
    """Copy `commit`, with what it needs beyond the commit `without`, into the user's repository."""
    wanted = f"{commit}\n^{without}\n" if without else f"{commit}\n"
    packed = git.run("pack-objects", "--revs", "--stdout", "-q", "--threads=1", stdin=wanted.encode()).stdout
    origin.git.run("unpack-objects", "-q", stdin=packed)


def keep(git: Git, origin: Origin, commit: str, name: str, *, without: str) -> str:
    """Keep `commit` in the user's repository as the branch `maos/NAME`, or as much like it as is free; its name.

    `without` is as for `give`. A branch is only ever made new: neither what the user calls so nor what was kept before
    is moved.
    """
    give(git, origin, commit, without=without)
    zeros = "0" * len(commit)
    error: GitError | None = None
    for prefix in (_KEPT, f"{_KEPT}-kept", f"refs/{_KEPT}"):
        for number in range(1, 100):
            branch = f"{prefix}/{name}" + (f"-{number}" if number > 1 else "")
            try:
                origin.git.run("update-ref", "-m", "maos: kept", _ref(branch), commit, zeros)
                return branch
            except GitError as failed:
                error = failed
                there = _tip(origin, branch)
                if not there:
                    break  # not this name alone: something stands where a folder is needed
                if there == commit:
                    return branch
    raise GitError(f"{commit} could not be kept as a branch: {error}")


def _tip(origin: Origin, branch: str) -> str:
    """The commit of a branch; empty where there is none."""
    asked = origin.git.run("rev-parse", "--verify", "--quiet", _ref(branch), fine=(0, 1, 128))
    return asked.stdout.decode().strip()


def _ref(branch: str) -> str:
    return branch if branch.startswith("refs/") else f"refs/heads/{branch}"
