"""What a hundred measurements say; nothing where nothing was measured."""

from __future__ import annotations

import pytest

from maos_bot.model import AGENTS, CPU, MEMORY
from maos_bot.resources.monitor import POINTS, History, Point


def history(
    count: int, *, memory: float = 100.0, held: float = 400.0, cpu: float = 90.0, agents: float = 2.0
) -> History:
    it = History({MEMORY: 1000.0, CPU: 100.0, AGENTS: 4.0})
    for second in range(count):
        used = {MEMORY: memory + second, CPU: cpu}
        it.add(Point(at=float(second), used=used, held={MEMORY: held, AGENTS: agents}, left_mb=600.0 - second))
    return it


def test_nothing_measured_is_nothing_said() -> None:
    summary = History({}).summary()
    assert summary["efficiency_score"] is None
    assert summary["optimization_opportunities"] == []
    assert set(summary["resource_trends"].values()) == {None}
    assert summary["average"] == summary["peak"] == {}


def test_only_the_last_hundred_are_kept() -> None:
    it = history(250)
    assert len(it.points) == POINTS
    assert it.points[0].at == 150.0


def test_efficiency_is_used_over_held() -> None:
    assert history(1).efficiency() == 25.0
    assert history(1, memory=800.0).efficiency() == 100.0
    assert history(1, held=0.0).efficiency() is None


def test_trends_are_per_minute_and_say_how_long_memory_lasts() -> None:
    it = history(21)
    assert it.trends()["memory_mb_per_minute"] == pytest.approx(60.0)
    assert it.trends()["cpu_percent_per_minute"] == pytest.approx(0.0)
    assert it.forecast_s() == pytest.approx(580.0)


def test_advice_says_what_it_rests_on() -> None:
    assert history(4).hints() == []
    assert history(10).hints() == ["memory-mb: 26% of what was reserved was used: reserve less"]
    (hint,) = history(10, memory=300.0, cpu=12.0, agents=4.0).hints()
    why = "all 4 slots were busy 100% of the time, with 12 % of the CPU in use"
    assert hint == f"concurrent-agents: {why}: raise the limit"
    assert history(10, memory=1500.0).hints()[0].startswith("memory-mb: up to 1509 of 1000 MB were used")
