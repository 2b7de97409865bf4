"""Anthropic's Messages API through its own SDK, imported with the first turn; the SDK's own retries are off.

The cache: tools and the shared prefix come first and end in a `cache_control` mark; a second is on the last message, so
that a conversation's own beginning is read back from the cache turn by turn.
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

CACHED: Final = {"cache_control": {"type": "ephemeral"}}
_STOPS: Final = {
    "end_turn": Stop.END,
    "stop_sequence": Stop.END,
    "tool_use": Stop.TOOLS,
    "max_tokens": Stop.LENGTH,
    "model_context_window_exceeded": Stop.LENGTH,
    "refusal": Stop.REFUSED,
}


class AnthropicProvider:
    """A door to Claude. `base_url` empty is Anthropic's own address."""

    name = "anthropic"

    def __init__(self, *, key: str, base_url: str = "") -> None:
        self._key = key
        self._base_url = base_url
        self._made: Any = None

    async def answer(self, turn: Turn, on_text: Callable[[str], None] | None = None) -> Answer:
        """Send one turn, once, and read its stream to the end. Raises `ProviderError`."""
        await self.warm()
        client = self._client()
        reading = _Reading(on_text)
        rate = RateState()
        begun = time.monotonic()
        response: Any = None
        try:
            response = await client.messages.with_raw_response.create(
                **request(turn), max_tokens=turn.max_tokens, stream=True, timeout=turn.timeout_s
            )
            rate = rate_state(response.headers)
            async with await response.parse() as stream:
                async for event in stream:
                    reading.take(event, time.monotonic() - begun)
        except Exception as error:
            raise provider_error(
                error,
                self.name,
                begun=response is not None,
                usage=reading.usage(),
                rate=rate if rate.limits else None,
            ) from error
        if not reading.ended:
            raise ProviderError(
                Fault.CUT if reading.first_s is not None else Fault.GARBLED,
                "anthropic: the stream ended before the answer did",
                usage=reading.usage(),
                rate=rate,
            )
        return reading.answer(turn, rate, response.headers.get("request-id", ""), time.monotonic() - begun)

    async def count_tokens(self, turn: Turn) -> int:
        """Input tokens as Anthropic counts them; where that can't be asked, an estimate."""
        sent = {key: value for key, value in request(turn).items() if key != "output_config"}
        try:
            counted = await self._client().messages.count_tokens(**sent, timeout=min(turn.timeout_s, 10.0))
        except Exception as error:  # noqa: BLE001 - as above
            provider_error(error, self.name, begun=False)
            return estimated_tokens(turn)
        return int(counted.input_tokens)

    async def warm(self) -> None:
        """Load the SDK, a second of work, beside the loop."""
        if "anthropic" not in sys.modules:
            with contextlib.suppress(ImportError):  # the turn that needs it says so
                await asyncio.to_thread(importlib.import_module, "anthropic")

    async def close(self) -> None:
        """Let go of connections."""
        if self._made is not None:
            await self._made.close()
            self._made = None

    def _client(self) -> Any:
        if self._made is None:
            try:
                import anthropic
            except ImportError:
                raise ProviderError(
                    Fault.NO_MODEL, "the package `anthropic` isn't installed", hint="pip install 'maos-bot[anthropic]'"
                ) from None
            self._made = anthropic.AsyncAnthropic(
                api_key=self._key, base_url=self._base_url or "https://api.anthropic.com", max_retries=0
            )
        return self._made


def request(turn: Turn) -> dict[str, Any]:
    """The request's body but for `max_tokens` and `stream`."""
    body: dict[str, Any] = {"model": turn.model, "messages": [_message(each) for each in turn.messages]}
    if body["messages"]:
        body["messages"][-1]["content"][-1].update(CACHED)
    system: list[dict[str, Any]] = []
    if turn.prefix:
        system.append({"type": "text", "text": turn.prefix, **CACHED})
    if turn.system:
        system.append({"type": "text", "text": turn.system})
    if system:
        body["system"] = system
    if turn.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.schema)}
            for tool in turn.tools
        ]
    if turn.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": dict(turn.schema)}}
    return body


def _message(message: Message) -> dict[str, Any]:
    if isinstance(message, Asked):
        return {"role": "user", "content": [{"type": "text", "text": message.text}]}
    if isinstance(message, Answered):
        blocks: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text else []
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments or {})}
            for call in message.calls
        ]
        return {"role": "assistant", "content": blocks or [{"type": "text", "text": "(nothing)"}]}
    results = [
        {"type": "tool_result", "tool_use_id": each.call_id, "content": each.text, "is_error": each.failed}
        for each in message.results
    ]
    return {"role": "user", "content": results}


class _Reading:
    """What has come of a stream so far."""

    def __init__(self, on_text: Callable[[str], None] | None) -> None:
        self.first_s: float | None = None
        self.ended = False
        self._on_text = on_text
        self._text: list[str] = []
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self._counts: dict[str, int] = {}
        self._stop: str | None = None
        self._model = ""

    def take(self, event: Any, at_s: float) -> None:
        if self.first_s is None:
            self.first_s = at_s
        if event.type == "message_start":
            self._model = event.message.model
            self._count(event.message.usage)
        elif event.type == "content_block_start" and event.content_block.type == "tool_use":
            self._calls[event.index] = (event.content_block.id, event.content_block.name, [])
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            self._text.append(event.delta.text)
            if self._on_text:
                self._on_text(event.delta.text)
        elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
            self._calls[event.index][2].append(event.delta.partial_json)
        elif event.type == "message_delta":
            self._stop = event.delta.stop_reason
            self._count(event.usage)
        elif event.type == "message_stop":
            self.ended = True

    def _count(self, usage: Any) -> None:
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            value = getattr(usage, name, None)
            if value is not None:
                self._counts[name] = max(value, self._counts.get(name, 0))

    def usage(self) -> Usage | None:
        """None where nothing was said."""
        if not any(self._counts.values()):
            return None
        return Usage(
            input_tokens=self._counts.get("input_tokens", 0),
            output_tokens=self._counts.get("output_tokens", 0),
            cache_read_tokens=self._counts.get("cache_read_input_tokens", 0),
            cache_write_tokens=self._counts.get("cache_creation_input_tokens", 0),
            usd=None,
        )

    def answer(self, turn: Turn, rate: RateState, request_id: str, duration_s: float) -> Answer:
        calls = []
        for _, (ident, name, parts) in sorted(self._calls.items()):
            raw = "".join(parts)
            calls.append(ToolCall(id=ident, name=name, arguments=arguments_of(raw), raw=raw))
        usage = self.usage()
        return Answer(
            text="".join(self._text),
            calls=tuple(calls),
            stop=_STOPS.get(self._stop or "", Stop.END),
            usage=usage or Usage(usd=None),
            usage_known=usage is not None,
            model=self._model or turn.model,
            request_id=request_id,
            rate=rate,
            duration_s=duration_s,
            first_byte_s=self.first_s,
        )
