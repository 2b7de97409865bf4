"""All agents of one run: what the engine starts attempts at, and what binds leads, budget and models together.

It fits `maos_bot.execution.attempts.Agents` by its shape, without knowing the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from maos_bot.agents.batching import READS
from maos_bot.agents.places import PlaceError, Places
from maos_bot.agents.planned import Planned
from maos_bot.agents.team_lead import Setting, TeamLead
from maos_bot.agents.turns import Payer, Turns
from maos_bot.agents.worker import Bounds, Result, Tell
from maos_bot.events import ChangeTaken
from maos_bot.model import Outcome, Task, TaskState, Team
from maos_bot.models.budget import BudgetError, Cost
from maos_bot.models.prices import Prices
from maos_bot.models.protocol import ProviderError
from maos_bot.models.router import Choice

_SMALLEST: Final = Cost(tokens=1, usd=0.0)


class Printed(Protocol):
    """Takes what an attempt prints."""

    total: int
    omitted: int

    def feed(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class AgentAttempt:
    """One attempt at an agent's task. It has no process of its own: `pid` is None."""

    pid: None = None

    def __init__(
        self, work: Callable[[AgentAttempt], Any], done: Callable[[AgentAttempt, asyncio.Task[Any]], None]
    ) -> None:
        self.begun = asyncio.get_running_loop().time()
        self.ending: tuple[TaskState, str] | None = None
        self._work = asyncio.ensure_future(work(self))
        self._work.add_done_callback(lambda finished: done(self, finished))

    def end(self, state: TaskState, reason: str, *, grace_s: float = 0.0) -> None:  # noqa: ARG002 - nothing to wait for
        """End it: its request is broken off, and what it has used so far stays settled."""
        if not self._work.done() and self.ending is None:
            self.ending = (state, reason)
            self._work.cancel()


