"""The run on a terminal: what runs now, with its time and last line; what ended scrolls away above.

Events only change a little state and queue lines; a thread draws ten times a second, so that a thousand quick tasks
cost ten pictures and not a thousand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TextIO

from maos_bot.events import OutputChunk, RunEvent, RunFinished, RunStarted, TaskFinished, TaskStarted
from maos_bot.model import BAD_STATES
from maos_bot.reporting import words
from maos_bot.reporting.escape import clean, one_line
from maos_bot.reporting.excerpt import LogBuffer, last_bytes
from maos_bot.reporting.lines import COLOURS, end_line, final_lines
from maos_bot.reporting.page import say
from maos_bot.reporting.view import RunReport

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_TICK_S: Final = 0.1
_FAILED_LINES: Final = 40
_LOG: Final = "  "  # how lines of a task's output begin
_LAST_BYTES: Final = 400  # of a task's output, where its last line is looked for
_BAR: Final = 24


class ProgressView:
    """Live progress through rich; `close` stops the thread and puts the terminal back."""

    def __init__(self, stream: TextIO, *, report: Callable[[], RunReport]) -> None:
        """Draw on `stream`, a terminal; `report` gives the run as it stands, for the last lines."""
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._report = report
        self._starts: dict[str, TaskStarted] = {}
        self._logs: dict[str, LogBuffer] = {}
        self._last: dict[str, str] = {}
        self._ended_lines: list[Text] = []
        self._total = self._done = self._bad = 0
        self._predicted: float | None = None
        self._began = time.time()
        self._lock = threading.Lock()
        # standard output stays the program's own: with --json, one object goes there
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._over = threading.Event()
        self._live.start()
        self._thread = threading.Thread(target=self._draw, name="maos-progress", daemon=True)
        self._thread.start()

    def add(self, event: RunEvent) -> None:
        with self._lock:
            self._follow(event)
        if isinstance(event, RunFinished):
            self.close()
            from rich.text import Text

            for line in final_lines(self._report()):
                say(self._console, Text(line))

    def go_on(self, *, done: int, bad: int, at: float) -> None:  # noqa: ARG002 - its clock is that of the machine
        with self._lock:
            self._done, self._bad = done, bad

    def close(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        self._print_ended()
        self._live.stop()

    def _follow(self, event: RunEvent) -> None:
        if isinstance(event, OutputChunk):
            log = self._logs.get(event.task)
            if log is None:
                log = self._logs[event.task] = LogBuffer()
            log.add(event.offset, event.text, omitted=event.omitted)
            self._last[event.task] = last_bytes(event.text[-_LAST_BYTES:], _LAST_BYTES)
        elif isinstance(event, TaskStarted):
            self._starts[event.task] = event
        elif isinstance(event, TaskFinished):
            self._ended(event)
        elif isinstance(event, RunStarted):
            self._total = len(event.tasks)
            self._began = event.at
            self._predicted = event.predicted.get("makespan_s")

    def _ended(self, event: TaskFinished) -> None:
        from rich.text import Text

        self._done += event.final
        self._bad += event.final and event.state in BAD_STATES
        start = self._starts.pop(event.task, None)
        log = self._logs.pop(event.task, None)
        self._last.pop(event.task, None)
        line = Text(end_line(event, start))
        line.stylize(COLOURS[event.state], 0, 1)
        if event.state in BAD_STATES:
            line.stylize("bold")
        self._ended_lines.append(line)
        if event.state in BAD_STATES and log is not None:
            shown = clean(log.excerpt().text).strip("\n").split("\n")
            if len(shown) > _FAILED_LINES:
                self._ended_lines.append(Text(f"{_LOG}┆ {len(shown) - _FAILED_LINES:,} lines above", style="dim"))
            for text in shown[-_FAILED_LINES:]:
                self._ended_lines.append(Text.assemble((f"{_LOG}│ ", COLOURS[event.state]), text))

    def _draw(self) -> None:
        while not self._over.wait(_TICK_S):
            self._print_ended()
            self._live.refresh()

    def _print_ended(self) -> None:
        with self._lock:
            lines, self._ended_lines = self._ended_lines, []
        if lines:
            for line in lines:
                if line.plain.startswith(_LOG):
                    self._console.print(line, soft_wrap=True)  # what a task printed is left as it is
                else:
                    say(self._console, line)

    def _picture(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            running = sorted(self._starts.values(), key=lambda start: start.at)
            last = {start.task: self._last.get(start.task, "") for start in running}
            done, bad, total = self._done, self._bad, self._total
        now = time.time()
        frame = _FRAMES[int(now * 10) % len(_FRAMES)]
        room = max(3, self._console.height - 6)
        table = Table.grid(padding=(0, 1))
        for _ in range(2):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for start in running[:room]:
            table.add_row(
                Text(frame, style="blue"),
                Text(one_line(start.task, limit=40)),
                words.duration(max(0.0, now - start.at)),
                Text(_last_line(last[start.task]), style="dim"),
            )
        whole = Table.grid()
        if not total:
            return whole
        if running:
            whole.add_row(table)
        elapsed = max(0.0, now - self._began)
        whole.add_row(self._bar(done, bad, total, running=len(running), elapsed=elapsed, hidden=len(running) - room))
        return whole

    def _bar(self, done: int, bad: int, total: int, *, running: int, elapsed: float, hidden: int) -> Text:
        from rich.text import Text

        filled = round(_BAR * done / total) if total else 0
        said = f"  {done:,} of {total:,}"
        said += f" · {bad:,} failed" if bad else ""
        said += f" · {running:,} running" + (f" ({hidden:,} not shown)" if hidden > 0 else "")
        said += f" · {words.duration(elapsed)}"
        said += f" of about {words.duration(self._predicted)}" if self._predicted else ""
        return Text.assemble(("━" * filled, "red" if bad else "green"), ("━" * (_BAR - filled), "dim"), said)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in clean(text).split("\n") if line.strip()]
    return lines[-1] if lines else ""
