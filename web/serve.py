"""The dashboard behind waitress, a production WSGI server.

Binding and serving are two steps, so that the address is known, with port 0 too, before the first request comes.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Callable

from flask import Flask
from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]

from maos_bot.errors import ConfigError

THREADS = 4


class Server:
    """A bound socket with the app behind it: `url` to open it at, `run()` until Ctrl-C, `close()`."""

    def __init__(self, app: Flask, *, host: str, port: int) -> None:
        address = _address(host, signed_in=bool(app.config.get("MAOS_SIGN_IN")))
        if not 0 <= port <= 65535:
            raise ConfigError(f"there is no port {port}", hint="choose one from 1 to 65535, or 0 for any free one")
        self._open: dict[int, object] = {}  # every socket of the server, by its number
        try:
            self._server = create_server(app, map=self._open, host=address, port=port, threads=THREADS, ident=None)
        except ValueError as error:  # a name that leads nowhere
            raise ConfigError(f"can't listen on {host!r}: {error}", hint="give an address of this machine") from error
        except OSError as error:
            self._close_all()
            raise ConfigError(
                f"can't listen on {host} port {port}: {os.strerror(error.errno).lower() if error.errno else error}",
                hint="choose another port with --port, or --port 0 for any free one",
            ) from error
        self.port = int(self._server.effective_port)
        self._lock = threading.Lock()
        self._running = self._closed = False
        self._ended = threading.Event()
        self.url = f"http://{f'[{address}]' if ':' in address else address}:{self.port}/"

    def run(self) -> None:
        """Serve until the process is interrupted or `close` is called from another thread."""
        with self._lock:
            if self._closed:
                return
            self._running = True
        try:
            self._server.run()
        finally:
            self._close_all()
            self._ended.set()

    def close(self) -> None:
        """Stop listening, drop what is open and end the worker threads; returns when that is done."""
        with self._lock:
            self._closed = True
            running = self._running
        if running and not self._ended.is_set():
            # In the serving thread, between two of its steps: nothing it works on is taken from under it.
            self._server.trigger.pull_trigger(self._close_all)
            self._ended.wait(timeout=5)
        else:
            self._close_all()
        self._server.task_dispatcher.shutdown(timeout=2)

    def _close_all(self) -> None:
        wasyncore.close_all(self._open, ignore_all=True)


def serve(app: Flask, host: str = "127.0.0.1", port: int = 8300, *, announce: Callable[[str], None]) -> None:
    """Serve `app` until Ctrl-C; `announce` gets the URL once the socket is bound (port 0 takes any free one).

    Raises `ConfigError` where the port is taken, or the host isn't this machine's loopback and `app` asks nobody who
    they are (`web.sign_in`).
    """
    server = Server(app, host=host, port=port)
    announce(server.url)
    try:
        server.run()
    finally:
        server.close()


def _address(host: str, *, signed_in: bool) -> str:
    """The address to listen on: loopback, or any where readers sign in."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        if signed_in or ipaddress.ip_address(host.strip("[]")).is_loopback:
            return host.strip("[]")
    except ValueError:
        pass  # a name: refused like any address that others can reach
    raise ConfigError(
        f"the dashboard doesn't listen on {host!r}: nobody would be asked who they are",
        hint="use --host 127.0.0.1 and `ssh -L`, or give --password-file or --proxy-header (docs/dashboard.md)",
    )
