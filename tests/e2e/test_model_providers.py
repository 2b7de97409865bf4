"""Anthropic's and OpenAI's own SDKs through our providers, against the mock `aimock`, which isn't ours."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from maos_bot.models.anthropic import AnthropicProvider
from maos_bot.models.openai import OpenAIProvider
from maos_bot.models.protocol import (
    Answer,
    Answered,
    Asked,
    Fault,
    Provider,
    ProviderError,
    Returned,
    Stop,
    Tool,
    ToolResult,
    Turn,
)
from tests.e2e.mock_models import mock_models

USAGE = {"input_tokens": 120, "output_tokens": 7, "prompt_tokens": 120, "completion_tokens": 7, "total_tokens": 127}
FIXTURES = [
    {"match": {"hasToolResult": True}, "response": {"content": "It says hi.", "usage": USAGE}},
    {
        "match": {"userMessage": "read it"},
        "response": {"toolCalls": [{"name": "read", "arguments": {"path": "a.txt"}}], "usage": USAGE},
    },
    {"match": {"userMessage": "hello"}, "response": {"content": "Hello to you, whoever you are.", "usage": USAGE}},
    {
        "match": {"userMessage": "too many"},
        "response": {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429, "retryAfter": 7},
    },
    {
        "match": {"userMessage": "busy"},
        "response": {"error": {"message": "busy", "type": "overloaded_error"}, "status": 529},
    },
    {"match": {"userMessage": "cut"}, "response": {"content": "x" * 400}, "truncateAfterChunks": 3, "latency": 30},
]
READ = Tool(
    name="read", description="Reads a file.", schema={"type": "object", "properties": {"path": {"type": "string"}}}
)

Open = Callable[[str], Provider]
DOORS: dict[str, Open] = {
    "anthropic": lambda url: AnthropicProvider(key="k", base_url=url),
    "openai": lambda url: OpenAIProvider(key="k", base_url=f"{url}/v1"),
}


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mock_models(tmp_path_factory.mktemp("aimock"), FIXTURES) as url:
        yield url


@pytest.fixture(params=DOORS)
def ask(request: pytest.FixtureRequest, mock: str) -> Callable[..., Answer]:
    def one(*turns: Any, **more: Any) -> Answer:
        async def main() -> Answer:
            provider = DOORS[request.param](mock)
            try:
                return await provider.answer(Turn(model="m-1", messages=turns, timeout_s=20, **more))
            finally:
                await provider.close()

        return asyncio.run(main())

    return one


def test_a_text_comes_with_its_usage(ask: Callable[..., Answer]) -> None:
    came = ask(Asked(text="hello"), prefix="rules", system="you")
    assert came.text == "Hello to you, whoever you are."
    assert (came.stop, came.usage_known) == (Stop.END, True)
    assert (came.usage.input_tokens, came.usage.output_tokens, came.usage.usd) == (120, 7, None)
    assert came.first_byte_s is not None


def test_a_tool_is_called_and_its_result_taken(ask: Callable[..., Answer]) -> None:
    asked = Asked(text="read it")
    came = ask(asked, tools=(READ,))
    assert came.stop is Stop.TOOLS
    assert [(call.name, call.arguments) for call in came.calls] == [("read", {"path": "a.txt"})]
    result = Returned(results=(ToolResult(call_id=came.calls[0].id, text="hi"),))
    assert ask(asked, Answered(text=came.text, calls=came.calls), result, tools=(READ,)).text == "It says hi."


@pytest.mark.parametrize(
    ("text", "fault", "wait"),
    [("too many", Fault.RATE_LIMITED, 7.0), ("busy", Fault.OVERLOADED, None), ("cut", Fault.CUT, None)],
)
def test_faults_are_told_apart(ask: Callable[..., Answer], text: str, fault: Fault, wait: float | None) -> None:
    with pytest.raises(ProviderError) as raised:
        ask(Asked(text=text))
    assert (raised.value.fault, raised.value.retry_after_s) == (fault, wait)


def test_the_shared_prefix_is_marked_for_the_cache(mock: str) -> None:
    async def main() -> None:
        provider = AnthropicProvider(key="k", base_url=mock)
        await provider.answer(Turn(model="m-1", messages=(Asked(text="hello"),), prefix="the shared rules"))
        await provider.close()

    asyncio.run(main())
    with urllib.request.urlopen(f"{mock}/__aimock/journal") as journal:
        assert "the shared rules" in journal.read().decode()
