"""What agents begin from: a commit that has the working tree as it is, and the change that a run is about, in words.

The commit is made with an index of its own and belongs to no branch: nothing that the user has changes. So agents see
what was not committed yet, and what they change fits into the working tree again.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from maos_bot.errors import ConfigError

LONGEST_CHANGE: Final = 40_000  # characters of a diff that all agents are told
_REFS: Final = "refs/maos"
_TIMEOUT_S: Final = 120.0
_WHO: Final = {
    "GIT_AUTHOR_NAME": "MAOS bot",
    "GIT_AUTHOR_EMAIL": "maos-bot@localhost",
    "GIT_COMMITTER_NAME": "MAOS bot",
    "GIT_COMMITTER_EMAIL": "maos-bot@localhost",
}


def snapshot(root: Path) -> str:
    """A commit of what git would take of the working tree at `root`; HEAD itself where nothing was changed.

    Raises `ConfigError` where `root` is in no git repository, or in one without a commit.
    """
    head = git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
    with tempfile.TemporaryDirectory(prefix="maos-index-") as folder:
        own = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git(root, "read-tree", head, env=own)
        git(root, "add", "--all", "--", ":/", env=own)
        tree = git(root, "write-tree", env=own).strip()
    if tree == git(root, "rev-parse", f"{head}^{{tree}}").strip():
        return head
    return git(root, "commit-tree", tree, "-p", head, "-m", "The working tree, as a run began", env=_WHO).strip()


def change_since(root: Path, base: str, commit: str) -> str:
    """The diff from where `commit` left `base`, as far as it isn't too long; what was left out is said.

    Empty where `base` is unknown here: then nobody can say what changed.
    """
    options = ("--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all")
    try:
        diff = git(root, "diff", *options, "--merge-base", "--end-of-options", base, commit, "--")
        if len(diff) <= LONGEST_CHANGE:
            return diff
        names = git(root, "diff", *options, "--stat=120", "--merge-base", "--end-of-options", base, commit, "--")
    except ConfigError:
        return ""
    names = names[: LONGEST_CHANGE // 4]
    left = len(diff) - LONGEST_CHANGE
    return f"{names}\n{diff[:LONGEST_CHANGE]}\n({left:,} characters more: read the files themselves)"


def keep_base(root: Path, run_id: str, commit: str) -> None:
    """Keep `commit` from being collected, and findable for a run that goes on after it died."""
    git(root, "update-ref", f"{_REFS}/{run_id}/base", commit)


def kept_base(root: Path, run_id: str) -> str:
    """The commit that a run's agents began from; empty where none was kept."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{_REFS}/{run_id}/base^{{commit}}").strip()
    except ConfigError:
        return ""


def files_of(root: Path, commit: str) -> list[str]:
    """The paths in `commit`, from the repository's root."""
    return [name for name in git(root, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).split("\0") if name]


def git(root: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What git says at `root`; no hook runs, nobody is asked, nothing is fetched. Raises `ConfigError`."""
    command: Sequence[str] = (
        *("git", "-c", f"safe.directory={root}", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"),
        *("-c", "advice.addEmbeddedRepo=false", "-C", str(root), *arguments),
    )
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - git, with our own arguments
            command,
            env={**os.environ, **quiet, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"git could not be run in {root}: {error}", hint="agents work in git worktrees") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or f"{root} has no commit git knows of"
        raise ConfigError(
            f"agents work in git worktrees, and git says: {said.splitlines()[-1]}",
            hint="run them in a git repository with a commit",
        )
    return done.stdout.decode("utf-8", "surrogateescape")
