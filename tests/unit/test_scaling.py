"""Slots go down fast under pressure and come back slowly when it is gone; what can't be measured presses nobody."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from maos_bot.resources.scaling import QUIET_S, SETTLE_S, STEP_S, Load, Scaled, Scaler

CALM = Load(now=0.0, running=8, memory_stall=0.0, cpu_stall=50.0, busy_percent=90.0, left_mb=4000.0)


def scaler(limit: int = 8, cpus: float = 2.0) -> Scaler:
    return Scaler(limit=limit, cpus=cpus, floor_mb=128.0)


def test_memory_stalls_halve_what_runs() -> None:
    scaled = scaler().follow(replace(CALM, memory_stall=23.4))
    assert scaled == Scaled(slots=4, reason="scaled down from 8: memory pressure 23 %")


def test_slots_that_nobody_uses_are_no_relief() -> None:
    scaled = scaler().follow(replace(CALM, running=3, memory_stall=23.0))
    assert scaled is not None
    assert scaled.slots == 1


def test_throttling_halves_too() -> None:
    scaled = scaler().follow(replace(CALM, throttled=3))
    assert scaled == Scaled(slots=4, reason="scaled down from 8: the provider throttled 3 requests")


def test_little_memory_lets_nothing_more_start() -> None:
    scaled = scaler().follow(replace(CALM, running=5, left_mb=200.0))
    assert scaled == Scaled(slots=5, reason="scaled down from 8: 200 MB of memory left")


def test_cpu_stalls_never_go_below_two_tasks_a_cpu() -> None:
    it = scaler(limit=16)
    now, slots = 0.0, []
    for _ in range(8):
        now += SETTLE_S
        if scaled := it.follow(replace(CALM, now=now, running=it.slots, cpu_stall=99.0)):
            slots.append(scaled.slots)
    assert slots == [12, 9, 7, 6, 5, 4]


def test_cpu_stalls_of_others_are_not_ours_to_mend() -> None:
    assert scaler().follow(replace(CALM, cpu_stall=99.0, busy_percent=20.0)) is None


def test_the_effect_of_a_step_down_is_waited_for() -> None:
    it = scaler()
    pressed = replace(CALM, memory_stall=50.0)
    assert it.follow(pressed)
    assert it.follow(replace(pressed, now=SETTLE_S / 2, running=4)) is None
    scaled = it.follow(replace(pressed, now=SETTLE_S, running=4))
    assert scaled is not None
    assert scaled.slots == 2


def test_slots_come_back_one_at_a_time_up_to_the_limit() -> None:
    it = scaler(limit=4)
    it.follow(replace(CALM, running=4, memory_stall=50.0))
    scaled = [(tick, it.follow(replace(CALM, now=float(tick), running=2))) for tick in range(1, 31)]
    assert [(tick, each.slots, each.reason) for tick, each in scaled if each] == [
        (QUIET_S, 3, "scaled down from 4: memory pressure 50 %"),
        (QUIET_S + STEP_S, 4, ""),
    ]


def test_what_is_unknown_changes_nothing() -> None:
    it = scaler()
    assert all(it.follow(Load(now=float(tick), running=8)) is None for tick in range(100))


@given(
    st.integers(1, 32),
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 32), st.floats(0, 100), st.floats(0, 9000), st.integers(0, 2))),
)
def test_slots_stay_between_one_and_the_limit_and_rise_by_one(
    limit: int, loads: list[tuple[float, int, float, float, int]]
) -> None:
    it = scaler(limit=limit)
    now = 0.0
    for passed, running, stall, left, throttled in loads:
        now += passed
        before = it.slots
        load = Load(now=now, running=running, memory_stall=stall, left_mb=left, throttled=throttled)
        scaled = it.follow(load)
        assert it.slots == (before if scaled is None else scaled.slots)
        assert 1 <= it.slots <= min(limit, before + 1)
    for _ in range(40):
        now += QUIET_S + STEP_S
        it.follow(Load(now=now, running=1, memory_stall=0.0, left_mb=9000.0))
    assert it.slots == limit
