"""Secrets out of every text that leaves: known values in their usual disguises, and what looks like a key (pure).

A `Redactor` knows the values that must not be shown and replaces each with `***`, also where it stands base64, URL,
hexadecimal, JSON or HTML encoded (the long codes also where a program broke them into lines), and line by line where
it has several. Output arrives in pieces, so a `StreamRedactor` holds back whatever could still become a secret, and
nothing else: a log stays live.
"""

from __future__ import annotations

import base64
import bisect
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
MIN_SECRET: Final = 4  # characters; anything shorter would mask ordinary words
_MIN_ENCODED: Final = 8  # an encoded form below this is more likely chance than secret

# Keys known by their looks, whoever they belong to: how they begin, and what follows. Each is bounded, so that a stream
# knows how much to hold back.
_WORD: Final = "[A-Za-z0-9_-]"
_KEYS: Final = (
    ("ghp_", "[A-Za-z0-9_]{20,255}"),  # GitHub
    ("gho_", "[A-Za-z0-9_]{20,255}"),
    ("ghu_", "[A-Za-z0-9_]{20,255}"),
    ("ghr_", "[A-Za-z0-9_]{20,255}"),
    ("ghs_", f"{_WORD}{{20,255}}"),
    ("github_pat_", "[A-Za-z0-9_]{22,255}"),
    ("glpat-", f"{_WORD}{{20,255}}"),  # GitLab
    ("gldt-", f"{_WORD}{{20,255}}"),
    ("glrt-", f"{_WORD}{{20,255}}"),
    ("glsa_", f"{_WORD}{{20,255}}"),  # Grafana
    ("sk-", f"{_WORD}{{20,255}}"),  # Anthropic, OpenAI, and who copied them
    ("sk_live_", "[A-Za-z0-9]{16,255}"),  # Stripe
    ("sk_test_", "[A-Za-z0-9]{16,255}"),
    ("rk_live_", "[A-Za-z0-9]{16,255}"),
    ("whsec_", "[A-Za-z0-9]{16,255}"),
    ("gsk_", "[A-Za-z0-9-]{20,255}"),  # other models
    ("xai-", "[A-Za-z0-9-]{20,255}"),
    ("pplx-", "[A-Za-z0-9-]{20,255}"),
    ("hf_", "[A-Za-z0-9]{30,255}"),
    ("AKIA", "[A-Z0-9]{16}"),  # AWS
    ("ASIA", "[A-Z0-9]{16}"),
    ("AIza", f"{_WORD}{{35}}"),  # Google
    ("GOCSPX-", f"{_WORD}{{20,255}}"),
    ("xox", "[abceoprs]-[A-Za-z0-9-]{10,255}"),  # Slack
    ("xapp-", "[A-Za-z0-9-]{20,255}"),
    ("npm_", "[A-Za-z0-9]{36,255}"),
    ("pypi-", f"{_WORD}{{50,255}}"),
    ("rubygems_", "[a-f0-9]{40,255}"),
    ("dckr_pat_", f"{_WORD}{{20,255}}"),
    ("dop_v1_", "[a-f0-9]{40,255}"),  # DigitalOcean
    ("shp", "(?:at|ss|ca|pa)_[a-fA-F0-9]{32,255}"),  # Shopify
    ("AGE-SECRET-KEY-1", "[A-Z0-9]{58}"),
)
_LONGEST_KEY: Final = 300
_KEY_TAIL: Final = re.compile(r"[A-Za-z0-9_-]+\Z")

# A signed token (RFC 7519): two objects and a signature. Its dots are why it is held back by a rule of its own.
_JWT_START: Final = "eyJ"
_JWT_WORD: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_JWT: Final = rf"(?<![A-Za-z0-9_.-])eyJ{_WORD}{{8,2000}}+\.eyJ{_WORD}{{8,6000}}+\.{_WORD}{{10,2000}}"
_LONGEST_JWT: Final = 10_100

# Keys that only the name before them gives away; they stand on one line with it, which is held back to its end.
_AFTER: Final = r"[\"']{0,2}[ \t]{0,3}[:=][ \t]{0,3}[\"']{0,2}"
_HEADER: Final = (
    rf"{_AFTER}(?:[Bb]earer|[Bb]asic|BEARER|BASIC|[Tt]oken)[ \t]{{1,3}}(?P<secret>[A-Za-z0-9._~+/=-]{{8,2000}})"
)
_NAMED: Final = (
    ("uthorization", _HEADER),
    ("UTHORIZATION", _HEADER),
    *(
        (name, rf"{_AFTER}(?P<secret>[A-Za-z0-9/+]{{40,100}}=?)")
        for name in ("secret_access_key", "SECRET_ACCESS_KEY", "ecretAccessKey")
    ),
)
_LONGEST_LINE: Final = 2100

