"""`maos init`: writes the starter files into the repository's root, never over what exists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from maos_bot.errors import ConfigError
from maos_bot.spec.starter import ACTION, SPEC_NAME, WORKFLOW_NAME, starter

_OTHER_NAME: Final = ".maos.yaml"


def begin(root: Path, *, action: str | None, tell: Callable[[str], object]) -> None:
    """Write a spec and a workflow below `root`; `tell` gets a line for each and what to do next.

    `action` is where the action lives, None where it isn't known. Raises `ConfigError`.
    """
    if action is not None and ("/" not in action or not action.partition("@")[2]):
        raise ConfigError(f"--action {action!r} is not OWNER/NAME@REF", hint="for example --action you/maos-bot@v0")
    if not (root / ".git").exists():
        tell("note   this is no git repository; `git init` makes one, and a workflow needs one")
    wrote = [name for name, text in starter(root, action=action or ACTION) if _write(root, name, text, tell)]
    if WORKFLOW_NAME in wrote and action is None:
        tell(f"edit   {WORKFLOW_NAME}: put the owner for OWNER in its last line, or use --action at once")
    tell("next   maos plan, then maos run; commit both files for pull requests")


def _write(root: Path, name: str, text: str, tell: Callable[[str], object]) -> bool:
    target = root / name
    if name == SPEC_NAME and (root / _OTHER_NAME).exists():
        tell(f"kept   {_OTHER_NAME} (it exists)")
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        tell(f"kept   {name} (it exists)")
        return False
    except OSError as error:
        raise ConfigError(f"can't write {target}: {error.strerror or error}") from error
    tell(f"wrote  {name}")
    return True
