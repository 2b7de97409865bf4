"""How the client behaves towards a server: serial writes, ETags, redirects, other addresses and CAs, bounded waits."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from maos_bot.errors import GitHubError
from maos_bot.github.client import CheckWrite, GitHubClient
from maos_bot.github.pace import WRITES
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn, Trouble
from tests.e2e.publishing import SHA, publish
from tests.unit.report_streams import Job

COMMENTS = f"/repos/{REPOSITORY}/issues/2/comments"


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


def client_of(url: str, *, ca_bundle: str = "", timeout_s: float = 20.0, write_pause_s: float = 0.0) -> GitHubClient:
    return GitHubClient(
        token="ghs_0123456789",
        repository=REPOSITORY,
        api_url=url,
        ca_bundle=ca_bundle,
        timeout_s=timeout_s,
        write_pause_s=write_pause_s,
        retry_pause_s=0.01,
    )


def test_writes_are_sent_one_after_the_other(github: GitHubStandIn) -> None:
    publish(github, [Job(id=f"t{number}", output="::error file=a.py,line=1::x\n" * 60) for number in range(6)])
    times = sorted((began, ended) for began, ended, method in github.sent_at if method != "GET")
    assert len(times) > 10
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(times))


def test_between_two_writes_lies_the_pause(github: GitHubStandIn) -> None:
    client = client_of(github.url, write_pause_s=0.15)
    for _ in range(3):
        client.create_comment(2, "hello")
    began = [began for began, _, method in github.sent_at if method == "POST"]
    assert all(later - earlier >= 0.14 for earlier, later in itertools.pairwise(began))


def test_more_writes_than_a_minute_allows_are_not_sent(github: GitHubStandIn) -> None:
    client = client_of(github.url)
    client.hurry(time.monotonic() + 30.0)
    most = WRITES[0][1]
    for _ in range(most):
        client.create_comment(2, "hello")
    with pytest.raises(GitHubError, match="80 writes a minute"):
        client.create_comment(2, "one too many")
    assert len(github.comments) == most


def test_what_didnt_change_is_not_sent_again(github: GitHubStandIn) -> None:
    for number in range(150):
        github.someone_comments(f"comment {number}")
    client = client_of(github.url)
    first = [comment.body for comment in client.comments(2)]
    assert len(github.requests) == 2, "a request for each page, none for each comment"
    assert [comment.body for comment in client.comments(2)] == first
    assert github.unchanged == 2, "two pages"
    github.comments[120]["body"] = "changed"
    assert [comment.body for comment in client.comments(2)][120] == "changed"
    assert github.unchanged == 3


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_repository_that_moved_is_followed(github: GitHubStandIn, status: int) -> None:
    for number in range(120):
        github.someone_comments(f"comment {number}")
    to = f"{github.url}{COMMENTS}"
    github.troubles = [
        Trouble(method="GET", ending="/comments", status=status, headers={"Location": f"{to}?per_page=100"}),
        Trouble(method="POST", ending="/comments", status=status, headers={"Location": to}),
    ]
    client = client_of(github.url)
    assert len(list(client.comments(2))) == 120
    client.create_comment(2, "a new one")
    assert github.comments[-1]["body"] == "a new one"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_another_host_gets_no_request_and_no_token(github: GitHubStandIn, status: int) -> None:
    with GitHubStandIn() as evil:
        github.troubles = [Trouble(method="GET", ending="/comments", status=status, headers={"Location": evil.url})]
        with pytest.raises(GitHubError, match="another host"):
            list(client_of(github.url).comments(2))
        assert evil.requests == []


def test_a_redirect_in_a_circle_ends(github: GitHubStandIn) -> None:
    location = {"Location": f"{github.url}{COMMENTS}"}
    github.troubles = [Trouble(method="GET", ending="/comments", status=302, headers=location)] * 50
    with pytest.raises(GitHubError, match="without an end"):
        list(client_of(github.url).comments(2))
    assert len(github.requests) < 10


def test_an_enterprise_servers_address_has_a_path() -> None:
    with GitHubStandIn(prefix="/api/v3") as github:
        for number in range(120):
            github.someone_comments(f"comment {number}")
        client = client_of(github.url)
        comment = client.create_comment(2, "hello")
        client.update_comment(comment, "hello again")
        check = client.create_check(CheckWrite(name="lint", sha=SHA, title="x", summary="y"))
        client.update_check(check, CheckWrite(name="lint", sha=SHA, conclusion="success"))
        assert [comment.body for comment in client.comments(2)][-1] == "hello again"
        assert github.checks[0]["conclusion"] == "success"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's TLS for 127.0.0.1, and the file of the authority that only we know."""
    folder = tmp_path_factory.mktemp("ca")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A company's own authority")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context, str(folder / "ca.pem")


def test_a_companys_own_authority_is_trusted_where_it_is_named(authority: tuple[ssl.SSLContext, str]) -> None:
    context, bundle = authority
    with GitHubStandIn(tls=context) as github:
        client_of(github.url, ca_bundle=bundle).create_comment(2, "hello")
        assert len(github.comments) == 1
        with pytest.raises(GitHubError, match="REQUESTS_CA_BUNDLE"):
            list(client_of(github.url).comments(2))


def test_a_ca_bundle_that_isnt_there_is_an_error_in_words(github: GitHubStandIn, tmp_path: Path) -> None:
    with pytest.raises(GitHubError, match="no usable answer"):
        list(client_of("https://127.0.0.1:1", ca_bundle=str(tmp_path / "none.pem")).comments(2))


def test_an_answer_that_drips_is_left(github: GitHubStandIn) -> None:
    github.troubles = [Trouble(method="GET", ending="/comments", drips_s=30.0)]
    began = time.monotonic()
    assert list(client_of(github.url, timeout_s=0.4).comments(2)) == [], "the second try was answered"
    assert time.monotonic() - began < 5.0


def test_a_server_that_takes_the_connection_and_says_nothing_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = threading.Event()
        kept: list[socket.socket] = []

        def accept() -> None:
            while not taken.is_set():
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        client = client_of(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.2)
        began = time.monotonic()
        with pytest.raises(GitHubError, match="no usable answer"):
            list(client.comments(2))
        assert time.monotonic() - began < 5.0
        taken.set()
        for each in kept:
            each.close()
