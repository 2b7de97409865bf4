"""Which `Fault` an SDK's error is; the SDKs of Anthropic and OpenAI are built alike, and neither is imported here.

A status tells most. Where a stream breaks after its status 200, the error's own type in the body does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from maos_bot.model import Usage
from maos_bot.models.protocol import Fault, ProviderError, RateState

_BY_STATUS: Final[Mapping[int, Fault]] = {
    400: Fault.REFUSED_REQUEST,
    401: Fault.NO_RIGHT,
    402: Fault.NO_CREDIT,
    403: Fault.NO_RIGHT,
    404: Fault.NO_MODEL,
    408: Fault.SILENT,
    429: Fault.RATE_LIMITED,
    503: Fault.OVERLOADED,
    504: Fault.SILENT,
    529: Fault.OVERLOADED,
}
_BY_TYPE: Final[Mapping[str, Fault]] = {
    "overloaded_error": Fault.OVERLOADED,
    "rate_limit_error": Fault.RATE_LIMITED,
    "api_error": Fault.SERVER,
    "server_error": Fault.SERVER,
    "timeout_error": Fault.SILENT,
    "billing_error": Fault.NO_CREDIT,
    "insufficient_quota": Fault.NO_CREDIT,
    "authentication_error": Fault.NO_RIGHT,
    "permission_error": Fault.NO_RIGHT,
    "not_found_error": Fault.NO_MODEL,
    "context_length_exceeded": Fault.TOO_LONG,
}
_TOO_LONG: Final = ("prompt is too long", "context length", "context window", "maximum context", "context size")
_NO_CREDIT: Final = ("credit balance is too low", "insufficient_quota", "exceeded your current quota")
_HINTS: Final[Mapping[Fault, str]] = {
    Fault.NO_RIGHT: "check the provider's key",
    Fault.NO_MODEL: "check the model's name, and whether the key may use it",
    Fault.NO_CREDIT: "add credit at the provider, or name another model",
    Fault.TOO_LONG: "give the task less to read, or a model with more room",
}


def fault_of_status(status: int, kind: str = "", message: str = "") -> Fault:
    """The fault an HTTP status, the error's type and its message tell of; a type within a 200 counts by itself."""
    low = message.lower()
    if any(word in low for word in _NO_CREDIT) or _BY_TYPE.get(kind) is Fault.NO_CREDIT:
        return Fault.NO_CREDIT
    if kind == "context_length_exceeded" or (status in {400, 413, 422} and any(word in low for word in _TOO_LONG)):
        return Fault.TOO_LONG
    if status < 400:
        return _BY_TYPE.get(kind, Fault.CUT)
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Fault.SERVER if status >= 500 else Fault.REFUSED_REQUEST


def provider_error(
    error: Exception, provider: str, *, begun: bool, usage: Usage | None = None, rate: RateState | None = None
) -> ProviderError:
    """What an SDK raised, as ours. `begun`: an answer had begun to come. A defect of ours is raised as it is."""
    names = {each.__name__ for each in type(error).__mro__}
    status = getattr(error, "status_code", None)
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", None) or {}
    retry_after_s = None
    said = str(error)
    if isinstance(status, int) and "APIResponseValidationError" not in names:
        kind, said = _body(getattr(error, "body", None), said)
        fault = fault_of_status(status, kind, said)
        retry_after_s = seconds_of(headers) if status >= 400 else None
        said = f"{status} {said}" if status >= 400 else said
    elif names & {"APITimeoutError", "TimeoutException", "TimeoutError"}:
        fault = Fault.SILENT
    elif names & {"APIResponseValidationError", "DecodingError"} or isinstance(error, ValueError):
        fault = Fault.GARBLED
    elif names & {"APIConnectionError", "TransportError", "ConnectionError"}:
        fault = Fault.CUT if begun else Fault.NETWORK
    elif "APIError" in names:  # an error in the middle of a stream
        kind, said = _body(getattr(error, "body", None), said)
        fault = fault_of_status(200, kind, said)
    elif names & {"AnthropicError", "OpenAIError"}:
        fault = Fault.NO_RIGHT  # what is raised before anything is sent: no key
    else:
        raise error
    return ProviderError(
        fault,
        f"{provider}: {fault}" + (f": {said[:500]}" if said else ""),
        hint=_HINTS.get(fault, ""),
        retry_after_s=retry_after_s,
        usage=usage,
        rate=rate or rate_state(headers),
    )


def _body(body: Any, said: str) -> tuple[str, str]:
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    if not isinstance(inner, Mapping):
        return "", said
    kind = inner.get("code") if inner.get("code") in _BY_TYPE else inner.get("type")
    return str(kind or ""), str(inner.get("message") or said)


def seconds_of(headers: Mapping[str, str]) -> float | None:
    """How long to wait, by `retry-after-ms` or `retry-after` (seconds, or a date beside the answer's own `date`)."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        said = headers.get("retry-after")
        return None if said is None else max(0.0, float(said))
    except ValueError:
        pass
    try:
        until, now = parsedate_to_datetime(headers["retry-after"]), parsedate_to_datetime(headers["date"])
        return max(0.0, (until - now).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def rate_state(headers: Mapping[str, str]) -> RateState:
    """What the headers say of the buckets.

    OpenAI counts input and output as one, `tokens`; it is taken for input, which can only make us slower.
    """
    state: dict[str, dict[str, float]] = {"limit": {}, "remaining": {}}
    for key, value in headers.items():
        name = key.lower()
        for part, found in state.items():
            bucket = ""
            if name.startswith("anthropic-ratelimit-") and name.endswith(f"-{part}"):
                bucket = name.removeprefix("anthropic-ratelimit-").removesuffix(f"-{part}")
            elif name.startswith(f"x-ratelimit-{part}-"):
                bucket = name.removeprefix(f"x-ratelimit-{part}-")
                bucket = "input-tokens" if bucket == "tokens" else bucket
            if bucket in {"requests", "input-tokens", "output-tokens"}:
                try:
                    found[bucket] = float(value)
                except ValueError:
                    continue
    return RateState(limits=state["limit"], remaining=state["remaining"])


def arguments_of(raw: str) -> dict[str, Any] | None:
    """A tool call's arguments; None where they are no JSON object. Nothing at all is an empty object."""
    try:
        value = json.loads(raw) if raw.strip() else {}
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