class Crew:
    """The agents of one run. `choose` picks the models for a task, and says why."""

    def __init__(
        self,
        *,
        turns: Turns,
        places: Places,
        choose: Callable[[Task], Choice],
        teams: Mapping[str, Team],
        prefix: str = "",
        bounds: Bounds | None = None,
        planned: Planned | None = None,
        deliver: Callable[[], Awaitable[None]] | None = None,
        prices: Prices | None = None,
        usual_turns: Mapping[str, float] | None = None,
    ) -> None:
        """`planned` is what was asked before the run began; `deliver` hands the result over when all have ended.

        By `prices` and the `usual_turns` of tasks it is reckoned which tasks share a conversation; without, none does.
        """
        self.turns = turns
        self._places = places
        self._choose = choose
        self._teams = teams
        self._prefix = prefix
        self._bounds = bounds or Bounds()
        self._planned = planned
        self._deliver = deliver
        self._prices = prices
        self._turns_of = usual_turns or {}
        self._leads: dict[str, TeamLead] = {}
        self._summaries: dict[str, str] = {}
        self._reading: dict[frozenset[str], asyncio.Lock] = {}
        self._read_in: dict[frozenset[str], Path] = {}
        self._changed: set[str] = set()  # tasks whose change was taken
        self._below: dict[str, frozenset[str]] = {}  # by task: itself and those before it that changed something
        self._refusal = ""

    @property
    def over_budget(self) -> str:
        """Which cap was reached, in words; empty where none was."""
        return self.turns.ledger.refusal or self._refusal

    def lead(self, team: str) -> TeamLead:
        """The lead of `team`; tasks without a team have one too."""
        lead = self._leads.get(team)
        if lead is None:
            known = self._teams.get(team, Team(name=team))
            lead = self._leads[team] = TeamLead(
                team=known, places=self._places, prefix=self._prefix, bounds=self._bounds
            )
        return lead

    def refused(self, task: Task) -> str:
        """Why `task` isn't to begin: a cap was reached, or not one token of it is left."""
        if self._planned and self._planned.task.id == task.id:
            return ""
        ledger = self.turns.ledger
        why = ledger.refused(task=task.id, team=task.team) or ledger.check(_SMALLEST, task=task.id, team=task.team)
        self._refusal = self._refusal or why
        return why

    def start(
        self,
        task: Task,
        attempt: int,
        *,
        capture: Printed,
        tell: Tell,
        ended: Callable[[Outcome], None],
        crashed: Callable[[Exception], None],
    ) -> AgentAttempt:
        """Begin an attempt at `task`."""
        loop = asyncio.get_running_loop()
        lead = self.lead(task.team)
        payer = Payer(task=task, attempt=attempt, tell=tell)

        def done(this: AgentAttempt, finished: asyncio.Task[Outcome]) -> None:
            error = None if finished.cancelled() else finished.exception()
            if finished.cancelled():
                state, reason = this.ending or (TaskState.CANCELLED, "its work was broken off")
                outcome = Outcome(state=state, reason=reason)
            elif error is not None:
                if isinstance(error, Exception):
                    crashed(error)
                outcome = Outcome(state=TaskState.FAILED, reason=f"internal error: {type(error).__name__}: {error}")
            else:
                outcome = finished.result()
            capture.close()
            now = loop.time()
            duration_s = now - this.begun
            lead.ended(now, duration_s, outcome)
            ended(replace(outcome, duration_s=duration_s, output_bytes=capture.total, omitted_bytes=capture.omitted))

        lead.began(loop.time())
        return AgentAttempt(lambda _: self._work(lead, payer, capture), done)

    async def _work(self, lead: TeamLead, payer: Payer, capture: Printed) -> Outcome:
        task = payer.task
        if self._planned and self._planned.task.id == task.id:
            return self._told(self._planned, payer.tell, capture)
        try:
            async with asyncio.timeout(task.timeout_s):
                outcome, result = await self._do(lead, payer, capture)
        except TimeoutError:
            return Outcome(state=TaskState.TIMED_OUT, reason=f"timed out after {task.timeout_s:g} s")
        except (BudgetError, PlaceError, ProviderError) as error:
            return _broken_off(error)
        if outcome.state is TaskState.SUCCEEDED:
            self._summaries[task.id] = result.summary
        capture.feed(f"{result.summary or outcome.reason}\n".encode("utf-8", "replace"))
        return outcome

    async def close(self) -> None:
        """Hand over the result, then close the places and the providers."""
        try:
            if self._deliver:
                await self._deliver()
        finally:
            try:
                await self._places.close()
            finally:
                await self.turns.close()

    @staticmethod
    def _told(planned: Planned, tell: Tell, capture: Printed) -> Outcome:
        """Tell what was asked and answered before the run began."""
        for kind, values in planned.told:
            tell(kind, **values)
        planned.told.clear()
        capture.feed(f"{planned.words or planned.outcome.reason}\n".encode("utf-8", "replace"))
        return planned.outcome

    async def _do(self, lead: TeamLead, payer: Payer, capture: Printed) -> tuple[Outcome, Result]:
        task = payer.task
        choice = self._choose(task)
        capture.feed(f"model: {choice.why}\n".encode())
        capture.flush()
        needs = [(need, self._summaries[need]) for need in task.needs if need in self._summaries]
        first = choice.chain[0]
        warming = asyncio.ensure_future(self.turns.client.warm(first))
        price = self._prices.price(first.provider, first.model) if self._prices else None
        base = self._changes_below(task)
        setting = Setting(
            model=str(first),
            price=price,
            base=base,
            folder=await self._shared_folder(task, base),
            turns=self._turns_of.get(task.id),
            now=asyncio.get_running_loop().time,
            unknown=self._prices is not None and price is None,
        )

        await warming

        def note(words: str) -> None:
            capture.feed(f"{words}\n".encode())

        def tell(kind: type[Any], **values: Any) -> Any:
            if kind is ChangeTaken and not values["conflicts"]:
                self._changed.add(task.id)
            return payer.tell(kind, **values)

        outcome, result = await lead.attempt(
            task,
            ask=lambda turn: self.turns.ask(turn, choice.chain, payer),
            tell=tell,
            needs=needs,
            setting=setting,
            note=note,
        )
        self._below[task.id] = setting.base | ({task.id} & self._changed)
        return outcome, result

    async def _shared_folder(self, task: Task, base: frozenset[str]) -> Path | None:
        """The folder of all tasks that only read and have the same changes below them; None for any other task."""
        if task.writes is not None or task.verify or not set(task.tools) <= READS:
            return None
        async with self._reading.setdefault(base, asyncio.Lock()):  # whoever comes second finds it filled
            if base not in self._read_in:
                self._read_in[base] = await self._places.open(task)
        return self._read_in[base]

    def _changes_below(self, task: Task) -> frozenset[str]:
        """The tasks whose changes are in the files that `task` begins with.

        Of a need that this crew didn't do (a command, or a task of the run before it died) only its name is known: then
        that stands for whatever lies below it.
        """
        return frozenset().union(*(self._below.get(need, frozenset({need})) for need in task.needs))


def _broken_off(error: BudgetError | PlaceError | ProviderError) -> Outcome:
    if isinstance(error, BudgetError):
        return Outcome(state=TaskState.SKIPPED, reason=error.message)
    fault = f"{error.fault.value}: " if isinstance(error, ProviderError) else ""
    return Outcome(state=TaskState.FAILED, reason=f"{fault}{error}")
