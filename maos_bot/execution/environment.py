"""What a task's processes see of our environment: the ordinary, never our secrets.

A runner's environment holds what a task must not have: the token of the job, the action's inputs, provider keys, and
the files through which a step sets outputs. They are left out unless the task's own `env` names them.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

_SECRET: Final = re.compile(
    r"(?:^|[_-])(?:TOKENS?|SECRETS?|PAT|PASSPHRASE)(?:[_-]|$)"
    r"|PASSWORD|PASSWD|MYSQL_PWD|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|CREDENTIALS?(?:_|$)",
    re.IGNORECASE,
)
_RUNNER: Final = re.compile(
    r"INPUT_|ACTIONS_(?:RUNTIME|ID_TOKEN_REQUEST|RESULTS|CACHE)_|GITHUB_(?:TOKEN|ENV|OUTPUT|PATH|STEP_SUMMARY|STATE)$"
)
_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
_IN_URL: Final = re.compile(r"://(?P<user>[^/\s:@]*):(?P<password>[^/\s@]{8,})@")
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_FORWARD: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")


def is_secret_name(name: str) -> bool:
    """Whether the variable `name` holds a secret, going by its name."""
    return bool(_SECRET.search(name))


def secret_values(environ: Mapping[str, str]) -> list[str]:
    """The values of `environ` that a `Redactor` should know: what a name gives away, and passwords inside of URLs."""
    named = [value for name, value in environ.items() if value and is_secret_name(name)]
    in_urls = [match for value in environ.values() for match in _IN_URL.finditer(value)]
    passwords = [
        match["password"]
        for match in in_urls
        if match["password"] != match["user"] and not match["password"].isalpha()  # a word would be hidden everywhere
    ]
    return [*named, *passwords, *(unquote(each) for each in passwords if "%" in each)]


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without secrets, the action's inputs and the runner's own channels."""
    return {
        name: value for name, value in environ.items() if name and not (is_secret_name(name) or _RUNNER.match(name))
    }


def hide_from_children() -> bool:
    """Keep our memory and environment, the token in it, from processes of the same user; whether the kernel did.

    A task could read them in `/proc` otherwise (proc(5), `PR_SET_DUMPABLE`). Root still can with CAP_SYS_PTRACE,
    CAP_PERFMON or CAP_SYS_ADMIN, of which a container's root has none by default.
    """
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # no such call on this system
        return False


def with_trusted_checkout(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """`environ` in which git takes the checkout in `folder` for safe, whoever owns it.

    The runner checks out as its own user and a container runs as root; git then refuses the folder ("dubious
    ownership") unless the command line's scope names it safe (git-config, `safe.directory`, `GIT_CONFIG_COUNT`).
    """
    count = int(environ.get("GIT_CONFIG_COUNT") or 0)
    return {
        **environ,
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": "safe.directory",
        f"GIT_CONFIG_VALUE_{count}": str(folder),
    }


def task_environment(env: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """A task's own variables; a value that is exactly `${NAME}` hands on our variable NAME, secret or not."""
    return {name: _forwarded(value, environ) for name, value in env.items()}


def _forwarded(value: str, environ: Mapping[str, str]) -> str:
    match = _FORWARD.match(value)
    return environ.get(match[1], "") if match else value


def changes_words(variables: Mapping[str, str]) -> bool:
    """Whether to a shell a command's first word may mean something else: start-up files, functions bash exported."""
    return "BASH_ENV" in variables or any(name.startswith("BASH_FUNC_") for name in variables)


class Shared:
    """Variables that many processes get: put once into the form in which the system takes them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Raises `ValueError` for what is no variable: a name with `=` or none at all, a NUL anywhere."""
        self.variables = dict(variables)
        self.places = {name: place for place, name in enumerate(variables)}
        self.block = (ctypes.c_char_p * len(variables))(*map(_variable, variables, variables.values()))
        self.changes_words = changes_words(variables)


class Environment:
    """All variables of one process: those that it shares with others, and over them its own."""

    __slots__ = ("own", "shared")

    def __init__(self, shared: Shared, own: Mapping[str, str] = _NOTHING) -> None:
        self.shared = shared
        self.own = own

    @property
    def path(self) -> str:
        """Where its programs are looked for."""
        return self.own.get("PATH", self.shared.variables.get("PATH", os.defpath))

    @property
    def changes_words(self) -> bool:
        """Whether to a shell with these variables a command's first word may mean something else."""
        return self.shared.changes_words or changes_words(self.own)

    def whole(self) -> dict[str, str]:
        """By name."""
        return {**self.shared.variables, **self.own}

    def block(self) -> ctypes.Array[ctypes.c_char_p]:
        """As the C library takes them (environ(7)), for as long as this object lives. Raises as `Shared` does."""
        shared = self.shared
        block = (ctypes.c_char_p * (len(shared.block) + len(self.own) + 1))()  # where nothing is put there is the end
        ctypes.memmove(block, shared.block, ctypes.sizeof(shared.block))
        end = len(shared.block)
        for name, value in self.own.items():
            place = shared.places.get(name, end)
            block[place] = _variable(name, value)
            end += place == end
        return block


def _variable(name: str, value: str) -> bytes:
    if not name or "=" in name:
        raise ValueError(f"illegal name of an environment variable: {name!r}")
    variable = os.fsencode(f"{name}={value}")
    if b"\0" in variable:
        raise ValueError(f"embedded null byte in the environment variable {name!r}")
    return variable
