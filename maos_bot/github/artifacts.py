"""The artifacts of a repository's workflow runs: listing them, fetching one, and reading the events in it.

An artifact is a stranger's archive: it is never unpacked to disk, its names mean nothing but their ending, and what
comes out of it is counted while it is read.
"""

from __future__ import annotations

import hashlib
import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final
from urllib.parse import urljoin, urlsplit

from maos_bot._version import __version__
from maos_bot.errors import GitHubError
from maos_bot.frozen import dataclass
from maos_bot.github.client import GitHubClient

PER_PAGE: Final = 100
MAX_BYTES: Final = 64 * 1024 * 1024  # of an archive
MAX_EVENTS_BYTES: Final = 128 * 1024 * 1024  # of all events in one, unpacked
_MOST_FILES: Final = 2_000
_PIECE: Final = 256 * 1024
_REDIRECTS: Final = 3
_PLAIN_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1


class BadArtifactError(Exception):
    """What is wrong with an artifact, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """One artifact as GitHub lists it; `from_fork` where its workflow ran on a fork's commit."""

    id: int
    name: str
    bytes: int
    expired: bool
    digest: str
    head_sha: str
    from_fork: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One page of the list, newest first; `etag` tells the first one apart from what it will be later."""

    artifacts: tuple[Artifact, ...]
    etag: str


class Artifacts:
    """The artifacts of one repository. `client` knows how to wait and what an error means; the token is its own."""

    def __init__(self, client: GitHubClient, *, token: str, timeout_s: float = 30.0) -> None:
        import requests

        self._client = client
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": f"maos-bot/{__version__}"})
        self._token = token

    def close(self) -> None:
        """Let its connections go."""
        self._session.close()

    def pages(self, *, etag: str = "") -> Iterator[Page]:
        """The list page by page; nothing where it is still what `etag` was given for. Raises `GitHubError`."""
        for number in itertools.count(1):
            page = self._listed(number, {"If-None-Match": etag} if etag and number == 1 else {})
            if page is None:
                return
            yield page
            if len(page.artifacts) < PER_PAGE:
                return

    def _listed(self, number: int, headers: Mapping[str, str]) -> Page | None:
        try:
            return self._client.call("list the artifacts", lambda: self._page(number, headers))
        except GitHubError as error:
            if error.status in {403, 404}:
                error.hint = "GITHUB_TOKEN must be allowed to read the actions of this repository (`actions: read`)"
            raise

    def _page(self, number: int, headers: Mapping[str, str]) -> Page | None:
        path = f"/repos/{self._client.repository}/actions/artifacts?per_page={PER_PAGE}&page={number}"
        with self._get(f"{self._client.api_url}{path}", headers) as answer:
            if answer.status_code == 304:
                return None
            try:
                listed = tuple(_artifact(row) for row in answer.json()["artifacts"])
            except (KeyError, TypeError) as error:
                raise ValueError("that is no list of artifacts") from error
            return Page(artifacts=listed, etag=answer.headers.get("ETag", ""))

    def fetch(self, artifact: Artifact, into: IO[bytes]) -> None:
        """Write the archive into `into`; raises `GitHubError`, or `BadArtifactError` where it isn't what was listed."""
        if artifact.bytes > MAX_BYTES:
            raise BadArtifactError(f"it has {artifact.bytes:,} bytes; {MAX_BYTES:,} are taken")
        self._client.call(f"fetch the artifact {artifact.name!r}", lambda: self._fetch(artifact, into))

    def _fetch(self, artifact: Artifact, into: IO[bytes]) -> None:
        into.seek(0)
        into.truncate()
        url = f"{self._client.api_url}/repos/{self._client.repository}/actions/artifacts/{artifact.id}/zip"
        digest = hashlib.sha256()
        size = 0
        with self._followed(url) as answer:
            for piece in answer.iter_content(_PIECE):
                size += len(piece)
                if size > MAX_BYTES:
                    raise BadArtifactError(f"it is larger than the {MAX_BYTES:,} bytes that are taken")
                digest.update(piece)
                into.write(piece)
        kind, _, wanted = artifact.digest.partition(":")
        if kind == "sha256" and wanted and wanted != digest.hexdigest():
            raise BadArtifactError("it isn't what GitHub lists: its SHA-256 is another")

    def _followed(self, url: str) -> Any:
        """The answer behind the redirects to where archives are kept, which is told no token."""
        home = urlsplit(self._client.api_url)
        for _ in range(_REDIRECTS + 1):
            answer = self._get(url, {}, stream=True)
            if answer.status_code not in {301, 302, 303, 307, 308}:
                return answer
            url = urljoin(url, answer.headers.get("Location", ""))
            answer.close()
            if urlsplit(url).scheme not in {"https", home.scheme}:
                raise GitHubError("could not fetch an artifact: GitHub leads to an address that isn't encrypted")
        raise GitHubError("could not fetch an artifact: too many redirects")

    def _get(self, url: str, headers: Mapping[str, str], *, stream: bool = False) -> Any:
        import github

        home, there = urlsplit(self._client.api_url), urlsplit(url)
        own = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if (there.scheme, there.netloc) == (home.scheme, home.netloc):
            own["Authorization"] = f"Bearer {self._token}"
        answer = self._session.get(
            url, headers={**own, **headers}, timeout=self._timeout_s, stream=stream, allow_redirects=False
        )
        if answer.status_code >= 400:
            said = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
            answer.close()
            raise github.GithubException(answer.status_code, said, dict(answer.headers))
        return answer


def read_archive(file: IO[bytes]) -> Iterator[bytes]:
    """The texts of the archive's `.ndjson` files, by name; raises `BadArtifactError` for what is no such archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.infolist()
            if len(names) > _MOST_FILES:
                raise BadArtifactError(f"it holds {len(names)} files; {_MOST_FILES} are looked at")
            room = MAX_EVENTS_BYTES
            for info in sorted(names, key=lambda one: one.filename):
                if info.is_dir() or not info.filename.endswith(".ndjson"):
                    continue
                if info.flag_bits & _ENCRYPTED or info.compress_type not in _PLAIN_METHODS:
                    raise BadArtifactError("it is encrypted, or packed in a way that artifacts aren't")
                with archive.open(info) as packed:
                    text = packed.read(room + 1)
                room -= len(text)
                if room < 0:
                    raise BadArtifactError(f"its events are larger than {MAX_EVENTS_BYTES:,} bytes")
                yield text
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise BadArtifactError(f"it can't be read as an archive: {type(error).__name__}") from error
    except zipfile.LargeZipFile as error:
        raise BadArtifactError("it is too large an archive") from error


def _artifact(row: Mapping[str, Any]) -> Artifact:
    run = row.get("workflow_run") or {}
    return Artifact(
        id=int(row["id"]),
        name=str(row.get("name") or ""),
        bytes=int(row.get("size_in_bytes") or 0),
        expired=bool(row.get("expired")),
        digest=str(row.get("digest") or ""),
        head_sha=str(run.get("head_sha") or ""),
        from_fork=run.get("head_repository_id") != run.get("repository_id"),
    )
