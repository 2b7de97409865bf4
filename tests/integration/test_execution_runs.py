"""A run as a whole: needs, conditions, retries, exit codes, samples, and what happens when something of ours breaks."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maos_bot.events import (
    ResourceSampled,
    RunEvent,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskReady,
    TaskStarted,
    from_dict,
    to_dict,
)
from maos_bot.execution.capture import Capture
from maos_bot.execution.orchestrator import Orchestrator
from maos_bot.execution.scheduler import Facts
from maos_bot.execution.tree import our_children
from maos_bot.model import ExecutionMode, Task, TaskState, When
from tests.integration.running import Ran, command, lives, run


def test_needs_run_in_order_and_independent_tasks_side_by_side(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        command("a", "sleep 0.3; echo a >> log"),
        command("b", "sleep 0.3; echo b >> log"),
        command("c", "echo c >> log", needs=("a", "b")),
    )
    assert (tmp_path / "log").read_text().splitlines()[-1] == "c"
    assert ran.wall_s < 0.6
    (ready,) = ran.of(TaskReady, "c")
    assert ready.freed_by in {"a", "b"}
    (started,) = ran.of(TaskStarted, "c")
    assert started.wait_reason.startswith("needs ")
    assert started.pid


def test_no_more_run_at_once_than_there_are_slots(tmp_path: Path) -> None:
    ran = run(tmp_path, *(command(f"t{number}", "sleep 0.05") for number in range(9)), slots=3)
    running = most = 0
    for event in ran.events:
        running += isinstance(event, TaskStarted)
        running -= isinstance(event, TaskFinished)
        most = max(most, running)
    assert most == 3
    assert any(event.queued_s > 0.04 and event.wait_reason for event in ran.of(TaskStarted))


def test_a_failure_reaches_all_behind_it_and_nobody_else(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        command("bad", "exit 2"),
        command("child", "true", needs=("bad",)),
        command("grandchild", "true", needs=("child",)),
        command("cleanup", "true", needs=("bad",), when=When(needs="any")),
        command("alarm", "true", needs=("bad",), when=When(needs="failed")),
        command("other", "true"),
    )
    assert ran.states() == {
        "bad": TaskState.FAILED,
        "child": TaskState.UPSTREAM_FAILED,
        "grandchild": TaskState.UPSTREAM_FAILED,
        "cleanup": TaskState.SUCCEEDED,
        "alarm": TaskState.SUCCEEDED,
        "other": TaskState.SUCCEEDED,
    }
    assert (ran.finished.status, ran.finished.exit_code, ran.finished.reason) == ("failed", 1, "failed: bad")


def test_continue_on_error_keeps_the_run_green(tmp_path: Path) -> None:
    ran = run(tmp_path, command("bad", "exit 2", continue_on_error=True), command("child", "true", needs=("bad",)))
    assert ran.states() == {"bad": TaskState.FAILED, "child": TaskState.SUCCEEDED}
    assert ran.finished.exit_code == 0


def test_a_retry_waits_longer_each_time_and_says_so(tmp_path: Path) -> None:
    script = "echo try $MAOS_ATTEMPT; echo x >> tries; test $(wc -l < tries) -ge 3"
    ran = run(tmp_path, command("it", script, max_attempts=4, retry_delay_s=0.1))
    ends = ran.of(TaskFinished, "it")
    assert [(end.attempt, end.state.value, end.final) for end in ends] == [
        (1, "failed", False),
        (2, "failed", False),
        (3, "succeeded", True),
    ]
    assert [end.retry_in_s for end in ends] == [pytest.approx(0.1), pytest.approx(0.2), None]
    starts = ran.of(TaskStarted, "it")
    for end, start in zip(ends, starts[1:], strict=False):
        assert end.retry_in_s is not None
        assert start.at - end.at >= end.retry_in_s
    assert ran.output("it") == "try 1\ntry 2\ntry 3\n"
    assert ran.finished.exit_code == 0


def test_a_time_out_is_retried_as_a_failure_is(tmp_path: Path) -> None:
    script = "test -e once && exit 0; touch once; sleep 60"
    ran = run(tmp_path, command("it", script, timeout_s=0.3, max_attempts=2, retry_delay_s=0.0))
    assert [end.state.value for end in ran.of(TaskFinished, "it")] == ["timed_out", "succeeded"]


def test_what_must_not_run_is_skipped_with_its_reason(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        command("docs", "touch ran", when=When(changed=("docs/**",))),
        command("behind", "touch ran", needs=("docs",)),
        Task(id="review", agent="Review this change."),
        facts=Facts(changed=frozenset({"src/a.py"}), unavailable={"review": "no model provider configured"}),
    )
    assert set(ran.states().values()) == {TaskState.SKIPPED}
    assert ran.end("review").reason == "no model provider configured"
    assert (ran.finished.status, ran.finished.exit_code) == ("nothing", 3)
    assert not (tmp_path / "ran").exists()


def test_all_modes_give_the_same_outcomes_and_files(tmp_path: Path) -> None:
    outcomes = {}
    for mode in (ExecutionMode.SEQUENTIAL, ExecutionMode.PARALLEL, ExecutionMode.PIPELINED):
        folder = tmp_path / mode.value
        folder.mkdir()
        ran = run(
            folder,
            command("a", "echo 1 > a"),
            command("b", "cat a a > b", needs=("a",)),
            command("c", "cat a b > c; exit 1", needs=("a", "b")),
            command("d", "cat c > d", needs=("c",)),
            command("e", "echo e > e", needs=("c",), when=When(needs="any")),
            mode=mode,
        )
        files = {path.name: path.read_text() for path in folder.iterdir()}
        outcomes[mode] = (ran.states(), files, ran.finished.exit_code)
    first = outcomes[ExecutionMode.SEQUENTIAL]
    assert all(outcome == first for outcome in outcomes.values())


def test_two_hundred_tasks_end_each_exactly_once(tmp_path: Path) -> None:
    tasks = [
        command(f"t{number}", f"echo {number}", needs=(f"t{number // 2}",) if number > 1 else ())
        for number in range(1, 201)
    ]
    ran = run(tmp_path, *tasks, slots=8)
    assert set(ran.states().values()) == {TaskState.SUCCEEDED}
    assert len(ran.of(TaskStarted)) == len(ran.of(TaskFinished)) == len(ran.of(TaskReady)) == 200
    assert all(ran.output(f"t{number}") == f"{number}\n" for number in range(1, 201))
    ended = {event.task: event.seq for event in ran.of(TaskFinished)}
    assert all(
        ended[need] < event.seq for event in ran.of(TaskStarted) for need in tasks[int(event.task[1:]) - 1].needs
    )


def test_the_stream_begins_and_ends_as_documented_and_survives_json(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", "echo hi"))
    assert isinstance(ran.events[0], RunStarted)
    assert isinstance(ran.events[-1], RunFinished)
    assert ran.events[0].limits["concurrent-agents"] == 4
    assert ran.events[0].tasks[0].estimate_s is not None
    assert [from_dict(to_dict(event)) for event in ran.events] == ran.events
    assert ran.finished.wall_s == pytest.approx(ran.finished.at - ran.events[0].at, abs=0.05)
    assert abs(ran.finished.at - time.time()) < 5


def test_trees_are_measured_each_second(tmp_path: Path) -> None:
    eater = "import time; x = bytearray(150 * 2**20); end = time.time() + 2.4\nwhile time.time() < end: pass"
    task = command("eats", f"{sys.executable} -S -c '{eater}' & wait", shell="bash")
    ran = run(tmp_path, task, command("idles", "sleep 2.4; true"))
    eats, idles, total = (ran.of(ResourceSampled, task) for task in ("eats", "idles", ""))
    total = [event for event in total if not event.task]
    assert len(eats) >= 2
    assert len(idles) >= 2
    assert len(total) >= 2
    assert all(150 < (event.memory_mb or 0) < 250 for event in eats)
    assert all(5 < (event.cpu_percent or 0) < 60 for event in eats)  # one of the two CPUs, on a machine that others use
    assert all((event.memory_mb or 0) < 20 for event in idles)
    assert [event.agents for event in total][:2] == [2, 2]
    assert (ran.end("eats").peak_memory_mb or 0) >= 150
    assert 0 < (ran.end("idles").peak_memory_mb or 0) < 20


def test_a_waiting_run_still_shows_that_it_lives(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", "exit 1", max_attempts=2, retry_delay_s=1.3))
    assert [event.agents for event in ran.of(ResourceSampled)] == [0]


def test_a_defect_of_ours_costs_its_task_and_is_raised_after_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Capture.feed

    def broken(self: Capture, data: bytes) -> None:
        if b"break" in data:
            raise RuntimeError("a defect")
        feed(self, data)

    monkeypatch.setattr(Capture, "feed", broken)
    events: list[RunEvent] = []

    def watch(event: RunEvent, _: Orchestrator) -> None:
        events.append(event)

    with pytest.raises(RuntimeError, match="a defect"):
        run(tmp_path, command("bad", "echo break; sleep 60"), command("good", "sleep 0.3; echo fine"), watch=watch)
    ran = Ran(events=events, wall_s=0)
    assert ran.states() == {"bad": TaskState.FAILED, "good": TaskState.SUCCEEDED}
    assert ran.end("bad").reason == "internal error: RuntimeError: a defect"
    assert (ran.finished.status, ran.finished.exit_code) == ("failed", 70)
    assert not lives(ran.pid("bad"))


@pytest.mark.parametrize("at", [TaskStarted, TaskFinished, ResourceSampled])
def test_a_sink_that_fails_stops_everything(tmp_path: Path, at: type[RunEvent]) -> None:
    def watch(event: RunEvent, _: Orchestrator) -> None:
        if type(event) is at:
            raise RuntimeError("the sink is broken")

    before = our_children()
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="the sink is broken"):
        run(tmp_path, command("long", "sleep 60"), command("short", "echo hi"), watch=watch)
    assert time.monotonic() - begun < 5
    assert our_children() <= before


def test_a_cancelled_coroutine_leaves_nothing_running(tmp_path: Path) -> None:
    def during(_: Orchestrator) -> None:
        current = asyncio.all_tasks()
        asyncio.get_running_loop().call_later(0.3, lambda: [task.cancel() for task in current])

    before = our_children()
    with pytest.raises(asyncio.CancelledError):
        run(tmp_path, command("long", "sleep 60"), during=during)
    assert our_children() <= before


def test_a_command_that_cannot_be_passed_is_a_failure_in_words(tmp_path: Path) -> None:
    ran = run(tmp_path, command("nul", "echo a\0b"), command("env", "echo x", env={"A": "\0"}), command("ok", "true"))
    assert ran.end("nul").state is TaskState.FAILED
    assert "could not start" in ran.end("nul").reason
    assert ran.end("env").state is TaskState.FAILED
    assert ran.end("ok").state is TaskState.SUCCEEDED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_line_stops_in_time_with_130(tmp_path: Path, number: signal.Signals) -> None:
    stubborn = "trap '' TERM INT; echo $$ > pid; while :; do sleep 0.05; done"
    tasks = f'  stubborn: {{run: "{stubborn}"}}\n  next: {{run: "true", needs: [stubborn]}}\n'
    (tmp_path / ".maos.yml").write_text(f"version: 1\nname: stop\ntasks:\n{tasks}")
    process = subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "run", "--quiet"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists() and time.monotonic() < until:
        time.sleep(0.02)
    stopped = time.monotonic()
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert time.monotonic() - stopped < 7
    assert not lives(int((tmp_path / "pid").read_text()))
    assert "Traceback" not in said
