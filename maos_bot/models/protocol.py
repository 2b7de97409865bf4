"""What a model provider is to the rest: a turn in; text, tool calls and measured usage out (pure).

A conversation is a tuple of messages that only ever grows at its end, so that a provider's prompt cache can serve its
beginning. `Turn.prefix` is what all workers of a run share, byte for byte: it is sent first and marked as cacheable.
Every failure is a `ProviderError` with a `Fault`, from which alone retries, fallbacks and reports decide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from maos_bot.errors import MaosError
from maos_bot.frozen import dataclass
from maos_bot.model import Usage


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A function the model may ask us to call; `schema` is the JSON Schema of its arguments, an object."""

    name: str
    description: str
    schema: Mapping[str, Any]


def signature(tools: Sequence[Tool]) -> str:
    """What tells one set of tools from another, as a provider's cache sees it: they stand before all else."""
    said = json.dumps([[tool.name, tool.description, dict(tool.schema)] for tool in tools], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """The model asks for a tool. `arguments` is None where what it sent is not a JSON object: `raw` is that text."""

    id: str
    name: str
    arguments: Mapping[str, Any] | None
    raw: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolResult:
    """What a call came to, as the model is told it."""

    call_id: str
    text: str
    failed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What we say: the task, a correction, the next task of a batch."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """What the model said before."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """Results of all the calls of the `Answered` right before."""

    results: tuple[ToolResult, ...]


Message: TypeAlias = Asked | Answered | Returned


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One request to a model."""

    model: str
    messages: tuple[Message, ...]
    prefix: str = ""  # system text that all workers of a run share: cached
    system: str = ""  # system text of this conversation alone, after the prefix
    tools: tuple[Tool, ...] = ()
    schema: Mapping[str, Any] | None = None  # the answer's text must be JSON that fits it
    max_tokens: int = 4096  # of output
    timeout_s: float = 120.0  # without any byte from the provider
    folder: str = ""  # where a provider that brings its own tools works


class Stop(StrEnum):
    """Why an answer ended."""

    END = "end"
    TOOLS = "tools"
    LENGTH = "length"  # `max_tokens` was reached: what came is cut
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class RateState:
    """What a provider's headers say is left of a bucket (names of `maos_bot.resources.token_rate`)."""

    limits: Mapping[str, float] = field(default_factory=dict)  # per minute
    remaining: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back. `usage.usd` is None where the price isn't known; `usage_known` is False where none was sent."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    stop: Stop = Stop.END
    usage: Usage = field(default_factory=Usage)
    usage_known: bool = True
    model: str = ""  # as the provider names it
    request_id: str = ""
    rate: RateState = field(default_factory=RateState)
    duration_s: float = 0.0
    first_byte_s: float | None = None
    whole: bool = False  # the provider has led the conversation itself, with its own tools: this is its result


class Fault(StrEnum):
    """What went wrong, told apart by what is to be done about it."""

    RATE_LIMITED = "rate limited"  # 429: wait as told, all of this model
    OVERLOADED = "overloaded"  # 529, 503: back off, or another model
    SERVER = "server error"  # other 5xx
    NETWORK = "no connection"
    SILENT = "no answer in time"
    CUT = "stream cut"  # it ended in the middle
    GARBLED = "unreadable answer"
    REFUSED_REQUEST = "request refused"  # 400, 413, 422: the same again would fail again
    TOO_LONG = "context too long"
    NO_RIGHT = "key refused"  # 401, 403
    NO_MODEL = "unknown model"  # 404
    NO_CREDIT = "no credit left"  # 402 and what says so


PASSING = frozenset(
    {Fault.RATE_LIMITED, Fault.OVERLOADED, Fault.SERVER, Fault.NETWORK, Fault.SILENT, Fault.CUT, Fault.GARBLED}
)


class ProviderError(MaosError):
    """A turn that failed. `usage` is what it is known to have cost all the same."""

    def __init__(
        self,
        fault: Fault,
        message: str,
        *,
        hint: str = "",
        retry_after_s: float | None = None,
        usage: Usage | None = None,
        rate: RateState | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.fault = fault
        self.retry_after_s = retry_after_s
        self.usage = usage
        self.rate = rate

    @property
    def passing(self) -> bool:
        """Whether the same turn may succeed later."""
        return self.fault in PASSING


class Provider(Protocol):
    """One door to models. Used from one event loop; `answer` may be called many times at once."""

    name: str

    async def answer(self, turn: Turn, on_text: Callable[[str], None] | None = None) -> Answer:
        """Send one turn, once: no retry inside. `on_text` gets the text as it streams.

        Raises `ProviderError`; cancelling ends the request.
        """

    async def warm(self) -> None:
        """Make ready what takes time before the first turn."""

    async def count_tokens(self, turn: Turn) -> int:
        """Input tokens of `turn`: counted by the provider where it can, else estimated from its length."""

    async def close(self) -> None:
        """Let go of connections."""
