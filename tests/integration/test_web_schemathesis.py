"""Schemathesis throws at the dashboard what `/openapi.json` allows, and what it doesn't: nothing ends in a 500."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.factories import PIPELINE, START, make_history, make_run, store_runs
from web import create_app
from web.ingest_auth import IngestConfig

TOKEN = "a token for tests"
RUN = make_run(run_id="20261126-090000-cccccc", jobs=PIPELINE[:2])
OPERATIONS = ("GET /badge.json", "GET /healthz", "GET /runs.json", "POST /ingest")
EXAMPLES = 40

_quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer("application/x-ndjson")
def _as_lines(_context: Any, value: Any) -> bytes:
    """A body as it was thought up: a text as it is, anything else as a line of JSON."""
    return (
        value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else json.dumps(value).encode()
    )


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = store_runs(tmp_path_factory.mktemp("api") / "maos.db", make_history(now=START, count=12))
    config = IngestConfig(token_hashes=frozenset({hashlib.sha256(TOKEN.encode()).hexdigest()}))
    app = create_app(path, clock=lambda: START, ingest=config)
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


def operations(schema: Any) -> dict[str, Any]:
    return {operation.label: operation for operation in (result.ok() for result in schema.get_all_operations())}


def test_every_address_for_programs_is_tried(schema: Any) -> None:
    assert sorted(operations(schema)) == sorted(OPERATIONS)


@pytest.mark.parametrize(
    ("label", "mode"),
    [
        *((label, GenerationMode.POSITIVE) for label in OPERATIONS[:3]),
        *((label, GenerationMode.NEGATIVE) for label in ("GET /badge.json", "GET /runs.json")),
    ],
)
def test_a_question_is_answered_as_described(schema: Any, label: str, mode: GenerationMode) -> None:
    answers: list[int] = []

    @_quick
    @given(case=operations(schema)[label].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call()
        answers.append(answer.status_code)
        assert answer.status_code < 500
        # A text that isn't as described may be taken all the same, cut or left aside; it must never break a page.
        case.validate_response(answer, excluded_checks=[negative_data_rejection])

    ask()
    assert answers


@pytest.mark.parametrize("token", [TOKEN, "another"], ids=["known", "stranger"])
def test_an_upload_is_answered_as_described(schema: Any, token: str) -> None:
    answers: list[int] = []
    headers = {"Authorization": f"Bearer {token}"}

    @_quick
    @given(case=operations(schema)["POST /ingest"].as_strategy())
    def send(case: Any) -> None:
        answer = case.call(headers=headers)
        answers.append(answer.status_code)
        assert answer.status_code < 500
        # What a body's text must be is more than the description of it can say.
        case.validate_response(answer, headers=headers, excluded_checks=[positive_data_acceptance])

    send()
    assert len(answers) > 5
    assert set(answers) <= ({200, 415, 422} if token == TOKEN else {401})
