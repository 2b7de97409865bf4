"""Many people watching one run while it is written: what they wait, and what that costs the writer.

The dashboard and the writer are processes of their own; the writer adds 500 events a second, first alone, then with 50
viewers who each ask for what is new once a second, as the page does. `written_per_s{alone, watched}` is what was
committed, `commit_p95_ms{}` the time from an event's birth to its commit, `writer_cpu_s{}` the writer's processor time;
`p95_ms` is what a viewer waits for an answer, on the same machine.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks._common import emit
from maos_bot.events import OutputChunk, RunEvent, RunStarted, TaskInfo, TaskStarted
from maos_bot.store.writer import StoreWriter

VIEWERS: Final = 50
RATE: Final = 500
TASKS: Final = 20
RUN_ID: Final = "20260101-000000-abcdef"


def write(path: Path, *, seconds: float) -> dict[str, float]:
    """Add `RATE` events a second; what was committed, how late, with how much processor time."""
    births: list[tuple[int, float]] = []
    lags: list[float] = []
    busy, began = time.process_time(), time.monotonic()
    with StoreWriter(path) as writer:
        for event in itertools.islice(_events(), int(RATE * seconds)):
            due = began + event.seq / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            writer.add(event)
            births.append((event.seq, time.monotonic()))
            while births and births[0][0] <= writer.acknowledged_seq:
                lags.append(time.monotonic() - births.pop(0)[1])
        failure = writer.failure
    if failure is not None:
        raise failure
    took = time.monotonic() - began
    return {
        "written_per_s": int(RATE * seconds) / took,
        "commit_p95_ms": _p95(lags) * 1000,
        "writer_cpu_s": time.process_time() - busy,
    }


def _events() -> Iterator[RunEvent]:
    now = time.time
    ids = [f"task-{number:02d}" for number in range(TASKS)]
    yield RunStarted(
        run_id=RUN_ID,
        seq=1,
        at=now(),
        name="Watched",
        tasks=tuple(TaskInfo(id=one) for one in ids),
        spec_path=".maos.yml",
        spec_digest="ab" * 32,
        mode="pipelined",
        strategy="balanced",
    )
    for seq, one in enumerate(ids, start=2):
        yield TaskStarted(run_id=RUN_ID, seq=seq, at=now(), task=one, attempt=1)
    for seq in itertools.count(TASKS + 2):
        text = f"line {seq} of what a task prints\n"
        yield OutputChunk(run_id=RUN_ID, seq=seq, at=now(), task=ids[seq % TASKS], attempt=1, text=text)


def watch(url: str, *, until: threading.Event, waits: list[float], refused: list[str]) -> None:
    """Ask for what is new once a second, as the page of a running run does."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    after = 0
    while not until.is_set():
        began = time.perf_counter()
        connection.request("GET", f"/runs/{RUN_ID}/live?after={after}", headers={"HX-Request": "true"})
        answer = connection.getresponse()
        body = answer.read().decode()
        waits.append(time.perf_counter() - began)
        if answer.status not in {200, 204, 286}:
            refused.append(f"{answer.status}: {body[:200]}")
        found = re.search(r'id="live-after" name="after" value="(\d+)"', body)
        after = int(found[1]) if found else after
        until.wait(1.0)
    connection.close()


def measure(*, seconds: float, viewers: int) -> dict[str, Any]:
    """Both rounds, and what the viewers waited."""
    waits: list[float] = []
    refused: list[str] = []
    rounds: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("alone", "watched"):
            path = Path(scratch) / f"{name}.db"
            command = [sys.executable, "-m", "maos_bot", "dashboard", "--db", str(path), "--port", "0"]
            server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            try:
                assert server.stderr is not None
                url = server.stderr.readline().partition(": ")[2].strip()
                command = [sys.executable, "-m", "benchmarks.viewers", "--write", str(path), "--seconds", str(seconds)]
                writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                while not path.exists() or path.stat().st_size == 0:
                    time.sleep(0.05)
                time.sleep(1.0)
                over = threading.Event()
                threads = [
                    threading.Thread(
                        target=watch, args=(url,), kwargs={"until": over, "waits": waits, "refused": refused}
                    )
                    for _ in range(viewers if name == "watched" else 0)
                ]
                for thread in threads:
                    thread.start()
                    time.sleep(1.0 / viewers)
                text, _ = writer.communicate()
                over.set()
                for thread in threads:
                    thread.join()
                rounds[name] = json.loads(text)
            finally:
                server.terminate()
                server.communicate()
    figures = {key: {name: row[key] for name, row in rounds.items()} for key in rounds["alone"]}
    slower = 1 - rounds["watched"]["written_per_s"] / rounds["alone"]["written_per_s"]
    return {
        "viewers": viewers,
        "events_per_s": RATE,
        "seconds": seconds,
        **figures,
        "writer_slower_percent": 100 * slower,
        "answers": len(waits),
        "p95_ms": _p95(waits) * 1000,
        "refused": len(refused),
        "first_refused": refused[0] if refused else None,
    }


def _p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.viewers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 s for each round instead of 60")
    parser.add_argument("--data", type=Path, help="not used")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seconds = arguments.seconds or (10.0 if arguments.quick else 60.0)
    if arguments.write:
        sys.stdout.write(json.dumps(write(arguments.write, seconds=seconds)))
        return
    emit(measure(seconds=seconds, viewers=VIEWERS), json=arguments.json)


if __name__ == "__main__":
    main()
