"""A team lead: gives its team's tasks to workers, reviews what comes back, and keeps what was measured.

The queue and `max-concurrent-workers` are the scheduler's; the lead has what a scheduler doesn't know. A result is
taken where its report fits the schema, its change keeps to `writes` and `verify` passes; else it is sent back: the
next attempt goes on in the same conversation with what was wrong. Small tasks that share what they read may go on from
one another's conversation (`maos_bot.agents.batching`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Any

from maos_bot.agents import findings as reports
from maos_bot.agents import prompts
from maos_bot.agents.batching import CACHED_S, USUAL_TURNS, Conversation, Terms, best, may_share
from maos_bot.agents.places import Places, RefusedError
from maos_bot.agents.worker import Ask, Bounds, Result, Tell, Worker
from maos_bot.events import ChangeTaken, FindingReported
from maos_bot.frozen import dataclass
from maos_bot.model import Outcome, Task, TaskState, Team
from maos_bot.models.prices import Price
from maos_bot.models.protocol import Answer, Message, Tool, Turn, signature
from maos_bot.models.sizes import estimated_tokens

_LONGEST = 6000  # characters of a review that are sent back
_ENOUGH = 3  # measured tasks of a sort; fewer say nothing


@dataclass(slots=True)
class _Measured:
    """What a team's attempts came to so far; times in seconds on the caller's clock."""

    running: int = 0
    most: int = 0
    attempts: int = 0
    accepted: int = 0
    sent_back: int = 0
    busy_s: float = 0.0
    turns: int = 0  # of attempts that were accepted
    shared: list[float] = field(default_factory=list)  # dollars of each accepted task that joined a conversation
    alone: list[float] = field(default_factory=list)  # of each that had one of its own and could have shared it
    first_at: float | None = None
    last_at: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _SentBack:
    """An attempt that wasn't taken: its conversation, and what was wrong."""

    messages: tuple[Message, ...]
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a task is done in: its model and its price, whose changes its files have in them, how many turns it usually
    takes (None: not known), and the clock. `unknown`: a server's own model, which may not know how to call tools.
    `folder`: one that it shares with others, as it only reads.
    """

    model: str
    price: Price | None
    base: frozenset[str]
    turns: float | None
    now: Callable[[], float]
    unknown: bool = False
    folder: Path | None = None


def _dearer(shared: Sequence[float], alone: Sequence[float]) -> bool:
    """Whether tasks that shared a conversation were measured to cost more than those that had their own."""
    if min(len(shared), len(alone)) < _ENOUGH:
        return False
    return sum(shared) / len(shared) > sum(alone) / len(alone)


def _tokens(prefix: str) -> int:
    return estimated_tokens(Turn(model="", messages=(), prefix=prefix))


@dataclass(kw_only=True, slots=True)
class TeamLead:
    """One team's lead. `prefix` is what all workers of the run share."""

    team: Team
    places: Places
    prefix: str = ""
    bounds: Bounds = field(default_factory=Bounds)
    _back: dict[str, _SentBack] = field(default_factory=dict)
    _known: list[Conversation] = field(default_factory=list)
    _measured: _Measured = field(default_factory=_Measured)

    async def attempt(
        self,
        task: Task,
        *,
        ask: Ask,
        tell: Tell,
        needs: Sequence[tuple[str, str]] = (),
        setting: Setting | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> tuple[Outcome, Result]:
        """Have `task` done once, and review it. What is wrong ends as failed, and is told to the next attempt.

        With a `setting` it may go on from the conversation of another task; `note` is told which.
        """
        shared = setting.folder if setting else None
        folder = shared or await self.places.open(task)
        tools = self.places.tools(task, folder)
        names = tuple(tool.name for tool in tools.tools)
        back = self._back.pop(task.id, None)
        joined = None if back or setting is None else self._join(task, tools.tools, setting, note)
        spent: list[float | None] = []

        async def counted(turn: Turn) -> Answer:
            answer = await ask(turn)
            spent.append(answer.usage.usd)
            return answer

        worker = Worker(
            counted,
            tools,
            prefix=self.prefix,
            bounds=self.bounds,
            tell=tell,
            folder=str(folder),
            words_do=bool(setting and setting.unknown) and task.report != "findings" and task.writes is None,
        )
        text = prompts.sent_back(back.why) if back else prompts.task_text(task, needs)
        if joined:
            text = prompts.next_task(text)
        before = back.messages if back else joined.messages if joined else ()
        result = await worker.work(text, before)
        if result.failed:
            return Outcome(state=TaskState.FAILED, reason=result.failed), result
        why = await self._review(task, result, tell, apart=shared is None)
        if why:
            self._back[task.id] = _SentBack(messages=result.messages, why=why[-_LONGEST:])
            first = next((line for line in why.splitlines() if line.strip()), "")
            return Outcome(state=TaskState.FAILED, reason=f"not accepted: {first[:300]}"), result
        self._measured.turns += result.turns
        if setting and may_share(task, names):
            self._keep(task, tools.tools, setting, result)
            if None not in spent:
                costs = self._measured.shared if joined else self._measured.alone
                costs.append(sum(usd for usd in spent if usd is not None))
        return Outcome(state=TaskState.SUCCEEDED), result

    def _join(
        self, task: Task, tools: Sequence[Tool], setting: Setting, note: Callable[[str], None]
    ) -> Conversation | None:
        """The conversation that `task` goes on from; None where it has one of its own."""
        measured = self._measured
        if not may_share(task, [tool.name for tool in tools]) or _dearer(measured.shared, measured.alone):
            return None
        turns = setting.turns or (measured.turns / measured.accepted if measured.accepted else USUAL_TURNS)
        found = best(
            task,
            self._known,
            terms=Terms(price=setting.price, prefix=_tokens(self.prefix), turns=turns),
            tools=signature(tools),
            model=setting.model,
            base=setting.base,
            now=setting.now(),
            most_tokens=self.bounds.context_tokens,
        )
        if found is None:
            return None
        conversation, saved = found
        self._known[self._known.index(conversation)] = replace(conversation, used_at=setting.now())
        note(f"goes on from the conversation of {conversation.task}: about ${saved:.4f} less than alone")
        return conversation

    def _keep(self, task: Task, tools: Sequence[Tool], setting: Setting, result: Result) -> None:
        now = setting.now()
        self._known = [each for each in self._known if now - each.used_at <= CACHED_S]
        self._known.append(
            Conversation(
                messages=result.messages,
                tools=signature(tools),
                model=setting.model,
                base=setting.base,
                task=task.id,
                used_at=now,
            )
        )

    async def _review(self, task: Task, result: Result, tell: Tell, *, apart: bool = True) -> str:
        """What keeps `result` from being taken; where nothing does, it is taken and told.

        A task that isn't `apart` in a folder of its own has nothing to be verified or changed there.
        """
        found: tuple[reports.Finding, ...] = ()
        if task.report == "findings":
            found, wrong = reports.check(result.findings)
            if wrong:
                return "the report does not fit its schema:\n" + "\n".join(wrong[:20])
        if apart and task.verify:
            said = await self.places.verify(task, await self.places.open(task))
            if said:
                return f"`verify` failed: {task.verify}\n{said}"
        try:
            change = await self.places.take(task) if apart else None
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
                patch=change.patch,
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
            "tasks_that_shared_a_conversation": len(measured.shared),
            "mean_attempt_s": measured.busy_s / measured.attempts if measured.attempts else None,
            "measured_speedup": measured.busy_s / wall_s if wall_s else None,
        }
