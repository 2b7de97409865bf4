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


def apply(folder: Path, actions: Sequence[Action], excused: set[bytes]) -> set[bytes]:
    """Do `actions` in `folder`, as far as what they are about is there; tokens written, `excused` takes those removed."""
    written: set[bytes] = set()
    for action in actions:
        path = folder / action.path
        token = action.token.encode()
        there = path.is_file() and not path.is_symlink()
        if action.kind in ("add", "program"):
            _put(path, (path.read_bytes() if there else b"") + token + b"\n", excused)
            if action.kind == "program":
                path.chmod(0o755)
        elif action.kind == "binary":
            _put(path, (path.read_bytes() if there else b"\0\1") + b"\0" + token, excused)
        elif action.kind == "link":
            _put(path, None, excused)
            path.symlink_to(f"../../{action.token}")
        elif not there:
            continue
        elif action.kind in ("line", "insert"):
            lines = path.read_bytes().split(b"\n")
            at = next((n for n, line in enumerate(lines) if re.search(rb" line %d( |$)" % action.line, line)), 0)
            lines[at : at + 1] = [lines[at] + b" " + token] if action.kind == "line" else [lines[at], token]
            path.write_bytes(b"\n".join(lines))
        elif action.kind == "mode":
            path.chmod(0o755)
            continue
        elif action.kind == "rename":
            path.rename(path.with_name(f"{action.token[1:-1].replace(':', '-')}-{path.name}"))
            continue
        else:
            excused |= set(TOKEN.findall(path.read_bytes()))
            path.unlink()
            if action.kind == "folder":
                path.mkdir()
                (path / "inside").write_bytes(token)
            else:
                continue
        written.add(token)
    return written


def _put(path: Path, data: bytes | None, excused: set[bytes]) -> None:
    if path.is_symlink():
        excused |= set(TOKEN.findall(os.fsencode(path.readlink())))
        path.unlink()
    elif path.is_file() and data is None:
        excused |= set(TOKEN.findall(path.read_bytes()))
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is not None:
        path.write_bytes(data)


async def run_set(repository: Path, base: str, tasks: TaskSet, *, at_once: int, rng: random.Random, name: str) -> Ran:
    """Run the tasks, at most `at_once` together; with one, strictly in the plan's order."""

    def no_tools(task: Task, folder: Path) -> Any:
        raise NotImplementedError

    places = Worktrees(
        repository, run_id=name, base=base, order=tasks.order, needs=tasks.needs, make_tools=no_tools, environ={}
    )
    ran = Ran()
    written: dict[str, set[bytes]] = {}
    excused: set[bytes] = set()
    done: dict[str, bool] = {}
    running: dict[asyncio.Task[bool], str] = {}
    waiting = list(tasks.order)
    while waiting or running:
        ready = [task for task in waiting if all(need in done for need in tasks.needs[task])]
        while ready and len(running) < at_once:
            task = ready.pop(0 if at_once == 1 else rng.randrange(len(ready)))
            waiting.remove(task)
            if all(done[need] for need in tasks.needs[task]):
                work = _work(places, tasks, task, rng, ran, written, excused)
                running[asyncio.ensure_future(work)] = task
            else:
                done[task] = False
                ready = [each for each in waiting if all(need in done for need in tasks.needs[each])]
        if running:
            ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for each in ended:
                done[running.pop(each)] = each.result()
    await places.close()
    merged = await places.result()
    if merged:
        ran.tree, ran.accepted = merged.tree, merged.tasks
        ran.kept = tuple(each.branch for each in merged.kept)
        ran.unreported = sorted(set(ran.unresolved) ^ set(merged.conflicts))
        wanted = set().union(*written.values()) - excused if written else set()
        if wanted:
            ran.lost = sorted(token.decode() for token in wanted - _tokens(repository, [merged.tree, *ran.kept]))
    return ran


async def _work(
    places: Worktrees,
    tasks: TaskSet,
    task_id: str,
    rng: random.Random,
    ran: Ran,
    written: dict[str, set[bytes]],
    excused: set[bytes],
) -> bool:
    task = Task(id=task_id, agent="edit")
    folder = await places.open(task)
    for _ in range(rng.randrange(4)):
        await asyncio.sleep(0)
    removed: set[bytes] = set()
    written[task_id] = apply(folder, tasks.actions[task_id], removed)
    for _ in range(rng.randrange(4)):
        await asyncio.sleep(0)
    for _ in range(_ATTEMPTS):
        change = await places.take(task)
        if change is None:
            return True
        if not change.conflicts:
            ran.unresolved.pop(task_id, None)
            excused |= removed
            return True
        ran.conflicts[task_id] = ran.unresolved[task_id] = tuple(change.conflicts)
        if task_id not in tasks.mends:
            return False
        mend(folder)
    return False


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
    found: set[bytes] = set()
    said = subprocess.run(
        ["git", "grep", "-a", "-o", "-h", "-E", "<[a-z0-9]+:[0-9]+>", *trees],
        cwd=repository,
        capture_output=True,
        check=False,
    ).stdout
    found |= set(TOKEN.findall(said))
    for tree in trees:
        for line in git(repository, "ls-tree", "-r", tree).splitlines():
            if line.startswith("120000"):
                found |= set(TOKEN.findall(git(repository, "cat-file", "blob", line.split()[2]).encode()))
    return found
