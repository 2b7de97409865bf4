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
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from maos_bot.config import Config, find_root
from maos_bot.errors import ConfigError, ExitCode, NothingToDoError, StoreError
from maos_bot.events import RunEvent, to_dict
from maos_bot.execution.environment import secret_values
from maos_bot.execution.orchestrator import Orchestrator
from maos_bot.execution.scheduler import Facts
from maos_bot.model import BAD_STATES, TOKENS, Estimate, Limit, Plan, Spec, Task, TaskKind, Trigger
from maos_bot.planning.planner import Improver, TimeBox, make_plan
from maos_bot.planning.writes import in_writing_order
from maos_bot.redact import Redactor
from maos_bot.reporting.report import ReportBuilder, RunReport
from maos_bot.reporting.terminal import View, open_view
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.runner import probe
from maos_bot.spec.load import load_spec

if TYPE_CHECKING:
    from maos_bot.agents.crew import Crew
    from maos_bot.agents.pricing import Spend
    from maos_bot.execution.cache import TaskCache
    from maos_bot.github.capability import Ability
    from maos_bot.granting import Grant
    from maos_bot.hiring import GoesOn, Staff
    from maos_bot.resuming import Resumption
    from maos_bot.store.run_lock import RunLock

PLAN_TIME_S: Final = 0.1  # how long planning may look for a better schedule
_GIT_S: Final = 5.0
_MOST_NAMED: Final = 10  # tasks in an error's words
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Sink(Protocol):
    """Something that follows the event stream; `add` returns at once."""

    def add(self, event: RunEvent) -> object: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A spec, which of its tasks are to run, and the plan for them."""

    spec: Spec
    tasks: tuple[Task, ...]
    limits: Mapping[str, Limit]
    plan: Plan
    reasons: Mapping[str, str] = field(default_factory=dict)  # of the tasks that a goal became
    unavailable: Mapping[str, str] = field(default_factory=dict)  # why tasks can't be done here, by their id
    staff: Staff | None = None  # of the agents, where there are any who can work
    notices: tuple[str, ...] = ()  # what planning changed, in words


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """What a run that is about to begin says of itself to its agents; without a grant they may what the spec says."""

    trigger: Trigger
    grant: Grant | None = None
    goes_on: GoesOn | None = None  # of a run that died


def prepare(config: Config, *, repository: str = "", beginning: Beginning | None = None) -> Job:
    """Read the spec, choose its tasks and plan them, with the history of `repository` (empty: of runs by hand).

    Only for a `beginning` a model is asked for the tasks of the spec's goal, and agents are made ready.
    Raises `SpecError`, `ConfigError`, or `NothingToDoError`.
    """
    spec = load_spec(config.spec)
    reasons: Mapping[str, str] = {}
    unavailable: Mapping[str, str] = {}
    staff: Staff | None = None
    if beginning and (spec.goal or any(task.kind is TaskKind.AGENT for task in spec.tasks)):
        from maos_bot.hiring import hire

        hired = hire(
            spec,
            config,
            trigger=beginning.trigger,
            grant=beginning.grant,
            repository=repository,
            goes_on=beginning.goes_on,
        )
        spec, reasons, unavailable, staff = hired.spec, hired.reasons, hired.unavailable, hired.staff
    elif config.goal:
        from maos_bot import crewing

        models = crewing.models_here(config.root)
        rate = resolve_limits(spec, config.limits, probe(config.root))[TOKENS].value
        proposal = crewing.tasks_of_goal(spec, config.goal, models, root=config.root, most_tokens_per_minute=rate)
        spec, reasons = crewing.with_tasks(spec, proposal), proposal.reasons
    tasks = _chosen(spec.tasks, config.tasks)
    if not tasks:
        why = "`maos plan --goal TEXT` asks a model for tasks" if spec.goal else "it has no task"
        raise NothingToDoError(f"{spec.path}: nothing to run: {why}", hint="add a task with `run:`")
    tasks, ordered = in_writing_order(tasks)
    limits = resolve_limits(spec, config.limits, probe(config.root))
    plan = make_plan(
        tasks,
        limits=limits,
        mode=config.mode or spec.mode,
        strategy=config.strategy or spec.strategy,
        history=_history(config.db, tasks, repository),
        spec_path=spec.path,
        time_box=TimeBox(
            seconds=PLAN_TIME_S if config.plan_time_s is None else config.plan_time_s, clock=time.monotonic
        ),
        improver=_solver(config) if config.optimal else None,
    )
    return Job(
        spec=spec,
        tasks=tasks,
        limits=limits,
        plan=plan,
        reasons=reasons,
        notices=tuple(str(overlap) for overlap in ordered),
        unavailable=unavailable,
        staff=staff,
    )


def _solver(config: Config) -> Improver:
    from maos_bot.planning.optimal import OPTIMAL_S, Solver

    seconds = OPTIMAL_S if config.plan_time_s is None else config.plan_time_s
    return Solver(seconds=seconds, workers=len(os.sched_getaffinity(0)))


def _history(db: Path, tasks: Sequence[Task], repository: str) -> dict[str, Estimate]:
    """What the database says of these tasks; nothing where there is none, or none that can be read."""
    if not db.is_file():
        return {}
    from maos_bot.store.baselines import history_of
    from maos_bot.store.queries import Queries

    try:
        with contextlib.closing(Queries(db)) as queries:
            return history_of(queries, tasks, repository=repository)
    except StoreError as error:
        click.echo(f"maos: planned without history: {error}", err=True)
        return {}


def show_plan(config: Config, *, mermaid: bool = False) -> int:
    """Print the plan as a table, JSON or a mermaid diagram."""
    job = prepare(config)
    if mermaid:
        from maos_bot.reporting.mermaid import graph_of_plan

        click.echo(graph_of_plan(job.tasks, job.plan))
    elif config.json:
        from maos_bot.reporting.plan_view import plan_json

        _print_json(plan_json(job.plan) | {"notices": list(job.notices)} | _spend_json(job, config))
    else:
        from maos_bot.reporting.plan_view import print_plan

        notices = [("" if place else "ordered", notice) for place, notice in enumerate(job.notices)]
        more = [*notices, *_spend_facts(job, config)]
        print_plan(job.plan, job.tasks, title=job.spec.name or job.spec.path, more=more)
    return ExitCode.OK


def _spend(job: Job, config: Config) -> Spend | None:
    """What the plan's agents will use; None where it has none."""
    if not any(task.kind is TaskKind.AGENT for task in job.tasks):
        return None
    from maos_bot import crewing

    return crewing.spend_of(job.tasks, crewing.models_here(config.root, db=config.db, spec=job.spec))


