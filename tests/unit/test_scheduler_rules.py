"""What holds for every run: random graphs, demands, limits, modes, failures and retries."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from maos_bot.execution.scheduler import LEAST_PATIENCE_S, AttemptEnded, End, Ready, Retry, Start
from maos_bot.model import FINAL_STATES, MEMORY, ExecutionMode, Plan, TaskState
from maos_bot.planning.demands import demand_of
from maos_bot.planning.planner import make_plan
from tests.unit.virtual_clock import FIXED_MODES, MODES, Case, cases, drive, make_case, often

modes = st.sampled_from(MODES)


def plan_of(case: Case, mode: ExecutionMode) -> Plan:
    return make_plan(case.tasks, limits=case.limits, mode=mode, strategy=case.strategy)


@often
@given(cases(), modes)
def test_no_task_starts_before_its_needs_have_ended(case: Case, mode: ExecutionMode) -> None:
    needs = {task.id: task.needs for task in case.tasks}
    ended: set[str] = set()
    for _, line in drive(case.tasks, plan_of(case, mode), state_of=case.state_of).lines:
        if isinstance(line, End):
            ended.add(line.task)
        elif isinstance(line, Ready | Start):
            assert ended.issuperset(needs[line.task])


@often
@given(cases(), modes, st.floats(0.1, 3))
def test_no_limit_is_exceeded_at_any_instant(case: Case, mode: ExecutionMode, pace: float) -> None:
    plan = plan_of(case, mode)
    demands = {task.id: demand_of(task, case.limits) for task in case.tasks}
    held: Counter[str] = Counter()
    log = drive(case.tasks, plan, state_of=case.state_of, duration_of=lambda task: plan.tasks[task].estimate_s * pace)
    for _, line in log.lines:
        if isinstance(line, Start):
            held.update(demands[line.task])
            for resource, amount in held.items():
                most = case.limits[resource].value
                assert most is not None
                assert amount <= most + 1e-6
        elif isinstance(line, AttemptEnded):
            held.subtract(demands[line.task])


@often
@given(cases(), modes, st.none() | st.floats(0, 60))
def test_every_task_ends_once_in_a_final_state(case: Case, mode: ExecutionMode, cancel_at: float | None) -> None:
    log = drive(case.tasks, plan_of(case, mode), state_of=case.state_of, cancel_at=cancel_at)
    ends = Counter(line.task for _, line in log.lines if isinstance(line, End))
    assert ends == {task.id: 1 for task in case.tasks}
    assert set(log.states().values()) <= FINAL_STATES
    readies = Counter(line.task for _, line in log.lines if isinstance(line, Ready))
    assert set(readies.values()) <= {1}


@often
@given(cases())
def test_all_modes_agree_on_every_outcome(case: Case) -> None:
    first, *others = (drive(case.tasks, plan_of(case, mode), state_of=case.state_of).ends() for mode in FIXED_MODES)
    for other in others:
        assert other == first


@often
@given(cases(failures=False), modes)
def test_the_prediction_is_the_run_when_the_estimates_are_right(case: Case, mode: ExecutionMode) -> None:
    plan = plan_of(case, mode)
    log = drive(case.tasks, plan)
    assert log.starts() == {task_id: placed.start_s for task_id, placed in plan.tasks.items()}
    assert log.lines == [] or log.lines[-1][0] == plan.predicted.makespan_s


@often
@given(cases())
def test_one_task_at_a_time_when_sequential(case: Case) -> None:
    running = 0
    for _, line in drive(case.tasks, plan_of(case, ExecutionMode.SEQUENTIAL), state_of=case.state_of).lines:
        if isinstance(line, Start):
            running += 1
            assert running == 1
        elif isinstance(line, AttemptEnded):
            running -= 1


@often
@given(cases())
def test_a_stage_starts_only_when_all_earlier_ones_have_ended(case: Case) -> None:
    plan = plan_of(case, ExecutionMode.PARALLEL)
    open_tasks = [set(stage.tasks) for stage in plan.stages]
    for _, line in drive(case.tasks, plan, state_of=case.state_of).lines:
        if isinstance(line, End):
            open_tasks[plan.tasks[line.task].stage].remove(line.task)
        elif isinstance(line, Start):
            assert not any(open_tasks[: plan.tasks[line.task].stage])


@often
@given(cases(), st.floats(0.1, 3))
@example(make_case(3, 371821917, failures=True), 3.0)  # a retry of higher rank comes behind what has waited so long
def test_the_first_in_line_never_waits_while_it_fits(case: Case, pace: float) -> None:
    """Work-conserving but for reservations: at rest, the ready task of the highest rank doesn't fit in what is free.

    One that has waited for longer than the whole plan was to take goes before all ranks: waiting is bounded.
    """
    plan = plan_of(case, ExecutionMode.PIPELINED)
    free = {name: each.value for name, each in case.limits.items() if each.value is not None}
    demands = {task.id: demand_of(task, case.limits) for task in case.tasks}
    places = {task.id: place for place, task in enumerate(case.tasks)}
    log = drive(case.tasks, plan, state_of=case.state_of, duration_of=lambda task: plan.tasks[task].estimate_s * pace)
    waiting: dict[str, float] = {}  # task -> ready from
    done = 0
    for now, until in log.rests:
        for at, line in log.lines[done:until]:
            match line:
                case Ready():
                    waiting[line.task] = at
                case Retry():
                    waiting[line.task] = at + line.retry_in_s
                case Start():
                    del waiting[line.task]
                    for resource, amount in demands[line.task].items():
                        free[resource] -= amount
                case AttemptEnded():
                    for resource, amount in demands[line.task].items():
                        free[resource] += amount
                case _:
                    pass
        done = until
        ready = [task for task, since in waiting.items() if since <= now]
        if ready:
            since = min(waiting[task] for task in ready)
            if now - since > max(LEAST_PATIENCE_S, plan.predicted.makespan_s):
                first = [task for task in ready if waiting[task] == since]
            else:
                first = [min(ready, key=lambda task: (-plan.tasks[task].rank_s, places[task]))]
            kept = 0.2 if plan.strategy.value == "conservative" else 0.0
            room = {
                name: value - kept * (case.limits[name].value or 0) if name in (MEMORY, "cpu-percent") else value
                for name, value in free.items()
            }
            assert any(amount > room[resource] - 1e-6 for task in first for resource, amount in demands[task].items())


@often
@given(cases(), modes)
def test_a_wait_says_how_long_and_what_for(case: Case, mode: ExecutionMode) -> None:
    log = drive(case.tasks, plan_of(case, mode), state_of=case.state_of)
    since: dict[str, float] = {}
    ended: set[str] = set()
    for at, line in log.lines:
        match line:
            case Ready():
                since[line.task] = at
            case Retry():
                since[line.task] = at + line.retry_in_s
            case AttemptEnded() | End():
                ended.add(line.task)
            case Start():
                assert line.queued_s == at - since[line.task]
                assert bool(line.wait_reason) or line.queued_s == 0
                assert not line.freed_by or line.freed_by in ended
            case _:
                pass


@often
@given(cases(), modes, st.floats(0, 60))
def test_nothing_starts_after_a_cancellation(case: Case, mode: ExecutionMode, cancel_at: float) -> None:
    log = drive(case.tasks, plan_of(case, mode), state_of=case.state_of, cancel_at=cancel_at)
    began = [at for at, line in log.lines if isinstance(line, Start)]
    cancelled = [
        at
        for at, line in log.lines
        if isinstance(line, End)
        and line.outcome.reason == "the user asked"
        and line.outcome.state is TaskState.CANCELLED
    ]
    assert not began or not cancelled or max(began) <= min(cancelled)
