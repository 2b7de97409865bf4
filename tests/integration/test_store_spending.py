"""What was spent each day is the sum of what runs used, however their events come in and go."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from maos_bot.events import RunEvent, UsageRecorded
from maos_bot.store import insight
from maos_bot.store.db import connect
from maos_bot.store.ingest import Ingester
from maos_bot.store.prune import prune
from maos_bot.store.queries import Queries
from tests.factories import START, make_history, store_runs

HISTORY = make_history(now=START, count=40)
KEYS = ("day", "model", "team", "repository", "pull request")


def expected(runs: list[list[RunEvent]]) -> tuple[int, int, int, float]:
    used = [event.usage for run in runs for event in run if isinstance(event, UsageRecorded)]
    priced = sum(one.usd for one in used if one.usd is not None)
    return len(used), sum(one.usd is None for one in used), sum(one.output_tokens for one in used), priced


def shown(path: Path, by: str) -> tuple[int, int, int, float]:
    with Queries(path) as queries:
        rows = insight.spending(queries, by, since=0.0, limit=1000)
    return (
        sum(row.calls for row in rows),
        sum(row.unpriced for row in rows),
        sum(row.output_tokens for row in rows),
        sum(row.usd for row in rows),
    )


@pytest.mark.parametrize("by", KEYS)
def test_spending_adds_up_to_what_runs_used(tmp_path: Path, by: str) -> None:
    path = store_runs(tmp_path / "maos.db", HISTORY)
    assert shown(path, by)[:3] == expected(HISTORY)[:3]
    assert shown(path, by)[3] == pytest.approx(expected(HISTORY)[3], abs=1e-8)


def test_events_that_come_late_twice_or_out_of_order_change_nothing_of_it(tmp_path: Path) -> None:
    events = [event for run in HISTORY for event in run]
    random.Random(5).shuffle(events)
    path = tmp_path / "maos.db"
    with contextlib.closing(connect(path, create=True)) as connection:
        ingester = Ingester(connection)
        for first in range(0, len(events), 700):
            ingester.write(events[first : first + 900])
    for by in KEYS:
        assert shown(path, by)[:3] == expected(HISTORY)[:3]


def test_what_is_pruned_is_no_longer_in_it(tmp_path: Path) -> None:
    old = [
        [replace(event, run_id=f"old-{event.run_id}", at=event.at - 200 * 86400) for event in run] for run in HISTORY
    ]
    path = store_runs(tmp_path / "maos.db", [*HISTORY, *old])
    assert shown(path, "day")[0] == 2 * expected(HISTORY)[0]
    prune(path, before=START - 100 * 86400)
    for by in KEYS:
        assert shown(path, by)[:3] == expected(HISTORY)[:3]
        assert shown(path, by)[3] == pytest.approx(expected(HISTORY)[3], abs=1e-8)
