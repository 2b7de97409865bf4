"""The output of one attempt in bounded memory: its head as it comes, its tail at the end, redacted.

The first `HEAD` bytes leave live, joined into pieces of at most `PIECE` bytes or `PAUSE_S` seconds. Of what follows
only the last `TAIL` bytes are kept; they leave at the end, after a count of what was dropped. So a task may print
gigabytes: it costs half a mebibyte of ours, and only what is kept is decoded and searched for secrets.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Final

from maos_bot.redact import Redactor

HEAD: Final = 256 * 1024
TAIL: Final = 256 * 1024
PIECE: Final = 32 * 1024
PAUSE_S: Final = 0.1
_CUT: Final = 8 * 1024  # where the tail begins, a line is cut; up to here the line's end is looked for

Sink = Callable[[str, int, int], None]  # text, offset in bytes, bytes omitted right before it


class Capture:
    """Feed it bytes as they arrive; it calls `sink(text, offset, omitted)`; then `close` it."""

    __slots__ = ("_head", "_pending", "_redactor", "_sink", "_size", "_tail", "omitted", "total")

    def __init__(self, redactor: Redactor, sink: Sink) -> None:
        self._redactor = redactor
        self._sink = sink
        self._head: _Text | None = None
        self._pending: list[bytes] = []  # read, and waiting to be joined into a piece
        self._size = 0  # bytes in `_pending`
        self._tail: bytearray | None = None
        self.total = 0
        self.omitted = 0

    @property
    def waiting(self) -> bool:
        """Whether bytes wait for `flush`, which should come at most `PAUSE_S` after they arrived."""
        return bool(self._pending)

    def feed(self, data: bytes) -> None:
        """Take in the next bytes."""
        room = HEAD - self.total
        self.total += len(data)
        if room > 0:
            self._pending.append(data[:room])
            self._size += min(len(data), room)
            if self._size >= PIECE:
                self.flush()
            data = data[room:]
        if data:
            self._keep(data)

    def flush(self) -> None:
        """Let what has arrived of the head leave."""
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._size = 0
            self._send_head(data)

    def close(self) -> None:
        """Let the rest leave: the end of the head, or the tail."""
        tail = self._tail or bytearray()
        if self.total - HEAD > TAIL:
            self.flush()
            self._send_tail(bytes(tail[-TAIL:]))
        elif self.total:
            rest = b"".join(self._pending) + tail
            for start in range(0, len(rest) or 1, PIECE):
                self._send_head(rest[start : start + PIECE], final=start + PIECE >= len(rest))
        self._pending.clear()
        self._tail = self._head = None

    def _keep(self, data: bytes) -> None:
        if self._tail is None:
            self._tail = bytearray()
        self._tail += data
        if len(self._tail) > 2 * TAIL:
            del self._tail[:-TAIL]

    def _send_head(self, data: bytes, *, final: bool = False) -> None:
        if self._head is None:
            self._head = _Text(self._redactor, 0)
        self._emit(self._head.feed(data, final=final), 0)

    def _send_tail(self, data: bytes) -> None:
        """Start at a line's beginning: half a line could hold half a secret; so could what the head held back."""
        newline = data.find(b"\n", 0, _CUT)
        begin = newline + 1 if newline >= 0 else _CUT
        end_of_head = self._head.offset if self._head else 0
        text = _Text(self._redactor, self.total - len(data) + begin)
        self.omitted = text.offset - end_of_head
        omitted = self.omitted
        for start in range(begin, len(data), PIECE):
            piece = text.feed(data[start : start + PIECE], final=start + PIECE >= len(data))
            if self._emit(piece, omitted):
                omitted = 0

    def _emit(self, piece: tuple[str, int], omitted: int) -> bool:
        shown, offset = piece
        if shown:
            self._sink(shown, offset, omitted)
        return bool(shown)


class _Text:
    """Bytes to redacted text; `offset` is where in the attempt's output the text that leaves next begins."""

    __slots__ = ("_decoder", "_fed", "_stream", "offset")

    def __init__(self, redactor: Redactor, offset: int) -> None:
        # Undecodable bytes travel as lone surrogates through the redactor, so that what it holds back can be counted.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._stream = redactor.stream()
        self._fed = offset
        self.offset = offset

    def feed(self, data: bytes, *, final: bool = False) -> tuple[str, int]:
        """The text that may leave now, and its offset."""
        text = self._stream.feed(self._decoder.decode(data, final))
        if final:
            text += self._stream.flush()
        before = self.offset
        self._fed += len(data)
        undecoded = len(self._decoder.getstate()[0])
        self.offset = self._fed - undecoded - len(self._stream.held.encode("utf-8", "surrogateescape"))
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), before
