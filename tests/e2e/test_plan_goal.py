"""`maos plan --goal`, as a program of its own, through the provider's SDK to a server on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.model_server import ModelServer, sse

pytest.importorskip("anthropic")

SPEC = """\
version: 1
budget: {usd: 5, approve-above: 0.01}
teams: {qa: {max-concurrent-workers: 2}, docs: {}}
tasks:
  unit: {run: pytest -q, team: qa}
"""
TASKS = [
    {"id": "cover", "agent": "Cover the parser.", "why": "no test", "team": "qa", "writes": ["tests/**"]},
    {"id": "words", "agent": "Say so in the docs.", "why": "readers", "team": "docs", "needs": ["cover"]},
]


def said(tasks: list[dict[str, Any]]) -> bytes:
    usage = {"input_tokens": 900, "output_tokens": 200}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude-opus-5-5", "content": []}
    delta = {"type": "text_delta", "text": json.dumps({"tasks": tasks})}
    return sse(
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    )


def planned(folder: Path, *answers: list[dict[str, Any]]) -> tuple[int, str, str, list[dict[str, Any]]]:
    (folder / ".maos.yml").write_text(SPEC, encoding="utf-8")

    async def main() -> tuple[int, str, str, list[dict[str, Any]]]:
        left = list(answers)
        async with ModelServer(lambda _: (200, {}, said(left.pop(0)), 0.0)) as server:
            others = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "GEMINI_", "MAOS_MODEL"))}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "maos_bot", "plan", "--json", "--goal", "Better tests."),
                cwd=folder,
                env={**others, "ANTHROPIC_API_KEY": "test-key", "ANTHROPIC_BASE_URL": server.url},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await asyncio.wait_for(process.communicate(), 60)
            return process.returncode or 0, out.decode(), err.decode(), server.bodies

    return asyncio.run(main())


def test_a_goal_becomes_planned_and_priced_tasks(tmp_path: Path) -> None:
    code, out, err, bodies = planned(tmp_path, [{**TASKS[0], "team": "sales"}], TASKS)
    assert code == 0, err
    plan = json.loads(out)
    assert set(plan["tasks"]) == {"unit", "cover", "words"}
    assert plan["reasons"] == {"cover": "no test", "words": "readers"}
    assert plan["price"]["tasks"] == plan["price"]["defaults"] == 2
    assert 0 < plan["price"]["usd_p50"] < plan["price"]["usd_p90"]
    assert plan["budget"] == {"usd": 5, "tokens": None, "approve_above_usd": 0.01}
    assert len(bodies) == 2
    assert "sales" in json.dumps(bodies[1]["messages"][-1])
