"""From a task's script to an argument vector: the shells of GitHub Actions, and no shell where none is needed.

Unspecified is `bash -e` (else `sh -e`); `bash` adds `pipefail` and reads no start-up files; `sh`, `python`, `pwsh` and
templates with `{0}` work as they do there. As GNU make does, one plain command is executed directly: the result is the
same, and half the processes are saved.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass

# Characters that no shell treats specially, wherever they stand; `=` only after the first word.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./+,:@-]+(?:[ \t]+[A-Za-z0-9_./+,:@%=-]+)*\Z")
# Words that a shell doesn't look up in PATH. `true` and `false` are left out: without arguments they are the same.
_KEYWORDS: Final = "if then else elif fi case esac for while until do done in select function time coproc"
_BUILTINS: Final = (
    ". : alias bg bind break builtin caller cd chdir command compgen complete compopt continue declare dirs disown echo"
    " enable eval exec exit export fc fg getopts hash help history jobs kill let local logout mapfile popd printf pushd"
    " pwd read readarray readonly return set shift shopt source suspend test times trap type typeset ulimit umask"
    " unalias unset wait"
)
_SHELL_WORDS: Final = frozenset((_KEYWORDS + " " + _BUILTINS).split())
_LONGEST_ARGUMENT: Final = 100_000  # bytes; Linux refuses a single argument from 131,072 on
_FILES: Final = {"python": ".py", "pwsh": ".ps1"}


class ShellError(ValueError):
    """A `shell` that can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Script:
    """What to execute; `file` is a temporary script to delete afterwards."""

    argv: tuple[str, ...]
    file: Path | None = None


def plain_command(script: str, shell: str) -> tuple[str, ...] | None:
    """The words of `script` where it can be executed without a shell, else None.

    Where start-up files or exported functions could change what its first word means, there is nothing to ask.
    """
    line = script.strip()
    if shell not in ("", "bash", "sh") or not _PLAIN.match(line):
        return None
    words = tuple(line.split())
    return None if words[0] in _SHELL_WORDS or (words[0] in ("true", "false") and len(words) > 1) else words


def shell_command(script: str, shell: str, path: str, new_file: Callable[[str], Path]) -> Script:
    """How to run `script` under `shell` (empty: the default), which is looked for in the folders of `path`.

    `new_file(suffix)` names a temporary file to write.

    Raises `ShellError` for a shell that is neither known nor a template with `{0}`, or isn't installed.
    """
    kind = shell.strip()
    argv: tuple[str, ...]
    if not kind:
        argv = ("bash", "-e") if shutil.which("bash", path=path) else ("sh", "-e")
    elif kind == "bash":
        argv = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
    elif kind == "sh":
        argv = ("sh", "-e")
    elif kind == "python":
        argv = ("python" if shutil.which("python", path=path) else "python3",)
    elif kind == "pwsh":
        argv = ("pwsh", "-NoProfile", "-NonInteractive", "-File")
        script = (
            f"$ErrorActionPreference = 'stop'\n{script}\n"
            "if ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) { exit $LASTEXITCODE }\n"
        )
    elif "{0}" in kind:
        argv = tuple(shlex.split(kind))
    else:
        raise ShellError(f"shell {kind!r} is unknown; use bash, sh, python, pwsh or a template with {{0}}")
    if not shutil.which(argv[0], path=path):
        raise ShellError(f"shell {argv[0]!r} was not found in PATH")
    if kind in ("", "bash", "sh") and len(script.encode()) < _LONGEST_ARGUMENT:
        return Script((*argv, "-c", script))
    file = new_file(_FILES.get(kind, ".sh"))
    file.write_text(script, encoding="utf-8")
    if "{0}" in kind:
        return Script(tuple(word.replace("{0}", str(file)) for word in argv), file)
    return Script((*argv, str(file)), file)
