"""A run as Chrome trace events, which Perfetto and chrome://tracing open (pure).

A process for each team, in it a lane (thread) for each task that ran at the same time, and below them lanes for
waiting; no two slices on a lane overlap. Arrows lead from each need to the task that needed it, counters show what
was measured over all processes. Times are whole microseconds from the run's start. The format is the Trace Event
Format that Chromium's catapult project describes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any, Final

from maos_bot.events import ResourceSampled
from maos_bot.frozen import dataclass
from maos_bot.reporting.report import RunReport

# Colour names of the trace viewers, by state; a state that isn't here takes the viewer's own colour.
_COLOURS: Final = {
    "succeeded": "good",
    "cached": "good",
    "failed": "terrible",
    "timed_out": "bad",
    "cancelled": "grey",
    "running": "yellow",
}
_RUN: Final = 1  # the process that holds the run as a whole; teams count from 2
_WAITING: Final = 100_000  # lanes for waiting are numbered from here: shown below those for running
_COUNTERS: Final = (
    ("memory MiB", "memory_mb"),
    ("CPU percent", "cpu_percent"),
    ("agents", "agents"),
    ("tokens per minute", "tokens_per_minute"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slice:
    """Something that took time; `start` and `end` are microseconds."""

    task: str
    team: str
    start: int
    end: int
    name: str
    colour: str | None
    args: dict[str, object]


def trace_events(report: RunReport, samples: Iterable[ResourceSampled] = ()) -> Iterator[dict[str, Any]]:
    """The events of the trace's array, one at a time."""
    processes = {team: number for number, team in enumerate(_teams(report), start=_RUN + 1)}
    yield _name("process_name", _RUN, f"run {report.name or report.run_id}")
    yield _name("thread_name", _RUN, "run", tid=1)
    yield _complete(
        _Slice(
            task="",
            team="",
            start=0,
            end=_microseconds(report.wall_s),
            name=report.name or report.run_id,
            colour=_COLOURS.get(str(report.status)),
            args={"run_id": report.run_id, "status": str(report.status), "mode": report.mode},
        ),
        pid=_RUN,
        tid=1,
    )
    for team, pid in processes.items():
        yield _name("process_name", pid, team or "no team")
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    first: dict[str, tuple[_Slice, int, int]] = {}
    last: dict[str, tuple[_Slice, int, int]] = {}
    for team, pid in processes.items():
        running, waiting = _slices(report, team)
        for slices, base, label in ((running, 1, "lane"), (waiting, _WAITING, "waiting")):
            named: set[int] = set()
            for item, lane in _in_lanes(slices):
                tid = base + lane
                if lane not in named:
                    named.add(lane)
                    yield _name("thread_name", pid, f"{label} {lane + 1}", tid=tid)
                    yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}
                if base != _WAITING:
                    first.setdefault(item.task, (item, pid, tid))
                    last[item.task] = (item, pid, tid)
                yield _complete(item, pid=pid, tid=tid)
    yield from _arrows(report, first, last)
    began = report.started_at or 0.0
    for sample in samples:
        yield from _counters(sample, began)


def _teams(report: RunReport) -> list[str]:
    return list(dict.fromkeys(task.team for task in report.tasks.values()))


def _slices(report: RunReport, team: str) -> tuple[list[_Slice], list[_Slice]]:
    """What ran and what waited in one team, each by time."""
    running: list[_Slice] = []
    waiting: list[_Slice] = []
    for task in report.tasks.values():
        if task.team != team:
            continue
        for attempt in task.attempt_list:
            if attempt.started_s is None:
                continue
            end_s = report.wall_s if attempt.finished_s is None else attempt.finished_s
            start, end = _microseconds(attempt.started_s), _microseconds(end_s)
            args: dict[str, object] = {
                "task": task.id,
                "attempt": attempt.attempt,
                "state": str(attempt.state),
                "reason": attempt.reason,
                "exit_code": attempt.exit_code,
                "cpu_s": attempt.cpu_s,
                "peak_memory_mb": attempt.peak_memory_mb,
            }
            title = task.title if attempt.attempt == 1 else f"{task.title} (attempt {attempt.attempt})"
            colour = _COLOURS.get(str(attempt.state))
            running.append(
                _Slice(task=task.id, team=team, start=start, end=max(start, end), name=title, colour=colour, args=args)
            )
            since = _microseconds(attempt.started_s - (attempt.queued_s or 0.0))
            if since < start:
                why: dict[str, object] = {"waited_for": attempt.wait_reason, "freed_by": attempt.freed_by}
                waiting.append(
                    _Slice(
                        task=task.id, team=team, start=since, end=start, name=f"{title} waits", colour="grey", args=why
                    )
                )
    running.sort(key=lambda item: (item.start, item.end))
    waiting.sort(key=lambda item: (item.start, item.end))
    return running, waiting


def _in_lanes(slices: Iterable[_Slice]) -> Iterator[tuple[_Slice, int]]:
    """Each slice with the lowest lane that is free at its start; `slices` come by start."""
    free: list[int] = []
    busy: list[tuple[int, int]] = []  # (until, lane)
    lanes = 0
    for item in slices:
        while busy and busy[0][0] <= item.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, lanes = lanes, lanes + 1
        heapq.heappush(busy, (max(item.end, item.start + 1), lane))
        yield item, lane


def _arrows(
    report: RunReport, first: dict[str, tuple[_Slice, int, int]], last: dict[str, tuple[_Slice, int, int]]
) -> Iterator[dict[str, Any]]:
    number = 0
    for task in report.tasks.values():
        if task.id not in first:
            continue
        target, pid, tid = first[task.id]
        for need in task.needs:
            if need not in last:
                continue
            source, source_pid, source_tid = last[need]
            # An arrow belongs to the slice around its instant: one microsecond before the end is inside.
            at = max(source.start, source.end - 1)
            if at > target.start:
                continue  # part of the stream is missing: viewers refuse arrows that lead back in time
            number += 1
            common = {"name": "needs", "cat": "needs", "id": number}
            yield common | {"ph": "s", "ts": at, "pid": source_pid, "tid": source_tid}
            yield common | {"ph": "f", "bp": "e", "ts": target.start, "pid": pid, "tid": tid}


def _counters(sample: ResourceSampled, began: float) -> Iterator[dict[str, Any]]:
    at = max(0, _microseconds(sample.at - began))
    for name, field in _COUNTERS:
        value = getattr(sample, field)
        if value is not None:
            yield {"ph": "C", "name": name, "pid": _RUN, "tid": 0, "ts": at, "args": {name: value}}


def _complete(item: _Slice, *, pid: int, tid: int) -> dict[str, Any]:
    event: dict[str, Any] = {
        "ph": "X",
        "name": item.name,
        "cat": item.team or "run",
        "ts": item.start,
        "dur": item.end - item.start,
        "pid": pid,
        "tid": tid,
        "args": {key: value for key, value in item.args.items() if value not in {None, ""}},
    }
    if item.colour:
        event["cname"] = item.colour
    return event


def _name(kind: str, pid: int, name: str, *, tid: int = 0) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
