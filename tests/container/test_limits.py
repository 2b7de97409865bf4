"""What the image makes of a container's limits, and that it stays inside them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.container.runner import Engine, Runner
from tests.e2e.events import git
from tests.e2e.github_stand_in import GitHubStandIn

ROOT = Path(__file__).parents[2]
SIZES = {"512m": 0.5, "1g": 1.0, "4g": 2.0}
MEGABYTES = {"512m": 512, "1g": 1024, "4g": 4096}


def flags(memory: str) -> list[str]:
    """The engine's flags for a container of that size, without swap to escape to."""
    return ["--memory", memory, "--memory-swap", memory, "--cpus", str(SIZES[memory])]


@pytest.fixture(scope="module", autouse=True)
def limits_work(engine: Engine) -> None:
    tried = engine.command("run", "--rm", *flags("512m"), engine.image, "--version")
    if tried.returncode != 0:
        pytest.skip(f"containers can't be limited here: {tried.stderr.strip().splitlines()[-1:]}")


@pytest.mark.parametrize("memory", SIZES)
def test_doctor_explains_the_limits_it_chose(engine: Engine, memory: str) -> None:
    said = json.loads(engine.command("run", "--rm", *flags(memory), engine.image, "doctor", "--json").stdout)
    assert said["cpus"] == min(SIZES[memory], os.cpu_count() or 1)
    assert said["memory_mb"] == MEGABYTES[memory]
    assert "cgroup" in said["memory_reason"]
    assert "cgroup" in said["cpu_reason"] or SIZES[memory] >= (os.cpu_count() or 1)
    assert said["available_mb"] < MEGABYTES[memory]
    limits = said["limits"]
    assert MEGABYTES[memory] * 0.7 < limits["memory-mb"]["value"] < MEGABYTES[memory]
    assert "memory limit" in limits["memory-mb"]["reason"]
    assert all(limit["reason"] for limit in limits.values())


@pytest.mark.parametrize("memory", SIZES)
def test_24_tasks_finish_in_a_small_container_and_nothing_is_killed(
    runner: Runner, github: GitHubStandIn, memory: str
) -> None:
    runner.check_out(ROOT)
    name = f"maos-24-{memory}-{os.getpid()}"
    inputs = {"spec": "examples/mixed.maos.yml", "comment": "false", "checks": "false", "events": "events.ndjson"}
    process = runner.start("push", push(), inputs=inputs, flags=flags(memory), name=name, keep=True)
    said = process.communicate(timeout=240)[0]
    state = engine_state(runner.engine, name)
    ended = runner.ended(process.returncode, said)
    assert ended.code == 0, said
    assert state["OOMKilled"] is False
    report = json.loads(ended.outputs["report-json"])
    assert len(report["tasks"]) == 24
    assert {task["state"] for task in report["tasks"].values()} == {"succeeded"}
    peak = report["peak"]["memory_mb"]
    assert peak < MEGABYTES[memory]
    print(f"{memory}, {SIZES[memory]} CPUs: {report['wall_s']:.1f} s, peak of tasks {peak:.0f} MB")


GREEDY = """\
version: 1
name: Greedy
tasks:
  greedy: {run: "python3 -c 'x = bytearray(180 << 20); import time; time.sleep(60)'", resources: {memory-mb: 100}}
  modest: {run: "true"}
"""


def test_a_task_over_its_memory_is_ended_by_us_and_not_by_the_kernel(
    runner: Runner, github: GitHubStandIn, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q")
    (source / ".maos.yml").write_text(GREEDY, encoding="utf-8")
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "first")
    runner.check_out(source)
    name = f"maos-greedy-{os.getpid()}"
    process = runner.start("push", push(), flags=flags("512m"), name=name, keep=True)
    said = process.communicate(timeout=120)[0]
    assert engine_state(runner.engine, name)["OOMKilled"] is False
    ended = runner.ended(process.returncode, said)
    assert ended.code == 1, said
    tasks = json.loads(ended.outputs["report-json"])["tasks"]
    assert tasks["modest"]["state"] == "succeeded"
    assert tasks["greedy"]["state"] == "failed"
    assert "MB of 100 MB" in ended.summary
    assert {run["name"]: run["conclusion"] for run in github.checks} == {
        "Greedy": "failure",
        "Greedy / greedy": "failure",
        "Greedy / modest": "success",
    }


def push() -> dict[str, Any]:
    """A `push` event of this checkout."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {
        "ref": "refs/heads/master",
        "after": head.stdout.strip(),
        "before": "0" * 40,
        "repository": {"full_name": "Codertocat/Hello-World", "default_branch": "master"},
    }


def engine_state(engine: Engine, name: str) -> dict[str, Any]:
    """How the engine saw the container end; it is removed."""
    inspected = engine.command("inspect", "--format", "{{json .State}}", name)
    engine.command("rm", "--force", name)
    state: dict[str, Any] = json.loads(inspected.stdout)
    return state
