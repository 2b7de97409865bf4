"""A task that takes more than it may is ended with the reason, and its neighbours live on.

The hogs are bounded: none takes more than a gigabyte, no bomb more than 600 processes, and all end by themselves.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from maos_bot.execution.tree import has_marker, process_table
from maos_bot.model import MEMORY, PROCESSES, TaskState
from tests.integration.running import RUN_ID, Ran, command, run

SLOW = "import time\nheld = []\nfor _ in range(1000): held.append(b'x' * 2**20); time.sleep(0.001)\n"
FAST = "import time\nheld = b'x' * 2**30\ntime.sleep(3)\n"
GENTLE = "import time\nheld = b'x' * (40 * 2**20)\ntime.sleep(0.5)\n"
# Each process starts three more and stays a while: 3 + 9 + ... unless it is held. `$1` is the depth.
BOMB = """b() { [ "$1" -lt 5 ] && for i in 1 2 3; do b $(($1 + 1)) & done; sleep 20; }; b 0"""
ESCAPING_BOMB = """cat > b.sh <<'EOF'
[ "$1" -lt 5 ] && for i in 1 2 3; do setsid bash b.sh $(($1 + 1)) & done
sleep 20
EOF
bash b.sh 0"""


def python(code: str) -> str:
    """A command that runs `code`."""
    return f"{sys.executable} - <<'EOF'\n{code}EOF\n"


def left_over() -> list[int]:
    """The living processes that a run of these tests has started."""
    return [
        proc.pid
        for proc in process_table().values()
        if not proc.zombie and has_marker(proc.pid, f"MAOS_RUN_ID={RUN_ID}".encode())
    ]


def used_mb(ran: Ran, task: str, limit: int) -> float:
    """What `task` is said to have used when it was ended for being over `limit`."""
    end = ran.end(task)
    words = end.reason.split()
    assert end.state is TaskState.FAILED
    assert (words[0], words[2:]) == ("used", ["MB", "of", str(limit), "MB"])
    return float(words[1])


@pytest.mark.parametrize("hog", [SLOW, FAST], ids=["slow", "fast"])
def test_a_task_over_its_memory_fails_with_what_it_used(tmp_path: Path, hog: str) -> None:
    ran = run(tmp_path, command("hog", python(hog), demand={MEMORY: 128.0}))
    assert used_mb(ran, "hog", 128) >= 128
    peak = ran.end("hog").peak_memory_mb
    assert peak is not None
    assert 128 <= peak < 1000  # how little over it is: `benchmarks/limits`, on a machine of its own
    assert left_over() == []


def test_the_memory_of_all_processes_of_a_task_counts(tmp_path: Path) -> None:
    each = f"{sys.executable} -c \"import time; held = b'x' * (80 * 2**20); time.sleep(3)\" &"
    ran = run(tmp_path, command("hog", f"{each} {each} {each} wait", demand={MEMORY: 160.0}))
    assert used_mb(ran, "hog", 160) >= 160


def test_pages_that_forked_processes_share_count_once(tmp_path: Path) -> None:
    code = (
        "import os, time\nheld = b'x' * (100 * 2**20)\n"
        "for _ in range(4):\n"
        "    if not os.fork(): time.sleep(0.5); os._exit(0)\n"
        "for _ in range(4): os.wait()\n"
    )
    ran = run(tmp_path, command("forks", python(code), demand={MEMORY: 200.0}))
    end = ran.end("forks")
    assert (end.state, end.reason) == (TaskState.SUCCEEDED, "")
    assert end.peak_memory_mb is not None
    assert 100 < end.peak_memory_mb < 200


def test_a_task_under_its_memory_is_left_alone(tmp_path: Path) -> None:
    ran = run(tmp_path, command("gentle", python(GENTLE), demand={MEMORY: 200.0}))
    assert ran.end("gentle").state is TaskState.SUCCEEDED


def test_a_task_that_was_over_and_ended_before_anybody_looked_failed_too(tmp_path: Path) -> None:
    quick = "held = b'x' * (300 * 2**20)\n"
    ran = run(tmp_path, command("quick", python(quick), demand={MEMORY: 200.0}))
    assert used_mb(ran, "quick", 200) >= 200


def test_four_hogs_at_once_don_t_end_their_neighbour(tmp_path: Path) -> None:
    hogs = [command(f"hog{number}", python(FAST), demand={MEMORY: 100.0}) for number in range(4)]
    ran = run(tmp_path, *hogs, command("neighbour", python(GENTLE), demand={MEMORY: 200.0}), slots=5)
    states = ran.states()
    assert states.pop("neighbour") is TaskState.SUCCEEDED
    assert set(states.values()) == {TaskState.FAILED}
    for hog in hogs:
        assert used_mb(ran, hog.id, 100) >= 100


@pytest.mark.parametrize("bomb", [BOMB, ESCAPING_BOMB], ids=["fork", "setsid"])
def test_a_fork_bomb_is_held_and_nothing_of_it_is_left(tmp_path: Path, bomb: str) -> None:
    tasks = (command("bomb", bomb, shell="bash"), command("neighbour", "sleep 0.5"))
    ran = run(tmp_path, *tasks, more_limits={PROCESSES: 60.0})
    end = ran.end("bomb")
    assert end.state is TaskState.FAILED
    assert end.reason.endswith("processes at once of at most 60")
    assert ran.states()["neighbour"] is TaskState.SUCCEEDED
    assert left_over() == []


def test_many_short_processes_are_no_bomb(tmp_path: Path) -> None:
    ran = run(
        tmp_path,
        command("many", "for i in $(seq 300); do /bin/true; done", shell="bash"),
        more_limits={PROCESSES: 40.0},
    )
    assert ran.end("many").state is TaskState.SUCCEEDED


def test_a_retry_of_a_task_over_its_memory_counts_as_any_other(tmp_path: Path) -> None:
    ran = run(tmp_path, command("hog", python(FAST), demand={MEMORY: 64.0}, max_attempts=2, retry_delay_s=0.0))
    assert ran.end("hog").attempt == 2
