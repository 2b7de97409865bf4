"""Keeps a run within its limits and the machine alive, on the event loop's own timers.

Two watches. Of each task's tree: one over its memory or its number of processes is killed and ends as failed, with what
it used. Of the machine: when hardly any memory is left, the youngest and least finished of the tasks that hold a good
part of it is put back, and fewer run at once from then on; with one task alone, that task is ended with the reason.
What the scheduler is to know it is told through `put`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final, Self

from maos_bot.execution.priority import come_as_all, come_first
from maos_bot.execution.process import CommandAttempt
from maos_bot.execution.scheduler import Input, LimitChanged
from maos_bot.execution.watcher import Watcher, over_memory
from maos_bot.frozen import dataclass
from maos_bot.model import AGENTS, PROCESSES, Plan, TaskState
from maos_bot.resources.pressure import Gauge
from maos_bot.resources.scaling import Load, Scaler

MOST_PROCESSES: Final = 1000  # of a task's tree, where no limit says
_LOOK_S: Final = 1.0  # at the machine's memory, while there is plenty
_SOONEST_S: Final = 0.02
_GROWTH_MB_S: Final = 4000.0
_LATE_S: Final = 0.03  # a look so late was kept from the CPU
_CALM_S: Final = 1.0
_SHARE: Final = 0.25  # of what the largest task holds: putting back one that holds less would free too little


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What the guard keeps to: slots at once (None: not scaled), processes of a tree, CPUs, and expected seconds."""

    slots: int | None
    processes: int
    cpus: float
    estimates: Mapping[str, float]

    @classmethod
    def of(cls, plan: Plan, cpus: float) -> Self:
        """Those of `plan`."""
        values = {name: limit.value for name, limit in plan.limits.items()}
        slots = values.get(AGENTS)
        return cls(
            slots=None if slots is None else int(slots),
            processes=int(values.get(PROCESSES) or MOST_PROCESSES),
            cpus=cpus,
            estimates={name: planned.estimate_s for name, planned in plan.tasks.items()},
        )


