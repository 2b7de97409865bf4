"""Hands over what agents changed: as a patch file, or into the working tree where it fits cleanly."""

from __future__ import annotations

from pathlib import Path

from maos_bot.agents.base import git
from maos_bot.errors import ConfigError

_DIFF = ("diff", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")


def deliver(root: Path, base: str, commit: str, patch: Path, *, apply: bool) -> str:
    """Hand over what lies between `base` and `commit`, and say how in words; nothing where nothing was changed.

    With `apply` it goes into the working tree at `root`, all of it or, where one part doesn't fit, none; then and
    without `apply` it is written to the file `patch`.
    """
    diff = git(root, *_DIFF, "--end-of-options", base, commit, "--")
    if not diff:
        return ""
    stat = git(root, "diff", "--shortstat", "--no-renames", "--end-of-options", base, commit, "--").strip()
    patch.parent.mkdir(parents=True, exist_ok=True)
    patch.write_bytes(diff.encode("utf-8", "surrogateescape"))
    if not apply:
        return f"agents changed {stat}: `git apply {_shown(patch, root)}` takes it in"
    try:
        git(root, "apply", "--check", "--whitespace=nowarn", str(patch))
        git(root, "apply", "--whitespace=nowarn", str(patch))
    except ConfigError as error:
        return (
            f"agents changed {stat}, which doesn't fit into the working tree any more, so nothing of it was taken: "
            f"{error.message}; it is in {_shown(patch, root)}"
        )
    patch.unlink()
    return f"agents changed {stat}: taken into the working tree"


def _shown(patch: Path, root: Path) -> str:
    return str(patch.relative_to(root)) if patch.is_relative_to(root) else str(patch)