_PEM_BODY: Final = 16_000  # characters; an RSA key of 16,384 bits has about 12,700
_PEM_NAME: Final = r"[A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
_PEM_LINE: Final = r"(?:\s|\\[rn]){1,4}[A-Za-z0-9+/=]{40,76}"
_PEM: Final = (
    rf"-----BEGIN {_PEM_NAME}"
    rf"(?:(?:(?!-----BEGIN )[\s\S]){{0,{_PEM_BODY}}}?-----END {_PEM_NAME}|(?:{_PEM_LINE}){{0,160}})"
)
_PEM_OPEN: Final = re.compile(rf"-----BEGIN (?:{_PEM_NAME}|[A-Z0-9 ]{{0,50}}-{{0,5}}\Z)")
_PEM_CLOSE: Final = re.compile(rf"-----END {_PEM_NAME}")
_RULES: Final = (
    *((start, rf"(?<![A-Za-z0-9]){start}{rest}") for start, rest in _KEYS),
    (_JWT_START, _JWT),
    *((name, name + rest) for name, rest in _NAMED),
    ("-----BEGIN ", _PEM),
)

# Programs break codes into lines: base64 at 76 or 64 characters, hexadecimal at 60.
_BREAK: Final = re.compile(r"\r?\n|\\n")
_ENDS: Final = ("\n", "\r", "\\")  # what a break may begin with
_NARROWEST: Final = 60
_MAY_BREAK: Final = 32  # characters: of the two halves of what such a code begins with, one is whole

Spans = list[tuple[int, int]]


class Redactor:
    """Replaces secrets with `***`; values shorter than four characters, or nothing but asterisks, are left alone."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        plain: set[str] = set()
        codes: set[str] = set()
        for secret in secrets:
            forms, encoded = _forms(secret)
            plain |= forms
            codes |= encoded
        values = sorted(plain | codes)
        self._broken = sorted(code for code in codes if len(code) >= _MAY_BREAK and code.isascii())
        half = _MAY_BREAK // 2
        halves = (part for code in self._broken for part in (code[:half], code[half : 2 * half]))
        self._halves = tuple(dict.fromkeys(halves))
        self._whole = [value for value in values if value not in set(self._broken)]
        longest = max(map(len, values), default=0)
        self._longest = longest + 2 * (longest // _NARROWEST + 1)
        self._by_start: dict[str, list[str]] = {}  # by the first character and by the first two
        for value in values:
            self._by_start.setdefault(value[0], []).append(value)
            self._by_start.setdefault(value[:2], []).append(value)

    def text(self, text: str, *, keep_lines: bool = False) -> str:
        """`text` without secrets; where matches overlap, all of them are covered by one mask.

        With `keep_lines` the line breaks under a mask follow it, so that all lines keep their numbers.
        """
        if len(text) < MIN_SECRET:
            return text
        pieces: list[str] = []
        position = 0
        for start, end in self.spans(text, 0):
            pieces += (text[position:start], MASK, "\n" * text.count("\n", start, end) if keep_lines else "")
            position = end
        return "".join((*pieces, text[position:])) if pieces else text

    def document(self, value: Any) -> Any:
        """A JSON value with every text in it redacted, names included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.document(each) for each in value]
        if isinstance(value, dict):
            return {self.text(name): self.document(each) for name, each in value.items()}
        return value

    def stream(self) -> StreamRedactor:
        """A redactor for one output that arrives in pieces."""
        return StreamRedactor(self)

    def spans(self, text: str, position: int, covered: int = 0) -> Spans:
        """Where secrets stand in `text` from `position` on, overlapping ones merged.

        Up to `covered` the text is known to be secret already; matches that begin there extend that first span.
        """
        found: Spans = [(position, covered)] if covered > position else []
        for value in self._whole:
            if value in text:
                found += _places_of(value, text, position)
        if any(half in text for half in self._halves):
            for code in self._broken:
                found += _places_of(code, text, position)
            found += self._across_lines(text, position)
        for needle, rule in _RULES:
            if needle in text:
                found += _matches(rule, needle, text, position)
        return _merged(found) if len(found) > 1 else found

    def _across_lines(self, text: str, position: int) -> Iterator[tuple[int, int]]:
        """Codes that were broken into lines: looked for where the breaks are taken out."""
        if not _BREAK.search(text, position):
            return
        joined, places = _unbroken(text, position)
        for code in self._broken:
            start = joined.find(code)
            while start >= 0:
                yield places(start), places(start + len(code) - 1) + 1
                start = joined.find(code, start + 1)

    def undecided(self, text: str, position: int) -> int:
        """The first index, from `position` on, whose fate depends on what comes after `text`."""
        end = len(text)
        first = end
        tail = _KEY_TAIL.search(text, max(position, end - _LONGEST_KEY))
        if tail:
            first = tail.start()
        first = min(first, *_open_ends(text, position))
        for start in range(max(position, end - self._longest + 1), first):
            two = text[start : start + 2]
            if (two in self._by_start or two[1:] in _ENDS) and self._may_grow(text[start:]):
                return start
        return first

    def _may_grow(self, rest: str) -> bool:
        """Whether `rest` is the beginning of a value, or of a code that is broken into lines."""
        values = self._by_start.get(rest[:2], ())
        if any(value.startswith(rest) and len(value) > len(rest) for value in values):
            return True
        joined = _BREAK.sub("", rest).removesuffix("\r").removesuffix("\\")
        return len(joined) < len(rest) and any(
            len(value) >= _MAY_BREAK and value.startswith(joined) and len(value) > len(joined)
            for value in self._by_start.get(joined[:2], ())
        )


