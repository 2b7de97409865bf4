"""Runs with real processes: what each kind of task comes to, and what is left behind (nothing)."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from maos_bot.events import OutputChunk, RunEvent, RunFinished, TaskStarted
from maos_bot.execution.orchestrator import Orchestrator
from maos_bot.execution.scheduler import Facts
from maos_bot.model import ExecutionMode, Trigger
from maos_bot.planning.planner import make_plan
from maos_bot.redact import Redactor
from maos_bot.reporting.report import RunReport, report_of
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.runner import probe
from maos_bot.spec.load import parse_spec

Runner = Callable[..., tuple[RunReport, list[RunEvent]]]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run a spec given as text in a folder of its own; returns the report and the events."""

    def run_spec(
        text: str,
        *,
        mode: ExecutionMode = ExecutionMode.PIPELINED,
        environ: dict[str, str] | None = None,
        secrets: tuple[str, ...] = (),
        cancel_after_s: float | None = None,
    ) -> tuple[RunReport, list[RunEvent]]:
        spec = parse_spec("version: 1\n" + text, path=".maos.yml")
        limits = resolve_limits(spec, {}, probe(tmp_path))
        events: list[RunEvent] = []
        orchestrator = Orchestrator(
            run_id="20261123-000000-test01",
            spec=spec,
            tasks=spec.tasks,
            plan=make_plan(spec.tasks, limits=limits, mode=mode, strategy=spec.strategy),
            facts=Facts(),
            trigger=Trigger(),
            root=tmp_path,
            emit=events.append,
            redactor=Redactor(secrets),
            environ={**os.environ, **(environ or {})},
        )

        async def go() -> None:
            if cancel_after_s is not None:
                asyncio.get_running_loop().call_later(cancel_after_s, orchestrator.cancel, "asked to")
            await orchestrator.run()

        asyncio.run(go())
        return report_of(events), events

    return run_spec


def output_of(events: list[RunEvent], task: str) -> str:
    return "".join(event.text for event in events if isinstance(event, OutputChunk) and event.task == task)


def alive(pattern: str) -> bool:
    return subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False).returncode == 0


def test_outcomes_of_every_kind(run: Runner) -> None:
    report, events = run(
        """
tasks:
  good: {run: "echo hello; echo there >&2"}
  bad: {run: "exit 3"}
  behind: {run: "true", needs: [bad]}
  tolerated: {run: "exit 4", continue-on-error: true}
  after: {run: "true", needs: [tolerated]}
  missing: {run: no-such-command-here}
  slow: {run: "sleep 30", timeout-minutes: 0.005}
  lost: {run: "true", working-directory: nowhere}
  killed: {run: "kill -9 $$"}
  agent: {agent: "think"}
"""
    )
    states = {task.id: (str(task.state), task.exit_code) for task in report.tasks.values()}
    assert states["good"] == ("succeeded", 0)
    assert states["bad"] == ("failed", 3)
    assert states["behind"][0] == "upstream_failed"
    assert states["tolerated"] == ("failed", 4)
    assert states["after"] == ("succeeded", 0)
    assert states["missing"] == ("failed", 127)
    assert "command not found" in report.tasks["missing"].reason
    assert states["slow"][0] == "timed_out"
    assert "nowhere" in report.tasks["lost"].reason
    assert states["killed"] == ("failed", 137)
    assert "SIGKILL" in report.tasks["killed"].reason
    assert report.exit_code == 1
    assert sorted(output_of(events, "good").split()) == ["hello", "there"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(one.at <= two.at for one, two in itertools.pairwise(events))


def test_all_modes_give_the_same_outcomes_and_files(run: Runner, tmp_path: Path) -> None:
    text = """
tasks:
  a: {run: "echo a > a.txt"}
  b: {run: "cat a.txt > b.txt; echo b >> b.txt", needs: [a]}
  c: {run: "cat a.txt > c.txt; exit 1", needs: [a]}
  d: {run: "cat b.txt c.txt > d.txt", needs: [b, c]}
"""
    seen = []
    for mode in (ExecutionMode.SEQUENTIAL, ExecutionMode.PARALLEL, ExecutionMode.PIPELINED):
        report, _ = run(text, mode=mode)
        files = {path.name: path.read_text() for path in tmp_path.glob("*.txt")}
        seen.append(({task.id: task.state for task in report.tasks.values()}, files))
        for path in tmp_path.glob("*.txt"):
            path.unlink()
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][1]["b.txt"] == "a\nb\n"


