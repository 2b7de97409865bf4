"""The pieces a report in markdown is made of: outcome, tables, logs, critical path, figures (pure).

Each function gives one whole block of GitHub markdown, or "" where there is nothing to say. Whatever comes from users
passes through `maos_bot.reporting.escape`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from maos_bot.model import RunStatus, TaskState
from maos_bot.reporting import words
from maos_bot.reporting.escape import clean, code, fenced, inline
from maos_bot.reporting.excerpt import last_bytes, omission
from maos_bot.reporting.view import AttemptReport, RunReport, TaskReport

LONGEST_PATH: Final = 16  # steps that are named
ROWS_AT_ONCE: Final = 100  # rows of one table: a block of about 12 KB
SHORT_TABLE: Final = 12  # up to this many tasks, all of them are shown without a click

_COLUMNS: Final = (
    ("", ":--"),
    ("Task", ":--"),
    ("Team", ":--"),
    ("Time", "--:"),
    ("Waited", ":--"),
    ("Peak", "--:"),
    ("Notes", ":--"),
)
_ATTENTION: Final = {
    TaskState.FAILED: 0,
    TaskState.TIMED_OUT: 0,
    TaskState.CANCELLED: 2,
    TaskState.UPSTREAM_FAILED: 3,
    TaskState.RUNNING: 1,
}


def heading(report: RunReport, *, found: int = 0) -> str:
    """The state, the name and the outcome, with how much was `found`: what is read when nothing else is."""
    name = inline(report.name or report.spec_path or "maos", limit=100)
    said = f"{words.headline(report)}, {words.number(found, 'finding')}" if found else words.headline(report)
    return f"### {words.STATUS_ICONS[report.status]} {name}: {said}"


def outcome(report: RunReport) -> str:
    """A line or two: what went wrong first and what that cost, or how quick it was."""
    lines = []
    first = report.first_failure
    if first is not None:
        lines.append(f"{code(first.id)} {failure(first)}{_others(report, first)}.")
    if report.status in {RunStatus.CANCELLED, RunStatus.OVER_BUDGET, RunStatus.NOTHING} and report.reason:
        reason = inline(report.reason, limit=400).rstrip(".")
        lines.append(f"{reason[:1].upper()}{reason[1:]}.")
    lines.append(_figures(report))
    return "  \n".join(line for line in lines if line)


def failure(task: TaskReport) -> str:
    """How one task failed, as a clause: `failed after 12.3 s: exit code 1, attempt 2 of 2`."""
    text = words.STATE_WORDS[task.state]
    if task.duration_s is not None:
        text += f" after {words.duration(task.duration_s)}"
    reason = inline(words.why(task), limit=300)
    details = [reason] if reason else []
    if task.attempts > 1:
        details.append(f"attempt {task.attempts} of {max(task.max_attempts, task.attempts)}")
    return f"{text}: {', '.join(details)}" if details else text


def tables(report: RunReport) -> Iterator[str]:
    """The tasks: those that want attention openly, the others behind a click where they are many."""
    tasks = list(report.tasks.values())
    urgent = sorted(
        (task for task in tasks if task.state in _ATTENTION),
        key=lambda task: (_ATTENTION[task.state], task.finished_s or 0),
    )
    rest = [task for task in tasks if task.state not in _ATTENTION]
    if len(tasks) <= SHORT_TABLE:
        if tasks:
            yield table(report, [*urgent, *rest])
        return
    for rows in _chunks(urgent):
        yield table(report, rows)
    for number, rows in enumerate(_chunks(rest)):
        first = number * ROWS_AT_ONCE + 1
        what = words.listing(_count_by_state(rows))
        which = f" ({first:,} to {first + len(rows) - 1:,} of {len(rest):,})" if len(rest) > ROWS_AT_ONCE else ""
        other = "other " if urgent else ""
        yield details(f"{words.number(len(rows), other + 'task')}{which}: {what}", table(report, rows))


def table(report: RunReport, tasks: Iterable[TaskReport]) -> str:
    """One row for each task; columns in which no task has anything to say are left out."""
    rows = [_cells(report, task) for task in tasks]
    shown = [place for place in range(len(_COLUMNS)) if place < 2 or any(row[place] for row in rows)]
    head = [_COLUMNS[place][0] for place in shown]
    rule = [_COLUMNS[place][1] for place in shown]
    body = ([row[place] for place in shown] for row in rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def log(task: TaskReport, *, limit: int, lines: int | None = None, opened: bool = False) -> str:
    """A task's last output behind a click, at most `limit` bytes and `lines` lines of it; "" where there was none."""
    text = last_lines(task, limit=limit, lines=lines)
    if not text:
        return ""
    icon = words.STATE_ICONS[task.state]
    return details(f"{icon} <b>{inline(task.title)}</b>: {failure(task)}", _command(task) + fenced(text), opened=opened)