class Guard:
    """Watches the attempts it is told of until `close`. `failed` is called with a defect of ours, once.

    `starting` are the tasks whose attempts it will be told of in a moment, as they are at any time.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        put: Callable[[Input], None],
        failed: Callable[[Exception], None],
        starting: Collection[str] = (),
        gauge: Gauge | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._bounds = bounds
        self._put = put
        self._failed = failed
        self._starting = starting
        self._gauge = gauge or Gauge()
        self._watcher = watcher or Watcher()
        self._scaler = (
            None
            if bounds.slots is None
            else Scaler(limit=bounds.slots, cpus=bounds.cpus, floor_mb=self._gauge.floor_mb)
        )
        self._running: dict[str, CommandAttempt] = {}
        self._put_back: dict[str, int] = {}  # task -> how often
        self._leaving: set[str] = set()
        self._look_at = float("inf")
        self._late_at = float("-inf")
        self._comes_first = False
        self._look_timer: asyncio.TimerHandle | None = None
        self._machine_timer: asyncio.TimerHandle | None = None
        if self._gauge.floor_mb is not None:
            self._machine_timer = self._loop.call_later(_LOOK_S, self._guarded, self._see_machine)

    def started(self, task: str, attempt: CommandAttempt) -> None:
        """`attempt` of `task` runs from now on."""
        self._running[task] = attempt
        self._watcher.add(
            attempt.pid,
            marker=attempt.marker,
            memory_mb=attempt.memory_mb,
            processes=self._bounds.processes,
            now=self._loop.time(),
        )
        self._look_when_due()

    def ended(self, task: str, state: TaskState) -> bool:
        """It has ended, as `state`; whether it was put back, and so is to run again."""
        attempt = self._running.pop(task)
        self._watcher.remove(attempt.pid)
        leaving = task in self._leaving
        self._leaving.discard(task)
        return leaving and state is TaskState.CANCELLED

    def sampled(self, memory_mb: Mapping[str, float], cpu_percent: float, throttled: int = 0) -> None:
        """Take in what each task holds and all use of the CPU, as measured once a second; may change the slots."""
        if not self._watcher.works:  # then these samples are all there is
            for task, attempt in tuple(self._running.items()):
                used = memory_mb.get(task)
                if used is not None and attempt.memory_mb is not None and used > attempt.memory_mb:
                    attempt.kill(TaskState.FAILED, over_memory(used, attempt.memory_mb))
        if self._scaler is None:
            return
        now = self._loop.time()
        pressure = self._gauge.pressure(now)
        scaled = self._scaler.follow(
            Load(
                now=now,
                running=len(self._running),
                memory_stall=pressure.memory_percent,
                cpu_stall=pressure.cpu_percent,
                busy_percent=cpu_percent,
                left_mb=self._gauge.left_mb(),
                throttled=throttled,
            )
        )
        if scaled:
            self._put(LimitChanged(AGENTS, scaled.slots, scaled.reason))

    def memory_mb(self, attempt: CommandAttempt) -> float | None:
        """What the tree of `attempt` held at the last look, shared pages counted once; None is unknown."""
        held = self._watcher.memory_mb(attempt.pid)
        return held[0] if held else None

    def close(self) -> None:
        """Watch no more."""
        for timer in (self._look_timer, self._machine_timer):
            if timer:
                timer.cancel()
        self._look_timer = self._machine_timer = None
        if self._comes_first:
            self._comes_first = False
            come_as_all()
        self._look_at = float("-inf")  # no new timer either

    # The trees

    def _look_when_due(self) -> None:
        due = self._watcher.due
        if due is None or due >= self._look_at or not self._watcher.works:
            return
        if self._look_timer:
            self._look_timer.cancel()
        self._look_at = due
        self._look_timer = self._loop.call_at(due, self._guarded, self._look)

    def _look(self) -> None:
        due, self._look_timer, self._look_at = self._look_at, None, float("inf")
        self._see_lateness(due)
        breaches = {breach.pid: breach for breach in self._watcher.look(self._loop.time(), alarmed=self._hurry)}
        self._see_lateness(due, crowd=self._watcher.crowded)
        for attempt in tuple(self._running.values()):
            held = self._watcher.memory_mb(attempt.pid)
            if held:
                attempt.peak_mb = max(attempt.peak_mb or 0.0, held[1])
            if breach := breaches.get(attempt.pid):
                attempt.kill(TaskState.FAILED, breach.reason, known=breach.members, growing=breach.growing)
        self._look_when_due()

    def _see_lateness(self, due: float, *, crowd: bool = False) -> None:
        """Where a crowd of processes keeps us from looking in time, or may soon, come first until it no longer does."""
        now = self._loop.time()
        if crowd or now - due > _LATE_S:
            self._hurry()
        elif self._comes_first and now - self._late_at > _CALM_S:
            self._comes_first = False
            come_as_all()

    def _hurry(self) -> None:
        self._late_at = self._loop.time()
        self._comes_first = self._comes_first or come_first()

    # The machine

    def _see_machine(self) -> None:
        left, floor = self._gauge.left_mb(), self._gauge.floor_mb
        rest = _LOOK_S
        if left is not None and floor is not None:
            if left < floor and not self._leaving:
                self._make_room(left)
            rest = min(_LOOK_S, max(_SOONEST_S, (left - floor) / _GROWTH_MB_S))
        self._machine_timer = self._loop.call_later(rest, self._guarded, self._see_machine)

    def _make_room(self, left_mb: float) -> None:
        """End the task whose loss costs least among those that hold much."""
        held = {task: self._watcher.tree_mb(attempt.pid) for task, attempt in self._running.items()}
        largest = max(held.values(), default=0.0)
        heavy = [task for task, mb in held.items() if mb > 0 and mb >= largest * _SHARE]
        if not heavy:
            return  # it isn't ours
        victim = min(heavy, key=self._loss)
        what = f"only {left_mb:.0f} MB of memory were left, and it held {held[victim]:.0f} MB"
        attempt = self._running[victim]
        together = len(self._running) + len(self._starting)
        if together == 1:
            attempt.kill(TaskState.FAILED, f"ended to keep the machine alive: {what}")
            return
        if attempt.kill(TaskState.CANCELLED, f"put back: {what}"):
            self._leaving.add(victim)
            self._put_back[victim] = self._put_back.get(victim, 0) + 1
            if self._scaler:
                slots = together - 1
                if scaled := self._scaler.lower(slots, f"{left_mb:.0f} MB of memory left", self._loop.time()):
                    self._put(LimitChanged(AGENTS, scaled.slots, scaled.reason))

    def _loss(self, task: str) -> tuple[int, float, float]:
        """What putting `task` back costs: not always the same one, then the share that is done, then its time."""
        run_s = self._loop.time() - self._running[task].begun
        done = min(1.0, run_s / max(self._bounds.estimates.get(task, 0.0), 1e-3))
        return self._put_back.get(task, 0), round(done, 1), run_s

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a defect of ours is told at the end; the run goes on unwatched
            self.close()
            self._failed(error)
