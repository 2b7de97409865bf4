"""One turn of an agent, paid for: debited before it is sent, settled and recorded after, whatever became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maos_bot.events import UsageRecorded
from maos_bot.frozen import dataclass
from maos_bot.model import Task, Usage
from maos_bot.models.budget import Cost, Ledger
from maos_bot.models.client import ModelClient, Spent, Target
from maos_bot.models.prices import Prices
from maos_bot.models.protocol import Answer, Fault, Turn
from maos_bot.models.sizes import estimated_tokens

Tell = Callable[..., Any]
_COUNTED = frozenset({Fault.CUT, Fault.SILENT, Fault.GARBLED})  # what the provider may charge for though it failed


@dataclass(frozen=True, kw_only=True, slots=True)
class Payer:
    """Who a turn is for: its task, its attempt, and where its events go."""

    task: Task
    attempt: int
    tell: Tell

    @property
    def key(self) -> str:
        return f"{self.task.id}#{self.attempt}"


class Turns:
    """The agents' way to models. `report` is what the client below tells each try to."""

    def __init__(
        self, ledger: Ledger, prices: Prices, connect: Callable[[Callable[[Spent], None]], ModelClient]
    ) -> None:
        """`connect(report)` makes the client."""
        self.ledger = ledger
        self._prices = prices
        self._tries: dict[str, list[Spent]] = {}
        self.client = connect(self._report)

    def expected(self, turn: Turn, chain: tuple[Target, ...]) -> Cost:
        """What `turn` costs at most: nothing read from a cache, all of `max_tokens` written."""
        usage = Usage(input_tokens=estimated_tokens(turn), output_tokens=turn.max_tokens)
        price = self._prices.price(chain[0].provider, chain[0].model) if chain else None
        return Cost(tokens=usage.input_tokens + usage.output_tokens, usd=price.usd(usage) if price else None)

    async def ask(self, turn: Turn, chain: tuple[Target, ...], payer: Payer) -> Answer:
        """Send `turn`; raises `BudgetError` before it is sent, or `ProviderError`."""
        task = payer.task
        debit = self.ledger.debit(self.expected(turn, chain), task=task.id, team=task.team)
        try:
            return await self.client.answer(turn, chain, task=payer.key)
        finally:
            tries = self._tries.pop(payer.key, [])
            counted = [each for each in tries if each.known or each.fault is None or each.fault in _COUNTED]
            total = sum((each.usage for each in counted), Usage())
            self.ledger.settle(debit, total if all(each.known for each in counted) else None)
            for each in counted:
                payer.tell(UsageRecorded, model=str(each.target), usage=each.usage)

    async def close(self) -> None:
        await self.client.close()

    def _report(self, spent: Spent) -> None:
        self._tries.setdefault(spent.task, []).append(spent)
