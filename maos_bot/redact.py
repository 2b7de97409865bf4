"""Secrets out of every text that leaves: known values in their usual disguises, and what looks like a key (pure).

A `Redactor` knows the values that must not be shown and replaces each with `***`, also where it stands base64, URL,
hexadecimal or JSON encoded, and line by line where it has several. Output arrives in pieces, so a `StreamRedactor`
holds back whatever could still become a secret, and nothing else: a log stays live.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
MIN_SECRET: Final = 4  # characters; anything shorter would mask ordinary words
_MIN_ENCODED: Final = 8  # an encoded form below this is more likely chance than secret

# Keys known by their looks, whoever they belong to. Each is bounded, so that a stream knows how much to hold back.
_KEY_SHAPES: Final = (
    r"gh[pousr]_[A-Za-z0-9]{20,255}",
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"glpat-[A-Za-z0-9_-]{20,255}",
    r"sk-[A-Za-z0-9_-]{20,255}",
    r"AKIA[A-Z0-9]{16}",
    r"ASIA[A-Z0-9]{16}",
    r"AIza[A-Za-z0-9_-]{35}",
    r"xox[abposr]-[A-Za-z0-9-]{10,255}",
    r"npm_[A-Za-z0-9]{36,255}",
    r"pypi-[A-Za-z0-9_-]{50,255}",
)
_STARTS: Final = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
    *("sk-", "AKIA", "ASIA", "AIza", "xox", "npm_", "pypi-", "-----BEGIN "),
)
_LONGEST_KEY: Final = 300
_KEY_TAIL: Final = re.compile(r"[A-Za-z0-9_-]+\Z")

_PEM_BODY: Final = 16_000  # characters; an RSA key of 16,384 bits has about 12,700
_PEM_NAME: Final = r"[A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
_PEM_LINE: Final = r"(?:\s|\\[rn]){1,4}[A-Za-z0-9+/=]{40,76}"
_PEM: Final = (
    rf"-----BEGIN {_PEM_NAME}"
    rf"(?:(?:(?!-----BEGIN )[\s\S]){{0,{_PEM_BODY}}}?-----END {_PEM_NAME}|(?:{_PEM_LINE}){{0,160}})"
)
_PEM_OPEN: Final = re.compile(rf"-----BEGIN (?:{_PEM_NAME}|[A-Z0-9 ]{{0,50}}-{{0,5}}\Z)")
_PEM_CLOSE: Final = re.compile(rf"-----END {_PEM_NAME}")


class Redactor:
    """Replaces secrets with `***`; values shorter than four characters, or nothing but asterisks, are left alone."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values = sorted({form for secret in secrets for form in _forms(secret)}, key=lambda form: (-len(form), form))
        literals = "|".join(re.escape(value) for value in values)
        self._pattern = re.compile("|".join(filter(None, (literals, *map(_at_word_start, _KEY_SHAPES), _PEM))))
        self._needles = (*_STARTS, *values)
        self._longest = max((len(value) for value in values), default=0)
        self._by_first: dict[str, list[str]] = {}
        for value in values:
            self._by_first.setdefault(value[0], []).append(value)
        self._first = re.compile("|".join(re.escape(first) for first in self._by_first)) if values else None

    def text(self, text: str) -> str:
        """`text` without secrets; where matches overlap, all of them are covered by one mask."""
        if len(text) < MIN_SECRET:
            return text
        pieces: list[str] = []
        position = 0
        for start, end in self.spans(text, 0):
            pieces += (text[position:start], MASK)
            position = end
        return "".join((*pieces, text[position:])) if pieces else text

    def stream(self) -> StreamRedactor:
        """A redactor for one output that arrives in pieces."""
        return StreamRedactor(self)

    def spans(self, text: str, position: int, covered: int = 0) -> list[tuple[int, int]]:
        """Where secrets stand in `text` from `position` on, overlapping ones merged.

        Up to `covered` the text is known to be secret already; matches that begin there extend that first span.
        """
        spans: list[tuple[int, int]] = [(position, covered)] if covered > position else []
        if not any(needle in text for needle in self._needles):  # ten times faster than the pattern, and the usual case
            return spans
        match = self._pattern.search(text, position)
        while match:
            start, end = match.span()
            if spans and start < spans[-1][1]:
                spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
            else:
                spans.append((start, end))
            match = self._pattern.search(text, start + 1)
        return spans

    def undecided(self, text: str, position: int) -> int:
        """The first index, from `position` on, whose fate depends on what comes after `text`."""
        end = len(text)
        first = end
        tail = _KEY_TAIL.search(text, max(position, end - _LONGEST_KEY))
        if tail:
            first = tail.start()
        window = max(position, end - _PEM_BODY - 200)
        opened = list(_PEM_OPEN.finditer(text, window)) if text.find("-----B", window) >= 0 else ()
        if opened and not _PEM_CLOSE.search(text, opened[-1].end()):
            first = min(first, opened[-1].start())
        if self._first:
            for candidate in self._first.finditer(text, max(position, end - self._longest + 1), first):
                rest = text[candidate.start() :]
                if any(value.startswith(rest) and len(value) > len(rest) for value in self._by_first[candidate[0]]):
                    return candidate.start()
        return first


