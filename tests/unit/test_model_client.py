"""The one way to models: who waits for whom, so that a shared beginning is written to a cache once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from maos_bot.model import Usage
from maos_bot.models.client import ModelClient, Target
from maos_bot.models.prices import load_prices
from maos_bot.models.protocol import Answer, Asked, Tool, Turn
from maos_bot.resources.token_rate import TokenRates

TARGET = Target(provider="one", model="m")


class Watched:
    """Answers after a moment, and keeps how many turns of each beginning were on their way at once."""

    name = "one"

    def __init__(self) -> None:
        self.flying: dict[tuple[str, ...], int] = {}
        self.first: dict[tuple[str, ...], int] = {}

    async def answer(self, turn: Turn, on_text: Callable[[str], None] | None = None) -> Answer:  # noqa: ARG002
        key = tuple(tool.name for tool in turn.tools)
        self.flying[key] = self.flying.get(key, 0) + 1
        await asyncio.sleep(0.01)
        self.first.setdefault(key, self.flying[key])
        self.flying[key] -= 1
        return Answer(text="x", usage=Usage(input_tokens=1))

    async def count_tokens(self, turn: Turn) -> int:  # noqa: ARG002
        return 1

    async def warm(self) -> None:
        pass

    async def close(self) -> None:
        pass


def test_of_each_beginning_one_turn_goes_first_and_other_tools_are_another_beginning() -> None:
    provider = Watched()

    async def main() -> None:
        client = ModelClient({"one": provider}, rates=TokenRates(now=0.0), prices=load_prices(), report=lambda _: None)
        turns = [
            Turn(
                model="",
                prefix="shared",
                messages=(Asked(text=f"{number}"),),
                tools=(Tool(name=name, description="", schema={}),),
            )
            for name in ("read", "edit")
            for number in range(5)
        ]
        await asyncio.gather(*(client.answer(turn, [TARGET]) for turn in turns))

    asyncio.run(main())
    assert provider.first == {("read",): 1, ("edit",): 1}
