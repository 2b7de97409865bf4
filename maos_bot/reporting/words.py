"""States, figures and outcomes in words, the same for every surface (pure).

A figure that nobody measured is `unknown` or an em dash, never a zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from maos_bot.model import RunStatus, TaskState, Usage
from maos_bot.reporting.view import PathStep, RunReport, TaskReport

UNKNOWN: Final = "—"
LEAST_SPEEDUP: Final = 1.05  # below it nothing is said of being faster
_CUT_SHORT: Final = frozenset({RunStatus.CANCELLED, RunStatus.OVER_BUDGET})  # what wasn't run would have taken time too
NOTICEABLE_S: Final = 0.05  # waits below this aren't worth a word

STATE_WORDS: Final = {
    TaskState.PENDING: "waiting",
    TaskState.READY: "ready",
    TaskState.RUNNING: "running",
    TaskState.SUCCEEDED: "succeeded",
    TaskState.FAILED: "failed",
    TaskState.TIMED_OUT: "timed out",
    TaskState.CANCELLED: "cancelled",
    TaskState.SKIPPED: "skipped",
    TaskState.UPSTREAM_FAILED: "not reached",
    TaskState.CACHED: "from cache",
}
STATE_ICONS: Final = {
    TaskState.PENDING: "⚪",
    TaskState.READY: "🟡",
    TaskState.RUNNING: "🔵",
    TaskState.SUCCEEDED: "✅",
    TaskState.FAILED: "❌",
    TaskState.TIMED_OUT: "⏰",
    TaskState.CANCELLED: "🚫",
    TaskState.SKIPPED: "⏩",
    TaskState.UPSTREAM_FAILED: "⛔",
    TaskState.CACHED: "⚡",
}
STATUS_ICONS: Final = {
    RunStatus.RUNNING: "🔵",
    RunStatus.SUCCEEDED: "✅",
    RunStatus.FAILED: "❌",
    RunStatus.CANCELLED: "🚫",
    RunStatus.OVER_BUDGET: "💸",
    RunStatus.NOTHING: "⏩",
}


def duration(seconds: float | None) -> str:
    """A duration in at most two units: `420 ms`, `8.3 s`, `2 m 05 s`, `1 h 04 m`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return f"{max(seconds, 0.0) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"


def memory(mebibytes: float | None) -> str:
    """Memory as `812 MiB` or `1.5 GiB`."""
    if mebibytes is None:
        return UNKNOWN
    if mebibytes < 1024:
        return f"{mebibytes:.0f} MiB" if mebibytes >= 10 else f"{mebibytes:.1f} MiB"
    return f"{mebibytes / 1024:.1f} GiB"


def number(count: int, noun: str) -> str:
    """A count with its noun: `1 task`, `1,200 tasks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def times(factor: float | None) -> str:
    """A factor as `2.9x`."""
    return UNKNOWN if factor is None else f"{factor:.1f}x" if factor < 9.95 else f"{factor:,.0f}x"


def off_by(actual_s: float, predicted_s: float) -> str:
    """How far the clock was from the prediction, as `+8 %`."""
    if predicted_s <= 0:
        return UNKNOWN
    share = round((actual_s / predicted_s - 1) * 100)
    return f"{share:+,d} %" if share else "as predicted"


def tokens(usage: Usage) -> str:
    """Tokens as `12,300 in, 840 out, 9,000 from cache`; `0` where none were used."""
    whole = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    if not whole and not usage.output_tokens:
        return "0"
    text = f"{whole:,} in, {usage.output_tokens:,} out"
    return f"{text}, {usage.cache_read_tokens:,} of them from cache" if usage.cache_read_tokens else text


def money(usd: float | None) -> str:
    """A price as `$0`, `$0.0042` or `$1.38`; `unknown` where a model's price isn't known."""
    if usd is None:
        return "unknown"
    if usd == 0:
        return "$0"
    return f"${usd:.4f}" if usd < 0.1 else f"${usd:,.2f}"


def waited(task: TaskReport) -> str:
    """How long the task was ready before it started, and why: `4.1 s (memory: ...)`; empty under 50 ms."""
    if task.queued_s is None or task.queued_s < NOTICEABLE_S:
        return ""
    text = duration(task.queued_s)
    return f"{text} ({task.wait_reason})" if task.wait_reason else text


def why(task: TaskReport) -> str:
    """Why it ended as it did, with the exit code where that isn't said already."""
    code = f"exit code {task.exit_code}" if task.exit_code is not None else ""
    reason = task.reason
    for state, shown in STATE_WORDS.items():  # the engine names states as programs know them
        reason = reason.replace(f"({state})", f"({shown})")
    if not reason:
        return code if task.failed else ""
    if not code or not task.failed or not task.exit_code or code in reason:
        return reason
    return f"{reason} ({code})"


