"""Uploads: who is let in, what is stored, and that nothing half or hostile gets through."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from maos_bot.errors import ConfigError
from maos_bot.events import RunEvent
from maos_bot.model import Trigger
from maos_bot.store.codec import to_line
from maos_bot.store.queries import Queries
from tests.factories import START, make_run
from tests.integration.store_parts import contents
from web import create_app
from web.ingest_auth import GITHUB_ISSUER, IngestConfig, read_config

TOKEN = "correct horse battery staple"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()
AUDIENCE = "https://maos.example"
NOW = START + 3600
RUN = make_run(trigger=Trigger(event="push", repository="acme/shop", ref="main"))
STRANGERS = ("", "Basic x", "Bearer", "Bearer wrong", f"Bearer {HASH}", "Bearer a.b.c", "Bearer " + "x" * 20_000)
BODY = "".join(f"{to_line(event)}\n" for event in RUN).encode()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def jwks_url(key: rsa.RSAPrivateKey) -> Iterator[str]:
    """The issuer's published keys, served on loopback."""
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    body = json.dumps({"keys": [{**public, "kid": "one", "use": "sig", "alg": "RS256"}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/jwks"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "maos.db"


@pytest.fixture
def client(path: Path, jwks_url: str) -> FlaskClient:
    config = IngestConfig(
        token_hashes=frozenset({HASH}),
        audience=AUDIENCE,
        repository_ids=frozenset({"42"}),
        jwks_url=jwks_url,
        max_bytes=2**20,
    )
    return create_app(path, clock=lambda: NOW, ingest=config).test_client()


def post(client: FlaskClient, body: bytes = BODY, token: str = TOKEN, **headers: str) -> TestResponse:
    values = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson", **headers}
    return client.post("/ingest", data=body, headers=values)


def vouched(key: rsa.RSAPrivateKey, kid: str = "one", algorithm: str = "RS256", **claims: object) -> str:
    values = {
        "iss": GITHUB_ISSUER, "aud": AUDIENCE, "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 300,
        "jti": f"id-{len(claims)}-{sorted(claims)}", "repository": "acme/shop", "repository_id": "42",
        "event_name": "pull_request",
        **claims,
    }  # fmt: skip
    return jwt.encode(
        {k: v for k, v in values.items() if v is not None}, key, algorithm=algorithm, headers={"kid": kid}
    )


def test_it_is_not_there_unless_configured(path: Path) -> None:
    client = create_app(path).test_client()
    assert post(client).status_code in {404, 405}
    assert not path.exists()


def test_a_run_is_stored_once_whatever_comes_twice(client: FlaskClient, path: Path) -> None:
    assert post(client).json == {"events": len(RUN), "new": len(RUN)}
    before = contents(path)
    assert post(client).json == {"events": len(RUN), "new": 0}
    assert contents(path) == before
    with Queries(path) as queries:
        assert queries.events(RUN[0].run_id, with_output=True) == RUN
    assert client.get(f"/runs/{RUN[0].run_id}").status_code == 200


@pytest.mark.parametrize("authorization", STRANGERS)
def test_strangers_are_refused(client: FlaskClient, path: Path, authorization: str) -> None:
    answer = post(client, Authorization=authorization)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not path.exists()


def test_a_workflow_that_is_vouched_for_uploads_once_with_its_token(
    client: FlaskClient, key: rsa.RSAPrivateKey
) -> None:
    token = vouched(key)
    assert post(client, token=token).status_code == 200
    again = post(client, token=token)
    assert (again.status_code, again.json) == (401, {"error": "the token was used before"})
    assert post(client, token=vouched(key, jti="another")).json == {"events": len(RUN), "new": 0}


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"aud": "https://other.example"}, 401),
        ({"iss": "https://evil.example"}, 401),
        ({"exp": NOW - 31}, 401),
        ({"iat": NOW + 60, "nbf": NOW + 60}, 401),
        ({"nbf": NOW + 60}, 401),
        ({"exp": NOW + 86_400}, 401),
        ({"exp": None}, 401),
        ({"jti": None}, 401),
        ({"repository_id": None}, 401),
        ({"repository_id": "43"}, 403),
        ({"event_name": "pull_request_target"}, 403),
        ({"kid": "unknown"}, 401),
    ],
)
def test_tokens_that_do_not_hold_are_refused(
    client: FlaskClient, path: Path, key: rsa.RSAPrivateKey, claims: dict[str, Any], status: int
) -> None:
    assert post(client, token=vouched(key, **claims)).status_code == status
    assert not path.exists()


def test_forged_tokens_are_refused(client: FlaskClient, path: Path, key: rsa.RSAPrivateKey) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = vouched(key)
    head, claims, signature = good.split(".")
    told = jwt.decode(good, options={"verify_signature": False})
    unsigned = jwt.encode(told, "", algorithm="none", headers={"kid": "one"})
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    hs_head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=").decode()
    mac = hmac.new(pem, f"{hs_head}.{claims}".encode(), "sha256").digest()
    confused = f"{hs_head}.{claims}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    for token in (vouched(other), unsigned, confused, f"{head}.{claims}.{signature[:-8]}AAAAAAAA"):
        assert post(client, token=token).status_code == 401
    assert not path.exists()


