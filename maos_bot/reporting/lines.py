"""The run in lines of text, the same for every terminal and log: marks, ends of tasks, the last words (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from maos_bot.events import TaskFinished, TaskStarted
from maos_bot.model import RunStatus, TaskState
from maos_bot.reporting import words
from maos_bot.reporting.escape import one_line
from maos_bot.reporting.view import RunReport

MARKS: Final[Mapping[TaskState, str]] = {
    TaskState.PENDING: "·",
    TaskState.READY: "·",
    TaskState.RUNNING: "●",
    TaskState.SUCCEEDED: "✓",
    TaskState.CACHED: "≡",
    TaskState.FAILED: "✗",
    TaskState.TIMED_OUT: "✗",
    TaskState.CANCELLED: "■",
    TaskState.SKIPPED: "○",
    TaskState.UPSTREAM_FAILED: "↯",
}
COLOURS: Final[Mapping[TaskState, str]] = {
    TaskState.PENDING: "dim",
    TaskState.READY: "dim",
    TaskState.RUNNING: "blue",
    TaskState.SUCCEEDED: "green",
    TaskState.CACHED: "cyan",
    TaskState.FAILED: "red",
    TaskState.TIMED_OUT: "red",
    TaskState.CANCELLED: "yellow",
    TaskState.SKIPPED: "dim",
    TaskState.UPSTREAM_FAILED: "dim",
}
LONGEST_PATH: Final = 12  # steps of the critical path that are named
MOST_FAILURES: Final = 10  # failures the last lines name
_STATUS_MARKS: Final = {
    RunStatus.RUNNING: "●",
    RunStatus.SUCCEEDED: "✓",
    RunStatus.FAILED: "✗",
    RunStatus.CANCELLED: "■",
    RunStatus.OVER_BUDGET: "■",
    RunStatus.NOTHING: "○",
}
_WAIT_WORTH_SAYING_S: Final = 0.1


def end_line(event: TaskFinished, start: TaskStarted | None) -> str:
    """One line about an attempt that ended: mark, task, state, time, why, what it had waited for."""
    state = words.STATE_WORDS[event.state]
    parts = [f"{MARKS[event.state]} {one_line(event.task)}"]
    took = words.duration(event.duration_s) if event.attempt else ""
    parts.append(took if event.state is TaskState.SUCCEEDED else f"{state} after {took}" if took else state)
    if event.saved_s is not None:
        parts.append(f"saved {words.duration(event.saved_s)}")
    if event.reason:
        parts.append(one_line(event.reason))
    if event.attempt > 1:
        parts.append(f"attempt {event.attempt}")
    if not event.final:
        parts.append(f"again in {words.duration(event.retry_in_s)}" if event.retry_in_s else "again at once")
    if start is not None and start.queued_s >= _WAIT_WORTH_SAYING_S and start.wait_reason:
        parts.append(f"(waited {words.duration(start.queued_s)}: {one_line(start.wait_reason)})")
    return "  ".join(parts)


def final_lines(report: RunReport) -> list[str]:
    """The run in a few lines: the outcome, what failed and why, the times, what held up the end."""
    name = one_line(report.name or report.spec_path, limit=80)
    lines = [f"{_STATUS_MARKS[report.status]} {name}: {words.headline(report)}, {words.duration(report.wall_s)}"]
    if report.reason and not report.first_failure:
        lines.append(f"  {one_line(report.reason)}")
    for task in report.failures[:MOST_FAILURES]:
        why = one_line(words.why(task))
        tries = f", attempt {task.attempts} of {max(task.attempts, task.max_attempts)}" if task.attempts > 1 else ""
        allowed = ", allowed to fail" if task.continue_on_error else ""
        took = "" if task.duration_s is None else f" after {words.duration(task.duration_s)}"
        lines.append(f"  {MARKS[task.state]} {task.id}: {why or words.STATE_WORDS[task.state]}{took}{tries}{allowed}")
    if len(report.failures) > MOST_FAILURES:
        lines.append(f"    and {len(report.failures) - MOST_FAILURES:,} more")
    if report.tasks:
        lines.append(f"  tasks          {words.tally(report)}")
    lines.append(f"  time           {times_line(report)}")
    if report.saved_s is not None:
        cached = words.number(report.counts.get(TaskState.CACHED, 0), "task")
        lines.append(f"  cache          {cached} unchanged, {words.duration(report.saved_s)} saved")
    path = path_line(report)
    if path:
        lines.append(f"  critical path  {path}")
    if report.usage.input_tokens or report.usage.output_tokens:
        lines.append(f"  tokens         {words.tokens(report.usage)}; {words.money(report.usage.usd)}")
    return lines


def times_line(report: RunReport) -> str:
    """Wall time against one after the other, the prediction and the bound."""
    text = words.duration(report.wall_s) + (" so far" if report.running else "")
    if instead := words.instead(report):
        text += f", {instead}"
    predicted = words.predicted(report)
    if not predicted:
        return text
    text += f"; predicted {predicted}"
    bound = report.predicted.get("lower_bound_s")
    return text if bound is None else f"{text}, at best {words.duration(bound)}"


def path_line(report: RunReport) -> str:
    """The observed critical path on one line, with what it waited for; "" for fewer than two steps."""
    steps = report.critical_path
    if len(steps) < 2:
        return ""
    parts: list[str] = []
    for step in steps:
        wait = one_line(words.step_wait(step))
        parts.append(f"{f'({wait}) > ' if wait else ''}{step.task} {words.duration(step.run_s)}")
    if len(parts) > LONGEST_PATH:
        parts[LONGEST_PATH // 2 : -LONGEST_PATH // 2] = [f"({len(parts) - LONGEST_PATH:,} more)"]
    return " > ".join(parts)