def elapsed(report: RunReport, task: TaskReport) -> float | None:
    """Seconds the task took; of a running one, those until now."""
    if task.state is not TaskState.RUNNING:
        return task.duration_s
    started = task.attempt_list[-1].started_s if task.attempt_list else None
    return None if started is None else max(0.0, report.wall_s - started)


def listing(words: Iterable[str], *, last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(words)
    return f" {last} ".join(part for part in (", ".join(items[:-1]), items[-1]) if part) if items else ""


def tally(report: RunReport, *, skip: TaskState | None = None) -> str:
    """How many tasks are in each state, worst first: `1 failed, 2 not reached and 9 succeeded`."""
    order = (
        TaskState.FAILED,
        TaskState.TIMED_OUT,
        TaskState.CANCELLED,
        TaskState.UPSTREAM_FAILED,
        TaskState.RUNNING,
        TaskState.READY,
        TaskState.PENDING,
        TaskState.SUCCEEDED,
        TaskState.CACHED,
        TaskState.SKIPPED,
    )
    counts = report.counts
    return listing(f"{counts[state]:,} {STATE_WORDS[state]}" for state in order if state in counts and state != skip)


def headline(report: RunReport) -> str:
    """The run's outcome in a few words, without its name: `1 of 12 tasks failed`."""
    total = number(len(report.tasks), "task")
    if report.running:
        return f"running, {report.done:,} of {total} done"
    if report.status is RunStatus.NOTHING:
        return "nothing to do"
    if report.status is RunStatus.SUCCEEDED:
        return _all_well(report, total)
    if report.status is RunStatus.FAILED:
        bad = sum(1 for task in report.failures if not task.continue_on_error)
        return f"{bad:,} of {total} failed" if bad else "failed"
    word = "over budget" if report.status is RunStatus.OVER_BUDGET else str(report.status)
    return f"{word}, {sum(1 for task in report.tasks.values() if task.ran and task.ended):,} of {total} had run"


def _all_well(report: RunReport, total: str) -> str:
    counts = report.counts
    if all(task.good for task in report.tasks.values()):
        text = f"all {total} succeeded" if len(report.tasks) != 1 else "1 task succeeded"
        return f"{text} ({counts[TaskState.CACHED]:,} from cache)" if TaskState.CACHED in counts else text
    return f"{counts.get(TaskState.SUCCEEDED, 0):,} of {total} succeeded, {tally(report, skip=TaskState.SUCCEEDED)}"


def instead(report: RunReport) -> str:
    """What the same tasks take one after the other, where that says something: `1 m 09 s one after the other (...)`."""
    if report.speedup is None or report.speedup < LEAST_SPEEDUP or report.status in _CUT_SHORT:
        return ""
    return f"{duration(report.sequential_s)} one after the other ({times(report.speedup)} as fast)"


def step_wait(step: PathStep) -> str:
    """What stood between a step of the critical path and the one before it; empty where next to nothing did.

    `agents: 3 of 3 busy` where it waited for what the other one held, `+2.0 s` where time went by beside that.
    """
    reason = step.wait_reason if step.via == "resource" or step.wait_s >= NOTICEABLE_S else ""
    lost = f"+{duration(step.wait_s)}" if step.wait_s >= NOTICEABLE_S else ""
    return " ".join(part for part in (lost, reason) if part)


def predicted(report: RunReport) -> str:
    """The predicted duration, with a `~` where an estimate it rests on is a default; "" where there is none."""
    seconds = report.predicted.get("makespan_s")
    if not seconds:
        return ""
    guessed = any(task.basis.startswith("default") for task in report.tasks.values() if task.ran)
    return f"{'~' if guessed else ''}{duration(seconds)}"
