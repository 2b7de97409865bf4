"""`maos sync OWNER/REPO`: the events in the artifacts of past workflow runs, merged into the local database.

Each artifact is looked at once; the oldest comes first, so that a sync which was broken off goes on where it was. What
an artifact says is a stranger's word: it may bring runs of the repository it is an artifact of and of no other, and one
from a fork may only bring runs that aren't known yet.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Final

import click

from maos_bot.errors import ConfigError, ExitCode
from maos_bot.events import RunEvent, RunStarted
from maos_bot.frozen import dataclass
from maos_bot.github.artifacts import Artifact, Artifacts, BadArtifactError, read_archive
from maos_bot.github.client import API_URL, GitHubClient
from maos_bot.reporting.escape import clean
from maos_bot.store.db import connect, explain
from maos_bot.store.ingest import Ingester
from maos_bot.store.intake import BadEventsError, check_runs, read_events
from maos_bot.store.synced import etag_of, known_artifacts, note_artifact, note_intake

NAMES: Final = "maos*"
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}")
_IN_MEMORY: Final = 8 * 1024 * 1024
_LONGEST_PROBLEM: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class PassedOver:
    """An artifact that was not taken in, and why."""

    artifact: int
    name: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What a sync came to. `looked_at` counts the artifacts that were new to it, `expired` those that were gone."""

    repository: str
    looked_at: int
    expired: int
    runs: int
    events: int
    passed_over: tuple[PassedOver, ...]


def sync(db: Path, repository: str, *, names: str, environ: Mapping[str, str], as_json: bool) -> int:
    """Take in the artifacts of `repository` whose name fits the pattern `names`, and say what came of it."""
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"{repository!r} is no repository", hint="write OWNER/REPO")
    token = environ.get("GITHUB_TOKEN") or environ.get("GH_TOKEN") or ""
    if not token:
        raise ConfigError(
            "artifacts are only given to those who sign in",
            hint="put a token that may read actions into GITHUB_TOKEN, such as GITHUB_TOKEN=$(gh auth token)",
        )
    client = GitHubClient(token=token, repository=repository, api_url=environ.get("GITHUB_API_URL") or API_URL)
    with contextlib.closing(Artifacts(client, token=token)) as artifacts:
        done = take_in(db, artifacts, repository=repository, names=names)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return ExitCode.OK
    for one in done.passed_over:
        click.echo(f"passed over {clean(one.name)} ({one.artifact}): {clean(one.why)}", err=True)
    click.echo(
        f"{done.looked_at} new artifacts of {repository}: {done.runs} new runs, {done.events} new events"
        + (f"; {done.expired} have expired" if done.expired else ""),
        err=True,
    )
    return ExitCode.OK


def take_in(db: Path, artifacts: Artifacts, *, repository: str, names: str = NAMES) -> Synced:
    """Merge what is new into the database; raises `GitHubError` or `StoreError`, and keeps what it had taken in."""
    connection = connect(db, create=True)
    try:
        with contextlib.closing(connection):
            return _Sync(connection, artifacts, repository).run(names)
    except sqlite3.Error as error:
        raise explain(error, db) from error


class _Sync:
    """One sync of one repository into one database."""

    def __init__(self, connection: sqlite3.Connection, artifacts: Artifacts, repository: str) -> None:
        self._connection = connection
        self._artifacts = artifacts
        self._repository = repository
        self._ingester = Ingester(connection)

    def run(self, names: str) -> Synced:
        source = f"sync {self._repository.lower()} {names}"
        found, etag = self._new_ones(names, etag=etag_of(self._connection, source))
        passed: list[PassedOver] = []
        runs = events = 0
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
            for artifact in reversed(found):
                if artifact.expired:
                    self._note(artifact, problem="it had expired")
                    continue
                try:
                    new_runs, new_events = self._take(artifact, file)
                except (BadArtifactError, BadEventsError) as error:
                    passed.append(PassedOver(artifact=artifact.id, name=artifact.name, why=str(error)))
                    self._note(artifact, problem=str(error))
                else:
                    runs, events = runs + new_runs, events + new_events
        note_intake(self._connection, source, at=time.time(), etag=etag)
        return Synced(
            repository=self._repository,
            looked_at=sum(not one.expired for one in found),
            expired=sum(one.expired for one in found),
            runs=runs,
            events=events,
            passed_over=tuple(passed),
        )

    def _new_ones(self, names: str, *, etag: str | None) -> tuple[list[Artifact], str]:
        """The artifacts never looked at, newest first, and the list's tag.

        As the oldest is always taken first, what is older than a known one was looked at too, once all of it was.
        """
        found: dict[int, Artifact] = {}
        first: str | None = None
        for page in self._artifacts.pages(etag=etag or ""):
            first = page.etag if first is None else first
            fitting = [one for one in page.artifacts if fnmatchcase(one.name, names)]
            known = known_artifacts(self._connection, self._repository, (one.id for one in fitting))
            # Pages move on while they are turned: none counts twice.
            found |= {one.id: one for one in fitting if one.id not in known}
            if known and etag is not None:
                break
        return list(found.values()), (etag or "") if first is None else first

    def _take(self, artifact: Artifact, file: IO[bytes]) -> tuple[int, int]:
        """Take one artifact in, all of it or nothing; how many runs and events were new."""
        self._artifacts.fetch(artifact, file)
        events = [event for text in read_archive(file) for event in read_events(text)]
        if not events:
            raise BadArtifactError("it holds no file of events (.ndjson)")
        check_runs(events)
        if artifact.from_fork:
            events = list(_as_known(events, artifact, self._repository))
        run_ids = {event.run_id for event in events}
        before = self._repositories(run_ids)
        if artifact.from_fork and before:
            raise BadArtifactError("it comes from a fork and adds to a run that is there already")
        if any(known != self._repository.lower() for known in before.values()):
            raise BadArtifactError("it adds to a run of another repository")

        def check() -> None:
            if any(known != self._repository.lower() for known in self._repositories(run_ids).values()):
                raise BadArtifactError("it holds a run of another repository, or of none")
            self._note(artifact)

        return len(run_ids) - len(before), self._ingester.write(events, check=check)

    def _repositories(self, run_ids: Iterable[str]) -> dict[str, str]:
        """The repository, in small letters, of each of these runs that is there."""
        sql = "SELECT lower(repository) FROM runs WHERE run_id = ?"
        rows = {run_id: self._connection.execute(sql, (run_id,)).fetchone() for run_id in run_ids}
        return {run_id: row[0] for run_id, row in rows.items() if row is not None}

    def _note(self, artifact: Artifact, *, problem: str = "") -> None:
        note_artifact(
            self._connection,
            self._repository,
            artifact.id,
            name=artifact.name,
            at=time.time(),
            problem=problem[:_LONGEST_PROBLEM],
        )


def _as_known(events: Iterable[RunEvent], artifact: Artifact, repository: str) -> Iterable[RunEvent]:
    """A fork's events with what GitHub knows of where they come from."""
    for event in events:
        if isinstance(event, RunStarted):
            trigger = replace(event.trigger, repository=repository, sha=artifact.head_sha, is_fork=True)
            yield replace(event, trigger=trigger)
        else:
            yield event
