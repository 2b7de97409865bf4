"""The original system's classes over this engine: for programs that plan and run from Python.

    analyzer = DependencyAnalyzer(ParallelStrategy.BALANCED)          # plans
    orchestrator = ParallelOrchestrator(config, strategy)             # runs, and tells how it goes
    manager = ResourceManager(config)                                 # reserves and measures
    lead = TeamLead("qa", db=".maos/maos.db")                         # what a team has shown it can do

All are importable from `maos_bot` itself, which loads them only when they are used.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from maos_bot.app import local_trigger
from maos_bot.config import DATABASE, Config, find_root
from maos_bot.errors import ConfigError, ExitCode
from maos_bot.events import ResourceSampled, RunEvent, TaskFinished, TaskStarted
from maos_bot.execution.environment import secret_values
from maos_bot.execution.orchestrator import Orchestrator
from maos_bot.execution.scheduler import Facts
from maos_bot.frozen import dataclass
from maos_bot.model import (
    AGENTS,
    CPU,
    GOOD_STATES,
    MEMORY,
    ExecutionMode,
    ParallelStrategy,
    Plan,
    RunStatus,
    Spec,
    TaskKind,
    TaskState,
    Trigger,
)
from maos_bot.planning.parallelism import DependencyAnalyzer, ExecutionPlan
from maos_bot.planning.planner import make_plan
from maos_bot.redact import Redactor
from maos_bot.reporting.report import ReportBuilder, RunReport, TaskReport
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.manager import ResourceAllocation, ResourceManager, ResourceType, limits_of
from maos_bot.resources.monitor import History, Point
from maos_bot.resources.runner import probe
from maos_bot.spec.load import load_spec
from maos_bot.spec.project import Project, spec_of

if TYPE_CHECKING:
    from maos_bot.agents.crew import Crew

__all__ = [
    "DependencyAnalyzer",
    "ExecutionMode",
    "ExecutionPlan",
    "ParallelOrchestrator",
    "ParallelStrategy",
    "ResourceAllocation",
    "ResourceManager",
    "ResourceType",
    "TeamLead",
]

RUNS_LOOKED_AT: Final = 30


class ParallelOrchestrator:
    """Runs projects as a whole. `config` is None, a `Config`, or a mapping with any of `root`, `db` (None: nothing is
    stored) and `resource_limits`; where it names no `root`, tasks run in the folder that is current.
    """

    def __init__(self, config: Any = None, strategy: ParallelStrategy = ParallelStrategy.BALANCED) -> None:
        self.strategy = ParallelStrategy(strategy)
        self._limits = limits_of(config) if _names_limits(config) else {}
        self._root = Path(_setting(config, "root") or Path.cwd())
        db = _setting(config, "db")
        self._db = Path(db) if db else None
        self._builder: ReportBuilder | None = None
        self._plan: Plan | None = None
        self._history = History({})
        self._held: dict[str, Mapping[str, float]] = {}
        self._orchestrator: Orchestrator | None = None

    async def execute_project_parallel(
        self, project: Project | str | os.PathLike[str], mode: ExecutionMode = ExecutionMode.HYBRID
    ) -> bool:
        """Run all of `project` (a spec, a state, tasks, or a path to a spec or a `state.json`); whether all went well.

        Raises `SpecError` or `ConfigError`, before anything runs, for what can't be run. One run goes on at a time.
        """
        if self._orchestrator is not None:
            raise ConfigError("this orchestrator runs a project already", hint="wait for it, or make another")
        spec = load_project(project)
        limits = resolve_limits(spec, self._limits, probe(self._root))
        self._plan = plan = make_plan(
            spec.tasks, limits=limits, mode=ExecutionMode(mode), strategy=self.strategy, spec_path=spec.path
        )
        self._builder = builder = ReportBuilder()
        self._history = History({name: limit.value for name, limit in limits.items()})
        self._held = {}
        demands = {task.id: {AGENTS: 1.0, **task.demand} for task in spec.tasks}
        trigger = local_trigger(find_root(self._root))
        run_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(3)
        unavailable, crew = self._crew(spec, trigger, run_id)
        with _stored(self._db) as sinks:

            def emit(event: RunEvent) -> None:
                builder.add(event)
                self._follow(event, demands)
                for sink in sinks:
                    sink.add(event)

            self._orchestrator = Orchestrator(
                run_id=run_id,
                spec=spec,
                tasks=spec.tasks,
                plan=plan,
                facts=Facts(unavailable=unavailable),
                trigger=trigger,
                root=self._root,
                emit=emit,
                redactor=Redactor(secret_values(os.environ)),
                environ=os.environ,
                agents=crew,
            )
            try:
                finished = await self._orchestrator.run()
            finally:
                self._orchestrator = None
        return finished.exit_code == ExitCode.OK

    def _crew(self, spec: Spec, trigger: Trigger, run_id: str) -> tuple[Mapping[str, str], Crew | None]:
        """Why agents' tasks can't be done here, by their id, and who does those that can; goals aren't planned."""
        if not any(task.kind is TaskKind.AGENT for task in spec.tasks):
            return {}, None
        from maos_bot.hiring import crew_of, hire

        config = Config(root=self._root, spec=Path(spec.path), db=self._db or self._root / DATABASE)
        hired = hire(replace(spec, goal=""), config, trigger=trigger)
        if hired.staff is None or not any(
            task.kind is TaskKind.AGENT and task.id not in hired.unavailable for task in spec.tasks
        ):
            return hired.unavailable, None
        patch = config.db.parent / f"{run_id}.patch"
        return hired.unavailable, crew_of(
            hired.staff,
            spec,
            spec.tasks,
            config=config,
            patch=patch,
            run_id=run_id,
            environ=os.environ,
        )

    @property
    def report(self) -> RunReport | None:
        """All that is known of the last run; None before the first."""
        return self._builder.report() if self._builder else None

    def get_execution_status(self) -> dict[str, Any]:
        """How the run goes, or went: measured, but for `estimated_speedup`, which is the plan's."""
        report, plan = self.report, self._plan
        if report is None or plan is None:
            return {"status": "idle", "completion_rate": None, "active_groups": [], "estimated_speedup": None}
        running = {task.id for task in report.tasks.values() if task.state is TaskState.RUNNING}
        ended = sum(task.ended for task in report.tasks.values())
        return {
            "status": str(report.status),
            "mode": report.mode,
            "completion_rate": ended / len(report.tasks) if report.tasks else None,
            "tasks": {str(state): count for state, count in report.counts.items()},
            "active_tasks": sorted(running),
            "active_groups": [
                group.id for stage in plan.stages for group in stage.groups if running.intersection(group.tasks)
            ],
            "resource_usage": dict(self._history.points[-1].used) if self._history.points else {},
            "estimated_speedup": plan.predicted.speedup,
            "speedup": report.speedup if report.status is not RunStatus.RUNNING else None,
            "reason": report.reason,
        }

    def get_performance_metrics(self) -> dict[str, Any]:
        """Efficiency, trends and advice from the measurements of the last run, one a second."""
        return self._history.summary()

    def _follow(self, event: RunEvent, demands: Mapping[str, Mapping[str, float]]) -> None:
        if isinstance(event, TaskStarted):
            self._held[event.task] = demands[event.task]
        elif isinstance(event, TaskFinished):
            self._held.pop(event.task, None)
        elif isinstance(event, ResourceSampled) and not event.task:
            used = {MEMORY: event.memory_mb, CPU: event.cpu_percent, AGENTS: event.agents}
            held = {name: sum(demand.get(name, 0.0) for demand in self._held.values()) for name in used}
            measured = {name: float(value) for name, value in used.items() if value is not None}
            self._history.add(Point(at=event.at, used=measured, held=held))


