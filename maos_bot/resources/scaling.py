"""How many tasks may run at once under pressure: down fast, up slowly, back to the limit when it is gone (pure).

Additive increase, multiplicative decrease, as networks share a line: memory stalls and a provider that throttles halve
the slots, CPU stalls take a quarter but never below two tasks a CPU (more than that gains nothing, fewer would leave
CPUs idle while tasks wait for disks). One slot comes back at a time. What can't be measured presses nobody.
"""

from __future__ import annotations

import math
from typing import Final

from maos_bot.frozen import dataclass

MEMORY_STALL: Final = 10.0  # percent of the time; beyond it the machine is busy with finding memory
CPU_STALL: Final = 90.0
BUSY: Final = 80.0  # percent of the runner's CPU that our own tasks use: below it the stalls aren't of our making
SETTLE_S: Final = 2.0  # after a step down its effect is waited for
QUIET_S: Final = 5.0  # without pressure before a step up
STEP_S: Final = 2.0  # between two steps up


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What was measured at `now` (seconds, any origin); percent of time for stalls, of the runner for `busy_percent`.

    `throttled` counts the requests a provider turned away since the last load; memory in MiB; None is unknown.
    """

    now: float
    running: int
    memory_stall: float | None = None
    cpu_stall: float | None = None
    busy_percent: float | None = None
    left_mb: float | None = None
    throttled: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaled:
    """The slots to hand out from now on, and why."""

    slots: int
    reason: str


class Scaler:
    """Follows the load of one run of up to `limit` slots on `cpus` CPUs; `floor_mb` is the memory that must be left."""

    def __init__(self, *, limit: int, cpus: float, floor_mb: float | None = None) -> None:
        self.limit = limit
        self.slots = limit
        self._enough = max(1, math.ceil(2 * cpus))
        self._tight_mb = None if floor_mb is None else 2 * floor_mb
        self._why = ""  # the last step down
        self._lowered_at = float("-inf")
        self._pressed_at = float("-inf")
        self._raised_at = float("-inf")

    def follow(self, load: Load) -> Scaled | None:
        """What changes with `load`; None where nothing does."""
        target, why = self._wanted(load)
        if why:
            self._pressed_at = load.now
            if target < self.slots and load.now - self._lowered_at >= SETTLE_S:
                return self.lower(target, why, load.now)
            return None
        if (
            self.slots < self.limit
            and load.now - self._pressed_at >= QUIET_S
            and load.now - max(self._raised_at, self._lowered_at) >= STEP_S
        ):
            self._raised_at = load.now
            self.slots += 1
            return Scaled(slots=self.slots, reason=self._words(self._why) if self.slots < self.limit else "")
        return None

    def lower(self, slots: int, why: str, now: float) -> Scaled | None:
        """Go down to `slots`, at least 1, at once; None where they aren't above that anyway."""
        self._pressed_at = self._lowered_at = now
        slots = max(1, slots)
        if slots >= self.slots:
            return None
        self.slots, self._why = slots, why
        return Scaled(slots=slots, reason=self._words(why))

    def _wanted(self, load: Load) -> tuple[int, str]:
        """How many slots `load` calls for, and why; no reason where nothing presses."""
        held = min(self.slots, max(1, load.running))
        wanted: list[tuple[int, str]] = []
        if load.memory_stall is not None and load.memory_stall >= MEMORY_STALL:
            wanted.append((held // 2, f"memory pressure {load.memory_stall:.0f} %"))
        if load.throttled:
            wanted.append((held // 2, f"the provider throttled {load.throttled} requests"))
        if self._tight_mb is not None and load.left_mb is not None and load.left_mb < self._tight_mb:
            wanted.append((held, f"{load.left_mb:.0f} MB of memory left"))
        busy = load.busy_percent is not None and load.busy_percent >= BUSY
        if busy and load.cpu_stall is not None and load.cpu_stall >= CPU_STALL and held > self._enough:
            wanted.append((max(self._enough, held - max(1, held // 4)), f"CPU pressure {load.cpu_stall:.0f} %"))
        return min(wanted, default=(self.slots, ""))

    def _words(self, why: str) -> str:
        return f"scaled down from {self.limit}: {why}"
