"""What a run that died had come to, folded from its stored events: what a resumed run goes on from (pure).

A task whose final end is stored stays ended. An attempt that was running is cut: its end is unknown, so its task runs
again, and the attempt doesn't count among those it may have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field

from maos_bot.events import OutputChunk, RunEvent, RunFinished, RunStarted, TaskFinished, TaskStarted
from maos_bot.frozen import dataclass
from maos_bot.model import Outcome, TaskState

CUT: Outcome = Outcome(state=TaskState.CANCELLED, reason="cut off: the run died, and was resumed")


@dataclass(frozen=True, kw_only=True, slots=True)
class CutAttempt:
    """An attempt that ran when the run died; `lived_s` is how long it is known to have lived, in seconds."""

    task: str
    attempt: int
    lived_s: float
    output_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """The state of an interrupted run; mappings are by task id and name only tasks there is something to say of."""

    started: RunStarted | None = None
    finished: RunFinished | None = None
    last_seq: int = 0
    last_at: float = 0.0  # seconds since the epoch
    ended: Mapping[str, TaskState] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)  # of those that ended, where the cache knows one
    begun: Mapping[str, int] = field(default_factory=dict)  # the number of its last attempt
    spared: Mapping[str, int] = field(default_factory=dict)  # attempts that were cut, now or earlier
    cut: tuple[CutAttempt, ...] = ()


def past_of(events: Iterable[RunEvent]) -> Past:
    """Fold the stored events of one run, in order of `seq`; without output, cut attempts show none."""
    started: RunStarted | None = None
    finished: RunFinished | None = None
    last_seq, last_at = 0, 0.0
    ended: dict[str, TaskState] = {}
    results: dict[str, str] = {}
    begun: dict[str, int] = {}
    spared: Counter[str] = Counter()
    running: dict[str, TaskStarted] = {}
    printed: dict[str, int] = {}
    for event in events:
        last_seq, last_at = event.seq, max(last_at, event.at)
        match event:
            case RunStarted():
                started = event
            case RunFinished():
                finished = event
            case TaskStarted():
                running[event.task] = event
                begun[event.task] = event.attempt
                printed[event.task] = 0
            case OutputChunk():
                printed[event.task] = event.offset + len(event.text.encode("utf-8", "replace"))
            case TaskFinished():
                running.pop(event.task, None)
                if event.final:
                    ended[event.task] = event.state
                    results[event.task] = event.result
                elif event.state is CUT.state:
                    spared[event.task] += 1
            case _:
                pass
    cut = tuple(
        CutAttempt(
            task=task, attempt=start.attempt, lived_s=max(0.0, last_at - start.at), output_bytes=printed.get(task, 0)
        )
        for task, start in running.items()
    )
    spared.update(each.task for each in cut)
    return Past(
        started=started,
        finished=finished,
        last_seq=last_seq,
        last_at=last_at,
        ended=ended,
        results=results,
        begun=begun,
        spared=dict(spared),
        cut=cut,
    )
