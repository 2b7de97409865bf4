"""What every answer carries and which requests are let in.

The dashboard shows text that other people wrote: names, branches, logs. Jinja escapes all of it; the policy below is
the second wall: no inline script or style, nothing from another host, no frame. The `Host` check keeps a page in
somebody's browser from reading a dashboard on loopback through a name that is rebound to 127.0.0.1.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final

from flask import Flask, Response, abort, request

LOOPBACK_HOSTS: Final = frozenset({"localhost"})

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def protect(app: Flask, *, hosts: Collection[str] = LOOPBACK_HOSTS) -> None:
    """Put the host check before and the headers after every request of `app`.

    `hosts` are the names, without port, that the dashboard answers to, beside every loopback address; a request under
    another one gets 421.
    """
    allowed = frozenset(host.lower() for host in hosts)

    @app.before_request
    def check_host() -> None:
        name = _name(request.host)
        if name not in allowed and not _is_loopback(name):
            abort(421, "This dashboard doesn't answer to that host name.")
        if request.method not in _READING and _is_foreign():
            abort(403, "A page of another site asked for this.")

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint != "static":
            # A run goes on while it is looked at, and a partial answer must never pass for a page.
            response.headers.setdefault("Cache-Control", "no-store")
            response.vary.add("HX-Request")
        return response


def _is_foreign() -> bool:
    """Whether a browser says that a page of another origin sent the request; programs say nothing."""
    if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        return True
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2].lower() != request.host.lower()


def _name(host: str) -> str:
    """The host without its port, in lower case."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    """Whether the name is a loopback address in digits, which no name server can rebind."""
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
