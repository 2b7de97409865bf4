"""Many descriptors behind one: to the event loop they are a single one that has something to read.

What asyncio itself does to watch a descriptor and to stop it costs more than all a short task's process costs us
besides. Here it is one call of the kernel's. Where there is no `epoll`, it is the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol


class Watching(Protocol):
    """Who calls back, on the loop's thread, when a descriptor has something to read."""

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback(*args)` whenever `fd` has something to read, or its end was reached."""

    def add_once(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        """Do so the first time only."""

    def remove_reader(self, fd: int) -> None:
        """Watch `fd` no more; before it is closed, or a copy of it in another process would still be heard."""

    def waker(self, callback: Callable[[], Any]) -> Callable[[], Any]:
        """What any thread may call to have `callback` called; calls that come close together count as one."""

    def soon(self, callback: Callable[[], Any]) -> None:
        """Call `callback` once all was told that is known by now."""


class Readers:
    """One descriptor for all: `close` it when nothing is watched any more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], Any]] = {}
        self._wakers: list[int] = []
        self._telling = False
        self._then: list[Callable[[], Any]] = []  # to be called when all was told
        loop.add_reader(self._epoll.fileno(), self._ready)

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        self._callbacks[fd] = partial(callback, *args)
        self._epoll.register(fd, select.EPOLLIN)

    def add_once(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        def first() -> None:
            del self._callbacks[fd]  # the kernel has forgotten it too
            callback(*args)

        self._callbacks[fd] = first
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def remove_reader(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def waker(self, callback: Callable[[], Any]) -> Callable[[], Any]:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wakers.append(fd)

        def woken() -> None:
            os.eventfd_read(fd)  # first: who calls from now on is heard again
            callback()

        self.add_reader(fd, woken)
        return partial(os.eventfd_write, fd, 1)

    def soon(self, callback: Callable[[], Any]) -> None:
        if self._telling:
            self._then.append(callback)
        else:
            self._loop.call_soon(callback)

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        for fd in self._wakers:
            os.close(fd)

    def _ready(self) -> None:
        self._telling = True
        try:
            for fd, _ in self._epoll.poll(0):
                callback = self._callbacks.get(fd)  # one that was called before may have removed it
                if callback is not None:
                    callback()
        finally:
            self._telling = False
            then, self._then = self._then, []
            for each in then:
                each()


class LoopReaders:
    """The same by the event loop's own means."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        self._loop.add_reader(fd, callback, *args)

    def add_once(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        def first() -> None:
            self._loop.remove_reader(fd)
            callback(*args)

        self._loop.add_reader(fd, first)

    def remove_reader(self, fd: int) -> None:
        self._loop.remove_reader(fd)

    def waker(self, callback: Callable[[], Any]) -> Callable[[], Any]:
        return partial(self._loop.call_soon_threadsafe, callback)

    def soon(self, callback: Callable[[], Any]) -> None:
        self._loop.call_soon(callback)


@contextlib.contextmanager
def watching(loop: asyncio.AbstractEventLoop) -> Iterator[Watching]:
    """The cheapest way there is here."""
    if not (hasattr(select, "epoll") and hasattr(os, "eventfd")):
        yield LoopReaders(loop)
        return
    readers = Readers(loop)
    try:
        yield readers
    finally:
        readers.close()
