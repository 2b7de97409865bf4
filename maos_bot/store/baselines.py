"""What history says of durations: estimates for the next plan, and how well estimates have fitted.

An estimate rests on a task's own last attempts that succeeded in the same repository; where a task has none and its
spec gives no number either, on those of its team and kind. Percentiles are of what was measured, interpolated; with
fewer than ten samples the 90th is the largest of them, for there is no tenth to leave out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import Estimate, Task
from maos_bot.store.queries import Queries

SAMPLES: Final = 20  # of a task's last attempts; older ones are of other days
PEER_RUNS: Final = 10  # the last runs that are asked for what a team's tasks take
PEER_SAMPLES: Final = 5  # fewer attempts of a team say nothing of its next task
ALL: Final = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How estimates fitted one task, or with `task` empty all of them.

    `error_percent` is the median of how far estimates were off, of the measured duration. `covered_percent` is how many
    durations lay within the 90th percentile of the up to 20 before them; None with fewer than 5 such comparisons.
    """

    task: str
    samples: int
    p50_s: float
    p90_s: float
    error_percent: float | None
    covered_percent: float | None


def history_of(queries: Queries, tasks: Iterable[Task], *, repository: str) -> dict[str, Estimate]:
    """Estimates by task id, for the tasks of which the history in `repository` says something."""
    tasks = tuple(tasks)
    found = {
        task: _estimate(durations, f"history: {len(durations)} run{'s' if len(durations) > 1 else ''}")
        for task, durations in queries.durations(
            (task.id for task in tasks), repository=repository, limit=SAMPLES
        ).items()
    }
    unknown = [task for task in tasks if task.id not in found and task.estimate_s is None]
    if unknown and found:
        peers = queries.team_durations(repository=repository, runs=PEER_RUNS)
        for task in unknown:
            durations = peers.get((task.team, task.kind.value), [])
            if len(durations) >= PEER_SAMPLES:
                whose = f"team {task.team}" if task.team else "tasks without a team"
                found[task.id] = _estimate(durations, f"history of {whose}: {len(durations)} runs")
    return found


def fits(pairs: Mapping[str, Sequence[tuple[float | None, float]]]) -> list[Fit]:
    """How estimates fitted: of all tasks together first, then of each, by id.

    `pairs` has for each task (estimate, measured duration) of its attempts in seconds, oldest first.
    """
    rows = {task: _fit(task, rows) for task, rows in sorted(pairs.items()) if rows}
    if not rows:
        return []
    everything = [row for rows in pairs.values() for row in rows]
    errors = [error for rows in pairs.values() for error in _errors(rows)]
    covered = [hit for rows in pairs.values() for hit in _covered(rows)]
    durations = [took for _, took in everything]
    whole = Fit(
        task=ALL,
        samples=len(everything),
        p50_s=statistics.median(durations),
        p90_s=percentile(durations, 0.9),
        error_percent=statistics.median(errors) if errors else None,
        covered_percent=_share(covered),
    )
    return [whole, *rows.values()]


def percentile(values: Sequence[float], share: float) -> float:
    """The `share` percentile of `values` (not empty), between neighbours in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _estimate(durations: Sequence[float], basis: str) -> Estimate:
    return Estimate(p50_s=statistics.median(durations), p90_s=_slow(durations), basis=basis, samples=len(durations))


def _slow(durations: Sequence[float]) -> float:
    return max(durations) if len(durations) < 10 else percentile(durations, 0.9)


def _fit(task: str, rows: Sequence[tuple[float | None, float]]) -> Fit:
    durations = [took for _, took in rows]
    errors = _errors(rows)
    return Fit(
        task=task,
        samples=len(rows),
        p50_s=statistics.median(durations),
        p90_s=percentile(durations, 0.9),
        error_percent=statistics.median(errors) if errors else None,
        covered_percent=_share(_covered(rows)),
    )


def _errors(rows: Sequence[tuple[float | None, float]]) -> list[float]:
    return [100 * abs(estimate - took) / took for estimate, took in rows if estimate is not None and took > 0]


def _covered(rows: Sequence[tuple[float | None, float]]) -> list[bool]:
    """For each attempt with three before it: whether it took no longer than their slow tenth."""
    durations = [took for _, took in rows]
    return [took <= _slow(durations[max(0, at - SAMPLES) : at]) for at, took in enumerate(durations) if at >= 3]


def _share(hits: Sequence[bool]) -> float | None:
    return 100 * sum(hits) / len(hits) if len(hits) >= PEER_SAMPLES else None