def test_a_retry_follows_after_its_delay_and_counts(run: Runner, tmp_path: Path) -> None:
    report, events = run(
        """
tasks:
  flaky: {run: "echo x >> tries; test $(wc -l < tries) -ge 3", max-attempts: 3}
"""
    )
    assert report.tasks["flaky"].state == "succeeded"
    assert report.tasks["flaky"].attempts == 3
    assert [event.attempt for event in events if isinstance(event, TaskStarted)] == [1, 2, 3]


def test_a_task_that_prints_300_mb_doesnt_grow_us(run: Runner) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report, events = run(
        f"""
tasks:
  loud: {{run: "{sys.executable} -c 'import sys; [sys.stdout.write(\\"x\\" * 1023 + chr(10)) for _ in range(300000)]'"}}
"""
    )
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert report.tasks["loud"].output_bytes == 300_000 * 1024
    assert len(output_of(events, "loud")) <= 512 * 1024
    assert grown_mb < 50


def test_nothing_of_a_task_outlives_it(run: Runner) -> None:
    token = f"orphan{os.getpid()}"
    report, _ = run(
        f"""
tasks:
  leaves: {{run: "(exec -a {token}a sleep 60) & setsid bash -c 'exec -a {token}b sleep 60' & sleep 0.3"}}
  stubborn:
    run: |
      trap '' TERM
      (trap '' TERM; exec -a {token}c sleep 60) &
      sleep 60
    timeout-minutes: 0.005
"""
    )
    assert report.tasks["leaves"].state == "succeeded"
    assert report.tasks["stubborn"].state == "timed_out"
    assert not alive(token)


def test_a_cancelled_run_is_over_within_7_seconds_and_recorded(run: Runner) -> None:
    began = time.monotonic()
    report, events = run(
        """
tasks:
  deaf: {run: "trap '' TERM INT; while true; do sleep 1; done"}
  calm: {run: "sleep 60"}
  waiting: {run: "true", needs: [calm]}
""",
        cancel_after_s=0.5,
    )
    assert time.monotonic() - began < 7
    assert {str(task.state) for task in report.tasks.values()} == {"cancelled"}
    assert isinstance(events[-1], RunFinished)
    assert (report.status, report.exit_code) == ("cancelled", 130)


def test_secrets_reach_no_task_and_no_event(run: Runner) -> None:
    report, events = run(
        """
tasks:
  look: {run: "env; echo s3cr3t-value-42"}
""",
        environ={"GITHUB_TOKEN": "ghs_abcdefghijklmnopqrstuvwxyz", "MY_SECRET": "s3cr3t-value-42", "PLAIN": "seen"},
        secrets=("s3cr3t-value-42",),
    )
    said = output_of(events, "look")
    assert "PLAIN=seen" in said
    assert "GITHUB_TOKEN" not in said
    assert "MY_SECRET" not in said
    assert "s3cr3t" not in str(events)
    assert "***" in said
    assert report.exit_code == 0


def test_two_hundred_tasks_end_once_each(run: Runner) -> None:
    text = "tasks:\n" + "".join(
        f"  t{number}: {{run: 'true', needs: [{f't{number - 7}' if number >= 7 else ''}]}}\n" for number in range(200)
    )
    report, _ = run(text)
    assert report.counts == {"succeeded": 200}


def test_signals_end_the_whole_program_cleanly(tmp_path: Path) -> None:
    spec = "version: 1\ntasks:\n  a: {run: touch up; sleep 60}\n  b: {run: 'true', needs: [a]}\n"
    (tmp_path / ".maos.yml").write_text(spec)
    process = subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "run", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 30
    while not (tmp_path / "up").exists():
        assert time.monotonic() < until, "the task did not start in time"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 7
    assert process.returncode == 130, err
    assert '"status": "cancelled"' in out, err
    assert "Traceback" not in err
