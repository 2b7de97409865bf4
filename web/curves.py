"""Lines over time, as the page of a run's resources draws them (pure): numbers in, positions out.

A chart is `WIDTH` by `HEIGHT` units, stretched to the width there is; time runs from the start of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 1000.0
HEIGHT: Final = 100.0
MOST_POINTS: Final = 300
_HEADROOM: Final = 1.08

Point = tuple[float, float]  # seconds from the start of the run, value


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A span of time to be shaded, in units of the chart."""

    x: float
    width: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One chart: the line and the area below it as SVG paths, the limit's height, and what the top stands for."""

    line: str
    area: str
    limit_y: float | None
    top: float
    bands: tuple[Band, ...]


def curve(
    points: Sequence[Point],
    *,
    span_s: float,
    limit: float | None = None,
    steps: bool = False,
    waits: Iterable[Point] = (),
) -> Curve:
    """The chart of `points` over `span_s` seconds, with the line of `limit` where there is one.

    `steps` draws values that hold until the next one. `waits` are spans (from, to) to be shaded.
    """
    span = span_s if span_s > 0 else 1.0
    highest = max((value for _, value in points), default=0.0)
    # A limit far above what was used would flatten the line: then it is named, and not drawn.
    shown = limit if limit is not None and limit <= 6 * highest else None
    top = max(highest, shown or 0.0) * _HEADROOM or 1.0
    places = [(_x(at, span), _y(value, top)) for at, value in thinned(points)]
    line = _path(places, steps=steps)
    area = f"{line}L{places[-1][0]:g} {HEIGHT:g}L{places[0][0]:g} {HEIGHT:g}Z" if places else ""
    return Curve(
        line=line,
        area=area,
        limit_y=_y(shown, top) if shown is not None else None,
        top=top,
        bands=tuple(_bands(waits, span)),
    )


def thinned(points: Sequence[Point], *, most: int = MOST_POINTS) -> list[Point]:
    """At most about `most` of the points; of those that fall together the highest, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    size = -(-len(points) // most)
    return [max(points[at : at + size], key=lambda point: point[1]) for at in range(0, len(points), size)]


def _bands(waits: Iterable[Point], span: float) -> list[Band]:
    """The spans, those that touch joined."""
    joined: list[list[float]] = []
    for start, end in sorted(waits):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    bands = [Band(x=_x(start, span), width=round(_x(end, span) - _x(start, span), 1)) for start, end in joined]
    return [band for band in bands if band.width >= 0.5]


def _path(places: Sequence[Point], *, steps: bool) -> str:
    if not places:
        return ""
    parts = [f"M{places[0][0]:g} {places[0][1]:g}"]
    for x, y in places[1:]:
        parts.append(f"H{x:g}V{y:g}" if steps else f"L{x:g} {y:g}")
    return "".join(parts)


def _x(at: float, span: float) -> float:
    return round(min(WIDTH, max(0.0, at / span * WIDTH)), 1)


def _y(value: float, top: float) -> float:
    return round(HEIGHT - value / top * HEIGHT, 1)
