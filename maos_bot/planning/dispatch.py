"""Who starts now: the one rule that both the simulation and the run go by (pure).

Tasks that are ready wait in a heap for each demand class, ordered by priority; all the heads stand in one more heap.
So a round looks at distinct demands, at most `SCAN` of them, however many tasks wait. The first head that doesn't fit
gets a reservation at the time its resources are predicted free; what comes after it starts only if it ends before that
time or leaves the reserved share alone, so that a big task doesn't starve behind small ones.

Barriers are gates: a task of gate `g` starts only when all of the gates before are settled. One gate for each stage is
the staged mode, one for each task the sequential mode, none the pipelined mode. An order (`maos_bot.planning.order`)
makes single tasks wait for single others, and can be given up while the run goes on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.planning.order import Order
from maos_bot.planning.problem import Problem

SCAN: Final = 64  # demand classes looked at in one round after the first that didn't fit


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """How long a started task had been ready, what it waited for last, and the task whose end made way."""

    queued_s: float
    reason: str
    freed_by: int | None


class Dispatcher:
    """What is ready and what is free; the caller says what happens and asks `starts` what to do.

    `ranks` are priorities (larger first; of equals the first in the spec's order); `gates[task]` counts from 0 without
    holes, None is no barrier; `after[task]` are tasks that must be settled first. Deterministic, and free of deadlock:
    with nothing running, the first head always starts. What has waited for longer than `patience_s` comes before all
    ranks: by them alone a task could wait for as long as others with a longer way to the end keep coming.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        ranks: Sequence[float],
        gates: Sequence[int] | None = None,
        after: Order | None = None,
        patience_s: float = math.inf,
    ) -> None:
        count = len(problem.graph)
        self._problem = problem
        self._durations = problem.graph.durations
        self._class_of = problem.class_of
        self._classes = problem.classes
        self._task_at = sorted(range(count), key=ranks.__getitem__, reverse=True)  # stable: equals stay in order
        self._place = [0] * count
        for place, task in enumerate(self._task_at):
            self._place[task] = place

        self._free = list(problem.capacities)  # below 0 where a capacity was lowered under what is held
        self._capacities = list(problem.capacities)
        self._notes = [""] * len(problem.capacities)  # why a capacity isn't the problem's
        self._running: dict[int, float] = {}  # task -> predicted end
        self._ready: list[list[int]] = [[] for _ in problem.classes]  # heaps of places
        self._fronts: list[int] = []  # heap of places: a head of each class with tasks, and some that were heads once
        self._in_fronts = bytearray(count)
        self._waiting = 0
        self._patience_s = patience_s
        self._line: deque[int] = deque()  # what waits, longest first; what no longer does is taken out when it leads
        self._in_line = bytearray(count)
        self._always = _always_held(problem.classes)

        self._gates = gates
        self._gate = 0
        self._unsettled = _sizes(gates) if gates is not None else []
        self._held: list[list[int]] = [[] for _ in self._unsettled]
        self._ahead = [len(others) for others in after] if after is not None else None  # unsettled in the order
        self._next: dict[int, list[int]] = {}  # the order the other way round
        for other, earlier in enumerate(after or ()):
            for task in earlier:
                self._next.setdefault(task, []).append(other)
        self._parked: dict[int, None] = {}  # offered, but not yet their turn in the order

        # What each wait was for, kept as numbers and put into words only for a task that starts.
        self._round = 0
        self._ready_at = [0.0] * count
        self._ready_round = [0] * count
        self._let_in: dict[int, int] = {}  # task -> the task that opened its gate
        # round, resource, free, capacity then, and why it was that
        self._blocked: list[tuple[int, int, int, int, str]] = [(-1, 0, 0, 0, "")] * len(problem.classes)
        self._drained = (-1, 0, 0, 0, "")  # the same, where nothing was left for any class
        self._waited_for = [self._drained] * count  # the later of both when the task started
        self._last_freed: list[int | None] = [None] * len(problem.capacities)
        self._last_ended: int | None = None

    def offer(self, task: int, now: float) -> None:
        """`task` may start from `now` on: its needs are met, or its next attempt is due."""
        self._ready_at[task] = now
        self._ready_round[task] = self._round
        if self._gates is not None and self._gates[task] > self._gate:
            self._held[self._gates[task]].append(task)
        elif self._ahead is not None and self._ahead[task]:
            self._parked[task] = None
        else:
            self._enqueue(task)

    def forget_order(self) -> None:
        """From now on only needs, ranks and resources count."""
        self._ahead = None
        for task in self._parked:
            self._enqueue(task)
        self._parked.clear()

    def set_capacity(self, resource: int, amount: int, note: str = "") -> None:
        """From now on `resource` has `amount` (millionths), at most what the problem gives; `note` says why.

        What is held stays held. With nothing running the first head starts whatever the lowered capacities are.
        """
        amount = min(amount, self._problem.capacities[resource])
        self._free[resource] += amount - self._capacities[resource]
        self._capacities[resource] = amount
        self._notes[resource] = note

    def free(self, task: int) -> None:
        """`task` stopped running and holds nothing any more."""
        del self._running[task]
        for resource, amount in self._classes[self._class_of[task]]:
            self._free[resource] += amount
            self._last_freed[resource] = task
        self._last_ended = task

    def settle(self, task: int) -> None:
        """`task` came to its final state (whether or not it ran); this may open a gate, or be another's turn."""
        if self._ahead is not None:
            for other in self._next.get(task, ()):
                self._ahead[other] -= 1
                if not self._ahead[other] and other in self._parked:
                    del self._parked[other]
                    self._let_in[other] = task
                    self._ready_round[other] = self._round
                    self._enqueue(other)
        if self._gates is None:
            return
        unsettled = self._unsettled
        unsettled[self._gates[task]] -= 1
        while self._gate < len(unsettled) and not unsettled[self._gate]:
            self._gate += 1
            if self._gate < len(unsettled):
                for released in self._held[self._gate]:
                    self._let_in[released] = task
                    self._ready_round[released] = self._round
                    self._enqueue(released)
                self._held[self._gate] = []

    def starts(self, now: float) -> list[int]:
        """Take what starts now, in this order; each holds its demand until `free`."""
        if not self._waiting:
            return []
        self._round += 1
        started: list[int] = []
        aside: list[int] = []
        aged = self._aged(now)
        reserved = None if aged is None else self._serve(aged, now, started)
        fronts, free, ready = self._fronts, self._free, self._ready
        task_at, class_of, classes = self._task_at, self._class_of, self._classes
        while fronts and len(aside) <= SCAN and not (self._running and self._is_drained()):
            place = fronts[0]
            task = task_at[place]
            number = class_of[task]
            queue = ready[number]
            if not queue or queue[0] != place:  # it was a head once; its class has a new one, or it started
                self._in_fronts[heappop(fronts)] = 0
                continue
            demand = classes[number]
            short = _short(demand, free) if self._running else None
            if short is None and (aside or reserved):
                if reserved is None:
                    reserved = self._reserve(task_at[aside[0]], now)
                if not reserved.admits(demand, now + self._durations[task]):
                    short = reserved.short
            if short is not None:
                self._blocked[number] = (self._round, *self._state_of(short[0]))
                aside.append(heappop(fronts))
                continue
            self._take(task, queue, now)
            started.append(task)
        for place in aside:
            heappush(fronts, place)
        self._waiting -= len(started)
        return started

    def _aged(self, now: float) -> int | None:
        """What has waited longest, where that is too long."""
        line = self._line
        while line and not self._in_line[line[0]]:
            line.popleft()
        return line[0] if line and now - self._ready_at[line[0]] > self._patience_s else None

    def _serve(self, task: int, now: float, started: list[int]) -> _Reservation | None:
        """Start `task` out of turn, or keep room for it before all others."""
        number = self._class_of[task]
        if self._running and _short(self._classes[number], self._free) is not None:
            return self._reserve(task, now)
        queue, place = self._ready[number], self._place[task]
        queue.remove(place)
        heapify(queue)
        if queue and not self._in_fronts[queue[0]]:
            self._in_fronts[queue[0]] = 1
            heappush(self._fronts, queue[0])
        self._hold(task, now)
        started.append(task)
        return None

    def _state_of(self, resource: int) -> tuple[int, int, int, str]:
        return resource, self._free[resource], self._capacities[resource], self._notes[resource]

    def _is_drained(self) -> bool:
        """Whether some resource that everything needs is used up, so that nothing at all can start."""
        for resource, least in self._always:
            if self._free[resource] < least:
                self._drained = (self._round, *self._state_of(resource))
                return True
        return False

    def _take(self, task: int, queue: list[int], now: float) -> None:
        """Start `task`; it heads `queue`, which heads the fronts, and the next takes its place there."""
        self._in_fronts[heappop(queue)] = 0
        if queue and not self._in_fronts[queue[0]]:
            self._in_fronts[queue[0]] = 1
            heapreplace(self._fronts, queue[0])
        else:
            heappop(self._fronts)
        self._hold(task, now)

    def _hold(self, task: int, now: float) -> None:
        number = self._class_of[task]
        self._in_line[task] = 0
        self._waited_for[task] = max(self._blocked[number], self._drained)
        free = self._free
        for resource, amount in self._classes[number]:
            free[resource] -= amount
        self._running[task] = now + self._durations[task]

    def wait_of(self, task: int, now: float) -> Wait:
        """What `task`, which `starts` has just given, had waited for since it was ready."""
        queued = max(0.0, now - self._ready_at[task])
        since = self._ready_round[task]
        number = self._class_of[task]
        at, resource, free, capacity, note = self._waited_for[task]
        if at > since:
            wants = next((amount for held, amount in self._classes[number] if held == resource), 0)
            if wants > free:
                reason = self._problem.shortage(resource, free, wants, capacity=capacity)
                reason += f" ({note})" if note else ""
                return Wait(queued_s=queued, reason=reason, freed_by=self._last_freed[resource])
            reason = f"held back for a larger task that waits for {self._problem.resources[resource]}"
            return Wait(queued_s=queued, reason=reason, freed_by=self._last_ended)
        opener = self._let_in.get(task)
        if opener is not None:
            why = self._barrier(task) if self._gates is not None else f"planned after {self._problem.graph.ids[opener]}"
            return Wait(queued_s=queued, reason=why, freed_by=opener)
        return Wait(queued_s=queued, reason="", freed_by=None)

    def _barrier(self, task: int) -> str:
        if len(self._unsettled) == len(self._place):
            return "one task at a time"
        gate = self._gates[task] if self._gates is not None else 0
        return f"stage {gate + 1}: waits for stage {gate} to end"

    def _enqueue(self, task: int) -> None:
        place = self._place[task]
        queue = self._ready[self._class_of[task]]
        heappush(queue, place)
        self._waiting += 1
        self._in_line[task] = 1
        self._line.append(task)
        if queue[0] == place and not self._in_fronts[place]:
            self._in_fronts[place] = 1
            heappush(self._fronts, place)

    def _reserve(self, task: int, now: float) -> _Reservation:
        """When the running tasks are predicted to leave room for `task`, and what is left beside it then."""
        needed = self._classes[self._class_of[task]]
        free = list(self._free)
        short = _short(needed, free) or needed[0]
        when = now
        fits = False
        for end, other in sorted([(end, other) for other, end in self._running.items()]):
            if fits and end > when:
                break
            when = max(now, end)  # what is overdue may end at any moment
            for resource, amount in self._classes[self._class_of[other]]:
                free[resource] += amount
            fits = _short(needed, free) is None
        for resource, amount in needed:
            free[resource] -= amount
        return _Reservation(when=when, spare=free, short=short)


