"""One file for each run that goes on, beside the database, locked by the process that runs it.

The lock is the kernel's (`flock`): it ends with the process, however that dies, and with nothing else. So whoever
wants to resume a run knows for certain whether it still lives, on this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from maos_bot.errors import ConfigError


class RunLock:
    """Held from `hold` until `release`, or until this process dies."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd: int | None = fd

    @classmethod
    def hold(cls, database: Path, run_id: str) -> RunLock:
        """Take the lock of `run_id`.

        Raises `ConfigError` where another process has it, and `OSError` where the folder can't be written.
        """
        path = lock_path(database, run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                raise ConfigError(
                    f"run {run_id} is still going on" + (f", in process {holder}" if holder else ""),
                    hint="wait for its end, or stop it first",
                ) from None
            if os.fstat(fd).st_nlink:
                break
            os.close(fd)  # its holder has just removed it: look again
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return cls(path, fd)

    def release(self, *, over: bool) -> None:
        """Let it go; where the run is `over`, for good and all, its file goes too. A second call does nothing."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        if over:
            with contextlib.suppress(OSError):  # a file too many does no harm
                self._path.unlink()
                self._path.parent.rmdir()  # while it is empty
        os.close(fd)


def has_died(database: Path, run_id: str) -> bool:
    """Whether a run of this machine that hasn't ended is no longer going on: its lock is there, and nobody holds it."""
    try:
        fd = os.open(lock_path(database, run_id), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it ran elsewhere, or has ended
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def lock_path(database: Path, run_id: str) -> Path:
    """Where the lock of a run lies."""
    return database.with_name(database.name + ".runs") / run_id
