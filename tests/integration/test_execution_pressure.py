"""With no memory left on the machine, the task that loses least is put back and runs again; the run goes on."""

from __future__ import annotations

import asyncio
import functools
import sys
from pathlib import Path

import pytest

from maos_bot.events import RunEvent, TaskFinished, TaskStarted
from maos_bot.execution import guard
from maos_bot.execution.orchestrator import Orchestrator
from maos_bot.model import TaskState
from maos_bot.resources.pressure import Gauge
from tests.integration.running import command, run

# Holds 40 MB until the file `free` is there.
HOLD = f"{sys.executable} -c \"import os,time; held = b'x' * (40 << 20); open('up' + os.environ['MAOS_TASK'], 'w')\n"
HOLD += "while not os.path.exists('free'): time.sleep(0.01)\""


@pytest.fixture
def meminfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the guard believes to be the machine's memory; as it is written, plenty."""
    path = tmp_path / "proc" / "meminfo"
    path.parent.mkdir()
    (tmp_path / "cgroup").mkdir()
    say(path, 4000)
    monkeypatch.setattr(guard, "Gauge", functools.partial(Gauge, proc=path.parent, cgroup=tmp_path / "cgroup"))
    monkeypatch.setattr(guard, "_LOOK_S", 0.05)
    return path


def say(meminfo: Path, left_mb: int) -> None:
    meminfo.write_text(f"MemTotal: {8000 * 1024} kB\nMemAvailable: {left_mb * 1024} kB\n")


def test_the_youngest_is_put_back_and_runs_again_when_there_is_room(tmp_path: Path, meminfo: Path) -> None:
    def watch(event: RunEvent, _: Orchestrator) -> None:
        if isinstance(event, TaskFinished) and not event.final:
            say(meminfo, 4000)
            (tmp_path / "free").touch()

    def when_young_is_up(_: Orchestrator) -> None:
        if (tmp_path / "upyoung").exists():
            say(meminfo, 80)
        else:
            asyncio.get_running_loop().call_later(0.01, when_young_is_up, _)

    old = command("old", HOLD, estimate_s=1.0)
    first = command("first", "while ! [ -e upold ]; do sleep 0.01; done; sleep 0.3")
    young = command("young", HOLD, estimate_s=9.0, needs=("first",))
    ran = run(tmp_path, old, first, young, during=when_young_is_up, watch=watch)
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    back, _ = ran.of(TaskFinished, "young")
    assert isinstance(back, TaskFinished)
    assert (back.state, back.final, back.retry_in_s) == (TaskState.CANCELLED, False, 0.0)
    assert back.reason.startswith("put back: only 80 MB of memory were left, and it held ")
    again = ran.of(TaskStarted, "young")[1]
    assert isinstance(again, TaskStarted)
    assert again.wait_reason.startswith(back.reason)
    assert again.attempt == 2
    assert len(ran.of(TaskFinished, "old")) == 1


def test_what_was_put_back_waits_until_there_is_less_to_run_beside(tmp_path: Path, meminfo: Path) -> None:
    def watch(event: RunEvent, _: Orchestrator) -> None:
        if isinstance(event, TaskFinished) and not event.final:
            say(meminfo, 200)  # more than the floor, still tight
            (tmp_path / "free").touch()

    def during(_: Orchestrator) -> None:
        say(meminfo, 80)

    ran = run(tmp_path, command("a", HOLD), command("b", HOLD), during=during, watch=watch)
    (again,) = [event for event in ran.of(TaskStarted) if isinstance(event, TaskStarted) and event.attempt == 2]
    assert again.wait_reason.endswith("; agents: 1 of 1 busy (scaled down from 4: 80 MB of memory left)")
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}


def test_a_task_that_needs_the_whole_machine_is_ended_with_the_reason(tmp_path: Path, meminfo: Path) -> None:
    ran = run(tmp_path, command("alone", HOLD), during=lambda _: say(meminfo, 80))
    end = ran.end("alone")
    assert end.state is TaskState.FAILED
    assert end.reason.startswith("ended to keep the machine alive: only 80 MB of memory were left, and it held ")
