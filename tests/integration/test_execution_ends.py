"""However an attempt ends, its whole tree ends with it, in bounded time, and nobody else's does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maos_bot.events import OutputChunk, RunEvent, TaskFinished, TaskStarted
from maos_bot.execution import process
from maos_bot.execution.orchestrator import Orchestrator
from maos_bot.execution.tree import end_marked, our_children, process_table
from maos_bot.model import TaskState
from tests.integration.running import command, lives, run

STUBBORN = "trap '' TERM INT HUP; echo up; while :; do sleep 0.05; done"


def pids(folder: Path) -> list[int]:
    """The process ids that a task's processes wrote down, one file each."""
    return [int(path.read_text()) for path in sorted(folder.glob("*.pid"))]


def gone(*processes: int, within_s: float = 1.0) -> bool:
    """Whether all of them end within that time."""
    until = time.monotonic() + within_s
    while any(lives(pid) for pid in processes) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(lives(pid) for pid in processes)


def test_a_timeout_ends_the_whole_tree(tmp_path: Path) -> None:
    script = "(echo $BASHPID > a.pid; sleep 60 & echo $! > b.pid; wait) & sleep 60 & echo $! > c.pid; echo up; wait"
    ran = run(tmp_path, command("it", script, timeout_s=0.5, shell="bash"))
    end = ran.end("it")
    assert (end.state, end.reason) == (TaskState.TIMED_OUT, "timed out after 0.5 s")
    assert len(pids(tmp_path)) == 3
    assert gone(*pids(tmp_path), within_s=0)
    assert 0.5 <= end.duration_s < 2.0
    assert ran.output("it") == "up\n"


def test_a_tree_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", f"({STUBBORN}) & echo $! > a.pid; {STUBBORN}", timeout_s=0.3, shell="bash"))
    assert ran.end("it").state is TaskState.TIMED_OUT
    assert 0.3 + process.GRACE_S <= ran.end("it").duration_s < 0.3 + process.GRACE_S + 1.0
    assert gone(*pids(tmp_path), within_s=0)


def test_the_grace_is_for_the_whole_tree_to_clean_up(tmp_path: Path) -> None:
    child = "trap 'sleep 0.4; echo cleaned > cleaned; exit' TERM; echo up; while :; do sleep 0.05; done"
    ran = run(tmp_path, command("it", f"({child}) & wait", timeout_s=0.4, shell="bash"))
    assert (tmp_path / "cleaned").read_text() == "cleaned\n"
    assert ran.end("it").duration_s < 0.4 + process.GRACE_S


