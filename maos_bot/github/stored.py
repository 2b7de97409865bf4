"""The events of a run that had no write token, to be published by one that has: a stranger's words, bounded.

Nothing in them decides anything: the commit and the repository are those that GitHub names, the pull request counts
only if GitHub agrees, and every text is rendered like any other output of a task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

from maos_bot.errors import ConfigError
from maos_bot.events import RunEvent, RunStarted
from maos_bot.model import Trigger
from maos_bot.reporting import markdown
from maos_bot.reporting.report import RunReport, report_of
from maos_bot.store.codec import from_lines

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_EVENTS: Final = 500_000
_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")


def read_stored(path: Path) -> Sequence[RunEvent]:
    """The events in `path`; raises `ConfigError` for what is no such file, or too large."""
    try:
        if path.is_symlink() or not path.is_file():
            raise ConfigError(f"there is no file {path}", hint="`report` names what `events` wrote in the run before")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
        with path.open(encoding="utf-8", errors="replace") as file:
            events = list(islice(from_lines(file), MAX_EVENTS + 1))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} can't be read as events: {error}") from error
    if not events or len(events) > MAX_EVENTS:
        raise ConfigError(f"{path} holds {'too many' if events else 'no'} events")
    if not _RUN_ID.fullmatch(str(events[0].run_id)):
        raise ConfigError(f"{path} names a run by what is no id", hint="files are named after it")
    return events


def claimed_pull_request(events: Sequence[RunEvent]) -> int | None:
    """The pull request that the events say they belong to: to be checked, not believed."""
    for event in events:
        if isinstance(event, RunStarted):
            number = event.trigger.pull_request
            return number if type(number) is int and 0 < number < 2**31 else None
    return None


def ours(events: Sequence[RunEvent], trigger: Trigger) -> Iterator[RunEvent]:
    """The events with our own knowledge of what set them off."""
    for event in events:
        yield replace(event, trigger=trigger) if isinstance(event, RunStarted) else event


def report_of_stored(events: Sequence[RunEvent], trigger: Trigger) -> RunReport:
    """Their report, rendered once to see that it can be; raises `ConfigError` where it can't."""
    try:
        report = report_of(ours(events, trigger))
        markdown.summary(report)
        markdown.comment(report)
        for task in report.tasks.values():
            markdown.check_output(report, task)
    except Exception as error:  # values of any type may stand in any field: no list of errors is complete
        raise ConfigError(f"the stored events make no report ({type(error).__name__}: {error})") from error
    return report
