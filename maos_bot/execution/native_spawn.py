"""`posix_spawn(3)` of the C library, called so that our other threads go on meanwhile.

The kernel lets a thread that starts a process wait until the program is loaded, which takes longer than all else we do
about a task. `os.posix_spawn` keeps the interpreter for that time and `subprocess` too; a foreign call doesn't. It can
also change the folder. All that is over at once keeps the interpreter: to let go of it, and to wait until it is free
again, takes longer than the call. Linux only: what isn't there raises `NativeSpawnError`, and the caller has its other
ways.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Final

from maos_bot.execution.environment import Environment

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80  # spawn.h, of glibc and of musl
_ROOM: Final = 512  # bytes, for structures of at most 336
_SIGSET: Final = 128

Started = tuple[int, int]  # a process's id, and the descriptor that its output is read from without waiting


class NativeSpawnError(Exception):
    """This system has no `posix_spawn` that does all of this."""


class NativeSpawn:
    """Starts processes, each leading a session of its own with every signal as the system has it, from any thread."""

    def __init__(self) -> None:
        """Raises `NativeSpawnError`."""
        if not sys.platform.startswith("linux"):
            raise NativeSpawnError(sys.platform)
        quick = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter
        try:
            self._spawn = ctypes.CDLL(None).posix_spawn
            self._access, self._pipe2, self._fcntl, self._close = quick.access, quick.pipe2, quick.fcntl, quick.close
            self._access.argtypes = (ctypes.c_char_p, ctypes.c_int)
            self._actions = lru_cache(maxsize=64)(partial(_Actions, quick))  # descriptors and folders come again
            self._actions(0, 1, b"/")  # whether it can
            self._attributes = ctypes.create_string_buffer(_ROOM)
            nothing, all_signals = ctypes.create_string_buffer(_SIGSET), ctypes.create_string_buffer(_SIGSET)
            quick.sigemptyset(nothing)
            quick.sigfillset(all_signals)
            _check(quick.posix_spawnattr_init(self._attributes))
            _check(quick.posix_spawnattr_setsigmask(self._attributes, nothing))
            _check(quick.posix_spawnattr_setsigdefault(self._attributes, all_signals))
            flags = ctypes.c_short(_SETSID | _SETSIGMASK | _SETSIGDEF)
            _check(quick.posix_spawnattr_setflags(self._attributes, flags))
        except (AttributeError, OSError) as error:  # a C library without one of them, or without sessions
            raise NativeSpawnError(str(error)) from error

    def start(self, program: str, argv: Sequence[str], *, env: Environment, folder: str, devnull: int) -> Started:
        """Start `program` (a path, counted from `folder`) in `folder`.

        Raises `OSError`, and `ValueError` for a NUL in a word or a variable.
        """
        words = (ctypes.c_char_p * (len(argv) + 1))(*map(_encoded, argv), None)
        variables, path = env.block(), _encoded(program)
        output, writer = self._pipe()
        try:
            actions = self._actions(devnull, writer, _encoded(folder))
            pid = ctypes.c_int()
            _check(self._spawn(ctypes.byref(pid), path, actions.buffer, self._attributes, words, variables), program)
        except BaseException:
            self._close(output)
            raise
        finally:
            self._close(writer)
        return pid.value, output

    def is_program(self, path: bytes) -> bool:
        """Whether `path` is there and may be executed, and is no folder."""
        return bool(self._access(path, os.X_OK) == 0 and self._access(path + b"/.", os.F_OK) != 0)

    def _pipe(self) -> tuple[int, int]:
        """Whoever reads from the first end of it never waits."""
        ends = (ctypes.c_int * 2)()
        if self._pipe2(ends, os.O_CLOEXEC):
            _check(ctypes.get_errno(), "pipe")
        self._fcntl(ends[0], fcntl.F_SETFL, os.O_NONBLOCK)
        return ends[0], ends[1]


class _Actions:
    """What a process that was just started does before it becomes its program."""

    def __init__(self, library: ctypes.PyDLL, devnull: int, output: int, folder: bytes) -> None:
        """Raises `OSError`, and `AttributeError` where the library hasn't all of it."""
        self._destroy = library.posix_spawn_file_actions_destroy
        self.buffer = ctypes.create_string_buffer(_ROOM)
        _check(library.posix_spawn_file_actions_init(self.buffer))
        for source, target in ((devnull, 0), (output, 1), (output, 2)):
            _check(library.posix_spawn_file_actions_adddup2(self.buffer, source, target))
        _check(library.posix_spawn_file_actions_addchdir_np(self.buffer, folder))

    def __del__(self) -> None:
        self._destroy(self.buffer)


def _check(code: int, what: str = "posix_spawn") -> None:
    if code:
        raise OSError(code, os.strerror(code), what)


def _encoded(word: str) -> bytes:
    data = os.fsencode(word)
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data
