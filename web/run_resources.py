"""What a run used over time, each resource against its limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from maos_bot.events import ResourceSampled, UsageRecorded
from maos_bot.model import AGENTS, CPU, MEMORY, TOKENS
from maos_bot.reporting.report import RunReport
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunRow
from web import charts, curves, words
from web.run_head import RunHead, head_of

_PERCENT: Final[Callable[[float | None], str]] = lambda value: words.UNKNOWN if value is None else f"{value:.0f} %"  # noqa: E731
_MINUTE: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One resource: the picture, and the same in words. Figures are in `unit` of the chart's own."""

    key: str
    name: str
    peak: float | None
    peak_words: str
    limit_words: str
    above: bool  # the limit lies above the picture
    label: str
    curve: curves.Curve
    waited: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcesPage:
    """Everything that `run_resources.html` shows."""

    head: RunHead
    ticks: tuple[charts.Tick, ...]
    charts: tuple[Chart, ...]
    missing: tuple[str, ...]
    height: float = curves.HEIGHT
    width: float = curves.WIDTH


def build(queries: Queries, row: RunRow, report: RunReport) -> ResourcesPage:
    """The page of what the run used."""
    began = report.started_at or row.started_at
    samples = list(queries.samples(row.run_id))
    uses = queries.usage_events(row.run_id)
    span = max([report.wall_s, *(sample.at - began for sample in samples[-1:])])
    wanted: tuple[tuple[str, str, Sequence[curves.Point], float | None, Callable[[float | None], str]], ...] = (
        (MEMORY, "Memory", _points(samples, began, "memory_mb"), report.limits.get(MEMORY), words.memory),
        (CPU, "CPU", _points(samples, began, "cpu_percent"), report.limits.get(CPU), _PERCENT),
        (AGENTS, "Running at once", _points(samples, began, "agents"), report.limits.get(AGENTS), words.count),
        (TOKENS, "Tokens a minute", _rate(samples, uses, began, span), report.limits.get(TOKENS), words.count),
        ("usd", "Spent", _spent(uses, began, span), report.budget.get("usd"), words.usd),
    )
    drawn = []
    missing = []
    for key, name, points, limit, say in wanted:
        if not points:
            missing.append(name.lower())
            continue
        drawn.append(_chart(key, name, points, limit=limit, say=say, span=span, report=report))
    return ResourcesPage(
        head=head_of(row), ticks=charts.ticks(span) if span > 0 else (), charts=tuple(drawn), missing=tuple(missing)
    )


def _chart(
    key: str,
    name: str,
    points: Sequence[curves.Point],
    *,
    limit: float | None,
    say: Callable[[float | None], str],
    span: float,
    report: RunReport,
) -> Chart:
    peak = max(value for _, value in points)
    waits = _waits(report, key)
    waited = sum(band[1] - band[0] for band in waits)
    what = f"{words.duration(waited)} of waiting by {words.plural(len(waits), 'task')}" if waits else ""
    shown = curves.curve(points, span_s=span, limit=limit, steps=key in {AGENTS, TOKENS, "usd"}, waits=waits)
    parts = [f"{name}: {'total' if key == 'usd' else 'peak'} {say(peak)}"]
    parts.append(f"limit {say(limit)}" if limit is not None else "no limit")
    return Chart(
        key=key,
        name=name,
        peak=round(peak, 6),
        peak_words=say(peak),
        limit_words=say(limit) if limit is not None else "",
        above=limit is not None and shown.limit_y is None,
        label=", ".join([*parts, what] if what else parts),
        curve=shown,
        waited=what,
    )


def _points(samples: Sequence[ResourceSampled], began: float, field: str) -> list[curves.Point]:
    found = [(sample.at - began, getattr(sample, field)) for sample in samples]
    return [(at, float(value)) for at, value in found if value is not None]


def _rate(
    samples: Sequence[ResourceSampled], uses: Sequence[UsageRecorded], began: float, span: float
) -> list[curves.Point]:
    """As measured where it was; else what the model turns of the minute before used."""
    measured = _points(samples, began, "tokens_per_minute")
    if measured or not uses:
        return measured
    steps: list[curves.Point] = []
    for use in uses:
        tokens = float(use.usage.input_tokens + use.usage.output_tokens)
        steps += [(use.at - began, tokens), (use.at - began + _MINUTE, -tokens)]
    points: list[curves.Point] = [(0.0, 0.0)]
    total = 0.0
    for at, step in sorted(step for step in steps if step[0] <= span):
        total += step
        points.append((at, total))
    return [*points, (span, total)]


def _spent(uses: Sequence[UsageRecorded], began: float, span: float) -> list[curves.Point]:
    """The sum so far; a call whose price isn't known is not in it."""
    if not uses:
        return []
    total = 0.0
    points: list[curves.Point] = [(0.0, 0.0)]
    for use in uses:
        total += use.usage.usd or 0.0
        points.append((use.at - began, total))
    return [*points, (span, total)]


def _waits(report: RunReport, key: str) -> list[curves.Point]:
    """When tasks that were ready waited for this resource."""
    return [
        (attempt.started_s - attempt.queued_s, attempt.started_s)
        for task in report.tasks.values()
        for attempt in task.attempt_list
        if attempt.queued_s and attempt.started_s is not None and key in attempt.wait_reason
    ]