class TeamLead:
    """What a team has shown in the runs that are stored in `db`, the newest `RUNS_LOOKED_AT` in which it had tasks."""

    def __init__(
        self, team: str, *, db: str | os.PathLike[str] | None = None, max_concurrent_workers: int | None = None
    ) -> None:
        self.team = team
        self.max_concurrent_workers = max_concurrent_workers
        self._db = Path(db) if db else None

    def get_parallel_capabilities(self) -> dict[str, Any]:
        """Workers, speedup and success as measured; None is what no stored run tells."""
        shown = [_Shown.of(tasks) for tasks in self._tasks_of_runs()]
        speedups = [each.speedup for each in shown if each.speedup is not None]
        tasks = sum(each.tasks for each in shown)
        return {
            "team": self.team,
            "max_workers": self.max_concurrent_workers,
            "observed_workers": max((each.at_once for each in shown), default=None),
            "estimated_parallel_speedup": statistics.median(speedups) if speedups else None,
            "success_rate": sum(each.good for each in shown) / tasks if tasks else None,
            "tasks": tasks,
            "runs": len(shown),
            "delegation_status": _delegation(shown),
        }

    def _tasks_of_runs(self) -> Iterator[list[TaskReport]]:
        if self._db is None or not self._db.exists():
            return
        from maos_bot.store.queries import Queries

        with Queries(self._db) as queries:
            for row in queries.runs(limit=RUNS_LOOKED_AT):
                builder = ReportBuilder()
                for event in queries.iter_events(row.run_id, with_output=False):
                    builder.add(event)
                ran = [task for task in builder.report().tasks.values() if task.team == self.team and task.ran]
                if ran:
                    yield ran


