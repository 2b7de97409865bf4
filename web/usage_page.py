"""What was spent: by day, model, team, repository and pull request; and what the cache saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from maos_bot.store import insight
from maos_bot.store.queries import Queries
from web import charts, words

DAYS: Final = (7, 30, 90)
HEIGHT: Final = 72.0
SHOWN: Final = 20
_TABLES: Final = ("model", "team", "repository", "pull request")


@dataclass(frozen=True, kw_only=True, slots=True)
class DayBar:
    """One day of the strip."""

    day: str
    label: str
    y: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class UsagePage:
    """Everything that `usage.html` shows; `usd` leaves out the calls that `unpriced` counts."""

    days: int
    choices: tuple[int, ...]
    repository: str
    usd: float
    calls: int
    unpriced: int
    tokens: int
    cache_share: float | None
    saved: insight.Saved
    bars: tuple[DayBar, ...]
    by_day: tuple[insight.Spent, ...]
    tables: tuple[tuple[str, tuple[insight.Spent, ...]], ...]


def build(queries: Queries, *, days: int, repository: str, now: float) -> UsagePage:
    """The page over the last `days` days, each from midnight UTC."""
    today = now // words.DAY * words.DAY
    since = today - (days - 1) * words.DAY
    by_day = insight.spending(queries, "day", since=since, repository=repository, limit=days + 1)
    read = sum(day.cache_read_tokens for day in by_day)
    fresh = sum(day.input_tokens + day.cache_write_tokens for day in by_day)
    return UsagePage(
        days=days,
        choices=DAYS,
        repository=repository,
        usd=sum(day.usd for day in by_day),
        calls=sum(day.calls for day in by_day),
        unpriced=sum(day.unpriced for day in by_day),
        tokens=sum(tokens_of(day) for day in by_day),
        cache_share=read / (read + fresh) if read + fresh else None,
        saved=insight.saved(queries, since=since),
        bars=_bars(by_day, since=since, days=days),
        by_day=tuple(reversed(by_day)),
        tables=tuple(
            (by, tuple(insight.spending(queries, by, since=since, repository=repository, limit=SHOWN)))
            for by in _TABLES
        ),
    )


def tokens_of(spent: insight.Spent) -> int:
    """All tokens, whatever their kind."""
    return spent.input_tokens + spent.output_tokens + spent.cache_read_tokens + spent.cache_write_tokens


def _bars(by_day: Sequence[insight.Spent], *, since: float, days: int) -> tuple[DayBar, ...]:
    known = {day.key: day for day in by_day}
    names = [words.iso(since + number * words.DAY)[:10] for number in range(days)]
    bars = charts.strip([known[name].usd if name in known else 0.0 for name in names], height=HEIGHT)
    return tuple(
        DayBar(
            day=name,
            label=f"{name}: {words.usd(known[name].usd)}" if name in known else f"{name}: nothing",
            y=bar.y,
            height=bar.height if name in known else 0.0,
        )
        for name, bar in zip(names, bars, strict=True)
    )
