"""What agents changed, as markdown: which files, how many lines, and where what didn't merge is kept (pure)."""

from __future__ import annotations

from typing import Final

from maos_bot.events import ChangeTaken
from maos_bot.reporting import words
from maos_bot.reporting.escape import code, inline
from maos_bot.reporting.view import RunReport, TaskReport

_FILES: Final = 6  # of a task that are named
_TASKS: Final = 60


def change_block(report: RunReport) -> str:
    """A table of the changes by task, in the order in which tasks ended; empty where nothing was changed."""
    changed = [task for task in report.tasks.values() if task.changes]
    if not changed:
        return ""
    changed.sort(key=lambda task: task.finished_s if task.finished_s is not None else float("inf"))
    rows = [_row(task, change) for task in changed[:_TASKS] for change in task.changes]
    left = len(changed) - _TASKS
    more = [f"\n{words.number(left, 'more task')} changed files too."] if left > 0 else []
    return "\n".join(("#### What agents changed", "", "| task | lines | files |", "|:--|--:|:--|", *rows, *more))


def _row(task: TaskReport, change: ChangeTaken) -> str:
    lines = f"+{change.added:,} -{change.removed:,}"
    if change.conflicts:
        kept = f"; kept on the branch {code(change.branch, limit=120)}" if change.branch else ""
        return f"| {inline(task.title)} | {lines} | didn't merge: conflicts in {_named(change.conflicts)}{kept} |"
    return f"| {inline(task.title)} | {lines} | {_named(change.files)} |"


def _named(paths: tuple[str, ...]) -> str:
    named = ", ".join(code(path, limit=100) for path in paths[:_FILES])
    return f"{named} and {len(paths) - _FILES:,} more" if len(paths) > _FILES else named
