"""Output is kept in bounded memory, in order, whole where it fits, with the gap counted where it doesn't."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from maos_bot.execution import capture
from maos_bot.execution.capture import HEAD, TAIL, Capture
from maos_bot.redact import MASK, Redactor


def captured(*pieces: bytes, secrets: tuple[str, ...] = ()) -> tuple[Capture, list[tuple[str, int, int]]]:
    chunks: list[tuple[str, int, int]] = []
    it = Capture(Redactor(secrets), lambda text, offset, omitted: chunks.append((text, offset, omitted)))
    for piece in pieces:
        it.feed(piece)
    it.close()
    return it, chunks


def test_output_that_fits_leaves_whole() -> None:
    data = b"".join(b"line %d\n" % number for number in range(45_000))
    assert HEAD < len(data) <= HEAD + TAIL
    it, chunks = captured(*(data[start : start + 1000] for start in range(0, len(data), 1000)))
    assert "".join(text for text, _, _ in chunks).encode() == data
    assert it.total == len(data)
    assert it.omitted == 0


def test_the_gap_in_the_middle_is_counted_exactly() -> None:
    data = b"".join(b"line %d\n" % number for number in range(200_000))
    it, chunks = captured(*(data[start : start + 65_536] for start in range(0, len(data), 65_536)))
    shown = 0
    for text, offset, omitted in chunks:
        assert offset == shown + omitted
        assert data[offset : offset + len(text)].decode() == text
        shown = offset + len(text)
    assert shown == len(data)
    assert it.omitted == sum(omitted for _, _, omitted in chunks) > 0
    assert it.total == len(data)
    first_of_tail = next(text for text, _, omitted in chunks if omitted)
    assert first_of_tail.startswith("line ")


def test_a_gigabyte_costs_about_a_mebibyte() -> None:
    it = Capture(Redactor(), lambda *_: None)
    piece = b"x" * 65_535 + b"\n"
    tracemalloc.start()
    for _ in range(1_000_000_000 // len(piece)):
        it.feed(piece)
    it.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert it.total > 999_000_000
    assert peak < 3 * 2**20


@settings(max_examples=50)
@given(
    text=st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    bad=st.binary(max_size=20),
    sizes=st.lists(st.integers(1, 5), max_size=40),
)
def test_characters_split_over_reads_are_whole(text: bytes, bad: bytes, sizes: list[int]) -> None:
    data = rest = text + bad + b"."
    pieces = []
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    _, chunks = captured(*pieces, rest)
    assert "".join(shown for shown, _, _ in chunks) == data.decode("utf-8", "replace")


def test_flush_lets_a_prompt_out_before_the_end() -> None:
    chunks: list[str] = []
    it = Capture(Redactor(), lambda text, _offset, _omitted: chunks.append(text))
    it.feed(b"50 %\r")
    assert not chunks
    assert it.waiting
    it.flush()
    assert chunks == ["50 %\r"]
    assert not it.waiting


def test_a_secret_across_the_gap_leaves_on_neither_side() -> None:
    secret = "correct-horse-battery-staple"
    for shift in range(len(secret) + 1):
        head = b"." * (HEAD - shift) + secret.encode()
        tail = secret.encode() + b"." * (TAIL - shift)
        _, chunks = captured(head, b"x" * capture.TAIL, tail, secrets=(secret,))
        shown = "".join(text for text, _, _ in chunks)
        assert "corre" not in shown.replace(MASK, "")
        assert "taple" not in shown


def test_a_capture_without_output_says_nothing() -> None:
    it, chunks = captured()
    assert chunks == []
    assert (it.total, it.omitted) == (0, 0)