def last_lines(task: TaskReport, *, limit: int, lines: int | None = None) -> str:
    """The end of the task's output, whole lines of it where that is possible; a first line says what is missing."""
    if task.log is None:
        return ""
    whole = clean(task.log.text).strip("\n")
    kept = whole if lines is None else "\n".join(whole.split("\n")[-lines:])
    short = last_bytes(kept, limit)
    if len(short) < len(kept) and "\n" in short:
        short = short.split("\n", 1)[1]
    missing = len(whole.encode()) - len(short.encode())
    return f"{omission(missing)}\n{short}" if missing > 0 else short


def critical_path(report: RunReport) -> str:
    """What held up the end, step by step, with the waits between."""
    steps = report.critical_path
    if not steps:
        return ""
    parts: list[str] = []
    for step in steps:
        wait = inline(words.step_wait(step))
        tries = report.tasks[step.task].attempts
        again = f" ({tries} attempts)" if tries > 1 else ""
        parts.append(f"{f'*({wait})* → ' if wait else ''}{code(step.task)} {words.duration(step.run_s)}{again}")
    if len(parts) > LONGEST_PATH:
        parts[LONGEST_PATH // 2 : -LONGEST_PATH // 2] = [f"*{len(parts) - LONGEST_PATH:,} more*"]
    what = "so far" if report.running else f"{words.duration(steps[-1].finished_s)}"
    return f"**Critical path** ({what}): " + " → ".join(parts)


def stages(report: RunReport) -> str:
    """The plan's stages, one line each, with the state of their tasks."""
    by_stage: dict[int, list[TaskReport]] = {}
    for task in report.tasks.values():
        by_stage.setdefault(task.stage, []).append(task)
    if len(by_stage) < 2:
        return ""
    lines = []
    for place, stage in enumerate(sorted(by_stage), start=1):
        tasks = by_stage[stage]
        shown = [f"{words.STATE_ICONS[task.state]} {code(task.id, limit=60)}" for task in tasks[:20]]
        more = f" and {len(tasks) - 20:,} more" if len(tasks) > 20 else ""
        lines.append(f"{place}. {', '.join(shown)}{more}")
    return "**Stages**\n\n" + "\n".join(lines)


def plan_and_cost(report: RunReport) -> str:
    """Mode and why, predicted against actual, peaks, tokens and money, limits: a list."""
    lines = []
    if report.mode:
        because = f": {inline(report.chosen_because, limit=400)}" if report.chosen_because else ""
        lines.append(f"**Mode** {inline(report.mode)}, {inline(report.strategy)}{because}")
    lines.append(f"**Time** {_predicted(report)}")
    lines.append(f"**Peak** {_peaks(report)}")
    lines.append(f"**Tokens** {words.tokens(report.usage)}; **cost** {words.money(report.usage.usd)}")
    lines.extend(
        f"{code(model)}: {words.tokens(usage)}, {words.money(usage.usd)}"
        for model, usage in report.usage_by_model.items()
    )
    limits = [f"{code(name)} {value:g}" for name, value in report.limits.items() if value is not None]
    if limits:
        lines.append(f"**Limits** {', '.join(limits)}")
    return "\n".join(f"- {line}" for line in lines)


def attempts(task: TaskReport) -> str:
    """All attempts of a task that was tried more than once."""
    if len(task.attempt_list) < 2:
        return ""
    rows = [
        f"| {tried.attempt} | {_state(tried.state)} | {words.duration(tried.duration_s)} | {_attempt_note(tried)} |"
        for tried in task.attempt_list
    ]
    return "\n".join(("| Attempt | Outcome | Time | Notes |", "|--:|:--|--:|:--|", *rows))


def details(summary: str, body: str, *, opened: bool = False) -> str:
    """A block behind a click; `summary` is one line of safe markup."""
    return f"<details{' open' if opened else ''}>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def _cells(report: RunReport, task: TaskReport) -> list[str]:
    name = code(task.id, limit=80)
    if task.name and task.name != task.id:
        name += f" {inline(task.name, limit=80)}"
    took = words.elapsed(report, task) if task.ran else None
    time = "" if took is None else words.duration(took)
    if task.state is TaskState.RUNNING and time:
        time += " so far"
    return [
        _whole(_state(task.state)),
        name,
        inline(task.team, limit=40),
        _whole(time),
        inline(words.waited(task)),
        "" if task.peak_memory_mb is None else _whole(words.memory(task.peak_memory_mb)),
        _notes(task),
    ]


def _whole(text: str) -> str:
    """A cell of our own words that is never broken into lines."""
    return text.replace(" ", "&nbsp;")


def _notes(task: TaskReport) -> str:
    notes = []
    if task.attempts > 1:
        notes.append(f"attempt {task.attempts} of {max(task.max_attempts, task.attempts)}")
    if task.retry_in_s is not None:
        notes.append(f"next attempt {words.duration(task.retry_in_s)} after the last one")
    reason = words.why(task)
    if reason and not (task.state is TaskState.SUCCEEDED and task.exit_code == 0 and reason == "exit code 0"):
        notes.append(inline(reason, limit=160))
    if task.continue_on_error and task.failed:
        notes.append("allowed to fail")
    return ", ".join(notes)


def _attempt_note(attempt: AttemptReport) -> str:
    notes = [inline(attempt.reason)] if attempt.reason else []
    if attempt.exit_code is not None and f"exit code {attempt.exit_code}" not in attempt.reason:
        notes.append(f"exit code {attempt.exit_code}")
    if attempt.retry_in_s is not None:
        notes.append(f"tried again after {words.duration(attempt.retry_in_s)}")
    return ", ".join(notes)


def _state(state: TaskState) -> str:
    return f"{words.STATE_ICONS[state]} {words.STATE_WORDS[state]}"


def _command(task: TaskReport) -> str:
    first = task.command.strip().split("\n", 1)[0]
    return f"{code(f'$ {first}', limit=160)}\n\n" if first and task.kind == "command" else ""


def _others(report: RunReport, first: TaskReport) -> str:
    more = [task for task in report.failures if task is not first and not task.continue_on_error]
    behind = report.counts.get(TaskState.UPSTREAM_FAILED, 0)
    parts = []
    if more:
        names = [code(task.id, limit=60) for task in more[:3]]
        if len(more) > 3:
            names.append(f"{len(more) - 3:,} more")
        parts.append(f"so did {words.listing(names)}")
    if behind:
        parts.append(f"{words.number(behind, 'task')} behind {'them' if more else 'it'} could not run")
    return f"; {', '.join(parts)}" if parts else ""


def _figures(report: RunReport) -> str:
    if report.running:
        predicted = words.predicted(report)
        text = f"{words.duration(report.wall_s)} so far"
        return f"{text}, predicted {predicted}" if predicted else text
    if not any(task.ran or task.saved_s is not None for task in report.tasks.values()):
        return f"{words.duration(report.wall_s)}" if report.tasks else ""
    text = f"**{words.duration(report.wall_s)}**"
    if instead := words.instead(report):
        text += f" instead of {instead}"
    if report.saved_s is not None:
        text += f" · {words.duration(report.saved_s)} saved by the cache"
    predicted = words.predicted(report)
    if predicted:
        text += f" · predicted {predicted}"
    used = words.tokens(report.usage)
    return f"{text} · {'0 tokens' if used == '0' else f'tokens {used}'} · {words.money(report.usage.usd)}"


def _predicted(report: RunReport) -> str:
    text = f"{words.duration(report.wall_s)}{' so far' if report.running else ''}"
    if instead := words.instead(report):
        text += f", {instead}"
    predicted = report.predicted.get("makespan_s")
    if predicted is None:
        return text
    text += f"; predicted {words.predicted(report)}"
    if not report.running:
        text += f" ({words.off_by(report.wall_s, predicted)})"
    bound = report.predicted.get("lower_bound_s")
    return text if bound is None else f"{text}, never under {words.duration(bound)} by these estimates"


def _peaks(report: RunReport) -> str:
    peak = report.peak
    known = []
    if peak.memory_mb is not None:
        known.append(words.memory(peak.memory_mb))
    if peak.cpu_percent is not None:
        known.append(f"{peak.cpu_percent:.0f} % CPU")
    if peak.agents is not None:
        known.append(f"{words.number(peak.agents, 'task')} at once")
    if peak.tokens_per_minute:
        known.append(f"{peak.tokens_per_minute:,.0f} tokens a minute")
    return ", ".join(known) or "unknown: the run was over before a sample was taken"


def _count_by_state(tasks: Iterable[TaskReport]) -> list[str]:
    counts: dict[TaskState, int] = {}
    for task in tasks:
        counts[task.state] = counts.get(task.state, 0) + 1
    return [f"{count:,} {words.STATE_WORDS[state]}" for state, count in counts.items()]


def _chunks(tasks: Sequence[TaskReport]) -> Iterator[Sequence[TaskReport]]:
    for start in range(0, len(tasks), ROWS_AT_ONCE):
        yield tasks[start : start + ROWS_AT_ONCE]
