"""The event stream folded into a `RunReport` (pure).

`ReportBuilder` takes events as they come and gives a report at any moment. An event that comes twice changes nothing
(key: sequence number), and a stream that is cut off anywhere is a run still going on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from maos_bot.events import (
    ChangeTaken,
    FindingReported,
    OutputChunk,
    ResourceSampled,
    RunEvent,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskInfo,
    TaskReady,
    TaskStarted,
    TranscriptAdded,
    UsageRecorded,
)
from maos_bot.model import GOOD_STATES, RunStatus, TaskState, Usage
from maos_bot.reporting.excerpt import LogBuffer
from maos_bot.reporting.findings import Finding, Lines, from_event, named
from maos_bot.reporting.view import PEAK_NAMES, AttemptReport, PathStep, Peak, RunReport, TaskReport, usage_json

__all__ = [
    "AttemptReport",
    "PathStep",
    "Peak",
    "ReportBuilder",
    "RunReport",
    "TaskReport",
    "report_of",
    "usage_json",
]

_NO_USAGE: Final = Usage()


def report_of(events: Iterable[RunEvent]) -> RunReport:
    """The report of a whole or partial stream; `ValueError` where it is empty or of two runs."""
    builder = ReportBuilder()
    for event in events:
        builder.add(event)
    return builder.report()


class _Attempt:
    """What is known of one attempt while the stream goes on."""

    __slots__ = ("changes", "findings", "finished", "lines", "log", "started")

    def __init__(self) -> None:
        self.started: TaskStarted | None = None
        self.finished: TaskFinished | None = None
        self.log: LogBuffer | None = None
        self.findings: list[FindingReported] = []
        self.changes: list[ChangeTaken] = []
        self.lines: Lines | None = None  # the findings in what it printed


class _Task:
    """What is known of one task while the stream goes on."""

    __slots__ = (
        "attempts",
        "cached",
        "ended",
        "info",
        "last",
        "lines",
        "memory_mb",
        "printing",
        "ready",
        "replay",
        "unran",
        "usage",
    )

    def __init__(self, info: TaskInfo) -> None:
        self.info = info
        self.ready: TaskReady | None = None
        self.unran: TaskFinished | None = None  # its end, where no attempt was made
        self.ended = False
        self.attempts: dict[int, _Attempt] = {}
        self.last = 0  # the largest number of an attempt
        self.printing: _Attempt | None = None  # whose output is kept
        self.memory_mb: float | None = None
        self.usage: Usage | None = None
        self.cached: TaskReport | None = None
        self.lines: Lines | None = None  # the findings in `replay`
        self.replay: LogBuffer | None = None  # what it printed when it ran, where it came from the cache

    def attempt(self, number: int) -> _Attempt:
        found = self.attempts.get(number)
        if found is None:
            found = self.attempts[number] = _Attempt()
            self.last = max(self.last, number)
        return found


class ReportBuilder:
    """A mutable fold of the stream: `add` events, ask for a `report` whenever one is wanted.

    Events may come twice, with gaps (such as a stream without its output), and late. Memory is bounded by the number
    of tasks and attempts: of output only a head and a tail are kept.
    """

    def __init__(self) -> None:
        self.run_id = ""
        self._upto = 0  # every sequence number up to here was seen
        self._above: set[int] = set()
        self._start: RunStarted | None = None
        self._end: RunFinished | None = None
        self._first_at: float | None = None
        self._last_at = 0.0
        self._last_seq = 0
        self._tasks: dict[str, _Task] = {}
        self._models: dict[str, Usage] = {}
        self._peak: dict[str, float | int | None] = dict.fromkeys(PEAK_NAMES)
        self._fold: Mapping[type[RunEvent], Callable[[Any], None]] = {
            RunStarted: self._run_started,
            TaskReady: self._task_ready,
            TaskStarted: self._task_started,
            OutputChunk: self._output,
            UsageRecorded: self._used,
            TranscriptAdded: self._said,
            FindingReported: self._found,
            ChangeTaken: self._changed,
            ResourceSampled: self._sampled,
            TaskFinished: self._task_finished,
            RunFinished: self._run_finished,
        }

    def add(self, event: RunEvent) -> bool:
        """Fold one event in; False where it was known. `ValueError` for an event of another run."""
        if event.run_id != self.run_id:
            if self.run_id:
                raise ValueError(f"an event of run {event.run_id} in the stream of {self.run_id}")
            self.run_id = event.run_id
        seq = event.seq
        if seq <= self._upto or seq in self._above:
            return False
        if seq == self._upto + 1:
            self._upto = seq
            while self._above and self._upto + 1 in self._above:
                self._upto += 1
                self._above.remove(self._upto)
        else:
            self._above.add(seq)
        if self._first_at is None or event.at < self._first_at:
            self._first_at = event.at
            self._forget()
        self._last_at = max(self._last_at, event.at)
        self._last_seq = max(self._last_seq, seq)
        self._fold[type(event)](event)
        return True

    def report(self, *, now: float | None = None) -> RunReport:
        """The run as far as it is known; `now` (seconds since the epoch) is how far a running one has come.

        Without `now` it is the time of the last event. `ValueError` where no event was added.
        """
        if self._first_at is None:
            raise ValueError("no events: there is no run to report")
        start, end = self._start, self._end
        began = self._began
        tasks = {id_: self._task_report(task, began) for id_, task in self._in_order()}
        usage = sum((task.usage for task in self._tasks.values() if task.usage), Usage())
        last = max(self._last_at, now) if now is not None and end is None else self._last_at
        return RunReport(
            run_id=self.run_id,
            status=_status(end),
            reason=end.reason if end else "",
            exit_code=end.exit_code if end else None,
            started_at=began,
            finished_at=end.at if end else None,
            wall_s=end.wall_s if end else last - began,
            tasks=tasks,
            usage=usage,
            usage_by_model=dict(self._models),
            peak=Peak(**self._peak),  # type: ignore[arg-type]
            last_seq=self._last_seq,
            **(_plan_fields(start) if start else {}),
        )

    @property
    def _began(self) -> float:
        return self._start.at if self._start else self._first_at or 0.0

    def _in_order(self) -> Iterable[tuple[str, _Task]]:
        """The spec's order first; tasks the start didn't name (or not yet) after it."""
        named = [info.id for info in self._start.tasks] if self._start else []
        known = set(named)
        yield from ((id_, self._tasks[id_]) for id_ in named)
        yield from ((id_, task) for id_, task in self._tasks.items() if id_ not in known)

    def _forget(self) -> None:
        for task in self._tasks.values():
            task.cached = None

    def _task(self, id_: str) -> _Task:
        task = self._tasks.get(id_)
        if task is None:
            task = self._tasks[id_] = _Task(TaskInfo(id=id_))
        task.cached = None
        return task

    def _run_started(self, event: RunStarted) -> None:
        self._start = event
        for info in event.tasks:
            if task := self._tasks.get(info.id):
                task.info = info
            else:
                self._tasks[info.id] = _Task(info)
        self._forget()

    def _task_ready(self, event: TaskReady) -> None:
        task = self._task(event.task)
        if task.ready is None or event.seq < task.ready.seq:
            task.ready = event

    def _task_started(self, event: TaskStarted) -> None:
        self._task(event.task).attempt(event.attempt).started = event

    def _output(self, event: OutputChunk) -> None:
        task = self._task(event.task)
        if event.attempt == 0:
            task.replay = task.replay or LogBuffer(short=True)
            task.replay.add(event.offset, event.text, omitted=event.omitted)
            task.lines = task.lines or Lines()
            task.lines.add(event.offset, event.text, omitted=event.omitted)
            return
        attempt = task.attempt(event.attempt)
        if event.attempt < task.last:
            return  # only the last attempt's output is shown
        if attempt.log is None:
            if task.printing:
                task.printing.log = task.printing.lines = None
            task.printing = attempt
            attempt.log = LogBuffer(short=attempt.finished is not None and attempt.finished.state in GOOD_STATES)
            attempt.lines = Lines()
        attempt.log.add(event.offset, event.text, omitted=event.omitted)
        if attempt.lines:
            attempt.lines.add(event.offset, event.text, omitted=event.omitted)

    def _used(self, event: UsageRecorded) -> None:
        task = self._task(event.task)
        task.usage = (task.usage or Usage()) + event.usage
        self._models[event.model] = self._models.get(event.model, Usage()) + event.usage

    def _said(self, event: TranscriptAdded) -> None:
        """Conversations are read from the store: a report holds none of them."""

    def _found(self, event: FindingReported) -> None:
        self._task(event.task).attempt(event.attempt).findings.append(event)

    def _changed(self, event: ChangeTaken) -> None:
        """Without its patch, which may be large: it is read from the store."""
        self._task(event.task).attempt(event.attempt).changes.append(replace(event, patch=""))

    def _sampled(self, event: ResourceSampled) -> None:
        if event.task:
            task = self._task(event.task)
            task.memory_mb = _larger(task.memory_mb, event.memory_mb)
            return
        for name in PEAK_NAMES:
            self._peak[name] = _larger(self._peak[name], getattr(event, name))

    def _task_finished(self, event: TaskFinished) -> None:
        task = self._task(event.task)
        if event.attempt == 0:
            task.unran = event
        else:
            attempt = task.attempt(event.attempt)
            attempt.finished = event
            if attempt.log is not None and event.state in GOOD_STATES:
                attempt.log.shorten()
        if event.final and not task.ended:
            task.ended = True
            self._task_report(task, self._began)  # now, while others run: at the end everybody waits for it

    def _run_finished(self, event: RunFinished) -> None:
        self._end = event

    def _task_report(self, task: _Task, began: float) -> TaskReport:
        if task.cached is None:
            task.cached = _task_report(task, began)
        return task.cached


def _plan_fields(start: RunStarted) -> dict[str, Any]:
    return {
        "name": start.name,
        "mode": start.mode,
        "strategy": start.strategy,
        "chosen_because": start.chosen_because,
        "spec_path": start.spec_path,
        "spec_digest": start.spec_digest,
        "version": start.version,
        "trigger": start.trigger,
        "machine": start.machine,
        "limits": start.limits,
        "budget": start.budget,
        "predicted": start.predicted,
        "predicted_path": start.critical_path,
        "parallelism_factor": start.parallelism_factor,
    }


def _status(end: RunFinished | None) -> RunStatus:
    if end is None:
        return RunStatus.RUNNING
    return RunStatus(end.status)


def _task_report(task: _Task, began: float) -> TaskReport:
    info = task.info
    attempts = tuple([_attempt_report(number, task.attempts[number], began) for number in sorted(task.attempts)])
    first, last = (attempts[0], attempts[-1]) if attempts else (None, None)
    unran = task.unran
    finished_s: float | None = None
    if unran is not None:
        state, finished_s = unran.state, unran.at - began
    elif last is None:
        state = TaskState.READY if task.ready else TaskState.PENDING
    elif last.finished_s is not None and not last.final:
        state = TaskState.READY  # its next attempt is due in a while
    else:
        state, finished_s = last.state, last.finished_s
    log = task.replay or (task.attempts[last.attempt].log if last else None)
    findings, left_out = _findings(task, task.attempts[last.attempt] if last else None)
    return TaskReport(
        id=info.id,
        name=info.name,
        team=info.team,
        kind=info.kind,
        state=state,
        attempts=len(attempts),
        max_attempts=info.max_attempts,
        continue_on_error=info.continue_on_error,
        needs=info.needs,
        stage=info.stage,
        group=info.group,
        command=info.command,
        demand=info.demand,
        ready_s=task.ready.at - began if task.ready else None,
        queued_s=first.queued_s if first else None,
        wait_reason=first.wait_reason if first else "",
        freed_by=(first.freed_by if first else "") or (task.ready.freed_by if task.ready else ""),
        started_s=first.started_s if first else None,
        finished_s=finished_s,
        duration_s=last.duration_s if last else None,
        exit_code=last.exit_code if last else None,
        reason=unran.reason if unran else last.reason if last else "",
        cpu_s=last.cpu_s if last else None,
        peak_memory_mb=_peak_memory(attempts, task.memory_mb),
        output_bytes=last.output_bytes if last else None,
        omitted_bytes=last.omitted_bytes if last else None,
        retry_in_s=last.retry_in_s if last and state is TaskState.READY else None,
        saved_s=unran.saved_s if unran else None,
        usage=task.usage or _NO_USAGE,
        findings=findings,
        findings_left_out=left_out,
        changes=tuple(task.attempts[last.attempt].changes) if last else (),
        estimate_s=info.estimate_s,
        basis=info.basis,
        predicted_start_s=info.start_s,
        predicted_finish_s=info.finish_s,
        slack_s=info.slack_s,
        attempt_list=attempts,
        log=log.excerpt() if log else None,
    )


def _findings(task: _Task, last: _Attempt | None) -> tuple[tuple[Finding, ...], int]:
    """What the last attempt found, in lines it printed and as an agent's report, and how much of it isn't kept."""
    lines = task.lines or (last.lines if last else None)
    said = last.findings if last else []
    if not (lines or said):
        return (), 0
    reported = [from_event(each) for each in said]
    found = [*(lines.all() if lines else ()), *(each for each in reported if each)]
    return named(found, task.info.id), (lines.left_out if lines else 0) + reported.count(None)


def _attempt_report(number: int, attempt: _Attempt, began: float) -> AttemptReport:
    start, end = attempt.started, attempt.finished
    started_s = start.at - began if start else end.at - began - end.duration_s if end else None
    common = {
        "attempt": number,
        "started_s": started_s,
        "queued_s": start.queued_s if start else None,
        "wait_reason": start.wait_reason if start else "",
        "freed_by": start.freed_by if start else "",
    }
    if end is None:
        return AttemptReport(state=TaskState.RUNNING, **common)  # type: ignore[arg-type]
    return AttemptReport(
        state=end.state,
        finished_s=end.at - began,
        duration_s=end.duration_s,
        final=end.final,
        reason=end.reason,
        exit_code=end.exit_code,
        cpu_s=end.cpu_s,
        peak_memory_mb=end.peak_memory_mb,
        output_bytes=end.output_bytes,
        omitted_bytes=end.omitted_bytes,
        retry_in_s=end.retry_in_s,
        **common,  # type: ignore[arg-type]
    )


def _peak_memory(attempts: Sequence[AttemptReport], sampled: float | None) -> float | None:
    peak = sampled
    for attempt in attempts:
        peak = _larger(peak, attempt.peak_memory_mb)
    return peak


def _larger(known: float | None, new: float | None) -> float | None:
    if known is None or new is None:
        return new if known is None else known
    return max(known, new)
