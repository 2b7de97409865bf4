"""What the runner offers is read as a container would see it: affinity, quotas and limits anywhere up the hierarchy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from maos_bot.resources.runner import Runner, probe

V2 = "0::/jobs/one\n"
V1 = "5:cpu,cpuacct:/jobs/one\n4:memory:/jobs/one\n0::/\n"


def probed(folder: Path, cgroup: str, files: Mapping[str, str], *, total_mb: int = 8000, free_mb: int = 6000) -> Runner:
    """The probe's answer for a machine of `total_mb` whose cgroup file system holds `files`."""
    proc, system = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text(cgroup)
    (proc / "meminfo").write_text(f"MemTotal: {total_mb * 1024} kB\nMemAvailable: {free_mb * 1024} kB\n")
    for name, text in files.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)
    return probe(folder, proc=proc, cgroup=system)


def test_without_cgroups_the_machine_is_the_runner(tmp_path: Path) -> None:
    runner = probed(tmp_path, "", {})
    assert runner.cpus == len(os.sched_getaffinity(0))
    assert "affinity" in runner.cpu_reason
    assert (runner.memory_mb, runner.available_mb) == (8000, 6000)
    assert runner.disk_free_mb is not None
    assert runner.disk_free_mb > 0


@pytest.mark.parametrize("level", ["jobs/one", "jobs", ""])
def test_a_v2_limit_counts_wherever_it_stands_in_the_hierarchy(tmp_path: Path, level: str) -> None:
    at = f"{level}/" if level else ""
    files = {
        "jobs/one/memory.max": "max\n",
        "jobs/one/cpu.max": "max 100000\n",
        f"{at}cpu.max": "50000 100000\n",
        f"{at}memory.max": f"{512 * 2**20}\n",
        f"{at}memory.current": f"{100 * 2**20}\n",
    }
    runner = probed(tmp_path, V2, files)
    assert runner.cpus == 0.5
    assert "cpu.max" in runner.cpu_reason
    assert (runner.memory_mb, runner.available_mb) == (512, 412)
    assert "memory.max" in runner.memory_reason


def test_a_v1_quota_and_limit_count(tmp_path: Path) -> None:
    files = {
        "cpu/jobs/one/cpu.cfs_quota_us": "80000\n",
        "cpu/jobs/one/cpu.cfs_period_us": "100000\n",
        "memory/jobs/one/memory.limit_in_bytes": f"{256 * 2**20}\n",
        "memory/jobs/one/memory.usage_in_bytes": f"{56 * 2**20}\n",
    }
    runner = probed(tmp_path, V1, files)
    assert runner.cpus == 0.8
    assert (runner.memory_mb, runner.available_mb) == (256, 200)


def test_v1_s_way_to_say_unlimited_is_no_limit(tmp_path: Path) -> None:
    files = {
        "cpu/jobs/one/cpu.cfs_quota_us": "-1\n",
        "cpu/jobs/one/cpu.cfs_period_us": "100000\n",
        "memory/jobs/one/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/jobs/one/memory.usage_in_bytes": "1048576\n",
    }
    runner = probed(tmp_path, V1, files)
    assert runner.cpus == len(os.sched_getaffinity(0))
    assert (runner.memory_mb, runner.available_mb) == (8000, 6000)


def test_a_container_that_sees_the_host_s_path_reads_its_own_mount(tmp_path: Path) -> None:
    runner = probed(tmp_path, "0::/docker/4f2a9c\n", {"memory.max": f"{1024 * 2**20}\n", "memory.current": "0\n"})
    assert runner.memory_mb == 1024


def test_the_smallest_of_several_limits_counts(tmp_path: Path) -> None:
    files = {
        "memory.max": f"{4096 * 2**20}\n",
        "jobs/memory.max": f"{512 * 2**20}\n",
        "jobs/memory.current": f"{500 * 2**20}\n",
        "jobs/one/memory.max": f"{1024 * 2**20}\n",
        "jobs/one/memory.current": "0\n",
    }
    runner = probed(tmp_path, V2, files)
    assert (runner.memory_mb, runner.available_mb) == (512, 12)


def test_a_limit_above_what_the_machine_has_changes_nothing(tmp_path: Path) -> None:
    runner = probed(tmp_path, V2, {"jobs/one/memory.max": f"{2**50}\n", "jobs/one/memory.current": "0\n"})
    assert runner.memory_mb == 8000
    assert runner.available_mb == 6000


@pytest.mark.parametrize("text", ["", "garbage\n", "max", "0 0 0\n"])
def test_files_that_make_no_sense_are_passed_over(tmp_path: Path, text: str) -> None:
    files = {"jobs/one/cpu.max": text, "jobs/one/memory.max": text, "jobs/one/memory.current": text}
    runner = probed(tmp_path, V2, files)
    assert runner.cpus == len(os.sched_getaffinity(0))
    assert runner.memory_mb == 8000


def test_this_machine_can_be_probed() -> None:
    runner = probe()
    assert runner.cpus > 0
    assert runner.memory_mb is not None
    assert runner.available_mb is not None
    assert 0 < runner.available_mb <= runner.memory_mb
