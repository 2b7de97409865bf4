"""Many descriptors behind one: to the event loop they are a single one that has something to read.

What asyncio itself does to watch a descriptor and to stop it costs more than all a short task's process costs us
besides. Here it is one call of the kernel's. Where there is no `epoll`, use the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol


class Watching(Protocol):
    """Who tells that a descriptor has something to read: an event loop, or `Readers`."""

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> Any: ...

    def remove_reader(self, fd: int) -> Any: ...


class Readers:
    """Calls back on the loop's thread, like `loop.add_reader`; `close` it when nothing is watched any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], Any]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback(*args)` whenever `fd` has something to read, or its end was reached."""
        self._callbacks[fd] = partial(callback, *args)
        self._epoll.register(fd, select.EPOLLIN)

    def remove_reader(self, fd: int) -> None:
        """Watch `fd` no more; before it is closed, or a copy of it in another process would still be heard."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)  # one that was called before may have removed it
            if callback is not None:
                callback()


@contextlib.contextmanager
def watching(loop: asyncio.AbstractEventLoop) -> Iterator[Watching]:
    """The cheapest way there is here."""
    if not hasattr(select, "epoll"):
        yield loop
        return
    readers = Readers(loop)
    try:
        yield readers
    finally:
        readers.close()
