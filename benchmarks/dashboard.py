"""How long the dashboard's server takes for each page of a big history, single-threaded, and what it asks SQLite.

`p95_ms{page}` is measured through the WSGI app in one process, over addresses that differ (runs, filters, tasks);
`cpu_p95_ms{page}` is the processor's time in the same requests: what stays the same when the machine is busy;
`first_cpu_ms{page}` that of the first request, which makes a run's report and compiles templates.
`gzip_kb{page}` is the largest answer, compressed; `kb{page}` the same as it is. `full_scans{page}` names what a page's
queries read from end to end (an index that carries the answer is not counted; `covering{page}` names those).
`rss_mb` is what the server's process holds at the end. The history is made by `benchmarks._big_history` and kept with
`--data`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from benchmarks._big_history import NOW, REPOSITORIES, build
from benchmarks._common import emit
from maos_bot.store.db import connect_read_only
from web import create_app

RUNS = 100_000
QUICK_RUNS = 4_000
BIG = ("runs", "tasks", "attempts", "usage", "spend", "events", "samples", "output", "documents")


def measure(path: Path, *, rounds: int) -> dict[str, Any]:
    """The figures over the history at `path`, in this process."""
    client = create_app(path, clock=lambda: NOW).test_client()
    connection = sqlite3.connect(path)
    some = [row[0] for row in connection.execute("SELECT run_id FROM runs WHERE name NOT LIKE '%tasks'")]
    big = dict(connection.execute("SELECT name, run_id FROM runs WHERE name LIKE '%tasks'"))
    counts = {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "attempts")
    }
    counts["events"] = sum(
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("events", "samples", "output")
    )
    rng = random.Random(3)
    result: dict[str, Any] = {"size": {**counts, "mb": path.stat().st_size / 2**20}, "rounds": rounds}
    figures: dict[str, dict[str, Any]] = {
        name: {}
        for name in (
            "p95_ms",
            "median_ms",
            "cpu_p95_ms",
            "first_cpu_ms",
            "kb",
            "gzip_kb",
            "full_scans",
            "covering",
        )
    }
    for page, url in pages_of(some, big, rng).items():
        times: list[float] = []
        used: list[float] = []
        largest = b""
        client.get("/runs/latest/spec")  # another's templates are there
        busy = time.process_time()
        client.get(url())  # the page's own templates are compiled, a run's report is made
        figures["first_cpu_ms"][page] = (time.process_time() - busy) * 1000
        for _ in range(rounds):
            address = url()
            began, busy = time.perf_counter(), time.process_time()
            answer = client.get(address)
            used.append((time.process_time() - busy) * 1000)
            times.append((time.perf_counter() - began) * 1000)
            if answer.status_code not in {200, 204, 286}:
                raise RuntimeError(f"{address}: {answer.status_code}")
            largest = max(largest, answer.data, key=len)
        figures["p95_ms"][page] = _p95(times)
        figures["cpu_p95_ms"][page] = _p95(used)
        figures["median_ms"][page] = statistics.median(times)
        figures["kb"][page] = len(largest) / 1024
        figures["gzip_kb"][page] = len(gzip.compress(largest, 6)) / 1024
        scans, covering = scans_of(client, url(), connection)
        if scans:
            figures["full_scans"][page] = scans
        if covering:
            figures["covering"][page] = covering
    result.update(figures)
    result["rss_mb"] = psutil.Process(os.getpid()).memory_info().rss / 2**20
    result["slowest_p95_ms"] = max(figures["p95_ms"].values())
    return result


def _p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def pages_of(some: list[str], big: dict[str, str], rng: random.Random) -> dict[str, Callable[[], str]]:
    """An address of each kind of page, another one each time: over the runs `some`, and `big` by name."""

    def run(part: str = "") -> Callable[[], str]:
        return lambda: f"/runs/{rng.choice(some)}{part}"

    def repository() -> str:
        return f"acme/service-{rng.randrange(REPOSITORIES)}"

    return {
        "runs": lambda: "/",
        "runs_filtered": lambda: f"/?repo={repository()}&status={rng.choice(('failed', 'succeeded'))}&since=30d",
        "runs_sorted": lambda: f"/?sort={rng.choice(('longest', 'shortest', 'dearest', 'tokens'))}",
        "runs_paged": lambda: f"/?before={rng.choice(some)}",
        "runs_text": lambda: f"/?text={rng.choice(('dev3', 'feature/4', 'nowhere', rng.choice(some)[-6:]))}",
        "runs_branch": lambda: f"/?branch={rng.choice(('main', 'feature/77'))}&cost=0.01&min=5s",
        "run": run(),
        "run_graph": run("/graph"),
        "run_resources": run("/resources"),
        "run_log": run("/log"),
        "run_events": run("/events"),
        "run_spec": run("/spec"),
        "run_teams": run("/teams"),
        "run_live": run("/live?after=1"),
        "run_1000_tasks": lambda: f"/runs/{big['1000 tasks']}",
        "run_10000_tasks": lambda: f"/runs/{big['10000 tasks']}",
        "graph_10000_tasks": lambda: f"/runs/{big['10000 tasks']}/graph",
        "task": lambda: f"/runs/{rng.choice(some)}/tasks/task-{rng.randrange(20):02d}",
        "task_search": lambda: f"/runs/{rng.choice(some)}/tasks/task-{rng.randrange(20):02d}?q=passed",
        "tasks": lambda: f"/tasks?repo={repository()}&sort=p95",
        "task_history": lambda: f"/tasks/task-{rng.randrange(20):02d}?repo={repository()}",
        "compare": lambda: f"/compare?a={rng.choice(some)}&b={rng.choice(some)}",
        "usage": lambda: "/usage",
        "usage_90_days": lambda: "/usage?days=90",
        "search": lambda: f"/search?q={rng.choice(('passed', 'checksum+timeout', 'dev3', rng.choice(some)[-6:]))}",
        "status": lambda: "/status",
        "badge": lambda: f"/badge.svg?repo={repository()}&branch=main",
        "feed": lambda: "/failed.atom",
        "metrics": lambda: "/metrics",
        "healthz": lambda: "/healthz",
    }


def scans_of(client: Any, url: str, connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """The big tables that the page's queries read from end to end: their rows, or an index that carries the answer."""
    asked: list[str] = []

    def traced(path: Path) -> sqlite3.Connection:
        made = connect_read_only(path)
        made.set_trace_callback(asked.append)
        return made

    with mock.patch("maos_bot.store.queries.connect_read_only", traced):
        client.get(url)
    rows: set[str] = set()
    indexes: set[str] = set()
    for sql in {re.sub(r"/\*.*", "", one) for one in asked if one.lstrip().upper().startswith(("SELECT", "WITH"))}:
        for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}"):
            found = re.match(r"SCAN (\w+)(.*)", step[3])
            if found and found[1] in BIG and not ("USING INDEX" in found[2] and "LIMIT" in sql):  # a walk that stops
                (indexes if "USING COVERING INDEX" in found[2] else rows).add(step[3])
    return sorted(rows), sorted(indexes)


def main() -> None:
    """Build the history where it isn't there, measure, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS:,} runs instead of {RUNS:,}")
    parser.add_argument("--data", type=Path, help="where the history is kept, to be used again")
    parser.add_argument("--runs", type=int, help="how many runs; each has 20 attempts and some 210 events")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rounds = 20 if arguments.quick else 60
    if arguments.measure:
        sys.stdout.write(json.dumps(measure(arguments.measure, rounds=rounds)))
        return
    runs = arguments.runs or (QUICK_RUNS if arguments.quick else RUNS)
    with tempfile.TemporaryDirectory() as scratch:
        path = (arguments.data or Path(scratch)) / f"history-{runs}.db"
        if not path.exists():
            build(path, runs=runs, tell=not arguments.json)
        # A process of its own: its memory is the server's alone.
        command = [sys.executable, "-m", "benchmarks.dashboard", "--measure", str(path)]
        done = subprocess.run([*command, *["--quick"] * arguments.quick], check=True, stdout=subprocess.PIPE, text=True)
    emit(json.loads(done.stdout), json=arguments.json)


if __name__ == "__main__":
    main()
