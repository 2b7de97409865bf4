"""Pressure and cgroups as the kernel's files tell them, v1 and v2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from maos_bot.resources.cgroup import cgroups
from maos_bot.resources.pressure import Gauge, Pressure
from maos_bot.resources.runner import probe

MIB = 2**20
MEMINFO = "MemTotal:        8192000 kB\nMemFree:          100000 kB\nMemAvailable:    4096000 kB\n"


def stalls(micros: int) -> str:
    return f"some avg10=1.00 avg60=0.10 avg300=0.00 total={micros}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    write(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/job\n", "cgroup/.keep": ""})
    return tmp_path


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def gauge(root: Path) -> Gauge:
    return Gauge(proc=root / "proc", cgroup=root / "cgroup")


def test_stalls_are_the_share_of_the_time_between_two_looks(system: Path) -> None:
    write(system, {"proc/pressure/memory": stalls(1_000_000), "proc/pressure/cpu": stalls(0)})
    it = gauge(system)
    assert it.pressure(10.0) == Pressure(memory_percent=None, cpu_percent=None)
    write(system, {"proc/pressure/memory": stalls(1_460_000), "proc/pressure/cpu": stalls(2_000_000)})
    later = it.pressure(12.0)
    assert later.memory_percent == pytest.approx(23.0)
    assert later.cpu_percent == 100.0


def test_our_own_cgroup_s_stalls_come_before_the_machine_s(system: Path) -> None:
    write(system, {"proc/pressure/memory": stalls(0), "cgroup/job/memory.pressure": stalls(0)})
    assert gauge(system).sources == (str(system / "cgroup/job/memory.pressure"),)


def test_without_pressure_files_pressure_is_unknown(system: Path) -> None:
    it = gauge(system)
    it.pressure(1.0)
    assert it.sources == ()
    assert it.pressure(2.0) == Pressure(memory_percent=None, cpu_percent=None)


def test_what_is_left_is_the_least_of_machine_and_cgroup_and_caches_count_as_free(system: Path) -> None:
    assert gauge(system).left_mb() == 4000.0
    job = {"memory.max": f"{1000 * MIB}", "memory.current": f"{900 * MIB}"}
    write(system, {f"cgroup/job/{name}": value for name, value in job.items()})
    assert gauge(system).left_mb() == 100.0
    write(system, {"cgroup/job/memory.stat": f"anon 1\ninactive_file {200 * MIB}\nactive_file {50 * MIB}\n"})
    it = gauge(system)
    assert it.left_mb() == 350.0
    assert it.floor_mb == 30.0
    assert probe(system, proc=system / "proc", cgroup=system / "cgroup").available_mb == 350.0


def test_a_machine_that_says_nothing_has_no_floor(tmp_path: Path) -> None:
    it = gauge(tmp_path)
    assert (it.left_mb(), it.floor_mb) == (None, None)


def test_processes_are_bounded_by_the_kernel_and_the_cgroup(system: Path) -> None:
    write(system, {"proc/loadavg": "0.1 0.2 0.3 2/100 4711\n", "proc/sys/kernel/pid_max": "32768\n"})
    runner = probe(system, proc=system / "proc", cgroup=system / "cgroup")
    assert (runner.processes_free, runner.processes_reason) == (32668, "32768 process ids (kernel.pid_max)")
    write(system, {"cgroup/job/pids.max": "512\n", "cgroup/job/pids.current": "12\n"})
    runner = probe(system, proc=system / "proc", cgroup=system / "cgroup")
    assert (runner.processes_free, runner.processes_reason) == (500, "the cgroup's limit (pids.max)")


@pytest.mark.parametrize(
    ("lines", "files", "version", "reason"),
    [
        ("", {}, "none", "there is no cgroup v2 here"),
        ("4:memory:/job\n1:cpu:/\n", {}, "v1", "there is no cgroup v2 here"),
        ("0::/job\n", {"job/cgroup.controllers": "cpu\n"}, "v2", "cgroup v2 has no controller for memory and pids"),
        (
            "4:memory:/\n0::/\n",
            {"unified/cgroup.procs": "", "unified/cgroup.controllers": "hugetlb\n"},
            "hybrid",
            "cgroup v2 has no controller for memory and pids",
        ),
        (
            "0::/job\n",
            {"job/cgroup.controllers": "cpu memory pids\n", "job/cgroup.subtree_control": ""},
            "v2",
            "our cgroup can be written",
        ),
    ],
)
def test_which_cgroups_rule_is_told(
    system: Path, lines: str, files: Mapping[str, str], version: str, reason: str
) -> None:
    write(system, {"proc/self/cgroup": lines, **{f"cgroup/{name}": text for name, text in files.items()}})
    found = cgroups(system / "proc", system / "cgroup")
    assert (found.version, found.reason) == (version, reason)
    assert found.writable == (reason == "our cgroup can be written")