def _spend_json(job: Job, config: Config) -> dict[str, Any]:
    spend = _spend(job, config)
    if spend is None:
        return {}
    budget = job.spec.budget
    price = {name: getattr(spend, name) for name in spend.__slots__}
    caps = {"usd": budget.usd, "tokens": budget.tokens, "approve_above_usd": budget.approve_above_usd}
    return {"price": price, "budget": caps, "reasons": dict(job.reasons)}


def _spend_facts(job: Job, config: Config) -> list[tuple[str, str]]:
    spend = _spend(job, config)
    if spend is None:
        return []
    from maos_bot.reporting.plan_view import spend_facts

    return spend_facts(
        tokens=(spend.tokens_p50, spend.tokens_p90),
        usd=None if spend.usd_p50 is None or spend.usd_p90 is None else (spend.usd_p50, spend.usd_p90),
        agents=spend.tasks,
        defaults=spend.defaults,
        models=spend.models,
        budget=job.spec.budget,
        reasons=job.reasons,
    )


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


def doctor(cwd: Path, *, as_json: bool) -> int:
    """Show what this machine offers and which limits `auto` becomes, each with its reason."""
    from maos_bot import crewing
    from maos_bot.execution.confinement import confinement
    from maos_bot.github.capability import lines
    from maos_bot.resources.cgroup import cgroups
    from maos_bot.resources.pressure import Gauge

    root = find_root(cwd)
    runner, groups, gauge = probe(root), cgroups(), Gauge()
    github = _on_github(os.environ)
    providers = crewing.providers_here(root)
    limits = resolve_limits(Spec(path="", name="", tasks=()), {}, runner)
    if as_json:
        _print_json(
            {
                "cpus": runner.cpus,
                "cpu_reason": runner.cpu_reason,
                "memory_mb": runner.memory_mb,
                "memory_reason": runner.memory_reason,
                "available_mb": runner.available_mb,
                "disk_free_mb": runner.disk_free_mb,
                "processes_free": runner.processes_free,
                "cgroups": {"version": groups.version, "writable": groups.writable, "reason": groups.reason},
                "agent_commands": confinement().words(),
                "pressure": list(gauge.sources),
                "memory_floor_mb": gauge.floor_mb,
                "limits": {name: {"value": limit.value, "reason": limit.reason} for name, limit in limits.items()},
                "github": {each.name: {"says": each.says, "mend": each.mend} for each in github},
                "providers": providers,
            }
        )
        return ExitCode.OK
    pressure = ", ".join(gauge.sources) or "the kernel doesn't tell it: slots aren't scaled by it"
    processes = "unknown" if runner.processes_free is None else f"{runner.processes_free:,} more may be started"
    from rich.text import Text

    from maos_bot.reporting.page import page, say

    console = page()
    floor = "unknown" if gauge.floor_mb is None else f"below {gauge.floor_mb:.0f} MB left a task is put back"
    for name, value in (
        ("CPUs", f"{runner.cpus:g} ({runner.cpu_reason})"),
        ("memory", f"{_megabytes(runner.memory_mb)} ({runner.memory_reason}), {_megabytes(runner.available_mb)} free"),
        ("floor", floor),
        ("disk", f"{_megabytes(runner.disk_free_mb)} free"),
        ("processes", f"{processes} ({runner.processes_reason})"),
        ("cgroups", f"{groups.version}: {groups.reason}"),
        ("agents' commands", confinement().words()),
        ("pressure", pressure),
        ("providers", "; ".join(f"{name}: {says}" for name, says in providers.items()) or crewing.NO_KEY),
        *(
            (f"limit {name}", f"{'none' if limit.value is None else f'{limit.value:g}'} ({limit.reason})")
            for name, limit in limits.items()
        ),
    ):
        say(console, Text.assemble((f"{name:<26}", "dim"), value))
    say(console, Text("\n".join(("", "On GitHub:", *lines(github, width=25)))))
    return ExitCode.OK


