"""Figures over the last runs of a task (pure).

A run's outcome for a task is that of its last attempt. A task is flaky where the same content both failed and
succeeded, in one run or in several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from maos_bot.store.insight import PastAttempt

_BAD: Final = frozenset({"failed", "timed_out"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskStats:
    """One task over its last runs; unknown figures are None.

    `estimate_error` is the median of |actual / estimate - 1|.
    """

    task: str
    runs: int
    failed: int
    flaky: tuple[str, ...]  # the contents
    p50_s: float | None
    p95_s: float | None
    wait_p95_s: float | None
    usd: float | None
    estimate_error: float | None
    last_at: float | None

    @property
    def failure_rate(self) -> float | None:
        return self.failed / self.runs if self.runs else None


def stats_of(task: str, attempts: Sequence[PastAttempt]) -> TaskStats:
    """The figures of these attempts, newest first. Durations are those of attempts that succeeded."""
    last: dict[str, PastAttempt] = {}
    for attempt in attempts:
        if attempt.run_id not in last or attempt.attempt > last[attempt.run_id].attempt:
            last[attempt.run_id] = attempt
    took = sorted(one.duration_s for one in attempts if one.state == "succeeded")
    waits = sorted(one.queued_s for one in attempts if one.attempt == 1)
    errors = [
        abs(one.duration_s / one.estimate_s - 1) for one in attempts if one.state == "succeeded" and one.estimate_s
    ]
    return TaskStats(
        task=task,
        runs=len(last),
        failed=sum(one.state in _BAD for one in last.values()),
        flaky=tuple(flaky_contents(attempts)),
        p50_s=percentile(took, 0.5),
        p95_s=percentile(took, 0.95),
        wait_p95_s=percentile(waits, 0.95),
        usd=None if any(one.unpriced for one in attempts) else sum(one.usd for one in attempts),
        estimate_error=median(errors) if errors else None,
        last_at=attempts[0].started_at if attempts else None,
    )


def content_of(attempt: PastAttempt) -> str:
    """What the attempt was made from: the digest of all it depended on where that is known, else its commit (or run,
    where that had none)."""
    return attempt.content or attempt.sha or attempt.run_id


def flaky_contents(attempts: Sequence[PastAttempt]) -> list[str]:
    """The contents of which the task both failed and succeeded, newest first."""
    states: dict[str, set[str]] = {}
    for one in attempts:
        states.setdefault(content_of(one), set()).add(one.state)
    return [content for content, seen in states.items() if "succeeded" in seen and seen & _BAD]


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the ordered values don't exceed; None of none."""
    if not ordered:
        return None
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]
