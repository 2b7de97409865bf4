"""Secrets never leave, whole, encoded, or split over pieces of output."""

from __future__ import annotations

import base64
import html
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from maos_bot.execution.environment import secret_values
from maos_bot.redact import MASK, Redactor

# A small alphabet makes overlaps and near misses likely; no asterisk, so that a mask can't complete a secret.
WORDS = st.text(alphabet="abk-_ \n+é", max_size=40)
SECRETS = st.text(alphabet="abk-_+é", min_size=4, max_size=9)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
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
        st.sampled_from(
            [
                *("ghp_", "a" * 20, "-", "sk-", PEM, PEM[:50], "x ", "\n", "A" * 300, "AKIA", "B" * 16, "----"),
                *("eyJ", "eyJ" + "a" * 9, ".", ".eyJ" + "b" * 9, JWT, JWT[:30], "_", "eyJeyJ"),
                *("Authorization", ": Bearer ", "uthorization=", "Basic ", "secret_access_key", " = ", "c" * 40),
            ]
        ),
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
        lambda secret: json.dumps(json.dumps({"password": secret})),
        html.escape,
        lambda secret: html.escape(secret, quote=False),
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
        "ghs_" + "a1B2" * 9,
        "ghs_123456_" + JWT[:200].replace(".", "_"),
        "glpat-" + "a1B2_" * 4,
        "sk_live_" + "a1B2" * 6,
        "gsk_" + "a1B2" * 13,
        "hf_" + "aBcD" * 9,
        "AIza" + "a1B2-" * 7,
        "GOCSPX-" + "a1B2" * 7,
        "xapp-1-A012-" + "1a2b" * 8,
        "npm_" + "a1B2" * 9,
        "pypi-" + "AgEI" * 20,
        "rubygems_" + "0af1" * 12,
        "dckr_pat_" + "a1B2-" * 5,
        "dop_v1_" + "0af1" * 16,
        "shpat_" + "0af1" * 8,
        "AGE-SECRET-KEY-1" + "A1B2" * 14 + "A1",
        JWT,
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
        "eyJ" * 100_000,
        "-eyJaaaaaaaaaaaa" * 20_000,
        ("eyJ" + "a" * 30 + ".") * 10_000,
        "authorization: bearer " * 14_000,
        "Y29ycmVjdCBob3JzZQ\n" * 16_000,
        "\\n" * 150_000,
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


@pytest.mark.parametrize("width", [60, 64, 76])
@pytest.mark.parametrize("before", range(0, 80, 7))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\\n"])
def test_a_code_that_was_broken_into_lines_is_masked_whole(width: int, before: int, end: str) -> None:
    secret = "sk0/" + "aB3+xY9~" * 11
    for code in (
        base64.b64encode(b"x" * before + secret.encode()).decode(),
        (b"x" * before + secret.encode()).hex(),
    ):
        lines = end.join(code[start : start + width] for start in range(0, len(code), width))
        redactor = Redactor([secret])
        shown = redactor.text(f"before\n{lines}\nafter")
        kept = "".join(shown.replace(end, "\n").split("\n")[1:-1]).replace(MASK, "")
        assert len(kept) <= 2 * before + 4  # what stood before it, and characters shared with that
        assert shown.startswith("before\n")
        assert shown.endswith("\nafter")
        assert streamed(redactor, pieces_of(f"before\n{lines}\nafter", [11, 50, 3, 77, 1, 1, 1])) == shown


@given(sizes=st.lists(st.integers(0, 90), max_size=12), before=st.integers(0, 60), gap=st.integers(0, 4))
def test_pieces_of_broken_codes_equal_the_whole(sizes: list[int], before: int, gap: int) -> None:
    secret = "aB3+xY9~" * 9
    text = base64.encodebytes(b"x" * before + secret.encode() + b"y" * gap + secret.encode()).decode() + "tail"
    redactor = Redactor([secret])
    assert streamed(redactor, pieces_of(text, sizes)) == redactor.text(text)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer ***"),
        ('"authorization": "Basic dXNlcjpwYXNz"', '"authorization": "Basic ***"'),
        ("AUTHORIZATION: basic dXNlcjpwYXNz", "AUTHORIZATION: basic ***"),
        ("aws_secret_access_key = " + "wJalr/UtnF" * 4, "aws_secret_access_key = ***"),
        ("AWS_SECRET_ACCESS_KEY=" + "wJalr/UtnF" * 4, "AWS_SECRET_ACCESS_KEY=***"),
        ('"SecretAccessKey": "' + "wJalr/UtnF" * 4 + '"', '"SecretAccessKey": "***"'),
    ],
)
def test_a_key_that_its_name_gives_away_is_masked(line: str, shown: str) -> None:
    redactor = Redactor()
    assert redactor.text(f"one\n{line}\ntwo") == f"one\n{shown}\ntwo"
    for size in range(1, len(line)):
        assert streamed(redactor, pieces_of(f"one\n{line}\ntwo", [4 + size])) == f"one\n{shown}\ntwo"


@pytest.mark.parametrize(
    "text",
    [
        "the authorization of users; see Basic authorization",
        "eyJ is how a token begins",
        "task-management sk_test_ npm_config xoxo AKIA",
        "secret_access_key: ${{ secrets.KEY }}",
    ],
)
def test_words_about_keys_are_left_alone(text: str) -> None:
    assert Redactor(["correct horse"]).text(text) == text


def test_lines_can_keep_their_numbers() -> None:
    text = f"one\n{PEM}\nlast"
    shown = Redactor().text(text, keep_lines=True)
    assert shown.count("\n") == text.count("\n")
    assert shown.startswith("one\n***\n")
    assert shown.endswith("\nlast")


def test_passwords_inside_urls_are_secrets() -> None:
    environ = {
        "DATABASE_URL": "postgres://app:p%40ssw0rd-long@db.example.invalid/app",
        "CI_DATABASE": "postgres://postgres:postgres@localhost/test",
        "OTHER_DATABASE": "mysql://root:password@localhost/test",
        "HTTPS_PROXY": "http://127.0.0.1:3128",
        "API_TOKEN": "abc-def",
        "HOME": "/home/me",
    }
    assert secret_values(environ) == ["abc-def", "p%40ssw0rd-long", "p@ssw0rd-long"]
