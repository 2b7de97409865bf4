"""How a process is started: in a session of its own, with exactly the environment and output it is given.

The C library's `posix_spawn` takes about a third of the time that `subprocess.Popen` takes of ours. It is used where it
has all we need (`maos_bot.execution.native_spawn`), else `Popen`.
Whoever starts a process here has to wait for it by its id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from maos_bot.execution.environment import Environment

if TYPE_CHECKING:
    from maos_bot.execution.native_spawn import NativeSpawn


def spawn(argv: tuple[str, ...], *, folder: Path, env: Environment, devnull: int) -> tuple[int, int]:
    """Start `argv` in `folder`; its process id, and the descriptor that all it prints is read from without waiting.

    Raises `OSError` where the program isn't found in the PATH of `env`, or can't be executed, and `ValueError` for a
    NUL in a word or a variable.
    """
    where = str(folder)
    program = find_program(argv[0], env.path, where)
    if program is None:
        raise FileNotFoundError(f"{argv[0]}: command not found")
    if native := _native():
        return native.start(program, argv, env=env, folder=where, devnull=devnull)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a process begins with the mask of who starts it
    try:
        process = subprocess.Popen(  # noqa: S603 - running what the spec says is the point
            argv,
            executable=program,
            cwd=where,
            env=env.whole(),
            stdin=devnull,
            stdout=writer,
            stderr=writer,
            start_new_session=True,
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writer)
    process.returncode = 0  # waiting is the caller's; without this the destructor would do it too
    return process.pid, reader


@cache
def _native() -> NativeSpawn | None:
    from maos_bot.execution.native_spawn import NativeSpawn, NativeSpawnError

    try:
        return NativeSpawn()
    except NativeSpawnError:
        return None


def keep_descriptors() -> None:
    """See to it that no descriptor which we inherited, beyond the standard three, is passed on to a task."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - descriptors, not files
                with contextlib.suppress(OSError):  # the one that the listing itself used
                    os.set_inheritable(int(name), int(name) <= 2)
            return


def find_program(name: str, path: str, folder: str = ".") -> str | None:
    """Where `name` is to be executed from, by `path`; None where it isn't there or can't be.

    What `path` names relatively counts from `folder`, where the program is to run.
    """
    if "/" in name:
        return name
    native = _native()
    is_program = native.is_program if native else _is_program
    return next((os.fsdecode(each) for each in _candidates(name, path, folder) if is_program(each)), None)


def _is_program(path: bytes) -> bool:
    return os.access(path, os.X_OK) and not os.path.isdir(path)  # noqa: PTH112 - not worth an object


@lru_cache(maxsize=1024)
def _candidates(name: str, path: str, folder: str) -> tuple[bytes, ...]:
    """Where to look for `name`, in this order."""
    folders = [each if each.startswith("/") else f"{folder}/{each or '.'}" for each in path.split(os.pathsep)]
    return tuple([os.fsencode(f"{each}/{name}") for each in dict.fromkeys(folders)])
