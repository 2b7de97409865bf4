"""The ledger's books balance, whatever comes; and the dispatcher of a run keeps the same ones."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.model import ExecutionMode
from maos_bot.planning.demands import demand_of
from maos_bot.planning.dispatch import Dispatcher
from maos_bot.planning.planner import make_plan
from maos_bot.planning.problem import build_problem
from maos_bot.resources.ledger import Ledger, NotFreeError
from tests.unit.virtual_clock import Case, cases, often

NAMES = ("memory-mb", "cpu-percent", "concurrent-agents", "database")
amounts = st.dictionaries(st.sampled_from(NAMES), st.floats(0, 700), max_size=4)


def ledger() -> Ledger:
    return Ledger({"memory-mb": 2048.0, "cpu-percent": 80.0, "concurrent-agents": 8.0, "database": 1.0, "disk": None})


def test_a_lease_is_taken_whole_or_not_at_all() -> None:
    it = ledger()
    assert it.allocate("a", {"memory-mb": 1000, "database": 1}) is not None
    assert it.allocate("b", {"memory-mb": 500, "database": 1}) is None
    assert it.shortage({"memory-mb": 500, "database": 1}) == "database: 0 of 1 free, wants 1"
    assert it.free("memory-mb") == 1048.0
    assert it.release("a")
    assert not it.release("a")
    assert it.free("memory-mb") == 2048.0


def test_settling_frees_what_isn_t_used_and_owes_what_is_too_much() -> None:
    it = ledger()
    it.allocate("a", {"memory-mb": 1000})
    assert it.settle("a", {"memory-mb": 300}).amounts == {"memory-mb": 300.0}
    assert it.free("memory-mb") == 1748.0
    it.settle("a", {"memory-mb": 3000})
    assert it.free("memory-mb") == -952.0
    assert it.allocate("b", {"memory-mb": 1}) is None
    it.release("a")
    assert it.free("memory-mb") == 2048.0


def test_what_has_no_bound_is_counted_all_the_same() -> None:
    it = ledger()
    assert it.allocate("a", {"disk": 1e6}) is not None
    assert (it.free("disk"), it.held("disk")) == (None, 1e6)


def lease_twice(books: Ledger) -> None:
    with books.lease("a", {"database": 1}):
        assert books.free("database") == 0
        with books.lease("b", {"database": 1}):
            raise AssertionError("there was only one")


def test_a_block_gives_back_however_it_ends() -> None:
    it = ledger()
    with pytest.raises(NotFreeError, match="database: 0 of 1 free, wants 1"):
        lease_twice(it)
    assert it.free("database") == 1
    assert it.leases == {}


@pytest.mark.parametrize("wrong", [{"tokens": 1.0}, {"memory-mb": -1.0}, {"memory-mb": float("nan")}])
def test_what_can_t_be_held_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="nobody can hold"):
        ledger().allocate("a", wrong)


@given(st.lists(st.tuples(st.sampled_from(["allocate", "settle", "release"]), st.integers(0, 5), amounts)))
def test_what_is_free_and_what_is_held_is_always_all_there_is(steps: list[tuple[str, int, dict[str, float]]]) -> None:
    it = ledger()
    for what, number, wanted in steps:
        holder = f"t{number}"
        known = it.leases.get(holder)
        if what == "allocate" and known is None:
            fits = all(round(amount, 6) <= (it.free(name) or 0.0) for name, amount in wanted.items())
            assert (it.allocate(holder, wanted) is not None) == fits
        elif what == "settle" and known is not None:
            it.settle(holder, {name: amount for name, amount in wanted.items() if name in known})
        elif what == "release":
            assert it.release(holder) == (known is not None)
        for name in NAMES:
            free, capacity = it.free(name), it.capacity(name)
            assert free is not None
            assert capacity is not None
            assert it.held(name) == pytest.approx(sum(lease.get(name, 0.0) for lease in it.leases.values()))
            assert free + it.held(name) == pytest.approx(capacity)
    for holder in list(it.leases):
        it.release(holder)
    assert all(it.held(name) == 0.0 for name in NAMES)


@often
@given(cases(failures=False), st.sampled_from([ExecutionMode.PIPELINED, ExecutionMode.PARALLEL]))
def test_the_dispatcher_of_a_run_keeps_the_same_books(case: Case, mode: ExecutionMode) -> None:
    plan = make_plan(case.tasks, limits=case.limits, mode=mode, strategy=case.strategy)
    placed = [plan.tasks[task.id] for task in case.tasks]
    durations = [each.estimate_s for each in placed]
    problem = build_problem(case.tasks, durations=durations, limits=case.limits, strategy=case.strategy)
    books = Ledger({name: amount / 1e6 for name, amount in zip(problem.resources, problem.capacities, strict=True)})
    dispatcher = Dispatcher(problem, ranks=[each.rank_s for each in placed])
    missing = [len(needs) for needs in problem.graph.preds]
    for number, count in enumerate(missing):
        if not count:
            dispatcher.offer(number, 0.0)
    running: list[tuple[float, int]] = []
    now = 0.0
    while True:
        for number in dispatcher.starts(now):
            assert books.allocate(case.tasks[number].id, demand_of(case.tasks[number], case.limits)) is not None
            heapq.heappush(running, (now + durations[number], number))
        assert dispatcher._free == [round((books.free(name) or 0.0) * 1e6) for name in problem.resources]
        if not running:
            break
        now, number = heapq.heappop(running)
        dispatcher.free(number)
        assert books.release(case.tasks[number].id)
        dispatcher.settle(number)
        for successor in problem.graph.succs[number]:
            missing[successor] -= 1
            if not missing[successor]:
                dispatcher.offer(successor, now)
    assert dispatcher._free == list(problem.capacities)
