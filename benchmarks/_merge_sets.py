"""Random sets of editing tasks, and one run of such a set through real worktrees in random timing.

Every edit carries a token of its own, so that afterwards it can be looked for: in the result, or in a branch that was
kept. A task knows what it removed on purpose; all else must be somewhere.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from maos_bot.agents.worktrees import Worktrees
from maos_bot.model import Task

TOKEN: Final = re.compile(rb"<[a-z0-9]+:[0-9]+>")
_LINES: Final = 100
_TEXTS: Final = tuple(f"src/part{number % 3}/file{number}.txt" for number in range(8))
_BINARIES: Final = ("data/one.bin", "data/two.bin")
_ATTEMPTS: Final = 2
PROFILES: Final = ("disjoint", "overlapping", "conflicting")


@dataclass(frozen=True, kw_only=True)
class Action:
    """One edit: its kind, the path it is at, and where in it."""

    kind: str
    path: str
    token: str
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskSet:
    """Tasks by id, in the plan's order."""

    profile: str
    needs: Mapping[str, tuple[str, ...]]
    actions: Mapping[str, tuple[Action, ...]]
    mends: frozenset[str]  # tasks that resolve a conflict; the others leave it

    @property
    def order(self) -> tuple[str, ...]:
        return tuple(self.needs)


@dataclass(kw_only=True)
class Ran:
    """What became of a set: the final tree, conflicts by task, and what is nowhere to be found."""

    tree: str = ""
    conflicts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unresolved: dict[str, tuple[str, ...]] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    lost: list[str] = field(default_factory=list)
    unreported: list[str] = field(default_factory=list)


