"""The cache as a run sees it: asks before a task starts, keeps after it ended, off the event loop's thread.

Whoever drives the run calls `look` instead of starting a task that `wants` it, and `ended` for each attempt; both
call back on the loop. Results travel along the graph: what a task came to is part of the keys of those that need it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from maos_bot.execution.cache import Kept, Look, TaskCache, is_cached
from maos_bot.execution.environment import task_environment
from maos_bot.model import Outcome, Task, TaskState

_THREADS: Final = 2
_UNKNOWN: Final = Look(reason="it could not be looked up")
# Nothing was made: the state says it all.
_PLAIN: Final = frozenset({TaskState.SKIPPED, TaskState.UPSTREAM_FAILED})

T = TypeVar("T")


class Reuse:
    """What `cache` does for the `tasks` of one run. `crashed` is told of defects of ours; they cost time only."""

    def __init__(
        self,
        cache: TaskCache,
        tasks: Sequence[Task],
        *,
        environ: Mapping[str, str],
        base_env: Mapping[str, str],
        results: Mapping[str, str],
        crashed: Callable[[Exception], None],
    ) -> None:
        """`environ` is our environment, `base_env` what all tasks see; `results` those of tasks that ended earlier."""
        self._cache = cache
        self._tasks = {task.id: task for task in tasks}
        self._environ = environ
        self._base_env = base_env
        self._crashed = crashed
        self._results: dict[str, str] = dict(results)
        wanted = {need for task in tasks if is_cached(task) for need in task.needs}
        # Whose outputs have to be read at their end, though they are not cached themselves.
        self._told = {task.id for task in tasks if task.id in wanted and task.outputs}
        self._looks: dict[str, Look] = {}
        self._logs: dict[str, list[tuple[str, int, int]]] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="maos-cache")
        self._pending = 0

    @property
    def pending(self) -> int:
        """How many looks and keeps go on."""
        return self._pending

    def wants(self, task: str) -> bool:
        """Whether to `look` before starting `task`."""
        return is_cached(self._tasks[task])

    def look(self, task_id: str, folder: Path, *, quiet: bool, then: Callable[[Look], None]) -> None:
        """Look the task up; `then` gets what that came to. `quiet` says that no task runs."""
        task = self._tasks[task_id]
        own = task_environment(task.env, self._environ)
        needs = {need: self._results.get(need, "") for need in task.needs}

        def looked(look: Look) -> None:
            self._looks[task_id] = look
            self._logs.pop(task_id, None)
            if look.hit:
                self._results[task_id] = look.result
            elif look.key:
                self._logs[task_id] = []
            then(look)

        self._run(
            lambda: self._cache.look(
                task, folder=folder, env={**self._base_env, **own}, own_env=own, needs=needs, quiet=quiet
            ),
            _UNKNOWN,
            looked,
        )

    def printed(self, task: str, text: str, offset: int, omitted: int) -> None:
        """Note output of a task that may be kept."""
        log = self._logs.get(task)
        if log is not None:
            if log and not omitted:
                before = log[-1]
                log[-1] = (before[0] + text, *before[1:])
            else:
                log.append((text, offset, omitted))

    def moved(self) -> None:
        """A process began or ended: files may be others."""
        self._cache.forget()

    def ended(self, task_id: str, outcome: Outcome, then: Callable[[Outcome], None]) -> None:
        """The attempt of `task_id` came to `outcome`; `then` gets it with its key, its result and a word on not
        keeping it."""
        task = self._tasks[task_id]
        look = self._looks.get(task_id, Look())
        log = self._logs.pop(task_id, [])
        outcome = replace(outcome, key=look.key)
        if outcome.state is not TaskState.SUCCEEDED or not (is_cached(task) or task_id in self._told):
            then(outcome)
            return

        def kept(kept: Kept) -> None:
            self._results[task_id] = kept.result
            reason = f"not kept for next time: {kept.reason}" if kept.reason and is_cached(task) else outcome.reason
            then(replace(outcome, reason=reason, result=kept.result))

        self._run(lambda: self._cache.keep(task, look, outcome, log), Kept(), kept)

    def settled(self, task: str, state: TaskState) -> None:
        """Note the final state of a task that nothing was run or taken for."""
        if state in _PLAIN:
            self._results[task] = state.value

    def close(self) -> str:
        """Wait for what goes on and save what was learnt; what went wrong, in words."""
        self._pool.shutdown(wait=True)
        return self._cache.close()

    def _run(self, work: Callable[[], T], otherwise: T, then: Callable[[T], None]) -> None:
        loop = asyncio.get_running_loop()
        self._pending += 1

        def done(future: asyncio.Future[T]) -> None:
            self._pending -= 1
            if future.cancelled():
                return
            error = future.exception()
            if isinstance(error, Exception):
                self._crashed(error)
            then(future.result() if error is None else otherwise)

        loop.run_in_executor(self._pool, work).add_done_callback(done)
