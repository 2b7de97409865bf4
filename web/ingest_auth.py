"""Who may upload runs: the holder of a token that is known by its hash, or a workflow that GitHub vouches for.

GitHub signs a token for each workflow run that asks for one (OpenID Connect): it is checked against the issuer's
published keys, must be meant for us, be fresh, come from a repository that is named by its id (names can be taken over
by others), and be used once. `pull_request_target` is refused: such a run holds a base repository's identity while
somebody else's code may run in it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from maos_bot.errors import ConfigError

GITHUB_ISSUER: Final = "https://token.actions.githubusercontent.com"
_LEEWAY_S: Final = 30
_LONGEST_LIFE_S: Final = 3600  # a token that claims a longer one is not what GitHub gives out
_REQUIRED: Final = ("exp", "iat", "iss", "aud", "jti", "repository", "repository_id", "event_name")
_REFUSED_EVENTS: Final = frozenset({"pull_request_target"})
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")
_REMEMBERED: Final = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """What `/ingest` lets in: `token_hashes` are SHA-256 in hexadecimal; no OIDC token without an `audience`."""

    token_hashes: frozenset[str] = frozenset()
    audience: str = ""
    repository_ids: frozenset[str] = frozenset()
    issuer: str = GITHUB_ISSUER
    jwks_url: str = f"{GITHUB_ISSUER}/.well-known/jwks"
    max_bytes: int = 64 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who uploads; `repository` is the only one whose runs it may add to, None where it is any."""

    repository: str | None


class RefusedError(Exception):
    """The caller isn't let in; `status` is 401 or 403, the message says why in words that give nothing away."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_config(path: Path) -> IngestConfig:
    """The `[ingest]` table of a TOML file; raises `ConfigError` for what can't be read or means nothing."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("ingest")
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    known = {"tokens", "audience", "repository-ids", "issuer", "jwks-url", "max-mb"}
    if not isinstance(table, dict) or not table.keys() <= known:
        raise ConfigError(f"{path}: it needs a table [ingest] with some of {', '.join(sorted(known))}")
    for name in ("tokens", "repository-ids"):
        if not isinstance(table.get(name, []), list):
            raise ConfigError(f"{path}: {name} is a list")
    tokens = [_HASH.fullmatch(str(one)) for one in table.get("tokens", [])]
    if None in tokens:
        raise ConfigError(f"{path}: a token is written as its hash", hint="printf %s TOKEN | sha256sum, after sha256:")
    ids = frozenset(str(one) for one in table.get("repository-ids", []))
    audience = str(table.get("audience", ""))
    if bool(audience) != bool(ids):
        raise ConfigError(f"{path}: audience and repository-ids are needed together")
    if audience and (find_spec("jwt") is None or find_spec("cryptography") is None):
        raise ConfigError(
            f"{path}: workflows' tokens can't be checked: PyJWT isn't installed", hint="pip install 'maos-bot[github]'"
        )
    if not tokens and not audience:
        raise ConfigError(f"{path}: [ingest] lets nobody in", hint="give tokens, or audience and repository-ids")
    issuer = str(table.get("issuer", GITHUB_ISSUER)).rstrip("/")
    return IngestConfig(
        token_hashes=frozenset(found[1] for found in tokens if found),
        audience=audience,
        repository_ids=ids,
        issuer=issuer,
        jwks_url=str(table.get("jwks-url", f"{issuer}/.well-known/jwks")),
        max_bytes=int(table.get("max-mb", 64)) * 2**20,
    )


@dataclass(slots=True)
class Doorkeeper:
    """Tells callers apart; may be used by several threads. What it remembers of used tokens ends with the process."""

    config: IngestConfig
    clock: Callable[[], float] = time.time
    _used: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _keys: Any = None

    def admit(self, authorization: str) -> Caller:
        """Who the value of an `Authorization` header speaks for; raises `RefusedError`."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > 16_384:
            raise RefusedError(401, "a bearer token is needed")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        if sum(hmac.compare_digest(digest, known) for known in self.config.token_hashes):
            return Caller(repository=None)
        if not self.config.audience or token.count(".") != 2:
            raise RefusedError(401, "the token is not known here")
        return self._admit_workflow(token)

    def _admit_workflow(self, token: str) -> Caller:
        import jwt  # 0.1 s that a dashboard without /ingest doesn't pay

        if self._keys is None:
            self._keys = jwt.PyJWKClient(self.config.jwks_url, cache_keys=True, lifespan=3600, timeout=5)
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=self.config.audience,
                issuer=self.config.issuer,
                # The times are compared below, with the clock that all else goes by.
                options={"require": list(_REQUIRED), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise RefusedError(401, "the issuer's keys can't be read now") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise RefusedError(401, "the token doesn't hold") from error
        self._check_times(claims)
        if claims["event_name"] in _REFUSED_EVENTS:
            raise RefusedError(403, f"runs of {claims['event_name']} may not upload")
        if str(claims["repository_id"]) not in self.config.repository_ids:
            raise RefusedError(403, "this repository may not upload here")
        self._use_once(str(claims["jti"]), until=float(claims["exp"]) + _LEEWAY_S)
        return Caller(repository=str(claims["repository"]))

    def _check_times(self, claims: dict[str, Any]) -> None:
        now = self.clock()
        times = [claims["exp"], claims["iat"], claims.get("nbf", claims["iat"])]
        if any(type(one) not in {int, float} for one in times):
            raise RefusedError(401, "the token doesn't hold")
        expires, issued, begins = times
        if expires + _LEEWAY_S < now or max(issued, begins) - _LEEWAY_S > now or expires - issued > _LONGEST_LIFE_S:
            raise RefusedError(401, "the token is not valid now")

    def _use_once(self, token_id: str, *, until: float) -> None:
        with self._lock:
            now = self.clock()
            if len(self._used) >= _REMEMBERED:
                self._used = {one: end for one, end in self._used.items() if end >= now}
            if token_id in self._used or len(self._used) >= _REMEMBERED:
                raise RefusedError(401, "the token was used before")
            self._used[token_id] = until
