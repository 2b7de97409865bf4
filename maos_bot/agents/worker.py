"""A worker: one task's conversation with a model, tool call by tool call, within bounds.

It ends in a `Result`: with what `finish` said, or with the reason why it came to none. The conversation is kept in it,
so that work that is sent back goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field, replace
from typing import Any, Final

from maos_bot.agents.places import Tools
from maos_bot.events import TranscriptAdded
from maos_bot.frozen import dataclass
from maos_bot.models.faults import arguments_of
from maos_bot.models.protocol import Answer, Answered, Asked, Message, Returned, Stop, ToolCall, ToolResult, Turn
from maos_bot.models.sizes import estimated_tokens

_KEPT: Final = 4  # last messages that trimming leaves alone
_SHORT: Final = 400  # characters: a result that short isn't worth leaving out
_TRIM_TO: Final = 0.6  # of the context: trimming breaks the cached beginning, so it is done seldom and then well

Ask = Callable[[Turn], Awaitable[Answer]]
Tell = Callable[..., Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How far a conversation may go; tokens are those of one request's input."""

    turns: int = 40
    context_tokens: int = 120_000
    max_output_tokens: int = 4096
    malformed: int = 3  # calls one after the other that can't be understood
    repeats: int = 4  # the same call with the same result
    nudges: int = 2  # answers that neither call a tool nor finish, or are cut


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a conversation came to; `failed` says why where it isn't done."""

    summary: str = ""
    findings: tuple[Any, ...] = ()
    failed: str = ""
    turns: int = 0
    messages: tuple[Message, ...] = field(default=(), repr=False)


