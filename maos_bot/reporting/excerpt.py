"""The head and the tail of a task's output, in bounded memory (pure).

A log that failed is read from its end; its beginning says what was run. Between them as much is dropped as must be, and
the number of dropped bytes is kept. Cuts never fall inside a character.
"""

from __future__ import annotations

from bisect import insort
from typing import Final

from maos_bot.frozen import dataclass

HEAD_BYTES: Final = 4 * 1024
TAIL_BYTES: Final = 32 * 1024
SHORT_TAIL_BYTES: Final = 4 * 1024  # of a task that succeeded


@dataclass(frozen=True, kw_only=True, slots=True)
class LogExcerpt:
    """`head`, then `dropped_bytes` that aren't here, then `tail`; the whole log where nothing was dropped."""

    head: str = ""
    tail: str = ""
    dropped_bytes: int = 0

    @property
    def text(self) -> str:
        """Both parts, with a line between them that says what is missing."""
        if not self.dropped_bytes:
            return self.head + self.tail
        return f"{self.head.rstrip()}\n{omission(self.dropped_bytes)}\n{self.tail}"


def omission(count: int) -> str:
    """The line that stands for bytes that aren't shown."""
    return f"[... {count:,} bytes not shown ...]"


def first_bytes(text: str, limit: int) -> str:
    """As much of the beginning of `text` as fits `limit` bytes of UTF-8."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[:limit].decode("utf-8", "ignore")


def last_bytes(text: str, limit: int) -> str:
    """As much of the end of `text` as fits `limit` bytes of UTF-8."""
    if limit <= 0:
        return ""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[-limit:].decode("utf-8", "ignore")


class LogBuffer:
    """Chunks of one attempt's output, placed by their offset; keeps a head and a tail."""

    __slots__ = ("_chunks", "_dropped", "_size", "_tail_bytes")

    def __init__(self, *, short: bool = False) -> None:
        self._chunks: list[tuple[int, str]] = []
        self._size = 0
        self._dropped = 0
        self._tail_bytes = SHORT_TAIL_BYTES if short else TAIL_BYTES

    def add(self, offset: int, text: str, *, omitted: int = 0) -> None:
        """Take a chunk that began at byte `offset`; `omitted` bytes before it are missing from the stream."""
        if omitted:
            text = f"\n{omission(omitted)}\n{text}"
        chunk = (offset, text)
        if self._chunks and offset < self._chunks[-1][0]:
            insort(self._chunks, chunk)
        else:
            self._chunks.append(chunk)
        self._size += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        if self._size > HEAD_BYTES + 2 * self._tail_bytes:
            self._compact()

    def shorten(self) -> None:
        """Keep less from now on: the task succeeded."""
        self._tail_bytes = SHORT_TAIL_BYTES
        if self._size > HEAD_BYTES + self._tail_bytes:
            self._compact()

    def excerpt(self) -> LogExcerpt:
        """The head and tail as of now."""
        head, tail, dropped = self._parts()
        return LogExcerpt(head=head, tail=tail, dropped_bytes=self._dropped + dropped)

    def _parts(self) -> tuple[str, str, int]:
        if self._dropped:  # the head is as it was when the first bytes were dropped
            head, rest = self._chunks[0][1], "".join(text for _, text in self._chunks[1:])
        else:
            text = "".join(text for _, text in self._chunks)
            head = first_bytes(text, HEAD_BYTES)
            rest = text[len(head) :]
        tail = last_bytes(rest, self._tail_bytes)
        return head, tail, len(rest.encode("utf-8", "replace")) - len(tail.encode("utf-8", "replace"))

    def _compact(self) -> None:
        head, tail, dropped = self._parts()
        self._chunks = [(self._chunks[0][0], head), (self._chunks[-1][0], tail)]
        self._size -= dropped
        self._dropped += dropped