class _Reservation:
    """Room kept for the first task that doesn't fit: from `when` on, only `spare` is anybody else's."""

    def __init__(self, *, when: float, spare: list[int], short: tuple[int, int]) -> None:
        self.when = when
        self.spare = spare
        self.short = short

    def admits(self, demand: Sequence[tuple[int, int]], end: float) -> bool:
        """Whether a task that would end at `end` may start; if it stays past `when`, its share is taken off."""
        if end <= self.when:
            return True
        if _short(demand, self.spare) is not None:
            return False
        for resource, amount in demand:
            self.spare[resource] -= amount
        return True


def _short(demand: Sequence[tuple[int, int]], free: Sequence[int]) -> tuple[int, int] | None:
    """The first resource `demand` doesn't fit in, with what it wants."""
    for pair in demand:
        if pair[1] > free[pair[0]]:
            return pair
    return None


def _always_held(classes: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """The resources every class holds, each with the least amount: without that much, nothing at all can start."""
    if not classes:
        return []
    least = dict(classes[0])
    for vector in classes[1:]:
        amounts = dict(vector)
        least = {resource: min(least[resource], amounts[resource]) for resource in least if resource in amounts}
    return list(least.items())


def _sizes(gates: Sequence[int]) -> list[int]:
    sizes = [0] * (max(gates, default=-1) + 1)
    for gate in gates:
        sizes[gate] += 1
    return sizes
