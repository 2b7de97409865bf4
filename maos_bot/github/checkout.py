"""The head commit of a pull request into the workspace, for a run that was approved beside the base's secrets.

The token goes to git through its environment alone: not into a file, and not where `ps` shows it. Hooks, submodules
and the credentials of an earlier checkout stay out, as what is checked out is then run.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from maos_bot.errors import ConfigError

_TIMEOUT_S: Final = 300.0
_NO_HOOKS: Final = ("-c", "core.hooksPath=/dev/null", "-c", "submodule.recurse=false", "-c", "core.fsmonitor=false")


def check_out(root: Path, sha: str, *, token: str, server_url: str, mask: Callable[[str], object]) -> None:
    """Fetch `sha` from `origin` and check it out in `root`; raises `ConfigError` where that is unsafe or fails.

    `mask` gets the form in which the token goes to git, for the runner to take out of the log.
    """
    kept = _git(root, "config", "--get-regexp", r"^http\..*\.extraheader$", fine=(0, 1))
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
    depth = ("--depth=1",) if (root / ".git" / "shallow").exists() else ()
    _git(root, "fetch", "--no-tags", "--no-recurse-submodules", *depth, "origin", sha, extra=login)
    _git(root, "checkout", "--quiet", "--force", "--detach", sha)
    if _git(root, "rev-parse", "HEAD").strip() != sha:
        raise ConfigError(f"the checkout is not at {sha}")


def trusted_file(root: Path, sha: str, names: Sequence[str]) -> bytes:
    """The first of `names` that stands in commit `sha`, whatever the workspace holds; raises `ConfigError`."""
    for name in names:
        try:
            return _git(root, "show", f"{sha}:{name}").encode()
        except ConfigError as error:
            problem = error
    raise ConfigError(
        f"the base's {names[0]} can't be read from commit {sha[:12] or '(unknown)'}: {problem}",
        hint="check out the repository first, without `ref`",
    )


def _git(root: Path, *arguments: str, extra: dict[str, str] | None = None, fine: tuple[int, ...] = (0,)) -> str:
    command = ["git", "-c", f"safe.directory={root}", *_NO_HOOKS, "-C", str(root), *arguments]
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - git, with our arguments; a SHA is checked before it comes here
            command,
            env={**os.environ, **quiet, **(extra or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"git {arguments[0]} did not end well: {type(error).__name__}") from error
    if done.returncode not in fine:
        words = done.stderr.strip().splitlines()
        raise ConfigError(f"git {arguments[0]} failed: {words[-1] if words else done.returncode}")
    return done.stdout
