"""The last hundred measurements of a run or a machine, and what they say: trends, efficiency, what to change (pure).

Nothing is said that wasn't measured: with no point, or nothing that was held, a figure is None.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field
from statistics import fmean
from typing import Any, Final

from maos_bot.frozen import dataclass
from maos_bot.model import AGENTS, CPU, MEMORY

POINTS: Final = 100
FEW: Final = 5  # fewer points are no ground for advice
_LITTLE: Final = 0.5  # of what was reserved
_MOST: Final = 0.8  # of the points
_SPARE_CPU: Final = 50.0  # percent


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One measurement at `at` (seconds, any origin): what our processes use and what was held then, by limit name.

    `left_mb` is the memory the machine could still give, `stall_percent` how much of the time some task stood still for
    want of memory; None is unknown.
    """

    at: float
    used: Mapping[str, float] = field(default_factory=dict)
    held: Mapping[str, float] = field(default_factory=dict)
    left_mb: float | None = None
    stall_percent: float | None = None


class History:
    """The last `POINTS` points under `limits` (by name; None is no limit)."""

    def __init__(self, limits: Mapping[str, float | None]) -> None:
        self._limits = dict(limits)
        self._points: deque[Point] = deque(maxlen=POINTS)

    def add(self, point: Point) -> None:
        """Take in a point that is later than all before."""
        self._points.append(point)

    @property
    def points(self) -> Sequence[Point]:
        """The points, oldest first."""
        return tuple(self._points)

    def efficiency(self) -> float | None:
        """How well what was held was used, 0 to 100: the mean over memory and CPU of used over held.

        More than was held counts as all of it. None where nothing was held of either while it was measured.
        """
        shares = [share for name in (MEMORY, CPU) if (share := self._used_of_held(name)) is not None]
        return 100.0 * fmean(min(1.0, share) for share in shares) if shares else None

    def trends(self) -> dict[str, float | None]:
        """How fast the use of memory and CPU and the memory left change, per minute (least squares)."""
        return {
            "memory_mb_per_minute": _slope(self._series(MEMORY)),
            "cpu_percent_per_minute": _slope(self._series(CPU)),
            "left_mb_per_minute": _slope([(p.at, p.left_mb) for p in self._points if p.left_mb is not None]),
        }

    def forecast_s(self) -> float | None:
        """In how many seconds no memory is left if it goes on so; None where it doesn't shrink, or is unknown."""
        slope = self.trends()["left_mb_per_minute"]
        left = next((point.left_mb for point in reversed(self._points) if point.left_mb is not None), None)
        return left / -slope * 60 if left is not None and slope is not None and slope < 0 else None

    def hints(self) -> list[str]:
        """What would make better use of the machine, one sentence each, each with what it rests on."""
        if len(self._points) < FEW:
            return []
        said = []
        for name, unit in ((MEMORY, "MB"), (CPU, "%")):
            share = self._used_of_held(name)
            if share is not None and share < _LITTLE:
                said.append(f"{name}: {share:.0%} of what was reserved was used: reserve less")
            limit = self._limits.get(name)
            most = max((used for _, used in self._series(name)), default=None)
            if limit is not None and most is not None and most > limit:
                said.append(f"{name}: up to {most:.0f} of {limit:.0f} {unit} were used: reserve what tasks really take")
        slots = self._limits.get(AGENTS)
        if slots:
            full = fmean(point.held.get(AGENTS, 0.0) >= slots for point in self._points)
            cpu = [used for _, used in self._series(CPU)]
            if full >= _MOST and cpu and fmean(cpu) < _SPARE_CPU:
                why = f"all {slots:g} slots were busy {full:.0%} of the time, with {fmean(cpu):.0f} % of the CPU in use"
                said.append(f"{AGENTS}: {why}: raise the limit")
        stalls = [point.stall_percent for point in self._points if point.stall_percent is not None]
        if stalls and fmean(stalls) >= 1.0:
            said.append(f"memory pressure: tasks stood still {fmean(stalls):.0f} % of the time: run fewer at once")
        return said

    def summary(self) -> dict[str, Any]:
        """All of this, and the means and peaks of what was used, as plain values."""
        return {
            "samples": len(self._points),
            "efficiency_score": self.efficiency(),
            "optimization_opportunities": self.hints(),
            "resource_trends": {**self.trends(), "memory_lasts_s": self.forecast_s()},
            "average": {name: fmean(values) for name, values in self._values().items()},
            "peak": {name: max(values) for name, values in self._values().items()},
        }

    def _values(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for point in self._points:
            for name, value in point.used.items():
                found.setdefault(name, []).append(value)
        return found

    def _series(self, name: str) -> list[tuple[float, float]]:
        return [(point.at, point.used[name]) for point in self._points if name in point.used]

    def _used_of_held(self, name: str) -> float | None:
        pairs = [(p.used[name], p.held[name]) for p in self._points if name in p.used and p.held.get(name)]
        return sum(used for used, _ in pairs) / sum(held for _, held in pairs) if pairs else None


def _slope(series: Sequence[tuple[float, float]]) -> float | None:
    """The line that fits `series` best, per minute."""
    if len(series) < 2:
        return None
    middle, mean = fmean(at for at, _ in series), fmean(value for _, value in series)
    spread = sum((at - middle) ** 2 for at, _ in series)
    return 60 * sum((at - middle) * (value - mean) for at, value in series) / spread if spread > 0 else None
