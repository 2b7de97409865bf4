"""The guard that keeps tests on this machine's loopback."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Final

import pytest

_NOBODY: Final = "http://127.0.0.1:9"  # the discard port: refused at once

# For child processes, which the guard on sockets doesn't reach: all but loopback goes to a proxy that isn't there.
CHILD_ENVIRONMENT: Final = {
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _NOBODY),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1"),
}


class OutsideError(AssertionError):
    """A test tried to leave the machine."""


def guard(patch: pytest.MonkeyPatch) -> None:
    """Make connecting, sending or looking a name up outside loopback raise `OutsideError`."""
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _checked(getattr(socket.socket, name)))
    send = socket.socket.sendto
    look_up = socket.getaddrinfo

    def sendto(self: socket.socket, *arguments: Any) -> int:
        _check(self.family, arguments[-1])
        return send(self, *arguments)

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        _check_host(host)
        return look_up(host, *arguments, **options)

    patch.setattr(socket.socket, "sendto", sendto)
    patch.setattr(socket, "getaddrinfo", getaddrinfo)


def _checked(connect: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: socket.socket, address: Any) -> Any:
        _check(self.family, address)
        return connect(self, address)

    return checked


def _check(family: int, address: Any) -> None:
    if family != socket.AF_UNIX:
        _check_host(address[0])


def _check_host(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in {None, "", "localhost"} or _is_loopback(name):
        return
    raise OutsideError(f"tests may reach loopback only, and this one wanted {name!r}")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
