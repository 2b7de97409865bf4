"""How a process is started: in a session of its own, with exactly the environment and output it is given.

`posix_spawn` takes about a third of the time that `subprocess.Popen` takes of ours. The C library's own is used where
it has all we need (`maos_bot.execution.native_spawn`), else Python's, which can't change the folder, else `Popen`.
Whoever starts a process here has to wait for it by its id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from maos_bot.execution.native_spawn import NativeSpawn

_IGNORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)  # what Python ignores for itself and no program expects


def spawn(argv: tuple[str, ...], *, folder: Path, env: Mapping[str, str], output: int, devnull: int) -> int:
    """Start `argv` in `folder`; standard output and error go to the descriptor `output`. Returns the process id.

    Raises `OSError` where the program isn't found in the PATH of `env`, or can't be executed, and `ValueError` for a
    NUL in a word or a variable.
    """
    here = os.getcwd() == str(folder)  # noqa: PTH109 - in every start's way
    # In our own PATH the C library looks for the program itself, which is a tenth of the time of a start.
    searched = here and env.get("PATH") == os.environ.get("PATH")
    program = argv[0] if searched else find_program(argv[0], env.get("PATH", os.defpath))
    if program is None:
        raise FileNotFoundError(f"{argv[0]}: command not found")
    if native := _native():
        where = None if here else str(folder)
        return native.start(program, argv, env=env, folder=where, output=output, devnull=devnull, searched=searched)
    if here:
        with contextlib.suppress(NotImplementedError):  # a C library without POSIX_SPAWN_SETSID
            return _python_spawn(program, argv, env, output=output, devnull=devnull, searched=searched)
        program = find_program(argv[0], env.get("PATH", os.defpath)) or argv[0]
    process = subprocess.Popen(  # noqa: S603 - running what the spec says is the point
        argv,
        executable=program,
        cwd=folder,
        env=env,
        stdin=devnull,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    process.returncode = 0  # waiting is the caller's; without this the destructor would do it too
    return process.pid


@cache
def _native() -> NativeSpawn | None:
    from maos_bot.execution.native_spawn import NativeSpawn, NativeSpawnError

    try:
        return NativeSpawn()
    except NativeSpawnError:
        return None


def _python_spawn(
    program: str, argv: tuple[str, ...], env: Mapping[str, str], *, output: int, devnull: int, searched: bool
) -> int:
    return (os.posix_spawnp if searched else os.posix_spawn)(
        program,
        argv,
        env,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, devnull, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_IGNORED,
    )


def keep_descriptors() -> None:
    """See to it that no descriptor which we inherited, beyond the standard three, is passed on to a task."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - descriptors, not files
                with contextlib.suppress(OSError):  # the one that the listing itself used
                    os.set_inheritable(int(name), int(name) <= 2)
            return


def find_program(name: str, path: str) -> str | None:
    """Where `name` is to be executed from, by `path`; None where it isn't there or can't be."""
    if "/" in name:
        return name
    for folder in path.split(os.pathsep):
        candidate = f"{folder or '.'}/{name}"
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112 - as above
            return candidate
    return None
