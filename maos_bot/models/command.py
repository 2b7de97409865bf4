"""A coding CLI as a provider: the prompt on its standard input, JSON from its standard output, one process a turn.

It brings its own tools and loop, so our tools aren't offered to it. It gets its own key and what a program needs
to run, nothing else of our environment; its whole process group is killed when its time is over or the turn cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from maos_bot.model import Usage
from maos_bot.models.protocol import Answer, Answered, Asked, Fault, ProviderError, Turn
from maos_bot.models.sizes import estimated_tokens

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "claude": ("claude", "-p", "--output-format", "json"),
    "codex": ("codex", "exec", "--json", "-"),
    "gemini": ("gemini", "--output-format", "json"),
}
_ORDINARY: Final = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TMPDIR", "TZ", "USER"})
_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "claude": frozenset({"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN"}),
    "codex": frozenset({"OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_API_KEY"}),
    "gemini": frozenset({"GEMINI_API_KEY", "GOOGLE_API_KEY"}),
}
_AT_THE_END: Final = (
    "You can't call `finish` here: use your own tools, and end with one JSON object and nothing else, "
    '{"summary": "...", "findings": [...]}; leave `findings` out where none are asked for.'
)
_MOST: Final = 16 * 2**20  # bytes of output that are read


class CommandProvider:
    """A door through the CLI `kind`, one of `KINDS`; `name` is that too."""

    def __init__(
        self,
        kind: str,
        *,
        environ: Mapping[str, str],
        folder: Path,
        limit_s: float = 600.0,
        argv: tuple[str, ...] | None = None,
    ) -> None:
        """`limit_s` bounds a whole turn. `argv` stands in for the usual command line."""
        self.name = kind
        self._argv = argv or KINDS[kind]
        self._env = {key: value for key, value in environ.items() if key in _ORDINARY | _KEYS.get(kind, frozenset())}
        self._folder = folder
        self._limit_s = limit_s

    async def answer(self, turn: Turn, on_text: Callable[[str], None] | None = None) -> Answer:
        """Run the CLI once. Raises `ProviderError`."""
        begun = time.monotonic()
        argv = [*self._argv[:1], *self._argv[1:], *(("--model", turn.model) if turn.model else ())]
        if self._argv[-1] == "-":  # the dash that stands for standard input stays last
            argv = [*self._argv[:-1], *(("--model", turn.model) if turn.model else ()), "-"]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=turn.folder or self._folder,
                env=self._env,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ProviderError(
                Fault.NO_MODEL, f"{self.name}: could not start: {error}", hint=f"install {self._argv[0]}"
            ) from error
        try:
            async with asyncio.timeout(self._limit_s):
                out, err = await process.communicate(prompt(turn).encode())
        except TimeoutError:
            raise ProviderError(Fault.SILENT, f"{self.name}: not done within {self._limit_s:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return self._read(turn, process.returncode or 0, out[:_MOST], err, time.monotonic() - begun, on_text)

    async def warm(self) -> None:
        """Nothing takes time before the first turn."""

    async def count_tokens(self, turn: Turn) -> int:
        """An estimate."""
        return estimated_tokens(turn)

    async def close(self) -> None:
        """Nothing is kept."""

    def _read(  # noqa: PLR0917
        self,
        turn: Turn,
        code: int,
        out: bytes,
        err: bytes,
        duration_s: float,
        on_text: Callable[[str], None] | None,
    ) -> Answer:
        events = _events(out.decode(errors="replace"))
        text, usage, failure = _said(events)
        if code or failure:
            why = failure or err.decode(errors="replace").strip()[-500:] or f"exit code {code}"
            raise ProviderError(Fault.SERVER, f"{self.name}: {why}", usage=usage)
        if text is None:
            raise ProviderError(Fault.GARBLED, f"{self.name}: no answer in what it printed", usage=usage)
        if on_text:
            on_text(text)
        return Answer(
            text=text,
            usage=usage or Usage(usd=None),
            usage_known=usage is not None,
            model=turn.model,
            duration_s=duration_s,
            whole=True,
        )


def prompt(turn: Turn) -> str:
    """The whole turn as one text."""
    parts = [turn.prefix, turn.system]
    for message in turn.messages:
        if isinstance(message, Asked):
            parts.append(message.text)
        elif isinstance(message, Answered):
            parts.append(f"You answered before:\n{message.text}")
        else:
            parts += [result.text for result in message.results]
    if any(tool.name == "finish" for tool in turn.tools):
        parts.append(_AT_THE_END)
    if turn.schema is not None:
        parts.append("Answer with nothing but JSON that fits this schema:\n" + json.dumps(dict(turn.schema)))
    return "\n\n".join(part for part in parts if part)


def _events(text: str) -> list[dict[str, Any]]:
    """One JSON object, or one a line; what else was printed is left out."""
    with contextlib.suppress(ValueError):
        whole = json.loads(text)
        return [each for each in (whole if isinstance(whole, list) else [whole]) if isinstance(each, dict)]
    events = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events


def _said(events: list[dict[str, Any]]) -> tuple[str | None, Usage | None, str]:
    """The answer, its usage, and why it failed, in the forms of the three CLIs."""
    text: str | None = None
    usage: Usage | None = None
    failure = ""
    for event in events:
        item = event.get("item") or {}
        if event.get("type") == "item.completed" and item.get("type") == "agent_message":
            text = str(item.get("text", ""))
        elif event.get("type") in {"turn.failed", "error"} or event.get("error"):
            error = event.get("error") or event
            failure = str(error.get("message", error) if isinstance(error, dict) else error)
        elif "result" in event or "response" in event:
            said = str(event.get("result", event.get("response")) or "")
            if event.get("is_error"):
                failure = said or "it failed"
            else:
                text = said
        usage = _usage(event) or usage
    return text, usage, failure


def _usage(event: dict[str, Any]) -> Usage | None:
    counts = event.get("usage")
    if isinstance(counts, dict):
        read = counts.get("cache_read_input_tokens", 0)
        cached = counts.get("cached_input_tokens", 0)  # codex: within the input tokens
        return Usage(
            input_tokens=max(0, counts.get("input_tokens", 0) - cached),
            output_tokens=counts.get("output_tokens", 0),
            cache_read_tokens=read + cached,
            cache_write_tokens=counts.get("cache_creation_input_tokens", 0),
            usd=event.get("total_cost_usd"),
        )
    models = (event.get("stats") or {}).get("models") if isinstance(event.get("stats"), dict) else None
    if not isinstance(models, dict):
        return None
    tokens = [each.get("tokens", {}) for each in models.values()]
    cached = sum(each.get("cached", 0) for each in tokens)
    return Usage(
        input_tokens=max(0, sum(each.get("prompt", 0) for each in tokens) - cached),
        output_tokens=sum(each.get("candidates", 0) + each.get("thoughts", 0) for each in tokens),
        cache_read_tokens=cached,
        usd=None,
    )