def _delegation(shown: Sequence[_Shown]) -> dict[str, int] | None:
    """How often the team's work was sent back and mended; None where no stored run has work of agents."""
    agents = sum(each.agents for each in shown)
    if not agents:
        return None
    return {
        "agent_tasks": agents,
        "sent_back": sum(each.sent_back for each in shown),
        "mended": sum(each.mended for each in shown),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """What one run shows of a team."""

    tasks: int
    good: int
    agents: int
    sent_back: int  # attempts of agents after the first
    mended: int  # agents' tasks that were accepted after they had been sent back
    at_once: int
    speedup: float | None  # the sum of its tasks' times over the time in which any of them ran

    @classmethod
    def of(cls, tasks: Sequence[TaskReport]) -> _Shown:
        spans = [(task.started_s, task.finished_s) for task in tasks]
        known = [(begun, over) for begun, over in spans if begun is not None and over is not None]
        steps = sorted([(begun, 1) for begun, _ in known] + [(over, -1) for _, over in known])
        now = most = 0
        busy, since = 0.0, 0.0
        for at, step in steps:
            busy += at - since if now else 0.0
            since, now = at, now + step
            most = max(most, now)
        return cls(
            tasks=len(tasks),
            good=sum(task.state in GOOD_STATES for task in tasks),
            agents=sum(task.kind == TaskKind.AGENT for task in tasks),
            sent_back=sum(task.attempts - 1 for task in tasks if task.kind == TaskKind.AGENT),
            mended=sum(task.good and task.attempts > 1 for task in tasks if task.kind == TaskKind.AGENT),
            at_once=most,
            speedup=sum(over - begun for begun, over in known) / busy if busy > 0 else None,
        )


def load_project(project: Project | str | os.PathLike[str]) -> Spec:
    """The spec that `project` stands for; raises `ConfigError` or `SpecError` where it stands for none."""
    if not isinstance(project, str | os.PathLike):
        return spec_of(project)
    path = Path(project)
    if path.suffix != ".json":
        return load_spec(path)
    import json

    try:
        return spec_of(json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from error


@contextlib.contextmanager
def _stored(db: Path | None) -> Iterator[Sequence[Any]]:
    """The database at `db` as a sink, closed at the end; none without a path."""
    if db is None:
        yield ()
        return
    from maos_bot.store.writer import StoreWriter

    db.parent.mkdir(parents=True, exist_ok=True)
    writer = StoreWriter(db)
    try:
        yield (writer,)
    finally:
        writer.close()


def _setting(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def _names_limits(config: Any) -> bool:
    return isinstance(config, Config) or any(
        _setting(config, name) is not None for name in ("resource_limits", "limits")
    )
