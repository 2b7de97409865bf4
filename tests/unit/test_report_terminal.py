"""A run in lines of text: logs that can't issue commands, tables that fit, timelines in proportion."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from maos_bot.model import ExecutionMode, Limit, ParallelStrategy, Task, TaskState
from maos_bot.planning.planner import make_plan
from maos_bot.reporting.escape import unissuable
from maos_bot.reporting.plain import PlainView
from maos_bot.reporting.plan_view import plan_json, print_plan
from maos_bot.reporting.report import ReportBuilder
from maos_bot.reporting.show_view import print_run
from maos_bot.reporting.timeline import Span, draw
from tests.unit.report_streams import Job, play
from tests.workflow_commands import commands_of

TOKEN = "0123456789abcdef"


def log_of(jobs: Sequence[Job], *, quiet: bool = False, token: str = "", name: str = "Pull request") -> str:
    """What the plain view writes of a run of `jobs`."""
    stream, builder = io.StringIO(), ReportBuilder()
    view = PlainView(stream, report=builder.report, quiet=quiet, token=token)
    for event in play(jobs, name=name):
        builder.add(event)
        view.add(event)
    view.close()
    return stream.getvalue()


HOSTILE = "::set-output name=x::y\n  ::error::boo\nfine ##[add-mask]secret\n::stop-commands::x\n::x::\r::warning::w\n"


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.FAILED])
def test_nothing_a_task_prints_is_a_workflow_command(state: TaskState) -> None:
    job = Job(id="it", output=HOSTILE, ends=state, reason="##[error]no\n::error::no")
    found = commands_of(log_of([job], token=TOKEN))
    assert set(found) <= {"group", "endgroup"}
    assert found.count("group") == found.count("endgroup") == (state is TaskState.SUCCEEDED)


@given(st.text(alphabet=st.sampled_from("#[:]ad-mask error\n\r\x1b0123456789abcdef")))
def test_no_output_leaves_the_guard(text: str) -> None:
    if TOKEN in text:
        return
    assert set(commands_of(log_of([Job(id="it", output=text)], token=TOKEN))) <= {"group", "endgroup"}


@pytest.mark.parametrize(
    "name", ["::error::boo", "  ::stop-commands::x", "a ##[add-mask]x", "\n::warning::w", "####[error]"]
)
def test_no_name_is_a_workflow_command(name: str) -> None:
    assert set(commands_of(log_of([Job(id="it")], token=TOKEN, name=name))) <= {"group", "endgroup"}


@given(st.text(alphabet=st.sampled_from("#[:]error \t\n\r\x0b\u2028")))
def test_an_unissuable_text_holds_no_command_and_keeps_its_characters(text: str) -> None:
    safe = unissuable(text)
    assert commands_of(safe) == []
    assert safe.replace("\u200b", "") == text


def test_a_log_shows_each_task_with_its_output_and_the_outcome_last() -> None:
    jobs = [
        Job(id="lint", output="all fine\n"),
        Job(id="unit", ends=TaskState.FAILED, output="boom\n", needs=("lint",)),
    ]
    lines = log_of(jobs).splitlines()
    assert "    all fine" in lines
    assert lines.index("    boom") > lines.index("    all fine")
    assert any(line.startswith("✗ Pull request: ") for line in lines[-6:])
    assert not [line for line in lines if line.startswith("::")]


def test_quiet_is_only_what_failed_and_the_end() -> None:
    jobs = [Job(id="lint", output="all fine\n"), Job(id="unit", ends=TaskState.FAILED, output="boom\n")]
    text = log_of(jobs, quiet=True)
    assert "all fine" not in text
    assert "boom" in text


def test_a_terminal_sequence_in_output_reaches_no_terminal() -> None:
    assert "\x1b" not in log_of([Job(id="it", output="\x1b[2J\x1b]0;title\x07clear\n")])


def console(width: int) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width, force_terminal=True, color_system=None, highlight=False), stream


def pipeline() -> list[Task]:
    long = "a-rather-long-name-of-a-task-as-matrices-make-them.3.11.ubuntu-latest"
    return [
        Task(id="lint", run="true", team="qa", estimate_s=3),
        Task(id=long, run="true", team="qa", needs=("lint",), estimate_s=60),
        Task(id="docs", run="true", needs=("lint",)),
    ]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_plan_fits_the_terminal_and_names_every_task_whole(width: int) -> None:
    tasks = pipeline()
    limits = {"concurrent-agents": Limit(value=4.0, reason="--limit")}
    plan = make_plan(tasks, limits=limits, mode=ExecutionMode.HYBRID, strategy=ParallelStrategy.BALANCED)
    view, stream = console(width)
    print_plan(plan, tasks, title="A plan", console=view)
    table = stream.getvalue().split("\nmode ")[0]
    assert max(cell_len(line) for line in table.splitlines()) <= width
    flat = re.sub(r"\s+", "", table)
    assert "lint" in flat
    rows = [line.split() for line in table.splitlines()]
    shown = "".join(word for row in rows for word in row[:2])
    assert tasks[1].id in flat or all(part in shown for part in tasks[1].id.split("-")[:3])


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_run_fits_the_terminal(width: int) -> None:
    jobs = [Job(id=f"task-with-a-name-{number}", seconds=number + 1, team="quality") for number in range(12)]
    view, stream = console(width)
    builder = ReportBuilder()
    for event in play(jobs):
        builder.add(event)
    print_run(builder.report(), console=view)
    table = stream.getvalue().split("longest waits")[0].split("\n\n", 1)[1]
    assert max(cell_len(line) for line in table.splitlines()) <= width


def test_the_plan_as_json_keeps_its_contract() -> None:
    tasks = pipeline()
    limits = {"concurrent-agents": Limit(value=4.0, reason="--limit")}
    plan = make_plan(tasks, limits=limits, mode=ExecutionMode.HYBRID, strategy=ParallelStrategy.BALANCED)
    row = plan_json(plan)
    contract = {"mode", "strategy", "chosen_because", "stages", "critical_path", "parallelism_factor", "predicted"}
    assert contract | {"tasks", "limits"} <= row.keys()
    predicted = {"sequential_s", "parallel_s", "pipelined_s", "makespan_s", "lower_bound_s", "speedup"}
    assert predicted <= row["predicted"].keys()
    assert all(
        {"start_s", "finish_s", "slack_s", "estimate_s", "basis"} <= task.keys() for task in row["tasks"].values()
    )
    groups = [group for stage in row["stages"] for group in stage]
    assert all({"id", "tasks", "team"} <= group.keys() for group in groups)
    assert sorted(task for group in groups for task in group["tasks"]) == sorted(task.id for task in tasks)


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=1, max_size=4),
    st.integers(1, 120),
    st.booleans(),
)
def test_a_bar_stays_in_its_column_and_is_never_nothing(
    times: list[tuple[float, float]], width: int, ascii_only: bool
) -> None:
    at, spans = 0.0, []
    for pause, lasts in times:
        spans.append(Span(start_s=at + pause, finish_s=at + pause + lasts, waits_from=at))
        at += pause + lasts
    drawn = draw(spans, at, width, ascii_only=ascii_only)
    assert 1 <= len(drawn) <= width
    assert drawn.strip(" .·")
