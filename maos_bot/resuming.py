"""`maos run --resume RUN`: whether a run can go on, and all that its second half has to know.

The same run goes on: its id, its numbering, its spec. So its stream stays one stream, and every reader of it sees one
run with a gap in time. What would make the second half another run than the first is refused, in words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from maos_bot.config import Config, find_root
from maos_bot.errors import ConfigError, StoreError
from maos_bot.events import RunEvent, RunStarted
from maos_bot.execution.past import Past, past_of
from maos_bot.frozen import dataclass
from maos_bot.model import ExecutionMode, ParallelStrategy, Spec
from maos_bot.store.db import connect
from maos_bot.store.ingest import Ingester
from maos_bot.store.queries import Queries
from maos_bot.store.rescue import rescue_path, take_in
from maos_bot.store.run_lock import RunLock


class RunEndedError(ConfigError):
    """The run that is to go on has come to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumption:
    """An interrupted run that is ours to go on with: while `lock` is held nobody else can."""

    run_id: str
    config: Config
    started: RunStarted
    events: Sequence[RunEvent]
    past: Past
    lock: RunLock


@contextlib.contextmanager
def resuming(config: Config, run_id: str) -> Iterator[Resumption]:
    """Take over the run that `run_id` means (an id, its beginning, `latest`).

    Raises `StoreError` where there is none, and `ConfigError` where it has ended, still lives, or is another's.
    """
    with contextlib.closing(Queries(config.db)) as queries:
        found = queries.find(run_id)
    try:
        lock = RunLock.hold(config.db, found)
    except OSError as error:
        raise StoreError(f"{config.db}: run {found} can't be locked: {error.strerror or error}") from error
    try:
        _take_in_rescued(config.db)
        with contextlib.closing(Queries(config.db)) as queries:
            events = queries.events(found, with_output=True)
        past = past_of(events)
        started = _beginning(past, found, config.db)
        own = _own_config(config, started)
        yield Resumption(run_id=found, config=own, started=started, events=events, past=past, lock=lock)
    except RunEndedError:
        lock.release(over=True)
        raise
    except BaseException:
        lock.release(over=False)
        raise


def check_same_spec(resumption: Resumption, spec: Spec) -> None:
    """Raise `ConfigError` where the spec isn't the one that the run was begun with."""
    started = resumption.started
    if spec.digest == started.spec_digest:
        return
    then, now = started.spec_text.splitlines(), spec.text.splitlines()
    # A masked secret differs from what stands in the file; the digest has decided, this only says where to look.
    line = next((n for n, (a, b) in enumerate(zip(then, now, strict=False), 1) if a != b), min(len(then), len(now)) + 1)
    raise ConfigError(
        f"{spec.path} changed since run {resumption.run_id} began (first in line {line})",
        hint=f"bring it back (`maos show {resumption.run_id} --spec` prints it), or make a new run",
    )


def _beginning(past: Past, run_id: str, database: Path) -> RunStarted:
    if past.finished:
        raise RunEndedError(
            f"run {run_id} has ended: {past.finished.status}; nothing of it is left to do",
            hint="`maos run` makes a new one",
        )
    if past.started is None:
        raise StoreError(f"{database}: the beginning of run {run_id} was not stored", hint="make a new one")
    return past.started


def _own_config(config: Config, started: RunStarted) -> Config:
    """`config` with what the run was begun with in place; limits are those of the machine as it is now."""
    given = {"SPEC": config.spec_given, "--task": config.tasks, "--mode": config.mode, "--strategy": config.strategy}
    asked = [name for name, value in given.items() if value]
    if asked:
        raise ConfigError(f"--resume goes on with the run's own spec, tasks and mode; leave out {', '.join(asked)}")
    spec = Path(started.spec_path)
    root = find_root(spec.parent)
    began_in = started.machine.get("root")
    if began_in and began_in != str(root):
        raise ConfigError(
            f"the run was begun in {began_in}, where the files of its finished tasks are, not in {root}",
            hint="resume it where it began",
        )
    return replace(
        config,
        root=root,
        spec=spec,
        tasks=tuple(task.id for task in started.tasks),
        mode=ExecutionMode(started.mode),
        strategy=ParallelStrategy(started.strategy),
    )


def _take_in_rescued(database: Path) -> None:
    """Events that the database couldn't take while the run lived belong to it, and come before all that follow."""
    path = rescue_path(database)
    if not path.exists():
        return
    with contextlib.closing(connect(database, create=False)) as connection:
        take_in(path, Ingester(connection), wait=True)
