"""Which programs a command uses, as far as its text tells, and what they are: part of a cached task's key.

Taken are the shell, every word of the script that names a program in `PATH`, every absolute path to a program, and the
first word whatever it is; of a script among them also the program in its `#!` line. A program is known by its content,
so another version of it is another key, and the same one on another machine the same. What programs load themselves
(modules, libraries) is not seen: a lock file among the inputs says that.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from maos_bot.execution.digests import Digests
from maos_bot.execution.environment import changes_words
from maos_bot.execution.filetree import Memo
from maos_bot.execution.shell import plain_command
from maos_bot.execution.spawn import find_program

_WORD = re.compile(r"[^\s;|&()<>\"'`$={},]+")
_NAME = re.compile(r"(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_LONGEST_LINE = 256  # of `#!`; the kernel reads no more


class Tools:
    """Finds programs and their digests."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests

    def identity(
        self, script: str, shell: str, *, folder: Path, env: Mapping[str, str], own: Callable[[str], bool], memo: Memo
    ) -> list[tuple[str, str, str]]:
        """The programs as (word, path, SHA-256), in a fixed order; `own` tells the task's own products, left out.

        Raises `OSError` where one can't be read.
        """
        path = env.get("PATH", os.defpath)
        found = {
            name: program
            for word in self._words(script, shell, folder, env)
            for name, program in self._with_interpreter(word, folder, path, memo)
            if not own(program)
        }
        return [(name, program, self._digests.of(program)) for name, program in sorted(found.items())]

    def _words(self, script: str, shell: str, folder: Path, env: Mapping[str, str]) -> Iterator[str]:
        words = _WORD.findall(script)
        if changes_words(env) or not plain_command(script, shell):
            yield from _shells(shell, env)
        for number, word in enumerate(words):
            if number == 0 or _NAME.match(word) or (word.startswith("/") and not word.startswith(f"{folder}/")):
                yield word

    def _with_interpreter(self, word: str, folder: Path, path: str, memo: Memo) -> list[tuple[str, str]]:
        key = ("program", word, str(folder), path)
        known = memo.get(key)
        if known is None:
            known = memo[key] = list(_programs(word, folder, path))
        return known  # type: ignore[return-value]


def _shells(shell: str, env: Mapping[str, str]) -> list[str]:
    kind = shell.strip()
    if kind in {"", "bash"}:
        found = find_program("bash", env.get("PATH", os.defpath))
        return ["bash" if found or kind else "sh"]
    if "{0}" in kind:
        return shlex.split(kind)[:1]
    return ["python", "python3"] if kind == "python" else [kind]


def _programs(word: str, folder: Path, path: str) -> Iterator[tuple[str, str]]:
    program = str(folder / word) if "/" in word else find_program(word, path, str(folder))
    if not program or not os.path.isfile(program) or not os.access(program, os.X_OK):  # noqa: PTH113
        return
    yield word, program
    with open(program, "rb") as file:  # noqa: PTH123
        line = file.readline(_LONGEST_LINE)
    if line.startswith(b"#!"):
        words = os.fsdecode(line[2:]).split()
        if words and os.path.basename(words[0]) == "env":  # noqa: PTH119
            words = [each for each in words[1:] if not each.startswith("-") and "=" not in each]
        interpreter = find_program(words[0], path, str(folder)) if words else None
        if interpreter and os.path.isfile(interpreter):  # noqa: PTH113
            yield f"#! of {word}", interpreter
