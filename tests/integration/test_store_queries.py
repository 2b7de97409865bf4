"""Questions to the store: filters, order, paging, and that a big table is never read from end to end."""

from __future__ import annotations

import itertools
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from maos_bot.errors import StoreError
from maos_bot.events import OutputChunk, RunEvent, RunFinished, RunStarted, TaskFinished, UsageRecorded
from maos_bot.model import TaskState, Trigger, Usage
from maos_bot.store.db import connect_read_only, open_store
from maos_bot.store.ingest import ingest
from maos_bot.store.queries import Queries
from maos_bot.store.rows import RunFilter, RunSort
from tests.factories import make_run
from tests.integration.store_parts import short_run

NOW = 1_795_690_000.0


def run_of(number: int, *, repository: str = "acme/shop", branch: str = "main", usd: float = 0.0) -> list[RunEvent]:
    """A run that lasted `number` % 5 seconds and cost `usd`."""
    run_id = f"20261126-{number:06d}-aaaaaa"
    at = NOW - 10_000 + number
    trigger = Trigger(repository=repository, ref=branch, pull_request=number % 3, sha=f"{number:040x}", actor="ada")
    start = RunStarted(
        run_id=run_id, seq=1, at=at, name="100% of_it", spec_path="s", spec_digest="d", mode="parallel", strategy="b",
        trigger=trigger,
    )  # fmt: skip
    status = "failed" if number % 4 == 0 else "succeeded"
    return [
        start,
        UsageRecorded(run_id=run_id, seq=2, at=at, task="ask", attempt=1, model="m", usage=Usage(usd=usd)),
        TaskFinished(
            run_id=run_id, seq=3, at=at, task="lint", attempt=1, state=TaskState.SUCCEEDED, duration_s=float(number)
        ),
        RunFinished(run_id=run_id, seq=4, at=at, status=status, exit_code=0, wall_s=float(number % 5)),
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """20 ended runs in two repositories, one that goes on and one that was lost."""
    path = tmp_path / "maos.db"
    db = open_store(path, create=True)
    for number in range(20):
        repository = "acme/shop" if number % 2 else "acme/site"
        ingest(db, run_of(number, repository=repository, branch=f"b{number % 4}", usd=number % 6 / 4))
    ingest(db, short_run("20261126-100000-bbbbbb", at=NOW - 20)[:3])
    ingest(db, short_run("20261126-090000-cccccc", at=NOW - 3600)[:3])
    db.close()
    return path


@pytest.fixture
def queries(path: Path) -> Queries:
    return Queries(path, clock=lambda: NOW)


def test_runs_come_newest_first(queries: Queries) -> None:
    rows = queries.runs(limit=4)
    assert [row.run_id for row in rows] == [
        "20261126-100000-bbbbbb",
        "20261126-090000-cccccc",
        "20261126-000019-aaaaaa",
        "20261126-000018-aaaaaa",
    ]
    assert queries.latest_run_id() == rows[0].run_id


def test_a_run_without_a_sign_of_life_is_lost(queries: Queries) -> None:
    assert [row.status for row in queries.runs(limit=2)] == ["running", "lost"]
    assert [row.run_id for row in queries.runs(RunFilter(status="lost"))] == ["20261126-090000-cccccc"]
    assert [row.run_id for row in queries.runs(RunFilter(status="running"))] == ["20261126-100000-bbbbbb"]
    assert queries.status().lost == 1


@pytest.mark.parametrize("sort", list(RunSort))
@pytest.mark.parametrize("ascending", [False, True])
def test_pages_put_together_are_the_whole(queries: Queries, sort: RunSort, ascending: bool) -> None:
    whole = [row.run_id for row in queries.runs(limit=100, sort=sort, ascending=ascending)]
    assert len(whole) == len(set(whole)) == 22
    paged: list[str] = []
    while True:
        before = paged[-1] if paged else None
        page = queries.runs(limit=3, before=before, sort=sort, ascending=ascending)
        if not page:
            break
        paged += [row.run_id for row in page]
    assert paged == whole


def test_sorting_puts_the_longest_and_dearest_first(queries: Queries) -> None:
    durations = [row.wall_s for row in queries.runs(limit=20, sort=RunSort.DURATION)]
    assert durations == sorted((float(n % 5) for n in range(20)), reverse=True)
    costs = [row.usd for row in queries.runs(limit=30, sort=RunSort.COST)]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        (RunFilter(repository="acme/shop"), range(1, 20, 2)),
        (RunFilter(branch="b2"), range(2, 20, 4)),
        (RunFilter(pull_request=2), range(2, 20, 3)),
        (RunFilter(status="failed"), range(0, 20, 4)),
        (RunFilter(sha=f"{7:040x}"), [7]),
        (RunFilter(since=NOW - 10_000 + 15, status="succeeded"), [15, 17, 18, 19]),
        (RunFilter(min_duration_s=4), range(4, 20, 5)),
        (RunFilter(min_usd=1.25), range(5, 20, 6)),
        (RunFilter(text="000007"), [7]),
        (RunFilter(text="SHOP", branch="b1"), range(1, 20, 4)),
        (RunFilter(text="100% of_"), range(20)),
        (RunFilter(text="10_%"), []),
        (RunFilter(repository="acme/shop", status="succeeded", pull_request=1), [1, 7, 13, 19]),
    ],
)
def test_filters_leave_what_matches(queries: Queries, where: RunFilter, numbers: list[int]) -> None:
    expected = [f"20261126-{number:06d}-aaaaaa" for number in reversed(numbers)]
    assert [row.run_id for row in queries.runs(where)] == expected
    assert queries.count_runs(where) == len(expected)