def this_machine(root: Path) -> Sequence[Ability]:
    """The runner's size and the providers, as an action says them at its start."""
    from maos_bot import crewing
    from maos_bot.github.capability import machine

    return machine(probe(root), crewing.providers_here(root))


def _on_github(env: Mapping[str, str]) -> Sequence[Ability]:
    """What the token in the environment is and has left, and in a workflow what its event allows."""
    from maos_bot.github.capability import Ability, abilities, quota
    from maos_bot.github.client import API_URL, GitHubClient
    from maos_bot.github.trigger import read_trigger
    from maos_bot.github.trust import decide

    token = env.get("INPUT_GITHUB-TOKEN") or env.get("GITHUB_TOKEN") or ""
    repository = env.get("GITHUB_REPOSITORY", "")
    left = None
    if token and repository:
        address = env.get("GITHUB_API_URL") or API_URL
        bundle = env.get("REQUESTS_CA_BUNDLE") or env.get("SSL_CERT_FILE") or ""
        try:
            left = quota(
                GitHubClient(token=token, repository=repository, api_url=address, ca_bundle=bundle, timeout_s=5)
            )
        except ConfigError as error:
            return [Ability(name="client", says=error.message, mend=error.hint)]
    if not env.get("GITHUB_EVENT_PATH"):
        return abilities(token=token, left=left, trigger=None, decision=None)
    try:
        payload = json.loads(Path(env["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the event file {env['GITHUB_EVENT_PATH']} can't be read: {error}") from error
    trigger = read_trigger(env.get("GITHUB_EVENT_NAME", ""), payload, env)
    return abilities(token=token, left=left, trigger=trigger, decision=decide(trigger, has_token=bool(token)))


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


def _chosen(tasks: tuple[Task, ...], wanted: Sequence[str]) -> tuple[Task, ...]:
    """The tasks named, with all they need, in the spec's order; a matrix task's base id names all its variants."""
    if not wanted:
        return tasks
    by_id = {task.id: task for task in tasks}
    todo = []
    for name in wanted:
        variants = [task.id for task in tasks if task.matrix and task.id.startswith(f"{name}.")]
        found = [name] if name in by_id else variants
        if not found:
            import difflib

            near = difflib.get_close_matches(name, by_id, n=1)
            known = ", ".join(list(by_id)[:_MOST_NAMED]) + (", ..." if len(by_id) > _MOST_NAMED else "")
            hint = f"did you mean {near[0]}?" if near else f"there are {known}"
            raise ConfigError(f"--task {name}: there is no such task", hint=hint)
        todo += found
    chosen: set[str] = set()
    while todo:
        task_id = todo.pop()
        if task_id not in chosen:
            chosen.add(task_id)
            todo += by_id[task_id].needs
    return tuple(task for task in tasks if task.id in chosen)


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


def _megabytes(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f} MB"