def make_repository(folder: Path) -> str:
    """A repository with texts, binaries, a program and a link; its commit."""
    for number, path in enumerate(_TEXTS):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"file {number} line {line}\n" for line in range(_LINES)))
    (folder / "data").mkdir()
    for number, path in enumerate(_BINARIES):
        (folder / path).write_bytes(bytes(range(256)) * 2 + bytes([number]))
    (folder / "tool.sh").write_text("#!/bin/sh\necho tool\n")
    (folder / "tool.sh").chmod(0o755)
    (folder / "latest").symlink_to(_TEXTS[0])
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message=base")
    return git(folder, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """Plain git in `folder`."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, errors="surrogateescape"
    ).stdout


def make_set(rng: random.Random, *, most: int = 30, profile: str = "") -> TaskSet:
    """A random set of 2 to `most` tasks."""
    profile = profile or rng.choice(PROFILES)
    # As many small sets as large ones: what goes wrong shows in a few tasks or in many.
    count = rng.randint(2, rng.choice((4, 8, 16, most)) if most > 16 else most)
    ids = [f"t{number}" for number in range(count)]
    density = rng.choice((0.0, 0.1, 0.3))
    needs = {
        task: tuple(each for each in ids[max(0, number - 5) : number] if rng.random() < density)
        for number, task in enumerate(ids)
    }
    actions = {task: tuple(_actions(rng, profile, number, task)) for number, task in enumerate(ids)}
    mends = frozenset(task for task in ids if rng.random() < 0.5)
    return TaskSet(profile=profile, needs=needs, actions=actions, mends=mends)


def _actions(rng: random.Random, profile: str, number: int, task: str) -> Iterator[Action]:
    for place in range(rng.randint(1, 3)):
        token = f"<{task}:{place}>"
        own = f"src/part{number % 3}/{task}-{place}"
        if profile == "disjoint":
            if number < len(_TEXTS) and place == 0:
                kind = rng.choice(("line", "delete", "rename", "mode", "folder"))
                yield Action(kind=kind, path=_TEXTS[number], token=token, line=rng.randrange(_LINES))
            elif number - len(_TEXTS) in range(len(_BINARIES)) and place == 0:
                yield Action(kind=rng.choice(("binary", "delete")), path=_BINARIES[number - len(_TEXTS)], token=token)
            else:
                yield Action(kind=rng.choice(("add", "binary", "link", "program")), path=own, token=token)
        elif profile == "overlapping":
            # Three lines apart from everybody else's; a moved file takes the others' lines along.
            kind = rng.choice(("line", "line", "insert", "add"))
            path = own if kind == "add" else rng.choice(_TEXTS[:3])
            yield Action(kind=kind, path=path, token=token, line=1 + 3 * number)
        else:
            kind = rng.choice(("line", "line", "insert", "delete", "rename", "mode", "binary", "add", "link", "folder"))
            path = rng.choice(_BINARIES) if kind == "binary" else rng.choice(_TEXTS[:4])
            if kind in ("add", "link"):
                path = rng.choice((own, "src/part0/shared.txt"))
            yield Action(kind=kind, path=path, token=token, line=rng.randrange(12))


def apply(folder: Path, actions: Sequence[Action], removed: set[bytes]) -> set[bytes]:
    """Do `actions` in `folder`, as far as what they are about is there; the tokens written, `removed` takes others."""
    written: set[bytes] = set()
    for action in actions:
        path, token = folder / action.path, action.token.encode()
        old = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        if action.kind in _NEW or old is not None:
            gone = (
                _NEW[action.kind](path, token, old) if action.kind in _NEW else _edit(action, path, token, old or b"")
            )
            removed |= gone
            written -= gone
        if action.kind not in ("mode", "rename", "delete") and (action.kind in _NEW or old is not None):
            written.add(token)
    return written


def _add(path: Path, token: bytes, old: bytes | None) -> set[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    gone = _unlinked(path) if old is None else set()
    path.write_bytes((old or b"") + token + b"\n")
    return gone


def _add_program(path: Path, token: bytes, old: bytes | None) -> set[bytes]:
    gone = _add(path, token, old)
    path.chmod(0o755)
    return gone


def _add_binary(path: Path, token: bytes, old: bytes | None) -> set[bytes]:
    return _add(path, b"\0\1" + token, old)


def _add_link(path: Path, token: bytes, old: bytes | None) -> set[bytes]:  # noqa: ARG001 - as the others
    path.parent.mkdir(parents=True, exist_ok=True)
    gone = _unlinked(path)
    path.symlink_to(f"../../{token.decode()}")
    return gone


_NEW: Final = {"add": _add, "program": _add_program, "binary": _add_binary, "link": _add_link}


def _unlinked(path: Path) -> set[bytes]:
    """Remove what is at `path`; the tokens that were in it."""
    if not path.is_symlink() and not path.exists():
        return set()
    gone = set(TOKEN.findall(os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()))
    path.unlink()
    return gone


def _edit(action: Action, path: Path, token: bytes, old: bytes) -> set[bytes]:
    """Edit a file that is there; the tokens removed from it."""
    if action.kind in ("line", "insert"):
        lines = old.split(b"\n")
        at = next((n for n, line in enumerate(lines) if re.search(rb" line %d( |$)" % action.line, line)), 0)
        lines[at : at + 1] = [lines[at] + b" " + token] if action.kind == "line" else [lines[at], token]
        path.write_bytes(b"\n".join(lines))
    elif action.kind == "mode":
        path.chmod(0o755)
    elif action.kind == "rename":
        path.rename(path.with_name(f"{action.token[1:-1].replace(':', '-')}-{path.name}"))
    else:
        gone = _unlinked(path)
        if action.kind == "folder":
            path.mkdir()
            (path / "inside").write_bytes(token)
        return gone
    return set()


async def run_set(repository: Path, base: str, tasks: TaskSet, *, at_once: int, rng: random.Random, name: str) -> Ran:
    """Run the tasks, at most `at_once` together; with one, strictly in the plan's order."""

    def no_tools(task: Task, folder: Path) -> Any:
        raise NotImplementedError

    places = Worktrees(
        repository, run_id=name, base=base, order=tasks.order, needs=tasks.needs, make_tools=no_tools, environ={}
    )
    play = _Play(places=places, tasks=tasks, rng=rng)
    await play.all(at_once)
    await places.close()
    merged = await places.result()
    ran = Ran(conflicts=play.conflicts, unresolved=play.unresolved)
    if merged:
        ran.tree, ran.accepted = merged.tree, merged.tasks
        ran.kept = tuple(each.branch for each in merged.kept)
        ran.unreported = sorted(set(ran.unresolved) ^ set(merged.conflicts))
        if wanted := play.written - play.removed:
            ran.lost = sorted(token.decode() for token in wanted - _tokens(repository, [merged.tree, *ran.kept]))
    return ran


@dataclass(kw_only=True)
class _Play:
    """A run in the making. `removed` are tokens that accepted changes took away on purpose."""

    places: Worktrees
    tasks: TaskSet
    rng: random.Random
    conflicts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unresolved: dict[str, tuple[str, ...]] = field(default_factory=dict)
    written: set[bytes] = field(default_factory=set)
    removed: set[bytes] = field(default_factory=set)
    done: dict[str, bool] = field(default_factory=dict)

    async def all(self, at_once: int) -> None:
        running: dict[asyncio.Task[bool], str] = {}
        waiting = list(self.tasks.order)
        while waiting or running:
            while (ready := [each for each in waiting if self._needs(each) <= set(self.done)]) and len(
                running
            ) < at_once:
                task = ready[0 if at_once == 1 else self.rng.randrange(len(ready))]
                waiting.remove(task)
                if all(self.done[need] for need in self._needs(task)):
                    running[asyncio.ensure_future(self._one(task))] = task
                else:
                    self.done[task] = False  # what it needs didn't come to anything
            if running:
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for each in ended:
                    self.done[running.pop(each)] = each.result()

    def _needs(self, task: str) -> set[str]:
        return set(self.tasks.needs[task])

    async def _one(self, task_id: str) -> bool:
        task = Task(id=task_id, agent="edit", tools=("edit",))
        folder = await self.places.open(task)
        await self._pause()
        removed: set[bytes] = set()
        self.written |= apply(folder, self.tasks.actions[task_id], removed)
        await self._pause()
        for _ in range(_ATTEMPTS):
            change = await self.places.take(task)
            if change is None:
                return True
            if not change.conflicts:
                self.unresolved.pop(task_id, None)
                self.removed |= removed
                return True
            self.conflicts[task_id] = self.unresolved[task_id] = tuple(change.conflicts)
            if task_id not in self.tasks.mends:
                return False
            mend(folder)
        return False

    async def _pause(self) -> None:
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)


_MARKS: Final = re.compile(rb"^(?:<{7} current.*|={7}|>{7} yours.*)\n", re.MULTILINE)


def mend(folder: Path) -> None:
    """Resolve conflicts the simplest way there is: keep both sides, and take the marks out."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name != ".git":
            data = path.read_bytes()
            if (mended := _MARKS.sub(b"", data)) != data:
                path.write_bytes(mended)


def _tokens(repository: Path, trees: Sequence[str]) -> set[bytes]:
    """All tokens in files and links of `trees`."""
    said = subprocess.run(
        ["git", "grep", "-a", "-o", "-h", "-E", "<[a-z0-9]+:[0-9]+>", *trees],
        cwd=repository,
        capture_output=True,
        check=False,  # 1 where there is none
    ).stdout
    found = set(TOKEN.findall(said))
    for tree in trees:  # what links hold isn't searched
        for line in git(repository, "ls-tree", "-r", tree).splitlines():
            if line.startswith("120000"):
                found |= set(TOKEN.findall(git(repository, "cat-file", "blob", line.split()[2]).encode()))
    return found
