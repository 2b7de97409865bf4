"""Whether a run survives: `kill -9` at random moments of a 60-task run, each time resumed, until it is done.

`python -m benchmarks.kill [--quick] [--seed N] [--json]`. Of every kill it is asked what the database had by then; at
the end of every run that nothing of it is missing (`lost`), that no task whose end it held ran again (`repeated`), that
SQLite finds the file whole (`integrity_failures`), and that files and states are those of an undisturbed run
(`differing`). Tasks lead sessions of their own, so they outlive the kill, as they do on a real machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._common import emit
from maos_bot.errors import StoreError
from maos_bot.events import RunFinished, TaskFinished
from maos_bot.store.db import check_integrity, connect_read_only
from maos_bot.store.queries import Queries

TASKS = 60
QUICK_KILLS, FULL_KILLS = 20, 200
_LONGEST_S = 120.0  # a run that takes this long hangs


def spec_text(tasks: int, rng: random.Random) -> str:
    """A layered graph of tasks that each say they began, then make a file from those of their needs; some fail."""
    lines = ["version: 1", "name: kill", "limits: {concurrent-agents: 6}", "tasks:"]
    for number in range(tasks):
        needs = sorted(rng.sample(range(max(0, number - 12), number), min(number, rng.randrange(3))))
        made = " ".join(f"out/{need}" for need in needs)
        name, pause = f"t{number}", rng.choice((0.0, 0.01, 0.03, 0.1))
        script = f"echo x >> began/{name}; cat /dev/null {made} > tmp/{number}; echo {name} >> tmp/{number}; "
        script += f"sleep {pause}; mv tmp/{number} out/{number}"
        fails = number % 20 == 13
        script += "; exit 3" if fails else ""
        may = ", continue-on-error: true" if fails and number % 40 == 13 else ""
        lines.append(f'  {name}: {{run: "{script}", needs: [{", ".join(f"t{need}" for need in needs)}]{may}}}')
    return "\n".join(lines) + "\n"


def fresh(folder: Path, text: str) -> Path:
    """A work tree to run in."""
    for name in ("began", "out", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / ".maos.yml").write_text(text, encoding="utf-8")
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`maos run` there, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "run", "--quiet", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@dataclass
class Seen:
    """What the database held at one kill."""

    events: dict[int, object] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)  # task -> how often it had begun


@dataclass
class Tally:
    """What all kills came to."""

    kills: int = 0
    runs: int = 0
    too_early: int = 0  # killed before the database knew of the run
    lost: int = 0
    repeated: int = 0
    differing: int = 0
    integrity_failures: int = 0
    ended_before_kill: int = 0  # kills that came too late


def look(folder: Path, run_id: str) -> Seen:
    """The stored events of the run, and how often the tasks that had ended had begun."""
    with contextlib.closing(Queries(folder / ".maos/maos.db")) as queries:
        events = queries.events(run_id, with_output=True)
    ended = [event.task for event in events if isinstance(event, TaskFinished) and event.final]
    return Seen(events={event.seq: event for event in events}, ended={task: began(folder, task) for task in ended})


def began(folder: Path, task: str) -> int:
    """How many attempts of `task` began."""
    path = folder / "began" / task
    return len(path.read_text().splitlines()) if path.exists() else 0


def result(folder: Path, run_id: str) -> tuple[Mapping[str, str], Mapping[str, bytes]]:
    """States by task and contents by file, at a run's end."""
    with contextlib.closing(Queries(folder / ".maos/maos.db")) as queries:
        events = queries.events(run_id)
    if not isinstance(events[-1], RunFinished):
        sys.exit(f"run {run_id} has no end")
    states = {event.task: str(event.state) for event in events if isinstance(event, TaskFinished) and event.final}
    return states, {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


def latest(folder: Path) -> str | None:
    """The run in the database, where it has one."""
    try:
        with contextlib.closing(Queries(folder / ".maos/maos.db")) as queries:
            return queries.latest_run_id()
    except StoreError:  # killed before it was made
        return None


def whole(folder: Path) -> bool:
    """Whether SQLite finds nothing wrong."""
    with contextlib.closing(connect_read_only(folder / ".maos/maos.db")) as connection:
        return not check_integrity(connection)


def survive(
    folder: Path, text: str, undisturbed: object, tally: Tally, rng: random.Random, *, kills: int, usual_s: float
) -> None:
    """One run, killed and resumed until it ends (or until there were enough kills: then it is let to end)."""
    fresh(folder, text)
    seen: list[Seen] = []
    run_id: str | None = None
    while True:
        process = start(folder, *(("--resume", run_id) if run_id else ()))
        enough = tally.kills >= kills
        try:
            process.wait(_LONGEST_S if enough else rng.uniform(0.0, usual_s))
        except subprocess.TimeoutExpired:
            if enough:
                sys.exit("a run hangs")
            os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
        if process.returncode != -signal.SIGKILL:
            if process.returncode not in (0, 1):  # some tasks fail, as they should
                sys.exit(f"maos ended with {process.returncode}: {said.decode()}")
            tally.ended_before_kill += not enough
            break
        tally.kills += 1
        run_id = latest(folder)
        if run_id is None:
            tally.too_early += 1
            continue
        tally.integrity_failures += not whole(folder)
        seen.append(look(folder, run_id))
        if any(isinstance(event, RunFinished) for event in seen[-1].events.values()):
            break  # it had ended, and was killed on its way out
    tally.runs += 1
    run_id = latest(folder) or ""
    tally.integrity_failures += not whole(folder)
    final = look(folder, run_id)
    for each in seen:
        tally.lost += sum(final.events.get(seq) != event for seq, event in each.events.items())
        tally.repeated += sum(began(folder, task) != count for task, count in each.ended.items())
    tally.differing += result(folder, run_id) != undisturbed


def measure(kills: int, seed: int, *, tasks: int = TASKS) -> dict[str, float | int]:
    """All figures of so many kills; the same seed asks for the same moments, but machines differ."""
    rng = random.Random(seed)
    text = spec_text(tasks, rng)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="kill-") as scratch:
        calm = fresh(Path(scratch) / "calm", text)
        begun = time.monotonic()
        process = start(calm)
        process.communicate(timeout=_LONGEST_S)
        usual_s = time.monotonic() - begun
        undisturbed = result(calm, latest(calm) or "")
        begun = time.monotonic()
        while tally.kills < kills:
            folder = Path(scratch) / f"run-{tally.runs}"
            survive(folder, text, undisturbed, tally, rng, kills=kills, usual_s=usual_s)
    return {
        "kills": tally.kills,
        "lost": tally.lost,
        "repeated": tally.repeated,
        "integrity_failures": tally.integrity_failures,
        "differing": tally.differing,
        "runs": tally.runs,
        "killed_before_stored": tally.too_early,
        "tasks": tasks,
        "undisturbed_s": usual_s,
        "all_s": time.monotonic() - begun,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills instead of {FULL_KILLS}")
    parser.add_argument("--data", help="not used")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(QUICK_KILLS if options.quick else FULL_KILLS, options.seed)
    emit({**figures, "seed": options.seed}, options.json)
    if any(figures[name] for name in ("lost", "repeated", "integrity_failures", "differing")):
        sys.exit(1)


if __name__ == "__main__":
    main()
