"""A loopback server that speaks Anthropic's Messages API and keeps its published rules of caching, ours.

What it counts: a token is four characters of what the request's blocks say. What it keeps, as Anthropic documents its
prompt cache: the order is tools, system, messages; an entry is the whole prompt up to a block marked `cache_control`;
it is found again from a mark, or up to 20 blocks before one; a prompt shorter than the model's minimum isn't cached
(the largest published minimum, 4,096 tokens, is taken for every model); an entry lives five minutes from its last use,
and is there for others only once the answer that wrote it has begun.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from maos_bot.model import Usage

MINIMUM: Final = 4096
LOOKBACK: Final = 20
LIVES_S: Final = 300.0

Block = tuple[str, int, bool]  # what it says, its tokens, whether a mark follows


@dataclass(kw_only=True)
class Cache:
    """A provider's prompt cache. `clock` is in seconds."""

    clock: Callable[[], float] = time.monotonic
    _entries: dict[str, float] = field(default_factory=dict)

    def count(self, body: Mapping[str, Any], scope: str = "") -> tuple[Usage, list[str]]:
        """What a request's input comes to, and the entries to keep as its answer begins; `scope` sets caches apart."""
        now = self.clock()
        blocks = blocks_of(body)
        names, sizes = _beginnings(blocks, f"{scope}\n{body['model']}")
        marks = [place for place, block in enumerate(blocks) if block[2]]
        hit = max((self._found(names, mark, now) for mark in marks), default=-1)
        kept = [mark for mark in marks if sizes[mark] >= MINIMUM]
        read = sizes[hit] if hit >= 0 else 0
        last = max(kept, default=-1)
        written = max(0, sizes[last] - read) if last >= 0 else 0
        if hit >= 0:
            self._entries[names[hit]] = now
        usage = Usage(input_tokens=sizes[-1] - read - written, cache_read_tokens=read, cache_write_tokens=written)
        return usage, [names[mark] for mark in kept]

    def keep(self, entries: list[str]) -> None:
        """The answer has begun: what was written is there for others."""
        self._entries |= dict.fromkeys(entries, self.clock())

    def _found(self, names: list[str], mark: int, now: float) -> int:
        for place in range(mark, max(-1, mark - LOOKBACK), -1):
            if now - self._entries.get(names[place], float("-inf")) <= LIVES_S:
                return place
        return -1


def blocks_of(body: Mapping[str, Any]) -> list[Block]:
    """A request's blocks, in the order in which they are cached."""
    parts: list[Any] = [*body.get("tools", ()), *body.get("system", ())]
    parts += [{"role": message["role"], **block} for message in body["messages"] for block in message["content"]]
    blocks = []
    for part in parts:
        said = json.dumps({key: value for key, value in part.items() if key != "cache_control"}, sort_keys=True)
        blocks.append((said, max(1, len(said) // 4), "cache_control" in part))
    return blocks


def _beginnings(blocks: list[Block], scope: str) -> tuple[list[str], list[int]]:
    digest = hashlib.sha256(scope.encode())
    names, sizes, size = [], [], 0
    for said, tokens, _ in blocks:
        digest.update(said.encode())
        size += tokens
        names.append(digest.hexdigest())
        sizes.append(size)
    return names, sizes


def tool_use(name: str, **arguments: Any) -> dict[str, Any]:
    """A call of a tool, as a block of an answer."""
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": arguments}


class Provider:
    """Answers each request with the block that `reply(body)` gives, `delay_s` after it came, and counts it all.

    `admit(body)` may turn a request away: the headers of its 429. `over(body, output)` gives an answer's own headers.
    """

    def __init__(
        self,
        reply: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        *,
        delay_s: float = 0.0,
        admit: Callable[[Mapping[str, Any]], Mapping[str, str] | None] = lambda _: None,
        over: Callable[[Mapping[str, Any], int], Mapping[str, str]] = lambda *_: {},
    ) -> None:
        self.cache = Cache()
        self.bodies: list[dict[str, Any]] = []
        self.usages: list[Usage] = []
        self.refused = 0
        self._reply = reply
        self._delay_s = delay_s
        self._admit = admit
        self._over = over
        self._serving: set[asyncio.Task[Any]] = set()
        self._calls = 0

    async def __aenter__(self) -> Provider:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = json.loads(await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0])))
            refusal = self._admit(body)
            if refusal is not None:
                self.refused += 1
                error = {"type": "error", "error": {"type": "rate_limit_error", "message": "too much"}}
                _write(writer, 429, refusal, json.dumps(error).encode())
            else:
                await self._answer(body, writer)
            await writer.drain()
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        usage, entries = self.cache.count(body)
        await asyncio.sleep(self._delay_s)
        self.cache.keep(entries)
        block = self._reply(body)
        output = max(1, len(json.dumps(block)) // 4)
        self._calls += 1
        self.bodies.append(body)
        self.usages.append(usage + Usage(output_tokens=output))
        _write(writer, 200, self._over(body, output), _stream(body, block, usage, output, self._calls))


def _write(writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], payload: bytes) -> None:
    kind = "text/event-stream" if status == 200 else "application/json"
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)


def _stream(body: Mapping[str, Any], block: Mapping[str, Any], usage: Usage, output: int, number: int) -> bytes:
    counts = {
        "input_tokens": usage.input_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": 1,
    }
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"], "content": []}
    stop = {"stop_reason": "tool_use" if block["type"] == "tool_use" else "end_turn", "stop_sequence": None}
    if block["type"] == "tool_use":
        start = {**block, "id": f"{block['id']}_{number}", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    else:
        start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": counts}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": output}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)
