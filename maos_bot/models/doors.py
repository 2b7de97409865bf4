"""Which providers the environment opens, and the models that are tried there unless a spec names another.

| variable | opens |
|---|---|
| `ANTHROPIC_API_KEY`, `ANTHROPIC_BASE_URL` | Anthropic, or what speaks its API |
| `OPENAI_API_KEY`, `OPENAI_BASE_URL` | OpenAI, or any server that speaks its API (llama.cpp, Ollama, vLLM) |
| `GEMINI_API_KEY` | Gemini's OpenAI-compatible endpoint |
| `MAOS_MODEL_COMMAND` | `claude`, `codex` or `gemini`: the coding CLI of that name |

No SDK is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from maos_bot.errors import ConfigError
from maos_bot.models.anthropic import AnthropicProvider
from maos_bot.models.client import Target
from maos_bot.models.command import KINDS, CommandProvider
from maos_bot.models.openai import OPENAI, OpenAIProvider
from maos_bot.models.protocol import Provider
from maos_bot.models.router import Candidate

GEMINI: Final = "https://generativelanguage.googleapis.com/v1beta/openai/"
USUAL: Final[Mapping[str, tuple[tuple[str, int], ...]]] = {
    "anthropic": (("claude-haiku-5-5", 1), ("claude-sonnet-5-5", 2), ("claude-opus-5-5", 3)),
    "openai": (("gpt-5-mini", 1), ("gpt-5.4", 2), ("gpt-6-sol", 3)),
    "gemini": (("gemini-2.5-flash", 1), ("gemini-2.5-pro", 2)),
}


def open_doors(environ: Mapping[str, str], folder: Path) -> dict[str, Provider]:
    """The providers that `environ` opens, by name; empty where it opens none. `folder` is where a CLI runs."""
    found: dict[str, Provider] = {}
    if key := environ.get("ANTHROPIC_API_KEY"):
        found["anthropic"] = AnthropicProvider(key=key, base_url=environ.get("ANTHROPIC_BASE_URL", ""))
    base_url = environ.get("OPENAI_BASE_URL", "")
    if environ.get("OPENAI_API_KEY") or base_url:
        found["openai"] = OpenAIProvider(key=environ.get("OPENAI_API_KEY", ""), base_url=base_url or OPENAI)
    if key := environ.get("GEMINI_API_KEY"):
        found["gemini"] = OpenAIProvider(key=key, base_url=GEMINI, name="gemini")
    if kind := environ.get("MAOS_MODEL_COMMAND"):
        if kind not in KINDS:
            raise ConfigError(f"MAOS_MODEL_COMMAND is {kind!r}", hint=f"give one of {', '.join(KINDS)}")
        found[f"{kind}-cli"] = CommandProvider(kind, environ=environ, folder=folder)
    return found


def candidates(doors: Mapping[str, Provider]) -> list[Candidate]:
    """The usual models behind `doors`; a CLI's own default is one too, with no name."""
    usual = [
        Candidate(target=Target(provider=door, model=model), grade=grade)
        for door in doors
        for model, grade in USUAL.get(door, ())
    ]
    return usual + [
        Candidate(target=Target(provider=door, model=""), grade=2)
        for door, provider in doors.items()
        if isinstance(provider, CommandProvider)
    ]
