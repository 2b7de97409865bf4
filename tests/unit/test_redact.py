"""Secrets never leave, whole, encoded, or split over pieces of output."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maos_bot.redact import MASK, Redactor

# A small alphabet makes overlaps and near misses likely; no asterisk, so that a mask can't complete a secret.
WORDS = st.text(alphabet="abk-_ \n+é", max_size=40)
SECRETS = st.text(alphabet="abk-_+é", min_size=4, max_size=9)
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + ("QUJD" * 16 + "\n") * 3 + "-----END RSA PRIVATE KEY-----"


def pieces_of(text: str, sizes: list[int]) -> list[str]:
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


def streamed(redactor: Redactor, pieces: list[str]) -> str:
    stream = redactor.stream()
    return "".join([*(stream.feed(piece) for piece in pieces), stream.flush()])


@given(
    secrets=st.lists(SECRETS, min_size=1, max_size=4),
    words=st.lists(st.one_of(WORDS, st.integers(0, 3)), max_size=12),
    sizes=st.lists(st.integers(0, 12), max_size=30),
)
@example(secrets=["abab"], words=["a", 0, "bab"], sizes=[1, 2])
@example(secrets=["aaaa", "aaab"], words=["aaaaaaab"], sizes=[5])
def test_no_secret_leaves_whatever_the_text_and_the_pieces(
    secrets: list[str], words: list[str | int], sizes: list[int]
) -> None:
    text = "".join(secrets[word % len(secrets)] if isinstance(word, int) else word for word in words)
    redactor = Redactor(secrets)
    whole = redactor.text(text)
    assert not [secret for secret in secrets if secret in whole]
    assert streamed(redactor, pieces_of(text, sizes)) == whole


@given(
    parts=st.lists(
        st.sampled_from(["ghp_", "a" * 20, "-", "sk-", PEM, PEM[:50], "x ", "\n", "A" * 300, "AKIA", "B" * 16, "----"]),
        max_size=12,
    ),
    sizes=st.lists(st.integers(0, 200), max_size=30),
)
def test_pieces_joined_equal_the_whole_redacted(parts: list[str], sizes: list[int]) -> None:
    text = "".join(parts)
    redactor = Redactor()
    assert streamed(redactor, pieces_of(text, sizes)) == redactor.text(text)


@given(before=st.binary(max_size=7), after=st.binary(max_size=7), secret=st.binary(min_size=9, max_size=40))
def test_a_secret_inside_base64_is_found_at_any_alignment(before: bytes, after: bytes, secret: bytes) -> None:
    value = base64.b85encode(secret).decode()
    code = base64.b64encode(before + value.encode() + after).decode()
    assert MASK in Redactor([value]).text(f"x {code} y")


@pytest.mark.parametrize(
    "disguise",
    [
        lambda secret: secret,
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(b"user:" + secret.encode()).decode().rstrip("="),
        lambda secret: quote(secret, safe=""),
        lambda secret: secret.encode().hex(),
        lambda secret: secret.encode().hex().upper(),
        lambda secret: json.dumps({"password": secret}),
        lambda secret: secret.splitlines()[1],
    ],
)
def test_disguises_of_a_value_are_masked(disguise) -> None:  # type: ignore[no-untyped-def]
    secret = 'p"ss/wörd+1 &\nsecond line?'
    shown = Redactor([secret]).text(f"before {disguise(secret)} after")
    assert MASK in shown
    assert secret not in shown
    assert "ss/w" not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")


@pytest.mark.parametrize(
    "key",
    [
        "ghp_" + "a1B2" * 9,
        "github_pat_" + "a1B2_" * 16,
        "sk-ant-api03-" + "a1B2-" * 18,
        "sk-" + "a1B2" * 12,
        "AKIA" + "ABCD" * 4,
        "xoxb-" + "1234567890-" * 3,
        PEM,
        PEM[:-40],
    ],
)
def test_what_looks_like_a_key_is_masked_without_being_known(key: str) -> None:
    assert Redactor().text(f"key={key}\nnext line") == f"key={MASK}\nnext line" or key == PEM[:-40]
    assert key[-30:] not in Redactor().text(f"key={key}")


@pytest.mark.parametrize(
    "text", ["task-management-and-compliance-framework", "risk-" + "a" * 30, "-----BEGIN CERTIFICATE-----\nQUJD", "***"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert Redactor(["", "abc", "****"]).text(text) == text


def test_a_stream_holds_back_only_what_could_become_a_secret() -> None:
    stream = Redactor(["correct horse"]).stream()
    assert stream.feed("50 % ") == "50 % "
    assert stream.feed("done. The corr") == "done. The "
    assert stream.held == "corr"
    assert stream.feed("ect answer. ") == "correct answer. "
    assert stream.flush() == ""


@pytest.mark.parametrize(
    "text",
    [
        "A" * 300_000,
        "sk-" * 100_000,
        "-----BEGIN PRIVATE KEY-----\n" * 10_000,
        "ghp_" * 70_000,
        "correct hors" * 25_000,
    ],
)
def test_no_text_makes_redaction_crawl(text: str) -> None:
    redactor = Redactor(["correct horse", "battery staple"])
    begun = time.process_time()
    redactor.text(text)
    stream = redactor.stream()
    for start in range(0, len(text), 4096):
        stream.feed(text[start : start + 4096])
    stream.flush()
    assert time.process_time() - begun < 5.0
