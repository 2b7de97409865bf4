"""Two runs side by side: each task's state, time, wait, tokens and cost, and what changed in the spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from maos_bot.model import TaskState, Usage
from maos_bot.reporting.report import RunReport, TaskReport
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunRow
from web import words
from web.run_head import RunHead, head_of
from web.run_text import diff

SHOWN: Final = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """A task in one of the runs; unknown figures are None."""

    mark: words.Mark
    duration_s: float | None
    queued_s: float | None
    tokens: int
    usd: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One task; a side is None where that run didn't have it."""

    id: str
    title: str
    a: Side | None
    b: Side | None
    change: str
    moved_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure of both runs, as words."""

    name: str
    a: str
    b: str
    change: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparePage:
    """Everything that `compare.html` shows; `a` is the older one by custom, `b` the one asked about."""

    a: RunHead
    b: RunHead
    figures: tuple[Figure, ...]
    lines: tuple[Line, ...]
    total: int
    added: int
    removed: int
    changed_states: int
    diff: tuple[tuple[str, str], ...]
    same_spec: bool | None


def build(queries: Queries, a: tuple[RunRow, RunReport], b: tuple[RunRow, RunReport]) -> ComparePage:
    """The page of these two runs."""
    before, after = a[1], b[1]
    ids = list(dict.fromkeys((*after.tasks, *before.tasks)))
    lines = [_line(id_, before.tasks.get(id_), after.tasks.get(id_)) for id_ in ids]
    # What differs most comes first: states, then tasks that came or went, then time.
    lines.sort(
        key=lambda line: (not _state_changed(line), line.a is not None and line.b is not None, -abs(line.moved_s or 0))
    )
    texts = queries.spec_text(a[0].run_id), queries.spec_text(b[0].run_id)
    return ComparePage(
        a=head_of(a[0]),
        b=head_of(b[0]),
        figures=_figures(before, after),
        lines=tuple(lines[:SHOWN]),
        total=len(lines),
        added=sum(line.a is None for line in lines),
        removed=sum(line.b is None for line in lines),
        changed_states=sum(_state_changed(line) for line in lines),
        diff=tuple(diff(*texts)) if all(texts) and texts[0] != texts[1] else (),
        same_spec=texts[0] == texts[1] if all(texts) else None,
    )


def _state_changed(line: Line) -> bool:
    return line.a is not None and line.b is not None and line.a.mark.state != line.b.mark.state


def _line(id_: str, before: TaskReport | None, after: TaskReport | None) -> Line:
    a, b = (None if task is None else _side(task) for task in (before, after))
    times = (a.duration_s if a else None, b.duration_s if b else None)
    moved = times[1] - times[0] if times[0] is not None and times[1] is not None else None
    title = after.title if after else before.title if before else id_
    return Line(id=id_, title=title, a=a, b=b, change=words.change(times[1], times[0]), moved_s=moved)


def _side(task: TaskReport) -> Side:
    return Side(
        mark=words.mark(task.state),
        duration_s=task.duration_s,
        queued_s=task.queued_s,
        tokens=_tokens(task.usage),
        usd=task.usage.usd,
    )


def _figures(a: RunReport, b: RunReport) -> tuple[Figure, ...]:
    times = (
        ("Wall time", a.wall_s, b.wall_s),
        ("One after another", a.sequential_s, b.sequential_s),
        ("Predicted", a.predicted.get("makespan_s"), b.predicted.get("makespan_s")),
    )
    figures = [
        Figure(name=name, a=words.duration(x), b=words.duration(y), change=words.change(y, x)) for name, x, y in times
    ]
    good = tuple(
        sum(report.counts.get(state, 0) for state in (TaskState.SUCCEEDED, TaskState.CACHED)) for report in (a, b)
    )
    of = tuple(f"{number} of {len(report.tasks)}" for number, report in zip(good, (a, b), strict=True))
    figures.append(Figure(name="Tasks that succeeded", a=of[0], b=of[1], change=words.UNKNOWN))
    figures.append(
        Figure(name="Peak memory", a=words.memory(a.peak.memory_mb), b=words.memory(b.peak.memory_mb),
               change=words.change(b.peak.memory_mb, a.peak.memory_mb))
    )  # fmt: skip
    tokens = (_tokens(a.usage), _tokens(b.usage))
    figures.append(
        Figure(
            name="Tokens", a=words.count(tokens[0]), b=words.count(tokens[1]), change=words.change(tokens[1], tokens[0])
        )
    )
    figures.append(
        Figure(
            name="Cost",
            a=words.usd(a.usage.usd),
            b=words.usd(b.usage.usd),
            change=words.change(b.usage.usd, a.usage.usd),
        )
    )
    return tuple(figures)


def _tokens(usage: Usage) -> int:
    return usage.input_tokens + usage.output_tokens + usage.cache_read_tokens + usage.cache_write_tokens
