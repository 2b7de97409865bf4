"""A team lead: gives its team's tasks to workers, reviews what comes back, and keeps what was measured.

The queue and `max-concurrent-workers` are the scheduler's; the lead has what a scheduler doesn't know. A result is
taken where its report fits the schema, its change keeps to `writes` and `verify` passes; else it is sent back: the
next attempt goes on in the same conversation with what was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from maos_bot.agents import findings as reports
from maos_bot.agents import prompts
from maos_bot.agents.places import Places, RefusedError
from maos_bot.agents.worker import Ask, Bounds, Result, Tell, Worker
from maos_bot.events import ChangeTaken, FindingReported
from maos_bot.model import Outcome, Task, TaskState, Team
from maos_bot.models.protocol import Message

_LONGEST = 6000  # characters of a review that are sent back


@dataclass(slots=True)
class _Measured:
    """What a team's attempts came to so far; times in seconds on the caller's clock."""

    running: int = 0
    most: int = 0
    attempts: int = 0
    accepted: int = 0
    sent_back: int = 0
    busy_s: float = 0.0
    first_at: float | None = None
    last_at: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _SentBack:
    """An attempt that wasn't taken: its conversation, and what was wrong."""

    messages: tuple[Message, ...]
    why: str


@dataclass(kw_only=True, slots=True)
class TeamLead:
    """One team's lead. `prefix` is what all workers of the run share."""

    team: Team
    places: Places
    prefix: str = ""
    bounds: Bounds = field(default_factory=Bounds)
    _back: dict[str, _SentBack] = field(default_factory=dict)
    _measured: _Measured = field(default_factory=_Measured)

    async def attempt(
        self, task: Task, *, ask: Ask, tell: Tell, needs: Sequence[tuple[str, str]] = ()
    ) -> tuple[Outcome, Result]:
        """Have `task` done once, and review it. What is wrong ends as failed, and is told to the next attempt."""
        folder = await self.places.open(task)
        back = self._back.pop(task.id, None)
        worker = Worker(ask, self.places.tools(task, folder), prefix=self.prefix, bounds=self.bounds, tell=tell)
        text = prompts.sent_back(back.why) if back else prompts.task_text(task, needs)
        result = await worker.work(text, back.messages if back else ())
        if result.failed:
            return Outcome(state=TaskState.FAILED, reason=result.failed), result
        why = await self._review(task, result, tell)
        if why:
            self._back[task.id] = _SentBack(messages=result.messages, why=why[-_LONGEST:])
            first = next((line for line in why.splitlines() if line.strip()), "")
            return Outcome(state=TaskState.FAILED, reason=f"not accepted: {first[:300]}"), result
        return Outcome(state=TaskState.SUCCEEDED), result

    async def _review(self, task: Task, result: Result, tell: Tell) -> str:
        """What keeps `result` from being taken; where nothing does, it is taken and told."""
        found: tuple[reports.Finding, ...] = ()
        if task.report == "findings":
            found, wrong = reports.check(result.findings)
            if wrong:
                return "the report does not fit its schema:\n" + "\n".join(wrong[:20])
        if task.verify:
            said = await self.places.verify(task, await self.places.open(task))
            if said:
                return f"`verify` failed: {task.verify}\n{said}"
        try:
            change = await self.places.take(task)
        except RefusedError as error:
            return str(error)
        for each in found:
            tell(
                FindingReported,
                path=each.path,
                line=each.line,
                severity=each.severity,
                message=each.message,
                suggestion=each.suggestion,
            )
        if change is not None:
            tell(
                ChangeTaken,
                commit=change.commit,
                files=tuple(change.files),
                added=change.added,
                removed=change.removed,
                conflicts=tuple(change.conflicts),
                branch=change.branch,
            )
            if change.conflicts:
                where = ", ".join(change.conflicts)
                return f"your change conflicts with what others changed in {where}\n{change.advice}"
        return ""

    def began(self, at: float) -> None:
        """An attempt of this team began, on a clock in seconds that all calls share."""
        measured = self._measured
        measured.running += 1
        measured.most = max(measured.most, measured.running)
        measured.first_at = at if measured.first_at is None else measured.first_at

    def ended(self, at: float, duration_s: float, outcome: Outcome) -> None:
        """It ended."""
        measured = self._measured
        measured.running -= 1
        measured.attempts += 1
        measured.accepted += outcome.state is TaskState.SUCCEEDED
        measured.sent_back += outcome.reason.startswith("not accepted")
        measured.busy_s += duration_s
        measured.last_at = at

    def get_parallel_capabilities(self) -> dict[str, Any]:
        """What this team can do side by side, as measured in this run; None where nothing was measured yet."""
        measured = self._measured
        wall_s = measured.last_at - measured.first_at if measured.first_at is not None and measured.attempts else None
        return {
            "team": self.team.name,
            "max_concurrent_workers": self.team.max_concurrent_workers,
            "active_workers": measured.running,
            "most_workers_at_once": measured.most,
            "attempts": measured.attempts,
            "accepted": measured.accepted,
            "sent_back": measured.sent_back,
            "success_rate": measured.accepted / measured.attempts if measured.attempts else None,
            "mean_attempt_s": measured.busy_s / measured.attempts if measured.attempts else None,
            "measured_speedup": measured.busy_s / wall_s if wall_s else None,
        }
