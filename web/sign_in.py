"""Who may see the dashboard where others than this machine can reach it.

Either people sign in with a name and a password (HTTP Basic; the file holds scrypt hashes, never passwords), or a proxy
in front has asked already and names the reader in a header, which counts from the proxy's own address alone.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flask import Flask, Response, render_template, request
from werkzeug.security import check_password_hash, generate_password_hash

from maos_bot.errors import ConfigError

_REMEMBERED: Final = 1000
_MAKE: Final = "make a line with `maos dashboard --hash-password NAME`"
_OWN_DOOR: Final = "ingest.ingest"  # asks for a token itself


@dataclass(frozen=True, kw_only=True, slots=True)
class SignIn:
    """`users` are names with the hash of their password; `proxy_header` counts from `proxies` alone."""

    users: Mapping[str, str] = field(default_factory=dict)
    proxy_header: str = ""
    proxies: frozenset[str] = frozenset({"127.0.0.1", "::1"})


def read_users(path: Path) -> dict[str, str]:
    """The lines NAME:HASH of a password file; raises `ConfigError` for what can't be read or isn't such a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read the password file {path}: {error}") from error
    users: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, digest = line.strip().partition(":")
        if not name or not colon or not digest.startswith(("scrypt:", "pbkdf2:")):
            raise ConfigError(f"{path}:{number}: not NAME:HASH with a scrypt hash", hint=_MAKE)
        users[name] = digest
    if not users:
        raise ConfigError(f"{path}: no user in it", hint=_MAKE)
    return users


def make_user(name: str, password: str) -> str:
    """A line of a password file."""
    if not name or ":" in name or not name.isprintable():
        raise ConfigError(f"{name!r} can't be a name", hint="choose one without a colon")
    return f"{name}:{generate_password_hash(password)}"


def proxy_addresses(texts: tuple[str, ...]) -> frozenset[str]:
    """The addresses, written as a socket gives them; raises `ConfigError` for what is none."""
    try:
        return frozenset(str(ipaddress.ip_address(text)) for text in texts)
    except ValueError as error:
        raise ConfigError(f"--proxy-from: {error}") from error


def require(app: Flask, sign_in: SignIn) -> None:
    """Let nobody in who isn't known, but to `/ingest`, which asks for a token of its own."""
    checker = _Passwords(sign_in.users)
    app.config["MAOS_SIGN_IN"] = True

    @app.before_request
    def check_reader() -> Response | None:
        if request.endpoint == _OWN_DOOR:
            return None
        from_proxy = bool(sign_in.proxy_header) and request.remote_addr in sign_in.proxies
        if from_proxy and request.headers.get(sign_in.proxy_header, "").strip():
            return None
        given = request.authorization
        if given and given.type == "basic" and checker.holds(given.username or "", given.password or ""):
            return None
        page = render_template(
            "error.html", title="Sign in", message="This dashboard wants to know who is there.", hint=""
        )
        answer = Response(page, status=401)
        if sign_in.users:
            answer.headers["WWW-Authenticate"] = 'Basic realm="MAOS bot", charset="UTF-8"'
        return answer


class _Passwords:
    """Checks passwords; what held once is remembered by a keyed digest, as scrypt takes a tenth of a second."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users
        self._key = secrets.token_bytes(32)
        self._nobody = generate_password_hash(secrets.token_hex(16)) if users else ""
        self._good: set[bytes] = set()
        self._lock = threading.Lock()

    def holds(self, name: str, password: str) -> bool:
        """Whether that is the user's password; takes as long for a name that isn't there."""
        if not self._users:
            return False
        digest = hmac.digest(self._key, f"{len(name)}:{name}:{password}".encode("utf-8", "replace"), hashlib.sha256)
        with self._lock:
            if digest in self._good:
                return True
        known = self._users.get(name)
        holds = check_password_hash(known or self._nobody, password) and known is not None
        if holds:
            with self._lock:
                if len(self._good) >= _REMEMBERED:
                    self._good.clear()
                self._good.add(digest)
        return holds
