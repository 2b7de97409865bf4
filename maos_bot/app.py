"""The composition root: builds the real parts, wires event to spec to plan to run to report, gives the exit code.

Every sink of the event stream is made here and closed here; nothing below knows of more than its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from maos_bot.config import Config
from maos_bot.errors import ConfigError, ExitCode, StoreError
from maos_bot.events import RunEvent, to_dict
from maos_bot.execution.environment import secret_values
from maos_bot.execution.orchestrator import Orchestrator
from maos_bot.execution.scheduler import Facts
from maos_bot.job import Beginning, Job, prepare
from maos_bot.model import BAD_STATES, TaskKind, Trigger
from maos_bot.redact import Redactor
from maos_bot.reporting.report import ReportBuilder, RunReport
from maos_bot.reporting.terminal import View, open_view

if TYPE_CHECKING:
    from maos_bot.agents.crew import Crew
    from maos_bot.execution.cache import TaskCache
    from maos_bot.granting import Grant
    from maos_bot.hiring import GoesOn
    from maos_bot.resuming import Resumption
    from maos_bot.store.run_lock import RunLock

_GIT_S: Final = 5.0
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Sink(Protocol):
    """Something that follows the event stream; `add` returns at once."""

    def add(self, event: RunEvent) -> object: ...


def run(config: Config, *, resume: str | None = None) -> int:
    """Run the spec here, with progress on standard error; with `--json` the report on standard output.

    `resume` is the run to go on with instead of a new one. Raises `ConfigError` where it can't.
    """
    if resume is None:
        trigger = local_trigger(config.root)
        job = prepare(config, beginning=Beginning(trigger=trigger, grant=_local_grant(config)))
        report = execute(job, config, trigger=trigger)
    else:
        from maos_bot.resuming import check_same_spec, resuming

        with resuming(config, resume) as resumption:
            trigger = resumption.started.trigger
            beginning = Beginning(trigger=trigger, grant=_local_grant(config), goes_on=_going_on(resumption))
            job = prepare(resumption.config, beginning=beginning)
            check_same_spec(resumption, job.spec)
            report = execute(job, resumption.config, trigger=trigger, resumption=resumption)
    if config.json:
        patch = patch_of(config, report.run_id)
        _print_json(report.to_json() | ({"patch": str(patch)} if patch else {}))
    return report.exit_code if report.exit_code is not None else ExitCode.BUG


def execute(
    job: Job,
    config: Config,
    *,
    trigger: Trigger,
    changed: frozenset[str] | None = None,
    sinks: Sequence[Sink] = (),
    environ: Mapping[str, str] | None = None,
    resumption: Resumption | None = None,
    finished: Mapping[str, str] = _NOTHING,
) -> RunReport:
    """Run a job to its end and return its report. What can't be stored or shown never ends a run: it is said after.

    `finished` gives, by task, why it needn't run again. The tasks' environment is made from `environ` (default: ours).
    `sinks` get every event beside the database, the terminal and `--events`.
    """
    from maos_bot.store.writer import StoreWriter

    for notice in () if config.quiet else job.notices:
        click.echo(f"maos: {notice}", err=True)
    run_id = resumption.run_id if resumption else time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + os.urandom(3).hex()
    redactor = Redactor(secret_values(os.environ))
    builder = ReportBuilder()
    with contextlib.ExitStack() as stack:
        database = _database(config)
        writer = StoreWriter(database)
        followers: list[Sink] = [builder, writer, *sinks]
        if config.events:
            followers.append(stack.enter_context(_ndjson(config.events)))
        view = _view(config, followers, builder)
        if resumption:
            _catch_up(resumption, [each for each in followers if each not in (writer, view)], view)

        def emit(event: RunEvent) -> None:
            for follower in followers:
                follower.add(event)

        crew = _crew(job, config, run_id, environ)
        orchestrator = Orchestrator(
            run_id=run_id,
            spec=job.spec,
            tasks=job.tasks,
            plan=job.plan,
            facts=Facts(event=trigger.event, changed=changed, unavailable=job.unavailable, finished=finished),
            trigger=trigger,
            root=config.root,
            emit=emit,
            redactor=redactor,
            environ=os.environ if environ is None else environ,
            past=resumption.past if resumption else None,
            cache=_cache(job, config, run_id),
            agents=crew,
        )
        lock = resumption.lock if resumption else _lock(database, run_id)
        over = False
        gc.freeze()  # what was loaded so far lives to the end: looking through it again and again frees nothing
        try:
            asyncio.run(_run(orchestrator, _signal_handlers()))
            over = True
        finally:
            view.close()
            try:
                writer.close()
            except StoreError as error:
                over = False  # what is missing can still be made up for
                click.echo(f"maos: the run was not stored: {error}", err=True)
            if lock:
                lock.release(over=over)
    report = builder.report()
    if not config.quiet:
        click.echo(f"history: maos show {run_id}\ndashboard: maos dashboard, then /runs/{run_id}", err=True)
    return report


def patch_of(config: Config, run_id: str) -> Path | None:
    """The patch of what a run's agents changed; None where there is none, or it was applied."""
    path = config.db.parent / f"{run_id}.patch"
    return path if path.is_file() else None


