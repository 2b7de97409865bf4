"""What GitHub's refusals and silences mean: an error in words, what would mend it, and how long to wait before a retry.

Waits follow GitHub's rules: `retry-after`, else the reset time where nothing remains, else a minute and doubling.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from maos_bot.errors import GitHubError

PERMISSIONS: Final = """permissions:
  contents: read
  checks: write
  pull-requests: write"""

_SECONDARY_WAIT_S: Final = 60.0  # GitHub's word for a limit that names no time


def judged(what: str, error: Exception, attempt: int, pause: float) -> tuple[GitHubError, float | None]:
    """The error for what `send`ing came to, and how long to wait before another try: None where there is no use.

    `pause` is the wait where GitHub names none, `unsure` in the error says that the request may have taken effect.
    """
    import github
    import requests

    if isinstance(error, github.GithubException):
        return _refusal(what, error, attempt, pause)
    failure = _no_answer(what, error)  # a time-out, a cut or garbled answer, a CA bundle that isn't there
    if isinstance(error, requests.ConnectionError):
        failure.unsure = not _never_connected(error)
    return failure, pause


def _refusal(what: str, error: Any, attempt: int, pause: float) -> tuple[GitHubError, float | None]:
    status, headers = error.status, {k.lower(): v for k, v in (error.headers or {}).items()}
    said = _said(error.data) or error.message or ""
    failure = GitHubError(f"could not {what}: GitHub answered {status} {said}".rstrip(), status=status)
    if status == 429 or (status == 403 and _rate_limited(headers, said)):
        failure.hint = "the API's rate limit was reached"
        return failure, _rate_wait(headers, attempt, pause)
    if status == 409:  # someone else wrote at the same time
        return failure, pause
    if status >= 500:
        failure.unsure = True
        failure.hint = "GitHub is having trouble; www.githubstatus.com tells more"
        return failure, pause
    failure.hint = _HINTS.get(status, "")
    return failure, None


_HINTS: Final[Mapping[int, str]] = {
    401: "the token is wrong or has expired; pass `github-token: ${{ github.token }}`",
    403: f"the token lacks a permission; give the job these:\n{PERMISSIONS}",
    404: f"the token can't see it; in a private repository the job needs these:\n{PERMISSIONS}",
    410: "it is switched off in this repository's settings",
}


def _rate_limited(headers: Mapping[str, str], said: str) -> bool:
    return "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0" or "rate limit" in said.lower()


def _rate_wait(headers: Mapping[str, str], attempt: int, pause: float) -> float:
    """Seconds GitHub wants us to wait, by its documented order."""
    after = headers.get("retry-after", "")
    if after.isdigit():
        return float(after)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return max(pause, float(reset) - time.time() + 1.0)
    return float(_SECONDARY_WAIT_S * 2 ** (attempt - 1))


def _no_answer(what: str, error: Exception) -> GitHubError:
    hint = "the network or GitHub is down, or GITHUB_API_URL is wrong"
    if "certificate" in str(error).lower():
        hint = "this certificate isn't trusted here; REQUESTS_CA_BUNDLE or SSL_CERT_FILE names a file of those that are"
    said = f"could not {what}: no usable answer from GitHub ({type(error).__name__})"
    return GitHubError(said, hint=hint, unsure=True)


def _never_connected(error: Exception) -> bool:
    """Whether the request can't have been sent: name not found, refused, no route, or no connection in time."""
    import requests
    import urllib3

    if isinstance(error, requests.ConnectTimeout):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _said(data: object) -> str:
    """GitHub's own words, with the fields a 422 complains of."""
    if not isinstance(data, Mapping):
        return ""
    details = [
        " ".join(str(row[name]) for name in ("resource", "field", "code", "message") if row.get(name))
        if isinstance(row, Mapping)
        else str(row)
        for row in data.get("errors") or ()
    ]
    message = str(data.get("message") or "")
    return f"{message} ({'; '.join(details[:3])})" if details else message