def test_choices_for_filters_are_what_there_is(queries: Queries) -> None:
    assert queries.values("repository") == ["acme/shop", "acme/site"]
    assert queries.values("branch") == ["b0", "b1", "b2", "b3"]


def test_a_run_is_found_by_a_clear_beginning_of_its_id(queries: Queries) -> None:
    assert queries.run("20261126-1").run_id == "20261126-100000-bbbbbb"
    assert queries.run("latest").run_id == "20261126-100000-bbbbbb"
    with pytest.raises(
        StoreError, match=r"'20261126-00000' is the beginning of several runs: 20261126-000000-aaaaaa, .*"
    ):
        queries.find("20261126-00000")
    for unknown in ("2025", "", "%", "20261126-000000-aaaaaaa"):
        with pytest.raises(StoreError, match="there is no run"):
            queries.find(unknown)


def test_an_empty_database_has_no_latest_run(tmp_path: Path) -> None:
    open_store(tmp_path / "maos.db", create=True).close()
    with Queries(tmp_path / "maos.db") as queries:
        assert queries.latest_run_id() is None
        assert queries.status().runs == 0
        with pytest.raises(StoreError, match="there are no runs yet; make one with `maos run`"):
            queries.run("latest")


def test_output_is_one_text_with_what_was_cut_marked(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    db = open_store(path, create=True)
    common: dict[str, Any] = {"run_id": "r", "at": 1.0, "task": "t"}
    ingest(db, [
        OutputChunk(seq=1, attempt=1, text="first\n", **common),
        OutputChunk(seq=2, attempt=2, text="head", **common),
        OutputChunk(seq=4, attempt=2, text="tail\n", offset=904, omitted=900, **common),
        OutputChunk(seq=3, attempt=1, text="of another\n", **(common | {"task": "u"})),
    ])  # fmt: skip
    db.close()
    with Queries(path) as queries:
        assert queries.output("r", "t") == "head\n[... 900 bytes omitted ...]\ntail\n"
        assert queries.output("r", "t", 1) == "first\n"
        assert queries.output("r", "unknown") == queries.output("r", "t", 9) == ""


def test_events_without_output_skip_only_that(tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    db = open_store(path, create=True)
    events = make_run()
    ingest(db, events)
    db.close()
    with Queries(path) as queries:
        assert queries.events("latest") == [event for event in events if not isinstance(event, OutputChunk)]
        assert queries.events("latest", 50, with_output=True) == events[50:]


def test_a_tasks_history_is_that_of_its_repository(queries: Queries) -> None:
    history = queries.durations(["lint", "unheard-of"], repository="acme/shop", limit=3)
    assert history == {"lint": [19.0, 17.0, 15.0]}
    assert queries.durations(["lint"], repository="acme/shop", states=[TaskState.FAILED]) == {}


_FILTERS = [
    RunFilter(),
    RunFilter(repository="a"),
    RunFilter(branch="a"),
    RunFilter(pull_request=1),
    RunFilter(status="failed"),
    RunFilter(status="lost"),
    RunFilter(sha="a"),
    RunFilter(since=1.0),
    RunFilter(repository="a", status="failed", since=1.0),
]


@pytest.mark.parametrize(("where", "sort"), list(itertools.product(_FILTERS, RunSort)))
def test_lists_of_runs_are_read_from_an_index(path: Path, where: RunFilter, sort: RunSort) -> None:
    seen = plans_of(path, lambda queries: queries.runs(where, sort=sort, before="20261126-000005-aaaaaa"))
    assert not [step for step in seen if step.startswith("SCAN") and "USING" not in step], seen
    if where == RunFilter():  # nothing but ties is put in order afterwards
        assert [step for step in seen if "B-TREE" in step and "RIGHT PART" not in step] == []


def test_pages_of_a_run_read_only_its_own_rows(path: Path) -> None:
    def ask(queries: Queries) -> None:
        run_id = "20261126-100000-bbbbbb"
        queries.events(run_id, after_seq=1, with_output=True)
        queries.output(run_id, "task-0")
        queries.attempts(run_id)
        queries.attempts(run_id, "task-0")
        list(queries.samples(run_id))
        queries.durations(["task-0"], repository="acme/shop")
        queries.spec_text(run_id)
        queries.find(run_id[:10])

    seen = plans_of(path, ask)
    assert not [step for step in seen if step.startswith("SCAN")], seen


def test_the_questions_of_the_documentation_can_be_asked(path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    questions = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(questions) >= 4
    connection = connect_read_only(path)
    for question in questions:
        connection.execute(question).fetchall()
    connection.close()


def plans_of(path: Path, ask: object) -> list[str]:
    """The steps of SQLite's plan for every query that `ask` makes."""
    assert callable(ask)
    with Queries(path, clock=lambda: NOW) as queries:
        asked: list[str] = []
        queries._connection.set_trace_callback(asked.append)
        ask(queries)
        queries._connection.set_trace_callback(None)
        connection = sqlite3.connect(path)
        steps = [row[3] for sql in asked if "SELECT" in sql for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
        connection.close()
    assert steps
    return steps
