"""The head commit of a pull request into the workspace, for a run that was approved beside the base's secrets.

The token goes to git through its environment alone: not into a file, and not where `ps` shows it. Hooks, submodules
and the credentials of an earlier checkout stay out, as what is checked out is then run.
"""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from maos_bot.errors import ConfigError

_TIMEOUT_S: Final = 300.0
# What agents and their tools take for orders where they find it, in any folder and in any case of letters.
_INSTRUCTIONS: Final = re.compile(
    r"(?:.*/)?(?:agents|agents\.override|claude|claude\.local|gemini|copilot-instructions|conventions)\.md"
    r"|(?:.*/)?\.(?:cursorrules|windsurfrules|clinerules|mcp\.json|aider[^/]*|goosehints|rules)(?:/.*)?"
    r"|(?:.*/)?\.(?:agents|claude|cursor|gemini|codex|continue|roo|windsurf)(?:/.*)?"
    r"|(?:.*/)?\.github/(?:instructions|prompts|agents|chatmodes)(?:/.*)?",
    re.IGNORECASE,
)
_NO_HOOKS: Final = ("-c", "core.hooksPath=/dev/null", "-c", "submodule.recurse=false", "-c", "core.fsmonitor=false")
_FROM_STDIN: Final = ("--pathspec-from-file=-", "--pathspec-file-nul")


class Checkout:
    """The repository at `root`; git gets `environ`, which should hold no secret."""

    def __init__(self, root: Path, *, environ: Mapping[str, str]) -> None:
        self._root = root
        self._environ = environ

    def check_out(self, sha: str, *, token: str, server_url: str, mask: Callable[[str], object]) -> None:
        """Fetch `sha` from `origin` and check it out there; raises `ConfigError` where that is unsafe or fails.

        `mask` gets the form in which the token goes to git, for the runner to take out of the log.
        """
        kept = self._git("config", "--get-regexp", r"^http\..*\.extraheader$", fine=(0, 1))
        if kept.strip():
            raise ConfigError(
                "the checkout kept the job's token, which the pull request's code could read",
                hint="give actions/checkout `persist-credentials: false`",
            )
        secret = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        mask(secret)
        login = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{server_url.rstrip('/')}/.extraheader",
            "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {secret}",
        }
        depth = ("--depth=1",) if (self._root / ".git" / "shallow").exists() else ()
        self._git("fetch", "--no-tags", "--no-recurse-submodules", *depth, "origin", sha, extra=login)
        self._git("checkout", "--quiet", "--force", "--detach", sha)
        if self._git("rev-parse", "HEAD").strip() != sha:
            raise ConfigError(f"the checkout is not at {sha}")

    def trust_instructions(self, base: str) -> list[str]:
        """Put the instruction files of commit `base` in place of those checked out there; their paths.

        What the base doesn't have is removed: whoever proposes code must not give orders to the agents that look at it.
        """
        there, own = (
            {name for name in self._names(commit) if _INSTRUCTIONS.fullmatch(name)} for commit in ("HEAD", base)
        )
        if gone := sorted(there - own):
            self._git("rm", "--quiet", "--force", *_FROM_STDIN, stdin="\0".join(gone))
        if kept := sorted(own):
            self._git("checkout", "--quiet", "--force", *_FROM_STDIN, base, stdin="\0".join(kept))
        return sorted(there | own)

    def _names(self, commit: str) -> list[str]:
        return self._git("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit).split("\0")

    def trusted_file(self, sha: str, names: Sequence[str]) -> bytes:
        """The first of `names` that stands in commit `sha`, whatever the workspace holds; raises `ConfigError`."""
        for name in names:
            try:
                return self._git("show", f"{sha}:{name}").encode("utf-8", "surrogateescape")
            except ConfigError as error:
                problem = error
        raise ConfigError(
            f"the base's {names[0]} can't be read from commit {sha[:12] or '(unknown)'}: {problem}",
            hint="check out the repository first, without `ref`",
        )

    def _git(
        self, *arguments: str, extra: dict[str, str] | None = None, fine: tuple[int, ...] = (0,), stdin: str = ""
    ) -> str:
        command = [
            "git",
            "-c",
            f"safe.directory={self._root}",
            *_NO_HOOKS,
            "--literal-pathspecs",
            "-C",
            str(self._root),
            *arguments,
        ]
        quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
        try:
            done = subprocess.run(  # noqa: S603 - git, with our arguments; a SHA is checked before it comes here
                command,
                env={**self._environ, **quiet, **(extra or {})},
                input=stdin,
                capture_output=True,
                text=True,
                errors="surrogateescape",  # names are bytes
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"git {arguments[0]} did not end well: {type(error).__name__}") from error
        if done.returncode not in fine:
            words = done.stderr.strip().splitlines()
            raise ConfigError(f"git {arguments[0]} failed: {words[-1] if words else done.returncode}")
        return done.stdout