def _crew(job: Job, config: Config, run_id: str, environ: Mapping[str, str] | None) -> Crew | None:
    """Who does the agents' tasks; nobody where there are none that can be done."""
    able = [task for task in job.tasks if task.kind is TaskKind.AGENT and task.id not in job.unavailable]
    if job.staff is None or not able:
        return None
    from maos_bot.hiring import crew_of

    own = os.environ if environ is None else environ
    return crew_of(
        job.staff,
        job.spec,
        job.tasks,
        config=config,
        patch=config.db.parent / f"{run_id}.patch",
        run_id=run_id,
        environ=own,
    )


def _local_grant(config: Config) -> Grant | None:
    if not config.approve:
        return None
    from maos_bot.granting import Grant

    return Grant(approved=True)


def _going_on(resumption: Resumption) -> GoesOn | None:
    """What the agents of a run that died left to go on with; None where it had none."""
    if not any(task.kind == TaskKind.AGENT for task in resumption.started.tasks):
        return None
    from maos_bot.hiring import going_on

    return going_on(resumption.started, resumption.events)


def local_trigger(root: Path) -> Trigger:
    """A run by hand: the branch and commit that are checked out, where git knows them."""
    if not (root / ".git").exists():
        return Trigger(actor=os.environ.get("USER", ""))
    try:
        said = subprocess.run(  # noqa: S603
            ["git", "-c", f"safe.directory={root}", "rev-parse", "HEAD", "--abbrev-ref", "HEAD"],  # noqa: S607
            cwd=root,
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=True,
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet: a run by hand needs neither
        said = []
    sha, ref = (*said, "", "")[:2]
    return Trigger(actor=os.environ.get("USER", ""), sha=sha, ref=ref)


def _signal_handlers() -> dict[signal.Signals, Any]:
    """Who takes the signals that stop a run; asked outside `asyncio.run`, which puts its own in their place."""
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


async def _run(orchestrator: Orchestrator, before: Mapping[signal.Signals, Any]) -> None:
    """Run with the signals stopping it; those who took them `before` are told of them too, and get them back."""
    loop = asyncio.get_running_loop()

    def taken(number: signal.Signals) -> None:
        orchestrator.cancel(f"interrupted by {number.name}")
        handler = before[number]
        if callable(handler) and handler is not signal.default_int_handler:
            handler(number, None)

    for number in before:
        loop.add_signal_handler(number, taken, number)
    try:
        await orchestrator.run()
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _database(config: Config) -> Path:
    """The database's path; its folder is made, and kept out of the user's repository."""
    folder = config.db.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.name == ".maos" and not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"can't write to {folder}: {error.strerror}", hint="choose another place with --db"
        ) from error
    return config.db


def _cache(job: Job, config: Config, run_id: str) -> TaskCache | None:
    """The cache, where it is wanted and some task has to do with it."""
    if not config.use_cache or not any(task.inputs or task.cache for task in job.tasks):
        return None
    from maos_bot.execution.cache import TaskCache

    return TaskCache(config.root, run_id=run_id, max_bytes=config.cache_bytes)


def _lock(database: Path, run_id: str) -> RunLock | None:
    """Show that this run lives; where that is impossible the database will be too, and says so."""
    from maos_bot.store.run_lock import RunLock

    try:
        return RunLock.hold(database, run_id)
    except OSError:
        return None


def _catch_up(resumption: Resumption, followers: Sequence[Sink], view: View) -> None:
    """Tell those who keep the whole run what had happened; those who only show it, how far it had come."""
    for event in resumption.events:
        for follower in followers:
            follower.add(event)
    view.add(resumption.started)
    ended = resumption.past.ended.values()
    view.go_on(done=len(ended), bad=sum(state in BAD_STATES for state in ended), at=time.time())


def _view(config: Config, followers: list[Sink], builder: ReportBuilder) -> View:
    view = open_view(
        sys.stderr,
        report=builder.report,
        environ=os.environ,
        quiet=config.quiet,
        token=os.urandom(16).hex(),
    )
    followers.append(view)
    return view


class _Lines:
    """Every event as a line of NDJSON."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def add(self, event: RunEvent) -> None:
        self._file.write(json.dumps(to_dict(event), ensure_ascii=False, separators=(",", ":")) + "\n")


@contextlib.contextmanager
def _ndjson(path: Path) -> Iterator[_Lines]:
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't write --events {path}: {error.strerror}") from error
    with file:
        yield _Lines(file)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