class StreamRedactor:
    """Redacts an output that arrives in pieces: the pieces joined equal the whole, redacted."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._buffer = ""  # one character that has left (what a pattern may look back at), then what is held
        self._position = 0  # 1 once that character is there
        self._covered = 0  # up to here the buffer is under a mask that has been emitted

    @property
    def held(self) -> str:
        """What was fed and hasn't left yet, unredacted: for counting only."""
        return self._buffer[self._position :]

    def feed(self, text: str) -> str:
        """What of the output up to and with `text` may leave now."""
        self._buffer += text
        return self._release(self._redactor.undecided(self._buffer, self._position))

    def flush(self) -> str:
        """The rest, at the output's end."""
        return self._release(len(self._buffer))

    def _release(self, cut: int) -> str:
        buffer, position, covered = self._buffer, self._position, self._covered
        masked = covered > position  # the first span's mask has been emitted
        pieces: list[str] = []
        for start, end in self._redactor.spans(buffer, position, covered):
            if start >= cut and not masked:
                break
            if not masked:
                pieces += (buffer[position:start], MASK)
            masked = False
            position = covered = end
        pieces.append(buffer[position:cut])
        keep = max(cut - 1, 0)
        self._buffer = buffer[keep:]
        self._position = cut - keep
        self._covered = max(covered - keep, 0)
        return "".join(pieces)


def _at_word_start(shape: str) -> str:
    """`shape` where no letter or digit stands before it; asked after its first letter, which keeps searching fast."""
    return f"{shape[0]}(?<![A-Za-z0-9]{shape[0]}){shape[1:]}"


def _forms(secret: str) -> set[str]:
    """The secret and what it becomes in a log: lines of it, base64 at each alignment, URL, hexadecimal, JSON."""
    plain = {secret, secret.strip(), *(line.strip() for line in secret.splitlines())}
    forms = {form for form in plain if len(form) >= MIN_SECRET and form.strip("*")}
    encoded: set[str] = set()
    for form in forms:
        raw = form.encode("utf-8", "surrogatepass")
        encoded |= {raw.hex(), raw.hex().upper(), quote(raw, safe=""), quote(raw), quote_plus(raw)}
        encoded |= {json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1]}
        for shift in range(3):  # what stands before the secret moves its bits; the characters shared with it are cut
            code = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
            code = code[(0, 2, 3)[shift] : len(code) - (1 if (shift + len(raw)) % 3 else 0)]
            encoded |= {code, code.replace("+", "-").replace("/", "_")}
    return forms | {form for form in encoded if len(form) >= _MIN_ENCODED}
