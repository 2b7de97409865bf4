"""A run's own repository and lock, below `.maos/agents/RUN`, and what must be known to save its work if it dies.

The lock is the kernel's (`flock`): it ends with the process, however that dies. Whoever gets the lock of another run
knows that nobody works there any more. No two processes ever write to one such repository, so that `git worktree add`,
which races with itself, is held by this lock between processes and by the threads' own within one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from maos_bot.agents.git import GitError
from maos_bot.agents.places import PlaceError

_PATIENCE_S: Final = 30.0  # another run may be looking whether this one is dead
_STATE: Final = "state.json"
_LONGEST_NAME: Final = 60


class Workshop:
    """Held from its making until `leave`, or until this process dies."""

    def __init__(self, root: Path, name: str) -> None:
        """Take the folder of the run `name`. Raises `PlaceError` where another process has it."""
        try:
            self.folder = _agents(root) / name
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # a checkout that can't be written to; then nothing outlives this process
            self.folder = Path(tempfile.mkdtemp(prefix="maos-repository-"))
        until = time.monotonic() + _PATIENCE_S
        while (fd := _locked(self.folder)) is None:
            if time.monotonic() > until:
                raise PlaceError(f"the agents' worktrees of run {name} are in use by another process")
            time.sleep(0.05)
            self.folder.mkdir(parents=True, exist_ok=True)
        self._fd: int | None = fd

    @property
    def repository(self) -> Path:
        return self.folder / "repo.git"

    def new_work(self) -> Path:
        """A folder for worktrees, ours alone, outside of everything that a task's command might look through."""
        return Path(tempfile.mkdtemp(prefix="maos-agents-"))

    def state(self) -> dict[str, Any]:
        """What was last saved; nothing where nothing was."""
        return _state(self.folder)

    def save(self, state: dict[str, Any]) -> None:
        """Save it whole, or not at all."""
        new = self.folder / f"{_STATE}.new"
        new.write_text(json.dumps(state), encoding="utf-8")
        new.replace(self.folder / _STATE)

    def leave(self, *, clean: bool) -> None:
        """Let the lock go; `clean` removes all that lies here first. A second call does nothing."""
        if self._fd is None:
            return
        if clean:
            remove_tree(self.folder)
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()  # while it is empty
        os.close(self._fd)
        self._fd = None


def dead_runs(root: Path, *, but: str) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Runs that nobody works at any more: name, folder and saved state. Each is locked until the next is asked for."""
    agents = _agents(root)
    for folder in sorted(agents.iterdir()) if agents.is_dir() else ():
        if folder.name == but or not folder.is_dir() or folder.is_symlink():
            continue
        fd = _locked(folder)
        if fd is None:
            continue
        try:
            yield folder.name, folder, _state(folder)
        finally:
            os.close(fd)


def remove_tree(folder: Path) -> None:
    """Remove `folder` with all in it, also what was made unwritable. Raises `GitError` where something stays."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    for name, folders, _ in os.walk(folder):
        for each in (name, *(f"{name}/{inner}" for inner in folders)):
            with contextlib.suppress(OSError):
                if not stat.S_ISLNK(os.lstat(each).st_mode):
                    os.chmod(each, 0o700)  # noqa: PTH101
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise GitError(f"{folder} could not be removed: {error}") from error


def named(text: str) -> str:
    """`text` as part of a path and of a branch's name; what had to be changed gets a digest, so it stays unique."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:_LONGEST_NAME]
    if name == text and name == name.lower():
        return name
    return f"{name or 'task'}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _agents(root: Path) -> Path:
    return root / ".maos" / "agents"


def _locked(folder: Path) -> int | None:
    """The lock of a run's folder as an open descriptor; None where somebody has it, or has just removed it."""
    path = folder / "lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _state(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise GitError(f"{folder / _STATE} can't be read: {error}") from error
    return state if isinstance(state, dict) else {}
