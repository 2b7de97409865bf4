"""Running git for agents: with no configuration but ours, no hooks, no prompts, and nothing that a repository names.

The repository that agents work on may hold anything: hooks, filters, diff drivers, a file system monitor. None of it
runs here. The user's own configuration is left out as well, so that a result is the same on every machine.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from maos_bot.agents.places import PlaceError
from maos_bot.frozen import dataclass

_TIMEOUT_S: Final = 600.0  # a checkout of a very large repository on a slow disk
_QUIET: Final = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_EDITOR": "false",
    "GIT_ALLOW_PROTOCOL": "none",
}
SAFE: Final[Mapping[str, str]] = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.splitIndex": "false",
    "core.attributesFile": os.devnull,
    "core.pager": "cat",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "diff.ignoreSubmodules": "all",
    "protocol.allow": "never",
    "advice.detachedHead": "false",
}


class GitError(PlaceError):
    """Git couldn't; the message says what, in its own words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Git:
    """A repository, and how git is run on it. `more` is configuration on top of ours."""

    git_dir: Path
    more: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        *arguments: str,
        folder: Path | None = None,
        index: Path | None = None,
        stdin: bytes = b"",
        fine: Sequence[int] = (0,),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git in the work tree `folder` with `index`; `fine` are the exit codes that are no error.

        Raises `GitError`.
        """
        env = self._environment(folder, index)
        return run_git([*self._settings(), *arguments], env=env, folder=folder, stdin=stdin, fine=fine)

    def text(self, *arguments: str, folder: Path | None = None, index: Path | None = None) -> str:
        """What git prints, without the line break at its end."""
        return os.fsdecode(self.run(*arguments, folder=folder, index=index).stdout).rstrip("\n")

    def pipe(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A git that answers as long as it is asked. It is the caller's to end."""
        # A group of its own: an interrupt from the keyboard is ours to handle.
        return subprocess.Popen(  # noqa: S603
            ["git", *self._settings(), *arguments],  # noqa: S607
            env=self._environment(None, None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def _settings(self) -> list[str]:
        return [part for name, value in {**SAFE, **self.more}.items() for part in ("-c", f"{name}={value}")]

    def _environment(self, folder: Path | None, index: Path | None) -> dict[str, str]:
        env = clean_environment()
        env["GIT_DIR"] = str(self.git_dir)  # never looked for: a folder's `.git` is the agent's to write
        if folder:
            env["GIT_WORK_TREE"] = str(folder)
        if index:
            env["GIT_INDEX_FILE"] = str(index)
        return env


def clean_environment() -> dict[str, str]:
    """Ours without anything of git's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | _QUIET


def run_git(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    folder: Path | None = None,
    stdin: bytes = b"",
    fine: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[bytes]:
    """Run git and take what it prints. Raises `GitError`."""
    try:
        done = subprocess.run(  # noqa: S603 - git, with our arguments
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            env=env,
            input=stdin,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            process_group=0,
        )
    except FileNotFoundError as error:
        if folder and not folder.is_dir():
            raise GitError(f"{folder} is gone") from error
        raise GitError("agents need git, and it was not found in PATH: install git 2.38 or newer") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git took longer than {_TIMEOUT_S:g} s: {_words(arguments)}") from None
    if done.returncode not in fine:
        said = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise GitError(f"git {_words(arguments)}: {said[-600:]}")
    return done


def _words(arguments: Sequence[str]) -> str:
    """The command itself, without its settings."""
    words = list(arguments)
    while words[:1] == ["-c"]:
        del words[:2]
    return " ".join(words[:2])
