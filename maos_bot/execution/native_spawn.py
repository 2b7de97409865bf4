"""`posix_spawn(3)` of the C library, called so that our other threads go on meanwhile.

The kernel lets a thread that starts a process wait until the program is loaded, which takes longer than all else we do
about a task. `os.posix_spawn` keeps the interpreter for that time and `subprocess` too; a foreign call doesn't. It can
also change the folder. Linux only: what isn't there raises `NativeSpawnError`, and the caller has its other ways.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

_IGNORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)  # what Python ignores for itself and no program expects
_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80  # spawn.h, of glibc and of musl
_ROOM: Final = 512  # bytes, for structures of at most 336
_SIGSET: Final = 128


class NativeSpawnError(Exception):
    """This system has no `posix_spawn` that does all of this."""


class NativeSpawn:
    """Starts processes, each leading a session of its own with nothing blocked; may be called from any thread."""

    def __init__(self) -> None:
        """Raises `NativeSpawnError`."""
        if not sys.platform.startswith("linux"):
            raise NativeSpawnError(sys.platform)
        waiting, quick = ctypes.CDLL(None), ctypes.PyDLL(None)  # the second keeps the interpreter: its calls are short
        try:
            self._spawn, self._access = waiting.posix_spawn, quick.access
            self._access.argtypes = (ctypes.c_char_p, ctypes.c_int)
            self._init, self._destroy = quick.posix_spawn_file_actions_init, quick.posix_spawn_file_actions_destroy
            self._dup2 = quick.posix_spawn_file_actions_adddup2
            self._chdir = quick.posix_spawn_file_actions_addchdir_np
            self._attributes = ctypes.create_string_buffer(_ROOM)
            nothing, ignored = ctypes.create_string_buffer(_SIGSET), ctypes.create_string_buffer(_SIGSET)
            quick.sigemptyset(nothing)
            quick.sigemptyset(ignored)
            for number in _IGNORED:
                quick.sigaddset(ignored, int(number))
            _check(quick.posix_spawnattr_init(self._attributes))
            _check(quick.posix_spawnattr_setsigmask(self._attributes, nothing))
            _check(quick.posix_spawnattr_setsigdefault(self._attributes, ignored))
            flags = ctypes.c_short(_SETSID | _SETSIGMASK | _SETSIGDEF)
            _check(quick.posix_spawnattr_setflags(self._attributes, flags))
        except (AttributeError, OSError) as error:  # a C library without one of them, or without sessions
            raise NativeSpawnError(str(error)) from error

    def start(
        self,
        program: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: str,
        output: int,
        devnull: int,
    ) -> int:
        """Start `program` (a path, counted from `folder`) in `folder`; the process id.

        Raises `OSError`, and `ValueError` for a NUL in a word or a variable.
        """
        words = (ctypes.c_char_p * (len(argv) + 1))(*map(_encoded, argv), None)
        variables = (ctypes.c_char_p * (len(env) + 1))(*map(_variable, env, env.values()), None)
        actions = ctypes.create_string_buffer(_ROOM)
        _check(self._init(actions))
        try:
            for source, target in ((devnull, 0), (output, 1), (output, 2)):
                _check(self._dup2(actions, source, target))
            _check(self._chdir(actions, _encoded(folder)))
            pid = ctypes.c_int()
            failed = self._spawn(ctypes.byref(pid), _encoded(program), actions, self._attributes, words, variables)
        finally:
            self._destroy(actions)
        _check(failed, program)
        return pid.value

    def can_execute(self, path: bytes) -> bool:
        """Whether `path` is there and may be executed or, a folder, entered; quick, and keeps the interpreter."""
        return bool(self._access(path, os.X_OK) == 0)


def _check(code: int, what: str = "posix_spawn") -> None:
    if code:
        raise OSError(code, os.strerror(code), what)


def _encoded(word: str) -> bytes:
    data = os.fsencode(word)
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data


@lru_cache(maxsize=1024)  # most are the same for all tasks of a run
def _variable(name: str, value: str) -> bytes:
    if not name or "=" in name:
        raise ValueError(f"illegal name of an environment variable: {name!r}")
    return _encoded(f"{name}={value}")
