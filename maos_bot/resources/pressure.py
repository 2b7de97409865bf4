"""How hard the machine is pressed: memory that is left, and how long tasks stood still for want of memory or CPU.

The kernel counts stalls as pressure stall information (PSI, `Documentation/accounting/psi.rst`): the microseconds in
which some task waited. Our own cgroup's count is taken where there is one, else the machine's. Its averages lag by ten
seconds, so the difference between two looks is used. What can't be measured here is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.resources.cgroup import UNLIMITED, hierarchy, memory_files, memory_left_mb, number, text

_MIB: Final = 2**20
_FLOOR_MB: Final = 128.0  # less than this left, and the kernel is about to choose whom to end
_FLOOR_SHARE: Final = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class Pressure:
    """The percentage of the time since the look before in which some task stood still for want of it."""

    memory_percent: float | None
    cpu_percent: float | None


class Gauge:
    """Reads what one run needs to know, cheaply and many times. `proc` and `cgroup` are for tests."""

    def __init__(self, *, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> None:
        self._meminfo = proc / "meminfo"
        self._bounds = [
            (folder, used, limit / _MIB)
            for folder, used, limit_name in memory_files(proc, cgroup)
            if (limit := number(folder / limit_name)) is not None and limit < UNLIMITED
        ]
        totals = [limit for _, _, limit in self._bounds]
        machine = self._from_meminfo("MemTotal")
        total = min([*totals, *([machine] if machine is not None else [])], default=None)
        self.floor_mb = None if total is None else min(_FLOOR_MB, total * _FLOOR_SHARE)
        self._memory = _pressure_file(proc, cgroup, "memory")
        self._cpu = _pressure_file(proc, cgroup, "cpu")
        self._before: dict[Path, tuple[float, float]] = {}

    @property
    def sources(self) -> tuple[str, ...]:
        """The pressure files that can be read here; none means that pressure isn't known."""
        return tuple(str(path) for path in (self._memory, self._cpu) if path)

    def left_mb(self) -> float | None:
        """The memory in MiB that could still be taken before the machine or our cgroup has none."""
        left = [memory_left_mb(folder, used, limit) for folder, used, limit in self._bounds]
        known = [value for value in (self._from_meminfo("MemAvailable"), *left) if value is not None]
        return min(known, default=None)

    def pressure(self, now: float) -> Pressure:
        """The stalls since the last call; unknown at the first."""
        return Pressure(memory_percent=self._stalled(self._memory, now), cpu_percent=self._stalled(self._cpu, now))

    def _stalled(self, path: Path | None, now: float) -> float | None:
        total = _total_s(path) if path else None
        if path is None or total is None:
            return None
        before, since = self._before.get(path, (total, now))
        self._before[path] = (total, now)
        return None if now <= since else min(100.0, max(0.0, (total - before) / (now - since) * 100))

    def _from_meminfo(self, wanted: str) -> float | None:
        for line in text(self._meminfo).splitlines():
            if line.startswith(wanted + ":"):
                return float(line.split()[1]) / 1024
        return None


def _pressure_file(proc: Path, cgroup: Path, kind: str) -> Path | None:
    own = next(hierarchy(proc, cgroup, ""), None)
    for path in (*([own / f"{kind}.pressure"] if own else []), proc / "pressure" / kind):
        if _total_s(path) is not None:
            return path
    return None


def _total_s(path: Path) -> float | None:
    """The stalled seconds so far: `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345` counts microseconds."""
    line = text(path).partition("\n")[0]
    name, equals, value = line.rpartition(" ")[2].partition("=")
    return float(value) / 1e6 if line.startswith("some") and name == "total" and equals and value.isdigit() else None