def _open_ends(text: str, position: int) -> Iterator[int]:
    """Where something begins that may yet become a key, each kind by its own rule; always one index at least."""
    end = len(text)
    yield end
    window = max(position, end - _PEM_BODY - 200)
    opened = list(_PEM_OPEN.finditer(text, window)) if text.find("-----B", window) >= 0 else ()
    if opened and not _PEM_CLOSE.search(text, opened[-1].end()):
        yield opened[-1].start()
    window = max(position, end - _LONGEST_JWT)
    begun = text.find(_JWT_START, window)
    if begun >= 0:
        last_word = window + len(text[window:].rstrip(_JWT_WORD))
        begun = text.find(_JWT_START, max(begun, last_word))
        if begun >= 0:
            yield begun
    window = max(position, end - _LONGEST_LINE, text.rfind("\n", position) + 1)
    for name, _ in _NAMED:
        begun = text.find(name, window)
        if begun >= 0:
            yield begun


def _matches(rule: str, needle: str, text: str, position: int) -> Iterator[tuple[int, int]]:
    pattern = re.compile(rule)  # once, and only where it is needed at all
    for start, _ in _places_of(needle, text, position):
        if match := pattern.match(text, start):
            yield match.start(match.lastgroup or 0), match.end()


def _places_of(value: str, text: str, position: int) -> Iterator[tuple[int, int]]:
    start = text.find(value, position)
    while start >= 0:
        yield start, start + len(value)
        start = text.find(value, start + 1)


def _merged(spans: Spans) -> Spans:
    """Spans in order, overlapping ones as one."""
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _unbroken(text: str, position: int) -> tuple[str, _Places]:
    """`text` from `position` on without line breaks, and where each of its characters stood."""
    starts, shifts, pieces = [0], [position], []
    size = 0
    for match in _BREAK.finditer(text, position):
        piece = text[shifts[-1] + starts[-1] : match.start()]
        pieces.append(piece)
        size += len(piece)
        starts.append(size)
        shifts.append(match.end() - size)
    pieces.append(text[shifts[-1] + starts[-1] :])
    return "".join(pieces), _Places(starts, shifts)


class _Places:
    """From an index in an unbroken text to that in the text it was made from."""

    __slots__ = ("_shifts", "_starts")

    def __init__(self, starts: list[int], shifts: list[int]) -> None:
        self._starts = starts
        self._shifts = shifts

    def __call__(self, index: int) -> int:
        return index + self._shifts[bisect.bisect_right(self._starts, index) - 1]


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


def _forms(secret: str) -> tuple[set[str], set[str]]:
    """The secret, its lines, and what they become: base64 at each alignment, URL, hexadecimal, JSON and HTML."""
    plain = {secret, secret.strip(), *(line.strip() for line in secret.splitlines())}
    forms = {form for form in plain if len(form) >= MIN_SECRET and form.strip("*")}
    encoded: set[str] = set()
    for form in forms:
        raw = form.encode("utf-8", "surrogatepass")
        encoded |= {raw.hex(), raw.hex().upper(), quote(raw, safe=""), quote(raw), quote_plus(raw)}
        marked_up = form.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        encoded |= {marked_up, marked_up.replace('"', "&quot;").replace("'", "&#x27;")}
        encoded.add(marked_up.replace('"', "&quot;").replace("'", "&#39;"))
        for ascii_alone in (True, False):
            once = json.dumps(form, ensure_ascii=ascii_alone)[1:-1]
            encoded |= {once, json.dumps(once, ensure_ascii=ascii_alone)[1:-1]}  # and as text within JSON within JSON
        for shift in range(3):  # what stands before the secret moves its bits; the characters shared with it are cut
            code = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
            code = code[(0, 2, 3)[shift] : len(code) - (1 if (shift + len(raw)) % 3 else 0)]
            encoded |= {code, code.replace("+", "-").replace("/", "_")}
    return forms, {form for form in encoded if len(form) >= _MIN_ENCODED}