class Worker:
    """Leads one conversation. Errors of the budget and of providers go through to the caller, with `messages` kept."""

    def __init__(
        self,
        ask: Ask,
        tools: Tools,
        *,
        prefix: str,
        system: str = "",
        bounds: Bounds | None = None,
        tell: Tell,
        folder: str = "",
        words_do: bool = False,
    ) -> None:
        """`words_do`: an answer in words is a result too, where the model can't be brought to call `finish`."""
        self._ask = ask
        self._tools = tools
        self._bounds = bounds or Bounds()
        self._turn = Turn(
            model="",
            messages=(),
            prefix=prefix,
            system=system,
            tools=tools.tools,
            max_tokens=self._bounds.max_output_tokens,
            folder=folder,
        )
        self._words_do = words_do
        self._words = ""
        self._tell = tell
        self.messages: list[Message] = []
        self._turns = 0
        self._malformed = 0
        self._nudges = 0
        self._last: tuple[str, str] = ("", "")
        self._repeats = 0

    async def work(self, text: str, before: Sequence[Message] = ()) -> Result:
        """Do what `text` asks, going on from the conversation `before`."""
        self.messages = list(before)
        self._say(text)
        while self._turns < self._bounds.turns:
            turn = self._fitted()
            if turn is None:
                return self._result(failed=f"the context is full: {self._bounds.context_tokens:,} tokens")
            answer = await self._ask(turn)
            self._turns += 1
            self._take(answer)
            result = await self._called(answer) if answer.calls else self._spoke(answer)
            if result is not None:
                return result
        return self._result(failed=f"not finished after {self._bounds.turns} turns")

    async def _called(self, answer: Answer) -> Result | None:
        """Run the calls; the result where one of them finished the work, or it is hopeless."""
        self.messages.append(Returned(results=tuple([await self._run(call) for call in answer.calls])))
        if finish := self._tools.finished:
            return self._result(summary=finish.summary, findings=tuple(finish.findings))
        why = self._hopeless()
        return self._result(failed=why) if why else None

    def _spoke(self, answer: Answer) -> Result | None:
        """An answer without a call: the result where there is no `finish` to wait for, else a word to go on."""
        if answer.stop is Stop.REFUSED:
            return self._result(failed=f"the model refused: {answer.text[:300] or 'without a word'}")
        if answer.whole:
            return self._ended_by_itself(answer.text)
        cut = answer.stop is Stop.LENGTH
        if not (cut or self._has_finish):
            return self._result(summary=answer.text)
        self._nudges += 1
        self._words = self._words or ("" if cut else answer.text.strip())
        if self._words and self._words_do and self._nudges > 1:
            return self._result(summary=self._words)
        if self._nudges > self._bounds.nudges:
            what = "was cut at its length limit" if cut else "called no tool"
            return self._result(failed=f"the model {what} {self._nudges} times and never finished")
        self._say("Your answer was cut. Go on in smaller steps." if cut else "Go on, or call `finish` if you are done.")
        return None

    def _ended_by_itself(self, text: str) -> Result:
        """The result of a provider that led the conversation: what it was told to end with, else its words."""
        said = arguments_of(text[text.find("{") : text.rfind("}") + 1]) if "{" in text else None
        if not said or not isinstance(said.get("summary"), str):
            return self._result(summary=text.strip())
        findings = said.get("findings")
        return self._result(summary=said["summary"], findings=tuple(findings) if isinstance(findings, list) else ())

    @property
    def _has_finish(self) -> bool:
        return any(tool.name == "finish" for tool in self._turn.tools)

    def _say(self, text: str) -> None:
        self.messages.append(Asked(text=text))
        self._tell(TranscriptAdded, turn=self._turns, role="asked", text=text)

    def _take(self, answer: Answer) -> None:
        self.messages.append(Answered(text=answer.text, calls=answer.calls))
        if answer.text:
            self._tell(TranscriptAdded, turn=self._turns, role="answered", text=answer.text, model=answer.model)

    async def _run(self, call: ToolCall) -> ToolResult:
        asked = (
            json.dumps(call.arguments, ensure_ascii=False, sort_keys=True) if call.arguments is not None else call.raw
        )
        self._tell(TranscriptAdded, turn=self._turns, role="called", text=f"{call.name} {asked}")
        known = {tool.name for tool in self._turn.tools}
        if call.name not in known:
            self._malformed += 1
            result = _failed(call, f"there is no tool {call.name!r}; there are {', '.join(sorted(known))}")
        elif call.arguments is None:
            self._malformed += 1
            result = _failed(call, f"the arguments of {call.name} are not a JSON object; send the call again")
        else:
            self._malformed = 0
            result = await self._tools.call(call)
        this = (f"{call.name} {asked}", result.text)
        self._repeats = self._repeats + 1 if this == self._last else 1
        self._last = this
        if self._repeats == self._bounds.repeats - 1:
            result = replace(
                result, text=f"{result.text}\n(The same call gave the same result before: try another way.)"
            )
        self._tell(TranscriptAdded, turn=self._turns, role="returned", text=result.text)
        return result

    def _hopeless(self) -> str:
        if self._malformed >= self._bounds.malformed:
            return f"{self._malformed} tool calls one after the other could not be understood"
        if self._repeats >= self._bounds.repeats:
            return f"an endless loop: the same call {self._repeats} times with the same result: {self._last[0][:200]}"
        return ""

    def _fitted(self) -> Turn | None:
        """The next turn, with old tool results left out where it would be too long; None where that isn't enough."""
        turn = replace(self._turn, messages=tuple(self.messages))
        most = self._bounds.context_tokens - self._bounds.max_output_tokens
        if estimated_tokens(turn) <= most:
            return turn
        for place, message in enumerate(self.messages[:-_KEPT]):
            if isinstance(message, Returned):
                self.messages[place] = Returned(results=tuple(_left_out(each) for each in message.results))
                turn = replace(self._turn, messages=tuple(self.messages))
                if estimated_tokens(turn) <= most * _TRIM_TO:
                    break
        return turn if estimated_tokens(turn) <= most else None

    def _result(self, *, summary: str = "", findings: tuple[Any, ...] = (), failed: str = "") -> Result:
        return Result(
            summary=summary, findings=findings, failed=failed, turns=self._turns, messages=tuple(self.messages)
        )


def _failed(call: ToolCall, text: str) -> ToolResult:
    return ToolResult(call_id=call.id, text=text, failed=True)


def _left_out(result: ToolResult) -> ToolResult:
    if len(result.text) <= _SHORT:
        return result
    return replace(result, text=f"(left out to save room: {len(result.text):,} characters; call again if needed)")
