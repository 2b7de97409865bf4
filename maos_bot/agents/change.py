"""What all agents of a run are told of the repository: its files, and the change the run is about, as a diff."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

LONGEST: Final = 40_000  # characters of a diff
_TIMEOUT_S: Final = 60.0
_DIFF: Final = ("--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--merge-base")


def files_of(root: Path) -> list[str]:
    """The files that git tracks or would track below `root`; nothing where it is no repository: agents look then."""
    said = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [] if said is None else sorted({name for name in said.split("\0") if name})


def change_since(root: Path, base: str) -> str:
    """The diff from where HEAD left `base` to the files as they are, shortened where it is too long, which is said.

    Empty where `base` isn't known here: then nobody can say what changed.
    """
    diff = _git(root, "diff", *_DIFF, "--end-of-options", base, "--") if base else ""
    if not diff or len(diff) <= LONGEST:
        return diff or ""
    names = _git(root, "diff", *_DIFF, "--stat=120", "--end-of-options", base, "--") or ""
    left = len(diff) - LONGEST
    return f"{names[: LONGEST // 4]}\n{diff[:LONGEST]}\n({left:,} characters more: read the files themselves)"


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None where it can't. Nothing is fetched, nobody is asked."""
    command = ["git", "-c", f"safe.directory={root}", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - git, with our own arguments; what others named comes after them
            command,
            env={**os.environ, **quiet},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")
