"""Faults and rates of a provider, through Anthropic's own SDK against a server of ours on loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest

from maos_bot.models.anthropic import AnthropicProvider
from maos_bot.models.client import ModelClient, Spent, Target
from maos_bot.models.prices import load_prices
from maos_bot.models.protocol import Answer, Asked, Fault, ProviderError, Turn
from maos_bot.resources.token_rate import INPUT, OUTPUT, REQUESTS, Bucket, TokenRates
from tests.e2e.model_server import HEADERS, ModelServer, answer, refusal

MODEL = "claude-sonnet-5-5"
TARGET = Target(provider="anthropic", model=MODEL)

# fault injected -> what the first try comes to
FAULTS: dict[str, tuple[tuple[int, dict[str, str], bytes, float] | None, Fault]] = {
    "429 with retry-after": ((429, HEADERS, refusal("rate_limit_error"), 0), Fault.RATE_LIMITED),
    "429 without": ((429, {}, refusal("rate_limit_error"), 0), Fault.RATE_LIMITED),
    "529": ((529, {}, refusal("overloaded_error"), 0), Fault.OVERLOADED),
    "500": ((500, {}, refusal("api_error"), 0), Fault.SERVER),
    "stream cut": ((200, {}, answer()[:-120], 0), Fault.CUT),
    "overloaded in the stream": (
        (200, {}, b"event: error\ndata: " + refusal("overloaded_error") + b"\n\n", 0),
        Fault.OVERLOADED,
    ),
    "garbled stream": ((200, {}, b"event: message_start\ndata: {nonsense\n\n", 0), Fault.GARBLED),
    "silence": (None, Fault.SILENT),
}


def turn(timeout_s: float = 10.0, **more: Any) -> Turn:
    return Turn(model=MODEL, messages=(Asked(text="Hello"),), timeout_s=timeout_s, **more)


def ask(replies: list[Any], each: Turn) -> tuple[Answer | ProviderError, list[Spent], list[float]]:
    """What comes of one turn where the server gives `replies`, the last for ever; with the tries and the pauses."""
    spent: list[Spent] = []
    pauses: list[float] = []
    now = [0.0]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    async def main() -> Answer | ProviderError:
        left = list(replies)
        async with ModelServer(lambda _: left.pop(0) if len(left) > 1 else left[0]) as server:
            provider = AnthropicProvider(key="k", base_url=server.url)
            client = ModelClient(
                {"anthropic": provider},
                rates=TokenRates(now=0.0),
                prices=load_prices(),
                report=spent.append,
                clock=lambda: now[0],
                sleep=sleep,
            )
            try:
                return await client.answer(each, [TARGET])
            except ProviderError as error:
                return error
            finally:
                await client.close()

    return asyncio.run(main()), spent, pauses


@pytest.mark.parametrize("name", FAULTS)
def test_a_passing_fault_is_told_apart_and_tried_again(name: str) -> None:
    reply, fault = FAULTS[name]
    came, spent, pauses = ask([reply, (200, {}, answer(), 0)], turn(0.5 if reply is None else 10.0))
    assert isinstance(came, Answer)
    assert came.text == "Hello."
    assert [each.fault for each in spent] == [fault, None]
    assert sum(pauses) == pytest.approx(0.05) if name == "429 with retry-after" else 0.7 < sum(pauses) < 1.3


@pytest.mark.parametrize(
    ("status", "kind", "fault"),
    [
        (401, "authentication_error", Fault.NO_RIGHT),
        (404, "not_found_error", Fault.NO_MODEL),
        (400, "invalid_request_error", Fault.REFUSED_REQUEST),
    ],
)
def test_a_lasting_fault_is_tried_once(status: int, kind: str, fault: Fault) -> None:
    came, spent, _ = ask([(status, {}, refusal(kind), 0)], turn())
    assert isinstance(came, ProviderError)
    assert came.fault is fault
    assert len(spent) == 1


def test_an_outage_ends_with_its_reason() -> None:
    came, spent, _ = ask([(529, {}, refusal("overloaded_error"), 0)], turn())
    assert isinstance(came, ProviderError)
    assert came.fault is Fault.OVERLOADED
    assert len(spent) == 4


def test_a_malformed_tool_call_is_an_answer_that_says_so() -> None:
    came, _, _ = ask([(200, {}, answer('{"path": '), 0)], turn())
    assert isinstance(came, Answer)
    assert (came.calls[0].arguments, came.calls[0].raw) == (None, '{"path": ')


def test_a_cut_stream_costs_what_it_said() -> None:
    _, spent, _ = ask([(200, {}, answer()[:-120], 0), (200, {}, answer(), 0)], turn())
    assert spent[0].usage.input_tokens == 100
    assert spent[0].usage.usd is not None
    assert spent[1].usage.usd == pytest.approx((100 * 2 + 20 * 10) / 1e6)


@pytest.mark.slow
def test_200_turns_keep_to_the_rate_and_use_it() -> None:
    scale = 20.0  # seconds of the rate's clock in one of ours
    limits = {REQUESTS: 1000.0, INPUT: 400_000.0, OUTPUT: 100_000.0}
    start = time.monotonic()

    def clock() -> float:
        return (time.monotonic() - start) * scale

    buckets = {name: Bucket(limit, now=0.0) for name, limit in limits.items()}
    refused = []
    spent: list[Spent] = []
    took, left = 4000, 400

    def reply(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes, float]:
        now = clock()
        wanted = {REQUESTS: 1.0, INPUT: float(took), OUTPUT: float(body["max_tokens"])}
        if any(bucket.level(now) < wanted[name] - 1e-6 for name, bucket in buckets.items()):
            refused.append(now)
            return 429, {"retry-after": "1"}, refusal("rate_limit_error"), 0
        for name, bucket in buckets.items():
            bucket.take(wanted[name], now)
        said = {f"anthropic-ratelimit-{name}-limit": f"{limits[name]:.0f}" for name in limits}
        said |= {f"anthropic-ratelimit-{name}-remaining": f"{buckets[name].level(now):.0f}" for name in limits}
        return 200, said, answer(tokens=(took, left)), 0.02

    async def main() -> None:
        async with ModelServer(reply) as server:
            server.ended = lambda body: buckets[OUTPUT].take(left - body["max_tokens"], clock())
            client = ModelClient(
                {"anthropic": AnthropicProvider(key="k", base_url=server.url)},
                rates=TokenRates(now=0.0),
                prices=load_prices(),
                report=spent.append,
                clock=clock,
                sleep=lambda seconds: asyncio.sleep(seconds / scale),
            )
            each = Turn(
                model=MODEL, prefix="p", messages=(Asked(text="x" * int(took * 3.5)),), max_tokens=800, timeout_s=30
            )
            gate = asyncio.Semaphore(8)

            async def one() -> None:
                async with gate:
                    await client.answer(each, [TARGET])

            await asyncio.gather(*(one() for _ in range(200)))
            await client.close()

    asyncio.run(main())
    offered = limits[INPUT] * (1 + clock() / 60)
    assert not refused
    assert sum(each.usage.input_tokens for each in spent) == 200 * took
    assert 200 * took / offered > 0.85


def test_opening_the_doors_imports_no_sdk() -> None:
    code = (
        "import sys; from pathlib import Path; import maos_bot.app, maos_bot.models.router; "
        "from maos_bot.models.doors import open_doors; "
        "assert set(open_doors({'ANTHROPIC_API_KEY': 'k', 'OPENAI_API_KEY': 'k'}, Path())) == {'anthropic', 'openai'}; "
        "assert not {'anthropic', 'openai', 'httpx', 'httpx2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
