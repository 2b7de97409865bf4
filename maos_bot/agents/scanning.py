"""What an agent did in its folder, found without following any link and without git's running anything of it.

Git says which paths may have changed, by an index that lies out of the agent's reach; the files themselves are read
folder by folder through descriptors, so that a link put in their way leads nowhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from maos_bot.agents.git import Git, GitError
from maos_bot.agents.objects import FILE, LINK, PROGRAM, SUBMODULE, Entry, Objects

LARGEST: Final = 100 * 2**20  # bytes of one file: what GitHub takes


@dataclass(kw_only=True, slots=True)
class Found:
    """Paths that differ from what was checked out, None where nothing is left; and what can't be taken, in words."""

    entries: dict[str, Entry | None] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def scan(
    git: Git,
    objects: Objects,
    folder: Path,
    index: Path,
    *,
    submodules: Sequence[str] = (),
    largest: int = LARGEST,
    most: int | None = None,
    inner: bool = False,
) -> Found:
    """Look through `folder`, which was checked out as `index` says, and store what is new. Ignored files don't count.

    With `inner` the files of repositories inside are found too. Raises `GitError`, also where more than `most` paths
    differ.
    """
    found = Found()
    said = git.run(
        "ls-files", "-z", "-t", "--modified", "--others", "--exclude-standard", folder=folder, index=index
    ).stdout
    paths = {os.fsdecode(item[2:]) for item in said.split(b"\0") if item}
    if inner:
        paths = {each for path in paths for each in (_inside(folder, path) if path.endswith("/") else (path,))}
    if most is not None and len(paths) > most:
        raise GitError(f"{folder} holds {len(paths):,} files that git doesn't know; at most {most:,} are copied")
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for path in sorted(paths.difference(submodules)):
            if path.endswith("/"):
                found.wrong.append(f"{path} is a repository of its own: remove its .git")
                continue
            try:
                entry = _read(root, path, objects, largest)
            except _UnfitError as error:
                found.wrong.append(f"{path} {error}")
                continue
            found.entries[path] = entry
        for path in submodules:
            if _is_touched(root, path):
                found.wrong.append(f"{path} is a submodule: it can't be changed from here")
    finally:
        os.close(root)
    return found


def _inside(folder: Path, path: str) -> list[str]:
    """The files of a repository at `path`, without its own."""
    found = []
    for name, folders, files in os.walk(folder / path):
        for own in (folders, files):
            if ".git" in own:
                own.remove(".git")
        links = [each for each in folders if os.path.islink(os.path.join(name, each))]  # noqa: PTH114, PTH118
        found += [os.path.relpath(os.path.join(name, each), folder) for each in (*files, *links)]  # noqa: PTH118
    return found


def submodules_of(git: Git, tree: str) -> list[str]:
    """The paths of a tree's submodules."""
    said = git.run("ls-tree", "-r", "-z", tree).stdout
    mode = f"{SUBMODULE} ".encode()
    return [os.fsdecode(item.split(b"\t", 1)[1]) for item in said.split(b"\0") if item.startswith(mode)]


class _UnfitError(Exception):
    """Something that no tree can hold."""


def _read(root: int, path: str, objects: Objects, largest: int) -> Entry | None:
    """What stands at `path`, stored; None where nothing does, or only behind a link."""
    folder, name = _parent(root, path)
    if folder is None:
        return None
    try:
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(found.st_mode):
            return Entry(LINK, objects.write("blob", os.fsencode(os.readlink(name, dir_fd=folder))))
        if stat.S_ISDIR(found.st_mode):
            return None  # what is in it is listed by itself
        if not stat.S_ISREG(found.st_mode):
            raise _UnfitError("is neither a file nor a link")
        return _file(folder, name, objects, largest)
    finally:
        os.close(folder)


def _file(folder: int, name: str, objects: Objects, largest: int) -> Entry:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise _UnfitError(f"can't be read: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _UnfitError("is neither a file nor a link")
        if found.st_size > largest:
            raise _UnfitError(f"has {found.st_size / 2**20:.0f} MB; at most {largest // 2**20} MB can be taken")
        data = file.read(largest + 1)
    return Entry(PROGRAM if found.st_mode & stat.S_IXUSR else FILE, objects.write("blob", data))


def _parent(root: int, path: str) -> tuple[int | None, str]:
    """The folder that `path` is in, opened; None where it isn't there or a link stands in the way."""
    *folders, name = path.split("/")
    here = os.dup(root)
    for part in folders:
        try:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
        except OSError:
            return None, name
        finally:
            os.close(here)
        here = below
    return here, name


def remove(root: int, path: str) -> None:
    """Remove the file or link at `path` below the opened folder `root`, and the folders that it leaves empty."""
    while path:
        folder, name = _parent(root, path)
        if folder is None:
            return
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                os.rmdir(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)
        except OSError:
            return  # not empty, or gone
        finally:
            os.close(folder)
        path = path.rpartition("/")[0]


def _is_touched(root: int, path: str) -> bool:
    """Whether something stands where a submodule's folder was left empty."""
    folder, name = _parent(root, path)
    if folder is None:
        return True
    try:
        inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return True
    finally:
        os.close(folder)
    try:
        return bool(os.listdir(inside))  # noqa: PTH208 - a descriptor
    finally:
        os.close(inside)
