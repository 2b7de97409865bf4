"""Where others can reach the dashboard, it asks who they are."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from maos_bot.cli import maos
from maos_bot.errors import ConfigError
from tests.factories import START, make_run, store_runs
from web import create_app
from web.ingest_auth import IngestConfig
from web.serve import Server
from web.sign_in import SignIn, make_user, proxy_addresses, read_users

PASSWORD = "correct horse: battery"


def signed(tmp_path: Path, **values: object) -> FlaskClient:
    database = store_runs(tmp_path / "maos.db", [make_run()])
    sign_in = SignIn(**values)  # type: ignore[arg-type]
    ingest = IngestConfig(token_hashes=frozenset({"0" * 64}))
    return create_app(database, clock=lambda: START + 999, sign_in=sign_in, ingest=ingest).test_client()


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def users() -> dict[str, str]:
    name, _, digest = make_user("mira", PASSWORD).partition(":")
    return {name: digest}


def test_only_the_right_password_opens_any_page(tmp_path: Path, users: dict[str, str]) -> None:
    client = signed(tmp_path, users=users)
    for url in ("/", "/runs/latest", "/metrics", "/healthz", "/runs.json", "/static/maos.css", "/nowhere"):
        answer = client.get(url)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert "Content-Security-Policy" in answer.headers
        with client.get(url, headers=basic("mira", PASSWORD)) as opened:
            assert opened.status_code in {200, 302, 404}
    for name, password in (("mira", "wrong"), ("mira", ""), ("jonas", PASSWORD), ("", ""), ("mira", PASSWORD + " ")):
        assert client.get("/", headers=basic(name, password)).status_code == 401
    assert client.get("/", headers={"Authorization": "Basic !!"}).status_code == 401
    assert client.get("/", headers={"Authorization": f"Bearer {PASSWORD}"}).status_code == 401


def test_uploads_ask_for_their_own_token(tmp_path: Path, users: dict[str, str]) -> None:
    client = signed(tmp_path, users=users)
    answer = client.post("/ingest", data=b"{}\n", headers=basic("mira", PASSWORD))
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_a_proxy_header_counts_from_the_proxy_alone(tmp_path: Path) -> None:
    client = signed(tmp_path, proxy_header="X-Forwarded-User", proxies=frozenset({"10.0.0.2"}))
    named = {"X-Forwarded-User": "mira"}
    proxy = {"REMOTE_ADDR": "10.0.0.2"}
    assert client.get("/", headers=named, environ_overrides=proxy).status_code == 200
    assert client.get("/", headers={"X-Forwarded-User": " "}, environ_overrides=proxy).status_code == 401
    assert client.get("/", environ_overrides=proxy).status_code == 401
    assert client.get("/", headers=named, environ_overrides={"REMOTE_ADDR": "10.0.0.3"}).status_code == 401


def test_other_machines_are_served_only_with_a_sign_in(tmp_path: Path, users: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="nobody would be asked"):
        Server(create_app(tmp_path / "none.db"), host="10.1.2.3", port=0)
    app = create_app(tmp_path / "none.db", sign_in=SignIn(users=users))
    with pytest.raises(ConfigError, match="can't listen on"):  # tried, and refused by the tests' own wall
        Server(app, host="10.1.2.3", port=0)


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_a_page_of_another_site_can_post_nothing(
    tmp_path: Path, users: dict[str, str], headers: dict[str, str]
) -> None:
    client = signed(tmp_path, users=users)
    assert client.post("/ingest", data=b"{}\n", headers=headers).status_code == 403


@pytest.mark.parametrize("text", ["", "mira", "mira:secret", "mira:md5$x$y", ":scrypt:1:2:3$a$b"])
def test_a_file_without_hashes_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "users"
    file.write_text(text)
    with pytest.raises(ConfigError):
        read_users(file)


def test_the_command_makes_a_line_for_the_file(tmp_path: Path) -> None:
    done = CliRunner().invoke(maos, ["dashboard", "--hash-password", "mira"], input=f"{PASSWORD}\n")
    file = tmp_path / "users"
    file.write_text("# readers\n\n" + done.stdout)
    assert read_users(file).keys() == {"mira"}
    assert PASSWORD not in done.stdout


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError):
        proxy_addresses(("proxy.example",))
