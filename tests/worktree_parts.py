"""Repositories and worktrees for tests."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from maos_bot.agents.tools import Commands
from maos_bot.agents.worktrees import Worktrees
from maos_bot.model import Task

T = TypeVar("T")

TEXT = "".join(f"line {number}\n" for number in range(30))


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    """Plain git in `folder`; what it prints."""
    return subprocess.run(
        ["git", "-c", "user.name=user", "-c", "user.email=user@localhost", *arguments],
        cwd=folder,
        check=check,
        capture_output=True,
        text=True,
    ).stdout.strip()


def repository(folder: Path, files: Mapping[str, str] | None = None) -> Path:
    """A repository with one commit."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for path, text in (files or {"a.txt": TEXT, "src/b.txt": TEXT, ".gitignore": "*.log\n"}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=first")
    return folder


def agent(task_id: str, **values: Any) -> Task:
    return Task(id=task_id, agent=f"Do {task_id}.", **{"tools": ("edit",), **values})


def places(
    root: Path,
    *tasks: Task,
    run_id: str = "run-1",
    base: str = "",
    order: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    verify_timeout_s: float = 60.0,
    commands: Commands | None = None,
) -> Worktrees:
    """The worktrees of a run of `tasks`."""

    def no_tools(task: Task, folder: Path) -> Any:
        raise NotImplementedError

    return Worktrees(
        root,
        run_id=run_id,
        base=base,
        order=order or [task.id for task in tasks],
        needs={task.id: task.needs for task in tasks},
        make_tools=no_tools,
        environ=environ if environ is not None else {"PATH": os.environ["PATH"]},
        verify_timeout_s=verify_timeout_s,
        commands=commands,
    )


def play(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def state_of(root: Path) -> dict[str, str]:
    """All of a user's repository that must stay as it is: index, HEAD, stash, configuration, branches, worktrees."""
    own = root / ".git"
    return {
        "index": (own / "index").read_bytes().hex() if (own / "index").exists() else "",
        "config": (own / "config").read_text(),
        "head": (own / "HEAD").read_text(),
        "refs": git(root, "for-each-ref"),
        "stash": git(root, "stash", "list"),
        "worktrees": git(root, "worktree", "list"),
        "hooks": " ".join(sorted(hook.name for hook in (own / "hooks").iterdir())) if (own / "hooks").exists() else "",
    }


def files_of(root: Path, commit: str) -> dict[str, str]:
    """Mode and content of all files of a commit, by path."""
    found = {}
    for line in git(root, "ls-tree", "-r", commit).splitlines():
        head, path = line.split("\t")
        mode, _, oid = head.split()
        found[path] = f"{mode} {git(root, 'cat-file', 'blob', oid)}"
    return found