def test_a_workflow_adds_to_its_own_repository_alone(client: FlaskClient, path: Path, key: rsa.RSAPrivateKey) -> None:
    foreign = vouched(key, repository="acme/other", jti="a")
    assert post(client, token=foreign).status_code == 403
    with Queries(path) as queries:
        assert queries.count_runs() == 0
    assert post(client).status_code == 200
    late = f"{to_line(replace(RUN[-1], seq=len(RUN) + 1))}\n".encode()
    assert post(client, late, token=vouched(key, repository="acme/other", jti="b")).status_code == 403
    headless = f"{to_line(replace(RUN[3], run_id='nobodys'))}\n".encode()
    assert post(client, headless, token=vouched(key, jti="c")).status_code == 403
    with Queries(path) as queries:
        assert queries.last_seq(RUN[0].run_id) == len(RUN)
        assert queries.count_runs() == 1


def line(event: RunEvent, **changed: object) -> bytes:
    return (json.dumps({**json.loads(to_line(event)), **changed}) + "\n").encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        BODY[:-1],
        BODY[:-40],
        BODY + b"{}\n",
        BODY + b"[1]\n",
        BODY + b"\xff\n",
        BODY + b"null\n",
        BODY + b"[" * 100_000 + b"\n",
        BODY + b'{"type":"RunFinished"}\n',
        line(RUN[0], run_id="../../etc"),
        line(RUN[0], run_id=""),
        line(RUN[0], seq=-1),
        line(RUN[0], seq=2),
        line(RUN[0], seq=10**30),
        line(RUN[0], at=1e300),
        line(RUN[0], at="soon"),
        line(RUN[0], at="0"),
        line(RUN[-1], wall_s="1"),
        line(RUN[0], seq=True),
        line(RUN[0], schema=2),
        line(RUN[0], tasks=[{"id": "a"}, {"id": "a"}]),
        line(RUN[0], tasks=[{"id": 5}]),
        line(RUN[0], predicted={"makespan_s": "long"}),
        line(RUN[-1], status="fine"),
        line(RUN[-1], status="running"),
        line(RUN[-1], wall_s=float("nan")),
        line(RUN[-1], exit_code=2**70),
    ],
)
def test_a_bad_or_torn_body_stores_nothing(client: FlaskClient, path: Path, body: bytes) -> None:
    answer = post(client, body)
    assert answer.status_code == 422, answer.text
    assert "nothing was stored" in answer.text
    assert not path.exists()


def test_size_and_kind_are_bounded(client: FlaskClient, path: Path) -> None:
    assert post(client, b" " * (2**20 + 1)).status_code == 413
    assert post(client, BODY, TOKEN, **{"Content-Type": "text/plain"}).status_code == 415
    assert post(client, BODY, TOKEN, **{"Content-Encoding": "gzip"}).status_code == 415
    assert not path.exists()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_comes_is_stored_or_refused_and_pages_still_show(client: FlaskClient, data: st.DataObject) -> None:
    row = json.loads(to_line(data.draw(st.sampled_from(RUN))))
    for name in data.draw(st.lists(st.sampled_from(sorted(row)), max_size=3)):
        row[name] = data.draw(_JSON)
    row["run_id"] = "fuzzed"
    answer = post(client, json.dumps(row).encode() + b"\n")
    assert answer.status_code in {200, 422}, answer.text
    if answer.status_code == 200:
        for part in ("", "/graph", "/resources", "/events", "/teams", "/log", "/spec", "/live"):
            assert client.get(f"/runs/fuzzed{part}").status_code in {200, 204, 286}, (part, row)
        for url in ("/", "/runs.json", "/tasks", "/usage", "/status", "/metrics", "/failed.atom"):
            assert client.get(url).status_code == 200, (url, row)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "needs a table"),
        ("[ingest]", "lets nobody in"),
        ("[ingest]\ntokens = ['secret']", "written as its hash"),
        ("[ingest]\naudience = 'x'", "needed together"),
        ("[ingest]\ntokens = 5", "list"),
        ("[ingest]\nodd = 1", "needs a table"),
        ("[ingest", "Expected"),
    ],
)
def test_a_config_that_means_nothing_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "ingest.toml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_config(tmp_path / "ingest.toml")


def test_a_config_is_read(tmp_path: Path) -> None:
    text = f"[ingest]\ntokens = ['sha256:{HASH}']\naudience = '{AUDIENCE}'\nrepository-ids = [42]\nmax-mb = 8\n"
    (tmp_path / "ingest.toml").write_text(text)
    assert read_config(tmp_path / "ingest.toml") == IngestConfig(
        token_hashes=frozenset({HASH}), audience=AUDIENCE, repository_ids=frozenset({"42"}), max_bytes=8 * 2**20
    )
