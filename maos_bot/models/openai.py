"""The chat API that OpenAI, Gemini, Ollama, llama.cpp and vLLM share, through OpenAI's SDK with its retries off.

It is imported with the first turn. The prefix is sent first and unchanged, which is what these servers cache by.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from maos_bot.model import Usage
from maos_bot.models.faults import arguments_of, provider_error, rate_state
from maos_bot.models.protocol import (
    Answer,
    Answered,
    Asked,
    Fault,
    Message,
    ProviderError,
    RateState,
    Stop,
    ToolCall,
    Turn,
)
from maos_bot.models.sizes import estimated_tokens

OPENAI: Final = "https://api.openai.com/v1"
_STOPS: Final = {
    "stop": Stop.END,
    "tool_calls": Stop.TOOLS,
    "function_call": Stop.TOOLS,
    "length": Stop.LENGTH,
    "content_filter": Stop.REFUSED,
}


class OpenAIProvider:
    """A door to one such server; `name` is what prices and reports know it by."""

    def __init__(self, *, key: str, base_url: str = OPENAI, name: str = "openai") -> None:
        self.name = name
        self._key = key
        self._base_url = base_url
        self._made: Any = None

    async def answer(self, turn: Turn, on_text: Callable[[str], None] | None = None) -> Answer:
        """Send one turn, once, and read its stream to the end. Raises `ProviderError`."""
        await self.warm()
        client = self._client()
        # OpenAI's newer models refuse the old name of this; other servers know only the old one.
        bound = "max_completion_tokens" if self._base_url.startswith(OPENAI) else "max_tokens"
        reading = _Reading(on_text)
        rate = RateState()
        begun = time.monotonic()
        response: Any = None
        try:
            response = await client.chat.completions.with_raw_response.create(
                **request(turn),
                **{bound: turn.max_tokens},
                stream=True,
                stream_options={"include_usage": True},
                timeout=turn.timeout_s,
            )
            rate = rate_state(response.headers)
            async with response.parse() as stream:
                async for chunk in stream:
                    reading.take(chunk, time.monotonic() - begun)
        except Exception as error:
            raise provider_error(
                error,
                self.name,
                begun=response is not None,
                usage=reading.usage,
                rate=rate if rate.limits else None,
            ) from error
        if reading.stop is None:
            raise ProviderError(
                Fault.CUT if reading.first_s is not None else Fault.GARBLED,
                f"{self.name}: the stream ended before the answer did",
                usage=reading.usage,
                rate=rate,
            )
        return reading.answer(turn, rate, response.headers.get("x-request-id", ""), time.monotonic() - begun)

    async def count_tokens(self, turn: Turn) -> int:
        """An estimate: this API counts nothing beforehand."""
        return estimated_tokens(turn)

    async def warm(self) -> None:
        """Load the SDK, a second of work, beside the loop."""
        if "openai" not in sys.modules:
            with contextlib.suppress(ImportError):  # the turn that needs it says so
                await asyncio.to_thread(importlib.import_module, "openai")

    async def close(self) -> None:
        """Let go of connections."""
        if self._made is not None:
            await self._made.close()
            self._made = None

    def _client(self) -> Any:
        if self._made is None:
            try:
                import openai
            except ImportError:
                raise ProviderError(
                    Fault.NO_MODEL, "the package `openai` isn't installed", hint="pip install 'maos-bot[openai]'"
                ) from None
            self._made = openai.AsyncOpenAI(api_key=self._key or "none", base_url=self._base_url, max_retries=0)
        return self._made


def request(turn: Turn) -> dict[str, Any]:
    """The request's body but for the bound on output and the streaming."""
    messages = [{"role": "system", "content": text} for text in (turn.prefix, turn.system) if text]
    body: dict[str, Any] = {
        "model": turn.model,
        "messages": [*messages, *(each for message in turn.messages for each in _messages(message))],
    }
    if turn.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)},
            }
            for tool in turn.tools
        ]
    if turn.schema is not None:
        schema = {"name": "answer", "schema": dict(turn.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _messages(message: Message) -> list[dict[str, Any]]:
    if isinstance(message, Asked):
        return [{"role": "user", "content": message.text}]
    if isinstance(message, Answered):
        said: dict[str, Any] = {"role": "assistant", "content": message.text or None}
        if message.calls:
            said["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    # What was no JSON object goes back as an empty one: servers that parse it would refuse the turn.
                    "function": {"name": call.name, "arguments": "{}" if call.arguments is None else call.raw or "{}"},
                }
                for call in message.calls
            ]
        return [said]
    return [
        {"role": "tool", "tool_call_id": each.call_id, "content": f"Error: {each.text}" if each.failed else each.text}
        for each in message.results
    ]


class _Reading:
    """What has come of a stream so far."""

    def __init__(self, on_text: Callable[[str], None] | None) -> None:
        self.first_s: float | None = None
        self.stop: str | None = None
        self.usage: Usage | None = None
        self._on_text = on_text
        self._text: list[str] = []
        self._calls: dict[int, list[str]] = {}  # id, name, arguments
        self._model = ""

    def take(self, chunk: Any, at_s: float) -> None:
        if self.first_s is None:
            self.first_s = at_s
        self._model = chunk.model or self._model
        if chunk.usage is not None and (chunk.usage.prompt_tokens or chunk.usage.completion_tokens):
            details = chunk.usage.prompt_tokens_details
            cached = (details.cached_tokens if details else 0) or 0
            self.usage = Usage(
                input_tokens=max(0, chunk.usage.prompt_tokens - cached),
                output_tokens=chunk.usage.completion_tokens,
                cache_read_tokens=cached,
                usd=None,
            )
        for choice in (chunk.choices or ())[:1]:
            self.stop = choice.finish_reason or self.stop
            if choice.delta is None:
                continue
            if choice.delta.content:
                self._text.append(choice.delta.content)
                if self._on_text:
                    self._on_text(choice.delta.content)
            for call in choice.delta.tool_calls or ():
                known = self._calls.setdefault(call.index, ["", "", ""])
                known[0] = call.id or known[0]
                if call.function is not None:
                    known[1] = call.function.name or known[1]
                    known[2] += call.function.arguments or ""

    def answer(self, turn: Turn, rate: RateState, request_id: str, duration_s: float) -> Answer:
        calls = tuple(
            ToolCall(id=ident or f"call_{index}", name=name, arguments=arguments_of(raw), raw=raw)
            for index, (ident, name, raw) in sorted(self._calls.items())
        )
        stop = _STOPS.get(self.stop or "", Stop.END)
        return Answer(
            text="".join(self._text),
            calls=calls,
            stop=Stop.TOOLS if calls and stop is Stop.END else stop,
            usage=self.usage or Usage(usd=None),
            usage_known=self.usage is not None,
            model=self._model or turn.model,
            request_id=request_id,
            rate=rate,
            duration_s=duration_s,
            first_byte_s=self.first_s,
        )
