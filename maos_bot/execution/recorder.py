"""Writes a run down: what happens becomes an event with its number and its time, and without secrets.

Time is the wall's at the start and a monotonic clock's from then on, so that it never runs backwards inside a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from maos_bot.events import OutputChunk, RunEvent, TaskFinished
from maos_bot.execution.capture import Capture, Sink
from maos_bot.execution.past import Past
from maos_bot.model import Outcome
from maos_bot.redact import Redactor

if TYPE_CHECKING:
    from maos_bot.execution.cache import Log


class Recorder:
    """The stream of one run. `emit` is called for each event and must return at once; what it raises ends the run."""

    def __init__(
        self, run_id: str, *, emit: Callable[[RunEvent], None], redactor: Redactor, past: Past | None = None
    ) -> None:
        """With a `past` its numbering and its clock go on."""
        self._run_id = run_id
        self._emit = emit
        self._redactor = redactor
        self._seq = past.last_seq if past else 0
        self._wall = max(time.time(), past.last_at) if past else time.time()
        self._mono = time.monotonic()
        self._before_s = self._wall - past.started.at if past and past.started else 0.0

    @property
    def wall_s(self) -> float:
        """How long the run has gone on, with the time before it was resumed."""
        return self._before_s + time.monotonic() - self._mono

    def tell(self, kind: type[Any], **values: Any) -> Any:
        """Emit an event of `kind`, and give it back; `values` hold no secrets."""
        self._seq += 1
        at = self._wall + time.monotonic() - self._mono
        event = kind(run_id=self._run_id, seq=self._seq, at=at, **values)
        self._emit(event)
        return event

    def tell_of_attempt(self, task: str, attempt: int, kind: type[Any], **values: Any) -> None:
        """Emit an event of an attempt whose `values` may hold secrets: they are taken out of texts and tuples."""
        self.tell(kind, task=task, attempt=attempt, **{name: self._shown(each) for name, each in values.items()})

    def finished(
        self, task: str, attempt: int, outcome: Outcome, *, retry_in_s: float | None = None, final: bool = True
    ) -> None:
        """An attempt came to `outcome`; it is final unless another follows."""
        self.tell(
            TaskFinished,
            task=task,
            attempt=attempt,
            state=outcome.state,
            final=final and retry_in_s is None,
            reason=self._redactor.text(outcome.reason),
            exit_code=outcome.exit_code,
            duration_s=outcome.duration_s,
            cpu_s=outcome.cpu_s,
            peak_memory_mb=outcome.peak_memory_mb,
            output_bytes=outcome.output_bytes,
            omitted_bytes=outcome.omitted_bytes,
            retry_in_s=retry_in_s,
            saved_s=outcome.saved_s,
            result=outcome.result,
            key=outcome.key,
        )

    def capture(self, task: str, attempt: int, printed: Sink | None = None) -> Capture:
        """What takes in the output of an attempt; `printed` hears too what became of it."""

        def sink(text: str, offset: int, omitted: int) -> None:
            self.tell(OutputChunk, task=task, attempt=attempt, text=text, offset=offset, omitted=omitted)
            if printed:
                printed(text, offset, omitted)

        return Capture(self._redactor, sink)

    def replay(self, task: str, log: Log) -> None:
        """Show again what a task printed when it ran."""
        for text, offset, omitted in log:
            shown = self._redactor.text(text)
            self.tell(OutputChunk, task=task, attempt=0, text=shown, offset=offset, omitted=omitted)

    def _shown(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._redactor.text(value)
        return tuple(self._shown(each) for each in value) if type(value) is tuple else value
