"""Programs get what `/openapi.json` says, whatever they ask."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import START, make_history, store_runs
from web import create_app
from web.ingest_auth import IngestConfig

TOKEN = "a token for tests"
FIELDS = ("text", "status", "repo", "branch", "pr", "since", "min", "cost", "sort", "label", "before", "after")
WORDS = ("", "failed", "12", "-1", "1e400", "90s", "30d", "longest", "main", "\x00", "'; DROP TABLE runs", "٣", "nan")
queries = st.dictionaries(
    st.sampled_from(FIELDS), st.sampled_from(WORDS) | st.text(st.characters(codec="utf-8"), max_size=300), max_size=6
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    path = store_runs(tmp_path_factory.mktemp("api") / "maos.db", make_history(now=START, count=12))
    config = IngestConfig(token_hashes=frozenset({hashlib.sha256(TOKEN.encode()).hexdigest()}))
    return create_app(path, clock=lambda: START, ingest=config).test_client()


def held(client: FlaskClient, path: str, method: str, answer: Any) -> None:
    """Fails where the answer isn't among those that are described."""
    described = client.get("/openapi.json").get_json()["paths"][path][method]["responses"]
    assert str(answer.status_code) in described, answer.text
    schema = described[str(answer.status_code)]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(schema).validate(answer.get_json())


@pytest.mark.parametrize("path", ["/runs.json", "/badge.json", "/healthz"])
@given(query=queries)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_json_page_answers_as_described(client: FlaskClient, path: str, query: dict[str, str]) -> None:
    held(client, path, "get", client.get(path, query_string=query))


@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(["application/x-ndjson", "application/json", ""]),
    token=st.sampled_from([TOKEN, "another", ""]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_upload_is_answered_as_described(client: FlaskClient, body: bytes, kind: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    held(client, "/ingest", "post", client.post("/ingest", data=body, headers=headers))


def test_uploads_are_described_only_where_they_are_taken(tmp_path: Path) -> None:
    paths = create_app(tmp_path / "none.db").test_client().get("/openapi.json").get_json()["paths"]
    assert "/ingest" not in paths
