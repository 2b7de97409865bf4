"""A coding CLI as a provider: what it is given, what is read, and how it ends."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from maos_bot.models.command import CommandProvider
from maos_bot.models.protocol import Answer, Asked, Fault, ProviderError, Turn

ECHO = """
import json, os, sys
print(json.dumps({"result": sys.stdin.read() + "|" + ",".join(sorted(os.environ)), "total_cost_usd": 0.5,
                  "usage": {"input_tokens": 3, "output_tokens": 4}}))
"""


def run(code: str, folder: Path, *, limit_s: float = 20.0) -> Answer:
    environ = {"PATH": "/usr/bin:/bin", "ANTHROPIC_API_KEY": "k", "GITHUB_TOKEN": "t", "OPENAI_API_KEY": "o"}
    argv = (sys.executable, "-c", code)
    provider = CommandProvider("claude", environ=environ, folder=folder, limit_s=limit_s, argv=argv)
    return asyncio.run(provider.answer(Turn(model="", messages=(Asked(text="hello"),), prefix="rules")))


def test_the_prompt_goes_in_and_the_answer_comes_out_without_our_environment(tmp_path: Path) -> None:
    came = run(ECHO, tmp_path)
    text, _, names = came.text.partition("|")
    assert text == "rules\n\nhello"
    assert not {"GITHUB_TOKEN", "OPENAI_API_KEY"} & set(names.split(","))
    assert (came.usage.input_tokens, came.usage.output_tokens, came.usage.usd) == (3, 4, 0.5)


@pytest.mark.parametrize(
    ("code", "fault"), [("print('no json')", Fault.GARBLED), ("import sys; sys.exit('it broke')", Fault.SERVER)]
)
def test_what_is_no_answer_is_a_fault(code: str, fault: Fault, tmp_path: Path) -> None:
    with pytest.raises(ProviderError) as raised:
        run(code, tmp_path)
    assert raised.value.fault is fault


def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    begun = time.monotonic()
    with pytest.raises(ProviderError) as raised:
        run(code, tmp_path, limit_s=0.5)
    assert raised.value.fault is Fault.SILENT
    assert time.monotonic() - begun < 30
