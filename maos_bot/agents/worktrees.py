"""A git worktree for each agent task, and their changes made one, in the plan's order.

The worktrees belong to a repository of the run's own that borrows the user's objects, so that nothing an agent or its
git does there reaches the user's index, stash, branches, configuration or hooks. What is taken is what lies in the
folder, whatever the agent committed. What can't be taken is kept as a branch `maos/RUN/TASK` of the user's repository.
docs/merging.md has the rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from maos_bot.agents.handover import Kept, Merged, apply_patch, make_branch
from maos_bot.agents.origin import look_at
from maos_bot.agents.places import PlaceError, Tools
from maos_bot.agents.snapshot import Base
from maos_bot.agents.tools import Commands
from maos_bot.agents.verifying import run_confined, run_verify
from maos_bot.agents.yard import Taken, Yard
from maos_bot.model import Task

T = TypeVar("T")

VERIFY_S: Final = 600.0


class Worktrees:
    """The places of one run's agents. Everything is made on first use, so a run without agents pays nothing."""

    def __init__(
        self,
        root: Path,
        *,
        run_id: str,
        base: str,
        order: Sequence[str],
        needs: Mapping[str, Sequence[str]],
        make_tools: Callable[[Task, Path], Tools],
        environ: Mapping[str, str],
        verify_timeout_s: float = VERIFY_S,
        commands: Commands | None = None,
    ) -> None:
        """`base` is the commit to start from; empty: HEAD with what isn't committed.

        `order` are all task ids, each after what it needs: changes are applied in it. `environ` is what `verify`
        sees: no secret may be in it. `commands` confine it; without them it runs as any command does.
        """
        self._root = root
        self._run_id = run_id
        self._wanted = base
        self._order = tuple(order)
        self._needs = needs
        self._make_tools = make_tools
        self._environ = environ
        self._verify_timeout_s = verify_timeout_s
        self._commands = commands
        self._lock = threading.RLock()
        self._yard: Yard | None = None
        self._merged: Merged | None = None
        self._notices: tuple[str, ...] = ()
        self._closed = False

    # What `Places` asks for

    def ready(self) -> tuple[str, ...]:
        """Make ready before anything runs, and what the user should be told; for a caller without a loop.

        Where there can be no worktrees, each `open` says so; a run of which only some tasks are agents goes on.
        """
        with contextlib.suppress(PlaceError):
            self._started()
        return self.notices

    async def start(self) -> tuple[Base, tuple[Kept, ...]]:
        """Make ready: where agents start from, and what dead runs left that was kept just now.

        Raises `PlaceError`. Called by the first `open`.
        """
        return await _whole(self._start)

    async def open(self, task: Task) -> Path:
        """The folder of `task`, with what its needs came to; the same one again until its change is accepted."""
        if task.verify and self._commands and self._commands.refusal:
            raise PlaceError(f"`verify` would run what an agent wrote: {self._commands.refusal}")
        return await _whole(lambda: self._started().open(task))

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should be told, once there is something: where agents start from, what was saved, troubles."""
        yard = self._yard
        return tuple(yard.notices) if yard else self._notices

    def tools(self, task: Task, folder: Path) -> Tools:
        """A fresh set of tools in it."""
        return self._make_tools(task, folder)

    async def verify(self, task: Task, folder: Path) -> str:
        """Run `task.verify` there; what it said where it failed, empty where it passed.

        What `take` takes afterwards is what was verified: files that the command leaves behind are removed again.
        """
        yard = self._started()
        held = await _whole(lambda: yard.hold(task))
        try:
            if self._commands:
                return await run_confined(self._commands, task, folder, self._environ, self._verify_timeout_s)
            return await run_verify(task.verify, folder, self._environ, self._verify_timeout_s)
        finally:
            await _whole(lambda: yard.set_back(task, held))

    async def take(self, task: Task) -> Taken | None:
        """Accept what is in the folder; None where nothing was changed, `conflicts` where it doesn't merge.

        After a conflict the folder holds the current text with the worker's, between marks. Raises `RefusedError`.
        """
        yard = self._started()
        try:
            return await _whole(lambda: yard.take(task))
        except asyncio.CancelledError:
            # The attempt ended without its result: what was taken now would be in no report.
            await _whole(lambda: yard.untake(task))
            raise

    async def close(self) -> None:
        """Keep what was not taken, make the result, and remove all folders. A second call does nothing."""
        await _whole(self._close)

    # The result

    async def result(self) -> Merged | None:
        """What was accepted and what was kept so far; None where there is neither."""
        return await asyncio.to_thread(self._result)

    async def apply(self, root: Path | None = None) -> None:
        """Apply the result to the files at `root` (default: the run's own). Raises `PlaceError`, then nothing is."""
        merged = await self.result()
        if merged:
            place = root or self._root
            await asyncio.to_thread(lambda: apply_patch(look_at(place), merged.patch))

    async def write_patch(self, path: Path) -> None:
        """Write the result as a patch for `git apply`; an empty file where nothing was changed."""
        merged = await self.result()
        await asyncio.to_thread(path.write_bytes, merged.patch if merged else b"")

    async def commit_on_branch(self, name: str) -> str:
        """Make the branch `name` in the user's repository, with a commit for each change; its last commit.

        Raises `PlaceError` where there is nothing, or such a branch already.
        """
        merged = await self.result()
        if not merged or not merged.tasks:
            raise PlaceError("there is no change to make a branch of")

        def make() -> None:
            with self._lock:
                if self._yard:
                    self._yard.hand_over(merged.commit)
            make_branch(look_at(self._root), name, merged.commit)

        await asyncio.to_thread(make)
        return merged.commit

    def _start(self) -> tuple[Base, tuple[Kept, ...]]:
        yard = self._started()
        return yard.base, yard.saved

    def _started(self) -> Yard:
        with self._lock:
            if self._closed:
                raise PlaceError("the worktrees are closed")
            if self._yard is None:
                self._yard = Yard(self._root, self._run_id, self._wanted, self._order, self._needs)
            return self._yard

    def _result(self) -> Merged | None:
        with self._lock:
            return self._yard.result() if self._yard else self._merged

    def _close(self) -> None:
        with self._lock:
            yard = self._yard
            self._closed = True
            if yard:
                self._merged = yard.close()
                self._notices = tuple(yard.notices)
                self._yard = None


async def _whole(work: Callable[[], T]) -> T:
    """Do `work` in a thread, and to its end also where we are cancelled: half a checkout is no folder."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # nobody asks for it any more
        raise
