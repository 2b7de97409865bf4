"""A stand-in for Anthropic's API on loopback, ours: breaks as it is told to, and can keep the published rate rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

HEADERS = {"retry-after": "0.05"}


def sse(*events: dict[str, Any]) -> bytes:
    """Events as a stream's bytes."""
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


def answer(arguments: str | None = None, *, tokens: tuple[int, int] = (100, 20)) -> bytes:
    """A whole answer: text, or a tool call with the given raw arguments."""
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta: dict[str, Any] = {"type": "text_delta", "text": "Hello."}
    if arguments is not None:
        block = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": arguments}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": []}
    usage = {"input_tokens": tokens[0], "output_tokens": 1}
    stop = {"stop_reason": "end_turn" if arguments is None else "tool_use", "stop_sequence": None}
    return sse(
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": tokens[1]}},
        {"type": "message_stop"},
    )


def refusal(kind: str) -> bytes:
    """An error's body."""
    return json.dumps({"type": "error", "error": {"type": kind, "message": "as told"}}).encode()


class ModelServer:
    """`reply(body)` gives status, headers, body and seconds to wait, or None to stay silent."""

    def __init__(self, reply: Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes, float] | None]) -> None:
        self.reply = reply
        self.ended: Callable[[dict[str, Any]], None] = lambda _: None
        self.bodies: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> ModelServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = int(head.partition("content-length:")[2].split("\r\n")[0])
            body = json.loads(await reader.readexactly(size))
            self.bodies.append(body)
            reply = self.reply(body)
            if reply is None:
                await asyncio.sleep(60)
                return
            status, headers, payload, wait_s = reply
            await asyncio.sleep(wait_s)
            self.ended(body)
            kind = "text/event-stream" if status == 200 else "application/json"
            lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", "connection: close"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)
            await writer.drain()
        finally:
            self._tasks.discard(task)
            writer.close()
