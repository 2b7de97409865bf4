"""The run in a log: one block for each attempt that ended, whole and in one write.

In GitHub Actions a block is a fold (`::group::`), and what the task printed stands between `::stop-commands::TOKEN` and
`::TOKEN::`, so that no line of it can issue a workflow command; `##[` is broken up, for the runner parses it anywhere
in a line (runner `ActionCommand.cs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TextIO

from maos_bot.events import OutputChunk, ResourceSampled, RunEvent, RunFinished, RunStarted, TaskFinished, TaskStarted
from maos_bot.model import BAD_STATES, FINAL_STATES
from maos_bot.reporting import words
from maos_bot.reporting.escape import clean, one_line, unissuable
from maos_bot.reporting.excerpt import omission
from maos_bot.reporting.lines import end_line, final_lines
from maos_bot.reporting.view import RunReport

SILENCE_S: Final = 30.0  # after so long without a line, one says what still runs
_NAMED: Final = 3  # running tasks such a line names
_RESET: Final = "\x1b[0m"


class PlainView:
    """A block for each attempt that ended; with `quiet` only for those that failed, and the last lines.

    Memory: the output of the tasks that run, which the capture bounds. The clock is the events' own.
    """

    def __init__(
        self, stream: TextIO, *, report: Callable[[], RunReport], quiet: bool = False, token: str = ""
    ) -> None:
        """Write to `stream`; `report` gives the run as it stands; a `token` (random) means GitHub Actions."""
        self._stream = stream
        self._quiet = quiet
        self._token = token
        self._report = report
        self._starts: dict[str, TaskStarted] = {}
        self._output: dict[str, list[str]] = {}
        self._total = self._done = 0
        self._began = self._said_at = 0.0

    def add(self, event: RunEvent) -> None:
        if isinstance(event, OutputChunk):
            pieces = self._output.setdefault(event.task, [])
            if event.omitted:
                pieces.append(f"\n{omission(event.omitted)}\n")
            pieces.append(event.text)
        elif isinstance(event, TaskFinished):
            self._ended(event)
        elif isinstance(event, TaskStarted):
            self._starts[event.task] = event
        elif isinstance(event, ResourceSampled):
            if event.at - self._said_at >= SILENCE_S and not self._quiet:
                self._say(self._still_running(event.at), event.at)
        elif isinstance(event, RunStarted):
            self._total, self._began, self._said_at = len(event.tasks), event.at, event.at
            if not self._quiet:
                name = self._disarmed(one_line(event.name or event.spec_path))
                self._say(f"{name}: {words.number(len(event.tasks), 'task')}, {event.mode}\n", event.at)
        elif isinstance(event, RunFinished):
            self._say("".join(f"{self._disarmed(line)}\n" for line in final_lines(self._report())), event.at)

    def go_on(self, *, done: int, bad: int, at: float) -> None:
        self._done = done
        if not self._quiet:
            failed = f", {bad:,} of them failed" if bad else ""
            self._say(f"resumed: {done:,} of {words.number(self._total, 'task')} had ended{failed}\n", at)

    def close(self) -> None:
        self._stream.flush()

    def _ended(self, event: TaskFinished) -> None:
        output = self._output.pop(event.task, None)
        start = self._starts.pop(event.task, None)
        self._done += event.final and event.state in FINAL_STATES
        bad = event.state in BAD_STATES
        if self._quiet and not bad:
            return
        line = self._disarmed(end_line(event, start))
        if output is None:
            self._say(f"{line}\n", event.at)
        elif not self._token:
            body = clean("".join(output)).rstrip("\n")
            self._say(f"{line}\n" + "".join(f"    {text}\n" for text in body.split("\n")), event.at)
        else:
            guarded = self._guarded("".join(output))
            # a fold would hide what people came for, where the task failed
            self._say(f"{line}\n{guarded}" if bad else f"::group::{line}\n{guarded}::endgroup::\n", event.at)

    def _guarded(self, output: str) -> str:
        # between the guards only the form that is read anywhere in a line counts
        body = clean(output, keep_colour=True).rstrip("\n").replace("##[", "##\u200b[")
        end = _RESET if "\x1b" in body else ""
        return f"::stop-commands::{self._token}\n{body}{end}\n::{self._token}::\n"

    def _still_running(self, now: float) -> str:
        running = sorted(self._starts.values(), key=lambda start: start.at)
        names = [f"{one_line(start.task)} ({words.duration(now - start.at)})" for start in running[:_NAMED]]
        if len(running) > _NAMED:
            names.append(f"{len(running) - _NAMED:,} more")
        what = f"; running: {', '.join(names)}" if names else ""
        return f"{words.duration(now - self._began)}: {self._done:,} of {self._total:,} done{self._disarmed(what)}\n"

    def _disarmed(self, text: str) -> str:
        """Words of others, with no workflow command in them."""
        return unissuable(text) if self._token else text

    def _say(self, text: str, at: float) -> None:
        self._said_at = at
        self._stream.write(text)
        self._stream.flush()
