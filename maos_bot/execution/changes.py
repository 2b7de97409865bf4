"""Which files a change touches, asked of git itself: what `when.changed` is held against."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass

_TIMEOUT_S: Final = 60.0
_LONGEST: Final = 32 * 2**20  # bytes of names; beyond that a change is as good as unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Changed paths, with `/`, from the repository's root, or None where unknown; `reason` says why or since when."""

    files: frozenset[str] | None
    reason: str


def changed_files(root: Path, base: str, head: str = "") -> Changes:
    """What changed in the repository at `root` between where `head` left `base`, and `head`.

    Without `head`: up to the working tree, with its untracked files. Without `base`, without git, or in a clone that
    lacks the commits, the answer is unknown; nothing is fetched.
    """
    if not base:
        return Changes(files=None, reason="no base commit is known")
    try:
        if head:
            names = _names(root, "diff", *_DIFF, "--end-of-options", f"{base}...{head}", "--")
        else:
            names = _names(root, "diff", *_DIFF, "--merge-base", "--end-of-options", base, "--")
            names |= _names(root, "ls-files", "-z", "--others", "--exclude-standard", "--full-name", ":/")
    except _GitError as error:
        return Changes(files=None, reason=str(error))
    return Changes(files=names, reason=f"{len(names)} changed since {base[:12]}")


_DIFF: Final = ("--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty")


class _GitError(Exception):
    """Git couldn't say."""


def _names(root: Path, *arguments: str) -> frozenset[str]:
    command = ["git", "-c", f"safe.directory={root}", "-c", "core.fsmonitor=false", "-C", str(root), *arguments]
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    return frozenset(os.fsdecode(name) for name in _run(command, {**os.environ, **quiet}).split(b"\0") if name)


def _run(command: Sequence[str], env: dict[str, str]) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - git, with our arguments; refs come after --end-of-options
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise _GitError("git was not found") from None
    except subprocess.TimeoutExpired:
        raise _GitError(f"git took longer than {_TIMEOUT_S:g} s") from None
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _GitError(f"git can't compare the commits ({words[-1] if words else done.returncode}); a full clone can")
    if len(done.stdout) > _LONGEST:
        raise _GitError("the change is too large to list")
    return done.stdout
