"""The asyncio driver: carries out what the scheduler decides and writes down, as events, all that happens.

A bug of ours in one attempt ends that task as failed, with the reason; the run goes on, is recorded to its end, and
only then the error is raised. A sink that fails is different: without it nothing is recorded, so everything is stopped
and its error raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from maos_bot.events import RunEvent, RunFinished, RunStarted, TaskReady, TaskStarted
from maos_bot.execution.attempts import Agents, Attempt
from maos_bot.execution.bookends import beginning, verdict
from maos_bot.execution.capture import Capture
from maos_bot.execution.commands import Commands
from maos_bot.execution.guard import Bounds, Guard
from maos_bot.execution.launch import Launched, StartError
from maos_bot.execution.past import CUT, Past
from maos_bot.execution.process import STOP_GRACE_S, CommandAttempt
from maos_bot.execution.recorder import Recorder
from maos_bot.execution.sampler import Sampler
from maos_bot.execution.scheduler import (
    AttemptEnded,
    Begin,
    CancelRequested,
    Decision,
    End,
    Facts,
    Input,
    PutBack,
    Ready,
    Retry,
    Scheduler,
    Start,
    Stop,
    TimerDue,
)
from maos_bot.execution.spawn import keep_descriptors
from maos_bot.execution.tree import adopting, end_marked
from maos_bot.model import Outcome, Plan, Spec, Task, TaskKind, TaskState, Trigger
from maos_bot.redact import Redactor

if TYPE_CHECKING:
    from maos_bot.execution.cache import Look, TaskCache
    from maos_bot.execution.reuse import Reuse


class Orchestrator:
    """One run of `tasks` by `plan`. `emit` is called in the loop's thread for each event and must return at once."""

    def __init__(
        self,
        *,
        run_id: str,
        spec: Spec,
        tasks: Sequence[Task],
        plan: Plan,
        facts: Facts,
        trigger: Trigger,
        root: Path,
        emit: Callable[[RunEvent], None],
        redactor: Redactor,
        environ: Mapping[str, str],
        cpus: float | None = None,
        past: Past | None = None,
        cache: TaskCache | None = None,
        agents: Agents | None = None,
    ) -> None:
        """`environ` is our own, from which the tasks' is made; `cpus` the runner's size, for percentages.

        With a `past`, that run of the same id goes on: its numbering, its clock, and what it hadn't done. With a
        `cache`, tasks that it has the result of don't run. `agents` do the tasks that are theirs; without them those
        must be `unavailable` in `facts`.
        """
        self._run_id = run_id
        self._spec = spec
        self._tasks = {task.id: task for task in tasks}
        self._plan = plan
        self._trigger = trigger
        self._root = root
        self._record = Recorder(run_id, emit=emit, redactor=redactor, past=past)
        self._redactor = redactor
        self._environ = environ
        self._commands = Commands(run_id=run_id, root=root, environ=environ)
        self._past = past
        self._scheduler = Scheduler(tasks, plan=plan, facts=facts, past=past or Past())
        self._cpus = cpus or os.cpu_count() or 1
        self._guard: Guard | None = None  # while the run goes on
        self._agents = agents
        self._running: dict[str, Attempt] = {}
        self._launching: set[str] = set()
        self._launched: deque[tuple[Start, Callable[[], Attempt]]] = deque()  # started, and not yet seen to
        self._at_once = False  # asked a second time to stop
        self._ran = bool(past and past.begun)
        self._inputs: list[Input] = []
        self._over: asyncio.Future[None] | None = None  # while the run goes on
        self._awake = False  # a turn is about to be taken
        self._timer: asyncio.TimerHandle | None = None  # for the scheduler's next one
        self._reuse = self._reusing(cache) if cache else None
        self._looked: list[tuple[Start, Look]] = []
        self._cancelled = ""
        self._bug: Exception | None = None

    def cancel(self, reason: str) -> None:
        """Stop the run: first with SIGTERM and a grace; asked a second time, at once. On the loop's thread."""
        if not self._cancelled:
            self._cancelled = reason
            self._put(CancelRequested(reason))
            return
        self._at_once = True
        for attempt in tuple(self._running.values()):
            attempt.end(TaskState.CANCELLED, self._cancelled, grace_s=0.0)

    async def run(self) -> RunFinished:
        """Run to the end; every event was emitted when it returns the last one. Nothing is left running."""
        keep_descriptors()
        if self._past:
            self._go_on(self._past)
        else:
            self._record.tell(
                RunStarted,
                **beginning(
                    self._spec,
                    self._tasks.values(),
                    plan=self._plan,
                    trigger=self._trigger,
                    root=self._root,
                    redact=self._redactor.text,
                ),
            )
        with adopting(), self._commands:
            self._guard = guard = Guard(
                Bounds.of(self._plan, self._cpus), put=self._put, failed=self._crashed, starting=self._launching
            )
            self._over = asyncio.get_running_loop().create_future()
            sampler = asyncio.ensure_future(Sampler(self._cpus).follow(self._running, guard, self._record.tell))
            sampler.add_done_callback(self._sampler_ended)
            try:
                self._put(Begin())
                await self._over
            finally:
                if self._timer:
                    self._timer.cancel()
                sampler.cancel()
                await self._end_rest()
                guard.close()
                if self._agents:
                    await self._agents.close()
        status, code, reason = verdict(
            self._tasks.values(),
            self._scheduler.states,
            ran=self._ran,
            cancelled=self._cancelled,
            bug=self._bug,
            over_budget=self._agents.over_budget if self._agents else "",
        )
        finished: RunFinished = self._record.tell(
            RunFinished, status=status.value, exit_code=code, wall_s=self._record.wall_s, reason=reason
        )
        if self._bug:
            raise self._bug
        return finished

    def _go_on(self, past: Past) -> None:
        """See to what the process that died left behind: its tasks' processes, and attempts without an end."""
        end_marked(b"MAOS_RUN_ID=" + os.fsencode(self._run_id))
        for cut in past.cut:
            outcome = replace(CUT, duration_s=cut.lived_s, output_bytes=cut.output_bytes)
            self._record.finished(cut.task, cut.attempt, outcome, final=False)

    def _wake(self) -> None:
        """See to what has happened, as soon as all that happened at this instant is known."""
        if not self._awake and self._over is not None:
            self._awake = True
            self._commands.soon(self._take_turn)

    def _take_turn(self) -> None:
        self._awake = False
        if self._over is None or self._over.done():
            return  # what ends now was ended with the run
        try:
            self._turn()
        except Exception as error:  # noqa: BLE001 - it ends the run
            self._over.set_exception(error)
        else:
            if self._scheduler.done:
                self._over.set_result(None)

    def _turn(self) -> None:
        """Take in what has happened and carry out what follows from it."""
        while self._launched:
            self._take_over(*self._launched.popleft())
        looked, self._looked = self._looked, []
        for start, look in looked:
            self._take_or_start(start, look)
        inputs, self._inputs = self._inputs, []
        for decision in self._scheduler.handle_all(inputs, time.monotonic()):
            self._carry_out(decision)
        due = self._scheduler.next_timer
        if self._timer and self._timer.when() != due:
            self._timer.cancel()
            self._timer = None
        if due is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._timer_due)

    def _timer_due(self) -> None:
        self._timer = None
        self._put(TimerDue())

    def _sampler_ended(self, sampler: asyncio.Future[None]) -> None:
        """It ends only by an error, or with the run."""
        if self._over and not self._over.done() and not sampler.cancelled() and (error := sampler.exception()):
            self._over.set_exception(error)

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Ready():
                self._record.tell(TaskReady, task=decision.task, freed_by=decision.freed_by)
            case Start():
                self._consider(decision)
            case Retry():
                self._record.finished(decision.task, decision.attempt, decision.outcome, retry_in_s=decision.retry_in_s)
            case End():
                if self._reuse:
                    self._reuse.settled(decision.task, decision.outcome.state)
                self._record.finished(decision.task, decision.attempt, decision.outcome)
            case Stop():
                if running := self._running.get(decision.task):  # else it is being looked up or started, and hears soon
                    running.end(TaskState.CANCELLED, decision.reason, grace_s=STOP_GRACE_S)

    def _consider(self, start: Start) -> None:
        """Start a task, unless the cache has what it would come to."""
        if not self._reuse or not self._reuse.wants(start.task):
            self._start(start)
            return
        try:
            folder = self._commands.folder(self._tasks[start.task])
        except StartError:
            self._start(start)  # it says so
            return

        def looked(look: Look) -> None:
            self._looked.append((start, look))
            self._wake()

        self._reuse.look(start.task, folder, quiet=not (self._running or self._launching), then=looked)

    def _reusing(self, cache: TaskCache) -> Reuse:
        from maos_bot.execution.reuse import Reuse

        return Reuse(
            cache,
            tuple(self._tasks.values()),
            environ=self._environ,
            base_env=self._commands.base_env,
            results=self._past.results if self._past else {},
            crashed=self._crashed,
        )

    def _take_or_start(self, start: Start, look: Look) -> None:
        if self._cancelled:
            outcome = Outcome(state=TaskState.CANCELLED, reason=self._cancelled)
            self._put(AttemptEnded(start.task, outcome, began=False))
        elif look.hit:
            hit = look.hit
            self._record.replay(start.task, hit.log)
            outcome = Outcome(
                state=TaskState.CACHED,
                reason=f"unchanged since run {hit.run_id}",
                output_bytes=hit.output_bytes,
                omitted_bytes=hit.omitted_bytes,
                saved_s=hit.duration_s,
                result=look.result,
            )
            self._put(AttemptEnded(start.task, outcome, began=False))
        else:
            self._start(start)

    def _start(self, start: Start) -> None:
        task = self._tasks[start.task]
        if task.kind is TaskKind.COMMAND:
            self._launch(start, task)
            return
        if self._agents and (refused := self._agents.refused(task)):
            outcome = Outcome(state=TaskState.SKIPPED, reason=refused)
            self._put(AttemptEnded(task.id, outcome, began=False))
            return
        self._begin(start, lambda: self._agent_attempt(task, start.attempt))

    def _launch(self, start: Start, task: Task) -> None:
        def then(launched: Launched | Exception) -> None:
            self._launched.append((start, lambda: self._command_attempt(task, start.attempt, launched)))
            self._wake()

        if self._reuse:
            self._reuse.moved()
        self._launching.add(task.id)
        self._commands.launch(task, start.attempt, then)

    def _take_over(self, start: Start, make: Callable[[], Attempt]) -> None:
        """A task's process was started, or couldn't be."""
        self._launching.discard(start.task)
        self._begin(start, make)
        if self._cancelled and (attempt := self._running.get(start.task)):
            attempt.end(TaskState.CANCELLED, self._cancelled, grace_s=0.0 if self._at_once else STOP_GRACE_S)

    def _begin(self, start: Start, make: Callable[[], Attempt]) -> None:
        """An attempt begins, or can't: either is recorded."""
        attempt: Attempt | None = None
        failure = ""
        try:
            attempt = make()
            self._running[start.task] = attempt
            if self._guard and isinstance(attempt, CommandAttempt):
                self._guard.started(start.task, attempt)
        except StartError as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - raised again when the run was recorded to its end
            self._crashed(error)
            failure = f"internal error: {type(error).__name__}: {error}"
        self._ran = True
        if self._reuse:
            self._reuse.moved()
        self._record.tell(
            TaskStarted,
            task=start.task,
            attempt=start.attempt,
            queued_s=start.queued_s,
            wait_reason=start.wait_reason,
            freed_by=start.freed_by,
            pid=attempt.pid if attempt else None,
        )
        if attempt is None:
            self._put(AttemptEnded(start.task, Outcome(state=TaskState.FAILED, reason=failure)))

    def _capture(self, task: Task, number: int) -> Capture:
        printed = partial(self._reuse.printed, task.id) if self._reuse else None
        return self._record.capture(task.id, number, printed)

    def _agent_attempt(self, task: Task, number: int) -> Attempt:
        if self._agents is None:
            raise StartError("there is nobody here to do an agent's task")
        return self._agents.start(
            task,
            number,
            capture=self._capture(task, number),
            tell=partial(self._record.tell_of_attempt, task.id, number),
            ended=lambda outcome: self._ended(task.id, outcome),
            crashed=self._crashed,
        )

    def _command_attempt(self, task: Task, number: int, launched: Launched | Exception) -> Attempt:
        if isinstance(launched, Exception):
            raise launched
        return self._commands.attempt(
            task,
            number,
            launched,
            capture=self._capture(task, number),
            ended=lambda outcome: self._ended(task.id, outcome),
            crashed=self._crashed,
        )

    def _ended(self, task: str, outcome: Outcome) -> None:
        del self._running[task]
        if self._reuse:
            self._reuse.moved()
        is_command = self._tasks[task].kind is TaskKind.COMMAND
        if is_command and self._guard is not None and self._guard.ended(task, outcome.state):
            self._put(PutBack(task, outcome))
        elif self._reuse:
            self._reuse.ended(task, outcome, lambda outcome: self._put(AttemptEnded(task, outcome)))
        else:
            self._put(AttemptEnded(task, outcome))

    def _crashed(self, error: Exception) -> None:
        self._bug = self._bug or error

    async def _end_rest(self) -> None:
        """Where the run itself failed, end what still runs; in any case what hid from its task."""
        if self._running or self._launching:
            self._cancelled, self._at_once = self._cancelled or "the run was ended", True
        for attempt in tuple(self._running.values()):
            attempt.end(TaskState.CANCELLED, "the run was ended", grace_s=0.0)
        while self._running or self._launching or (self._reuse and self._reuse.pending):
            await asyncio.sleep(0.01)
            while self._launched:
                start, make = self._launched.popleft()
                self._launching.discard(start.task)
                with contextlib.suppress(StartError):  # then there is nothing to end
                    attempt = self._running[start.task] = make()
                    attempt.end(TaskState.CANCELLED, self._cancelled, grace_s=0.0)
        if self._reuse:
            self._reuse.close()
        self._commands.end_strays()

    def _put(self, happened: Input) -> None:
        self._inputs.append(happened)
        self._wake()
