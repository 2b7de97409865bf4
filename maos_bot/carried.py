"""State that is carried from run to run in `.maos/`: believed or set aside, and signed when it is left.

What it says of itself stands in `.maos/state.json`, written before the first task and again after the last, so that no
task has the last word about it. What may not be believed is moved to `.maos.refused/`: nothing reads it there, and it
isn't part of what a cache step saves.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from maos_bot.errors import ConfigError
from maos_bot.frozen import dataclass
from maos_bot.github.provenance import Level, Provenance, Standards, after, objection, standards
from maos_bot.model import Trigger

FOLDER: Final = ".maos"
REFUSED: Final = ".maos.refused"
_FORMAT: Final = 1
_GIT_S: Final = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """The state of one workspace during one run. `refused` says why what was found is set aside; empty: it isn't."""

    root: Path
    left: Provenance
    refused: str = ""

    def sign(self) -> None:
        """Say whose state it is; raises `ConfigError` where that can't be written."""
        folder = self.root / FOLDER
        row = {
            "format": _FORMAT,
            "repository": self.left.repository,
            "level": self.left.level.name.lower(),
            "ref": self.left.ref,
            "event": self.left.event,
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / ".gitignore").exists():
                (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            path = folder / "state.json"
            path.unlink(missing_ok=True)  # a task may have put a link there
            path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"can't write to {folder}: {error.strerror}") from error


def admit(root: Path, trigger: Trigger, payload: object, env: Mapping[str, str]) -> Carried:
    """Look at the state in `root`, set aside what this run must not believe, and sign what is left or begun."""
    asked = standards(trigger, protected=_is_protected(trigger, payload, env))
    found = _read(root / FOLDER / "state.json")
    refused = ""
    if _holds_state(root / FOLDER):
        tracked = _is_tracked(root)
        refused = objection(found, repository=trigger.repository, needs=asked.needs, tracked=tracked)
    if refused:
        _set_aside(root)
    carried = _carried(root, None if refused else found, trigger, asked, refused)
    carried.sign()
    return carried


def _carried(root: Path, found: Provenance | None, trigger: Trigger, asked: Standards, refused: str) -> Carried:
    left = after(found, trigger, repository=trigger.repository, leaves=asked.leaves)
    return Carried(root=root, left=left, refused=refused)


def _is_protected(trigger: Trigger, payload: object, env: Mapping[str, str]) -> bool:
    """Whether the ref is the default branch, or one that the repository's rules protect (GitHub tells the runner)."""
    repository = payload.get("repository") if isinstance(payload, Mapping) else None
    default = repository.get("default_branch") if isinstance(repository, Mapping) else None
    return env.get("GITHUB_REF_PROTECTED") == "true" or (bool(default) and trigger.ref == default)


def _holds_state(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("maos.db", "cache"))


def _read(path: Path) -> Provenance | None:
    """What the state says of itself; None where it says nothing that can be understood."""
    try:
        row: Any = json.loads(path.read_text(encoding="utf-8"))
        if row["format"] != _FORMAT:
            return None
        return Provenance(
            repository=str(row["repository"]),
            level=Level[str(row["level"]).upper()],
            ref=str(row["ref"]),
            event=str(row["event"]),
        )
    except (OSError, ValueError, KeyError, TypeError):  # damaged is as good as not there: it isn't believed
        return None


def _is_tracked(root: Path) -> bool:
    """Whether the commit itself brought the folder along."""
    try:
        done = subprocess.run(  # noqa: S603 - git, with our arguments
            ["git", "-c", f"safe.directory={root}", "-C", str(root), "ls-files", "-z", "--", FOLDER],  # noqa: S607
            capture_output=True,
            timeout=_GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True  # where it can't be asked, nothing is believed
    return bool(done.stdout)


def _set_aside(root: Path) -> None:
    try:
        folder, refused = root / FOLDER, root / REFUSED
        if refused.is_dir() and not refused.is_symlink():
            shutil.rmtree(refused)
        else:
            refused.unlink(missing_ok=True)
        folder.rename(refused)
        (refused / ".gitignore").unlink(missing_ok=True)
        (refused / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{root / FOLDER} may not be believed and can't be set aside: {error.strerror}",
            hint="don't restore it in this workflow",
        ) from error
