"""The geometry of every picture on the dashboard (pure): numbers in, positions out, no markup.

Widths are percent of the picture, so that one drawing fits a phone and a wide screen with text that keeps its size;
heights are pixels. The templates turn these values into SVG presentation attributes: the content security policy
allows no inline style.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

NEEDS: Final = "needs"  # waiting for other tasks
RESOURCE: Final = "resource"  # ready, waiting for a slot, memory, a pool
RETRY: Final = "retry"  # between two attempts
RUN: Final = "run"

_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_THINNEST: Final = 0.5  # percent: a task of 3 ms is still to be seen
_LEAST_WAIT: Final = 0.05  # percent: a shorter wait is no wait to the eye
_PLAN_SHARE: Final = 1.25  # a plan may stretch the axis to this many times what happened
_NO_TIME: Final = 1e-6  # seconds: finer than anything is measured
_LOWEST: Final = 3.0  # pixels: as low as a bar gets


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptSpan:
    """When one attempt ran, in seconds from the start of the run; `finished_s` None while it still does."""

    attempt: int
    started_s: float
    finished_s: float | None
    state: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """What the timeline knows of one task; seconds from the start of the run, None where it didn't get there."""

    id: str
    state: str
    ready_s: float | None = None
    attempts: tuple[AttemptSpan, ...] = ()
    ended_s: float | None = None
    predicted_start_s: float | None = None
    predicted_finish_s: float | None = None
    critical: bool = False  # one of the chain that made the run as long as it was


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One piece of a lane; `x` and `width` in percent of the chart."""

    kind: str
    x: float
    width: float
    seconds: float
    state: str = ""
    attempt: int = 0
    cut: bool = False  # it goes on beyond the chart

    @property
    def end(self) -> float:
        """Where it ends, in percent."""
        return round(self.x + self.width, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One task's line in the timeline."""

    id: str
    state: str
    segments: tuple[Segment, ...]
    predicted: Segment | None
    critical: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A round instant on the axis."""

    x: float
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The whole chart; `now_x` is set while the run goes on."""

    span_s: float
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    now_x: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One bar of a strip or a comparison: `y` and `height` in pixels, or `width` in percent."""

    y: float
    height: float


def ticks(span_s: float, *, at_most: int = 6) -> tuple[Tick, ...]:
    """Round instants from 0 up to `span_s` seconds, no more than `at_most`, a step apart people count in."""
    if span_s <= _NO_TIME:
        return (Tick(x=0.0, seconds=0.0),)
    step = _step(span_s / (at_most - 1))
    return tuple(
        Tick(x=_percent(index * step, span_s), seconds=index * step)
        for index in range(math.floor(span_s / step + 1e-9) + 1)
    )


def timeline(
    lanes: Sequence[Lane], *, wall_s: float, predicted_s: float | None = None, running: bool = False
) -> Timeline:
    """The Gantt chart of a run that has lasted `wall_s` seconds; `predicted_s` is the makespan the plan foresaw.

    What happened fills the chart: once a run is over, a plan that was far too long is cut off.
    """
    happened = max(wall_s, *(lane.ended_s or 0.0 for lane in lanes), 0.0, 0.0)
    planned = max(predicted_s or 0.0, *(lane.predicted_finish_s or 0.0 for lane in lanes), 0.0, 0.0)
    span = max(happened, planned if running else min(planned, _PLAN_SHARE * happened)) or planned
    span = span if span > _NO_TIME else 1.0
    return Timeline(
        span_s=span,
        rows=tuple(_row(lane, wall_s=wall_s, span=span) for lane in lanes),
        ticks=ticks(span),
        now_x=_percent(wall_s, span) if running else None,
    )


def strip(durations: Sequence[float | None], *, height: float) -> tuple[Bar, ...]:
    """Bars for a row of runs, as high as they were long against the longest, in pixels of `height`.

    A run whose duration isn't known gets the lowest bar.
    """
    longest = max((value for value in durations if value is not None), default=0.0)
    bars = []
    for value in durations:
        tall = max(_LOWEST, (value or 0.0) / longest * height) if longest > 0 else _LOWEST
        bars.append(Bar(y=round(height - tall, 2), height=round(tall, 2)))
    return tuple(bars)


def shares(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Each value as percent of the largest one; an unknown one stays unknown."""
    largest = max((value for value in values.values() if value is not None), default=0.0)
    return {
        name: None if value is None or largest <= 0 else round(max(_THINNEST, value / largest * 100), 3)
        for name, value in values.items()
    }


def _row(lane: Lane, *, wall_s: float, span: float) -> Row:
    segments: list[Segment] = []

    def add(kind: str, start: float, end: float, *, state: str = "", attempt: int = 0) -> None:
        start = max(0.0, start)
        width = (end - start) / span * 100
        if width < 0 or (kind != RUN and width < _LEAST_WAIT):
            return
        if kind == RUN:
            width = max(width, _THINNEST)
        x = min(_percent(start, span), 100 - min(width, 100.0))
        segments.append(
            Segment(
                kind=kind,
                x=round(x, 3),
                width=round(min(width, 100.0), 3),
                seconds=end - start,
                state=state,
                attempt=attempt,
            )
        )

    first = lane.attempts[0].started_s if lane.attempts else None
    ready = lane.ready_s if lane.ready_s is not None else first
    never = lane.ended_s if lane.ended_s is not None else wall_s  # it never started: it waited to its end, or until now
    add(NEEDS, 0.0, ready if ready is not None else never)
    if ready is not None:
        add(RESOURCE, ready, first if first is not None else never)
    before: float | None = None
    for span_of in lane.attempts:
        if before is not None:
            add(RETRY, before, span_of.started_s)
        before = span_of.finished_s if span_of.finished_s is not None else max(wall_s, span_of.started_s)
        add(RUN, span_of.started_s, before, state=span_of.state, attempt=span_of.attempt)
    predicted = None
    start, finish = lane.predicted_start_s, lane.predicted_finish_s
    if start is not None and finish is not None and start < span:
        predicted = Segment(
            kind="predicted",
            x=_percent(start, span),
            width=round(_percent(finish, span) - _percent(start, span), 3),
            seconds=finish - start,
            cut=finish > span * (1 + 1e-6),
        )
    return Row(id=lane.id, state=lane.state, segments=tuple(segments), predicted=predicted, critical=lane.critical)


def _percent(value: float, span: float) -> float:
    return round(min(100.0, max(0.0, value / span * 100)), 3)


def _step(least: float) -> float:
    if least < 1:
        # Below a second: 1, 2 or 5 times a power of ten.
        power = 10 ** math.floor(math.log10(least))
        return next(float(f"{factor * power:.12g}") for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    for step in _STEPS:
        if step >= least * (1 - 1e-9):
            return float(step)
    return math.ceil(least / 86400) * 86400.0
