"""Limits: a flag's, else the spec's, else sized to the runner; each with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maos_bot.errors import ConfigError
from maos_bot.model import AGENTS, CPU, MEMORY, PROCESSES, TOKENS, Spec, Task, Team
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.runner import Runner

RUNNER = Runner(
    cpus=2.0,
    cpu_reason="2 CPUs may be used (affinity)",
    memory_mb=8000.0,
    memory_reason="the machine's memory",
    available_mb=6000.0,
    disk_free_mb=10_000.0,
)
SPEC = Spec(path=".maos.yml", name="", tasks=(Task(id="a", run="true", demand={"database": 1.0}),))


def test_auto_fits_the_runner_and_says_why() -> None:
    limits = resolve_limits(SPEC, {}, RUNNER)
    assert {name: limit.value for name, limit in limits.items()} == {
        AGENTS: 4.0,
        MEMORY: 6000.0 - 256.0,
        CPU: 100.0,
        TOKENS: None,
        PROCESSES: 1000.0,
    }
    assert all(limit.reason.startswith("auto: ") for limit in limits.values())
    assert RUNNER.cpu_reason in limits[AGENTS].reason
    assert RUNNER.memory_reason in limits[MEMORY].reason


@pytest.mark.parametrize(("cpus", "slots"), [(0.5, 4), (2.0, 4), (2.5, 5), (16.0, 18)])
def test_slots_follow_the_cpus(cpus: float, slots: int) -> None:
    assert resolve_limits(SPEC, {}, replace(RUNNER, cpus=cpus))[AGENTS].value == slots


def test_agents_get_more_slots_than_cpus() -> None:
    spec = replace(SPEC, tasks=(*SPEC.tasks, Task(id="b", agent="Look.")))
    assert resolve_limits(spec, {}, RUNNER)[AGENTS].value == 8


def test_a_small_runner_keeps_a_tenth_and_an_unknown_one_has_no_memory_limit() -> None:
    assert resolve_limits(SPEC, {}, replace(RUNNER, available_mb=500.0))[MEMORY].value == 450.0
    limit = resolve_limits(SPEC, {}, replace(RUNNER, available_mb=None))[MEMORY]
    assert limit.value is None
    assert "unknown" in limit.reason


def test_the_spec_beats_auto_and_a_flag_beats_the_spec() -> None:
    spec = replace(SPEC, limits={MEMORY: 2048.0, AGENTS: 3.0, "database": 1.0})
    limits = resolve_limits(spec, {AGENTS: "6", "database": 2}, RUNNER)
    assert (limits[MEMORY].value, limits[MEMORY].reason) == (2048.0, "the spec")
    assert (limits[AGENTS].value, limits[AGENTS].reason) == (6.0, f"--limit {AGENTS}")
    assert limits["database"].value == 2.0
    assert resolve_limits(spec, {AGENTS: "auto"}, RUNNER)[AGENTS].value == 4.0


def test_a_team_s_workers_are_a_pool() -> None:
    spec = replace(SPEC, teams={"qa": Team(name="qa", max_concurrent_workers=2), "docs": Team(name="docs")})
    limits = resolve_limits(spec, {}, RUNNER)
    assert limits["team:qa"].value == 2.0
    assert "team:docs" not in limits


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"memory": "1"}, "did you mean memory-mb?"),
        ({"data-base": "1"}, "did you mean database?"),
        ({"zzz": "1"}, "known are "),
        ({AGENTS: "many"}, "not a number"),
        ({AGENTS: "-1"}, "not a number"),
        ({AGENTS: "nan"}, "not a number"),
        ({AGENTS: "inf"}, "not a number"),
        ({AGENTS: "0"}, "nothing could ever run"),
    ],
)
def test_an_override_that_cannot_be_is_refused_in_words(overrides: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_limits(SPEC, overrides, RUNNER)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2