def test_a_stopped_process_dies_too(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", "kill -STOP $$", timeout_s=0.3, shell="bash"))
    assert ran.end("it").state is TaskState.TIMED_OUT
    assert ran.end("it").duration_s < 1.5


@pytest.mark.parametrize(
    "leave",
    [
        "sleep 60 & echo $! > a.pid",
        "(sleep 60 & echo $! > a.pid) > /dev/null 2>&1",
        "setsid sleep 60 > /dev/null 2>&1 & echo $! > a.pid; sleep 0.1",
        "(setsid bash -c 'echo $$ > a.pid; exec sleep 60' &) ; sleep 0.2",
        "(setsid bash -c 'echo $$ > a.pid; trap \"\" TERM; sleep 60 & echo $! > b.pid; wait' >/dev/null &) ; sleep .2",
        "set -m; sleep 60 & echo $! > a.pid",
        "nohup sleep 60 > /dev/null 2>&1 & echo $! > a.pid",
    ],
)
def test_what_a_task_leaves_behind_is_gone_when_it_has_ended(tmp_path: Path, leave: str) -> None:
    alive: list[bool] = []

    def watch(event: RunEvent, _: Orchestrator) -> None:
        if isinstance(event, TaskFinished):
            alive.extend(lives(pid) for pid in pids(tmp_path))

    ran = run(tmp_path, command("it", f"{leave}; echo done", shell="bash"), watch=watch)
    assert ran.end("it").state is TaskState.SUCCEEDED
    assert ran.output("it").endswith("done\n")
    assert alive
    assert not any(alive)
    assert ran.wall_s < 2.0


HOLD = """import os, sys, threading, time
for _ in range(int(sys.argv[1])):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
held = b"1" * 600_000_000
open("a.pid", "w").write(str(os.getpid()))
time.sleep(60)
"""
HELD = "> /dev/null 2>&1 & while ! [ -s a.pid ]; do sleep 0.01; done"


@pytest.mark.parametrize(
    "script",
    [
        f"{sys.executable} hold.py 0 {HELD}",
        f"{sys.executable} hold.py 4 {HELD}",
        f"setsid {sys.executable} hold.py 0 {HELD}; kill -9 $(cat a.pid)",
    ],
    ids=["one-thread", "threads", "elsewhere"],
)
def test_a_task_has_not_ended_while_a_process_of_it_gives_back_its_memory(tmp_path: Path, script: str) -> None:
    (tmp_path / "hold.py").write_text(HOLD)
    alive: list[bool] = []

    def watch(event: RunEvent, _: Orchestrator) -> None:
        if isinstance(event, TaskFinished):  # its environment, by which it is known, is gone before it is
            threads = [len(list(Path(f"/proc/{pid}/task").glob("*"))) for pid in pids(tmp_path)]
            alive.extend(lives(pid) or count > 1 for pid, count in zip(pids(tmp_path), threads, strict=True))

    assert run(tmp_path, command("it", script, shell="bash"), watch=watch).end("it").state is TaskState.SUCCEEDED
    assert alive == [False]


def test_what_a_run_that_died_left_behind_is_gone_before_another_goes_on(tmp_path: Path) -> None:
    (tmp_path / "hold.py").write_text(HOLD)
    environ = {**os.environ, "MAOS_RUN_ID": tmp_path.name}
    left = subprocess.Popen([sys.executable, "hold.py", "0"], cwd=tmp_path, env=environ)
    while not pids(tmp_path):
        time.sleep(0.01)
    assert end_marked(f"MAOS_RUN_ID={tmp_path.name}".encode())
    assert not lives(left.pid)
    left.wait()


def test_a_daemon_that_hid_its_environment_ends_with_the_run(tmp_path: Path) -> None:
    leave = "(env -i /usr/bin/setsid /bin/sh -c 'echo $$ > a.pid; exec sleep 60' > /dev/null 2>&1 &) ; sleep 0.2"
    run(tmp_path, command("it", leave, shell="bash"))
    assert len(pids(tmp_path)) == 1
    assert gone(*pids(tmp_path))


def test_the_orphan_of_one_task_is_not_the_orphan_of_another(tmp_path: Path) -> None:
    daemon = "(setsid bash -c 'echo $$ > a.pid; exec sleep 60' > /dev/null 2>&1 &) ; sleep 0.2"
    alive: dict[str, bool] = {}

    def watch(event: RunEvent, _: Orchestrator) -> None:
        if isinstance(event, TaskFinished):
            alive[event.task] = lives(pids(tmp_path)[0])

    tasks = (command("owner", f"{daemon}; sleep 0.8"), command("other", "sleep 0.5; true"))
    run(tmp_path, *tasks, watch=watch)
    assert alive == {"other": True, "owner": False}


def test_processes_that_are_not_the_run_s_own_are_left_alone(tmp_path: Path) -> None:
    ours = subprocess.Popen(["sleep", "60"])
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        run(tmp_path, command("it", "(setsid sleep 60 > /dev/null 2>&1 &) ; sleep 0.1"))
        assert ours.poll() is None
        assert other.poll() is None
    finally:
        for child in (ours, other):
            child.kill()
            child.wait()


def test_no_zombie_is_left(tmp_path: Path) -> None:
    before = our_children()
    run(tmp_path, *(command(f"t{n}", "(sleep 0.05 &) ; setsid sleep 0.05 & sleep 0.01") for n in range(8)), slots=4)
    left = [process_table().get(pid) for pid in our_children() - before]
    assert not left


def test_a_task_that_prints_300_megabytes_costs_little_memory_and_time(tmp_path: Path) -> None:
    script = "yes 'a line of output that goes on for a while and then ends' | head -c 300000000; echo the end"
    runner = (
        "import resource, sys\nfrom pathlib import Path\nfrom tests.integration.running import command, run\n"
        "run(Path(sys.argv[1]), command('small', 'echo x'))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "ran = run(Path(sys.argv[1]), command('loud', sys.argv[2]), command('quiet', 'sleep 0.1; echo here'))\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "end, text = ran.end('loud'), ran.output('loud')\n"
        "assert end.output_bytes == 300_000_008, end\n"
        "assert end.output_bytes - end.omitted_bytes == len(text) <= 2 * 256 * 1024, (end, len(text))\n"
        "assert text.endswith('the end\\n') and text.startswith('a line')\n"
        "assert ran.output('quiet') == 'here\\n'\n"
        "assert grown < 12 * 1024, grown\n"
        "assert ran.wall_s < 20, ran.wall_s\n"
    )
    subprocess.run([sys.executable, "-c", runner, str(tmp_path), script], check=True)


def test_the_middle_that_was_dropped_is_counted_in_the_chunks(tmp_path: Path) -> None:
    ran = run(tmp_path, command("it", "seq 1 200000"))
    chunks = ran.of(OutputChunk, "it")
    shown = 0
    for chunk in chunks:
        assert chunk.offset == shown + chunk.omitted
        shown = chunk.offset + len(chunk.text)
    assert shown == ran.end("it").output_bytes
    assert sum(chunk.omitted for chunk in chunks) == ran.end("it").omitted_bytes > 0
    assert ran.output("it").endswith("\n199999\n200000\n")


def test_the_first_stop_cancels_in_order_and_records_everything(tmp_path: Path) -> None:
    def watch(event: RunEvent, orchestrator: Orchestrator) -> None:
        if isinstance(event, OutputChunk) and "up" in event.text:
            orchestrator.cancel("interrupted by SIGINT")

    ran = run(
        tmp_path,
        command("runs", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"),
        command("waits", "echo never", needs=("runs",)),
        command("queued", "echo never"),
        slots=1,
        watch=watch,
    )
    assert set(ran.states().values()) == {TaskState.CANCELLED}
    assert ran.end("runs").attempt == 1
    assert ran.end("runs").reason == "interrupted by SIGINT"
    assert ran.end("queued").attempt == 0
    said = ran.output("runs").splitlines()  # between the two a shell may say that its sleep was terminated
    assert (said[0], said[-1]) == ("up", "bye")
    assert (ran.finished.status, ran.finished.exit_code) == ("cancelled", 130)
    assert ran.wall_s < 2.0


def test_a_stop_ends_inside_7_seconds_even_where_sigterm_is_ignored(tmp_path: Path) -> None:
    stopped_at: list[float] = []

    def watch(event: RunEvent, orchestrator: Orchestrator) -> None:
        if isinstance(event, OutputChunk) and "up" in event.text and not stopped_at:
            stopped_at.append(time.monotonic())
            orchestrator.cancel("interrupted")

    tasks = [command(f"t{number}", f"({STUBBORN}) & {STUBBORN}", shell="bash") for number in range(4)]
    ran = run(tmp_path, *tasks, watch=watch)
    assert time.monotonic() - stopped_at[0] < 5.0
    assert set(ran.states().values()) == {TaskState.CANCELLED}
    assert not any(lives(event.pid) for event in ran.of(TaskStarted) if event.pid)


def test_the_second_stop_kills_at_once(tmp_path: Path) -> None:
    def watch(event: RunEvent, orchestrator: Orchestrator) -> None:
        if isinstance(event, OutputChunk) and "up" in event.text:
            orchestrator.cancel("interrupted")
            orchestrator.cancel("interrupted")

    ran = run(tmp_path, command("it", STUBBORN), watch=watch)
    assert ran.end("it").state is TaskState.CANCELLED
    assert ran.end("it").exit_code == 128 + signal.SIGKILL
    assert ran.wall_s < 1.5


def test_a_stop_while_a_retry_waits_ends_at_once(tmp_path: Path) -> None:
    def watch(event: RunEvent, orchestrator: Orchestrator) -> None:
        if isinstance(event, TaskFinished) and not event.final:
            orchestrator.cancel("interrupted")

    ran = run(tmp_path, command("it", "exit 1", max_attempts=2, retry_delay_s=60.0), watch=watch)
    assert ran.end("it").state is TaskState.CANCELLED
    assert ran.finished.exit_code == 130
    assert ran.wall_s < 1.5


def test_a_stop_that_finds_everything_done_changes_nothing(tmp_path: Path) -> None:
    def watch(event: RunEvent, orchestrator: Orchestrator) -> None:
        if isinstance(event, TaskFinished):
            orchestrator.cancel("interrupted")

    ran = run(tmp_path, command("it", "true"), watch=watch)
    assert (ran.finished.status, ran.finished.exit_code) == ("succeeded", 0)


def test_without_pidfds_an_end_is_noticed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _flags: int = 0) -> int:
        raise OSError("no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    ran = run(tmp_path, command("it", "sleep 0.1; exit 3"), command("late", "sleep 60", timeout_s=0.3))
    assert ran.end("it").exit_code == 3
    assert ran.end("late").state is TaskState.TIMED_OUT


def test_without_waitid_usage_is_measured_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(os, "waitid")
    ran = run(tmp_path, command("it", f"{sys.executable} -S -c 'sum(range(2000000))'"))
    assert ran.end("it").state is TaskState.SUCCEEDED
    assert (ran.end("it").cpu_s or 0) > 0.005
