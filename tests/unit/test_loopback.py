"""The guard lets tests reach this machine's loopback and nothing else."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.loopback import OutsideError

OUTSIDE = "192.0.2.1"  # reserved for documentation: nobody is there


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_connecting_outside_is_refused(method: str) -> None:
    with socket.socket() as client, pytest.raises(OutsideError, match=OUTSIDE):
        getattr(client, method)((OUTSIDE, 80))


def test_sending_a_datagram_outside_is_refused() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client, pytest.raises(OutsideError):
        client.sendto(b"x", (OUTSIDE, 9))


def test_looking_a_name_up_is_refused() -> None:
    with pytest.raises(OutsideError, match=r"example\.invalid"):
        socket.getaddrinfo("example.invalid", 443)


def test_asyncio_is_guarded_too() -> None:
    with pytest.raises(OutsideError):
        asyncio.run(_open(OUTSIDE, 80))


def test_loopback_is_reached_by_address_and_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port), timeout=5).close()


def test_unix_sockets_are_reached(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)


def test_a_child_process_fails_fast_outside() -> None:
    fetch = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=20)"
    command = [sys.executable, "-c", fetch, "http://example.invalid/"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert child.returncode != 0
    assert "refused" in child.stderr


def test_proxies_leave_loopback_alone() -> None:
    assert urllib.request.proxy_bypass("127.0.0.1")
    assert urllib.request.proxy_bypass("localhost")


def test_the_environment_holds_nothing_of_the_runner() -> None:
    assert not [name for name in os.environ if name.startswith(("GITHUB_", "INPUT_", "ACTIONS_"))]
    assert "CI" not in os.environ


async def _open(host: str, port: int) -> None:
    await asyncio.open_connection(host, port)
