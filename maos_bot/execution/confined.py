"""Commands that agents run: held in their worktree, with an environment that holds nothing of ours, killed whole.

It fits `maos_bot.agents.tools.Commands` by its shape. What runs is `maos_bot.execution.jail`, as an attempt like that
of a command task: a session of its own, output in bounded memory and redacted, an end that leaves nothing running.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from maos_bot.execution.capture import Capture
from maos_bot.execution.confinement import JAIL, Confinement, confinement, readable_folders
from maos_bot.execution.environment import Environment, Shared
from maos_bot.execution.jail import Hold
from maos_bot.execution.launch import StartError, launch
from maos_bot.execution.process import CommandAttempt
from maos_bot.execution.tree import Family
from maos_bot.execution.watcher import Watcher
from maos_bot.frozen import dataclass
from maos_bot.model import Outcome, Task, TaskState
from maos_bot.redact import Redactor

_MARKER: Final = "MAOS_AGENT_COMMAND"
_MOST_PROCESSES: Final = 500  # of one command's tree
_KEPT: Final = ("LANG", "LANGUAGE", "TZ", "PATH", "VIRTUAL_ENV", "JAVA_HOME", "GOROOT", "RUSTUP_HOME", "PYENV_ROOT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What a command came to. `code` is None where it was ended, or never began, for `reason`."""

    text: str
    code: int | None
    reason: str = ""


class AgentCommands:
    """Runs commands for agents. `environ` is ours: what little of it a command may see is picked from it by name."""

    def __init__(self, *, redactor: Redactor, environ: Mapping[str, str], held_by: Confinement | None = None) -> None:
        self._redactor = redactor
        self._environ = environ
        self._given = held_by
        self._scratch: dict[Path, Path] = {}

    @property
    def holds(self) -> bool:
        """Whether files beside the worktree are out of a command's reach."""
        return self._confinement.holds

    @property
    def refusal(self) -> str:
        """Why agents run no commands of their own here; empty where they may."""
        return self._confinement.refusal(self._environ)

    @property
    def _confinement(self) -> Confinement:
        if self._given is None:
            self._given = confinement()
        return self._given

    async def run(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        changes: bool = True,
        memory_mb: float | None = None,
        held: bool = True,
    ) -> Ran:
        """Run `argv` in `folder`, which it can change only where `changes`; `env` comes on top of what all get.

        A program of our own that confines itself need not be `held`: it is only ended whole, like all others.
        What can't be started is a `Ran` that says so. Cancelling ends it, and waits until nothing of it is left.
        """
        folder = folder.resolve()
        scratch = await asyncio.to_thread(self._scratch_of, folder)
        marker = secrets.token_hex(16)
        hold = await asyncio.to_thread(self._hold, folder, scratch, changes=changes) if held else Hold()
        whole = {**agent_environment(self._environ, scratch), **(env or {}), _MARKER: marker, "PWD": str(folder)}
        return await self._attempt((*JAIL, hold.to_json(), *argv), folder, whole, timeout_s, memory_mb)

    def _hold(self, folder: Path, scratch: Path, *, changes: bool) -> Hold:
        own = (str(folder), str(scratch))
        git = folder / ".git"
        return self._confinement.hold(
            readable=(*readable_folders(self._environ), *own),
            writable=own if changes else own[1:],
            hidden=(str(git),) if git.is_file() and not git.is_symlink() else (),
        )

    async def _attempt(
        self, argv: tuple[str, ...], folder: Path, env: Mapping[str, str], timeout_s: float, memory_mb: float | None
    ) -> Ran:
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        outcomes: list[Outcome] = []
        crashes: list[Exception] = []
        pieces: list[str] = []
        marker = os.fsencode(f"{_MARKER}={env[_MARKER]}")

        def sink(text: str, _: int, omitted: int) -> None:
            pieces.append(f"\n[{omitted:,} bytes left out]\n{text}" if omitted else text)

        def ended(outcome: Outcome) -> None:
            outcomes.append(outcome)
            over.set()

        task = Task(id="command", run="", timeout_s=timeout_s)
        devnull = os.open(os.devnull, os.O_RDONLY)
        try:
            family = Family(marker)
            launched = launch(
                task, folder=folder, env=Environment(Shared({}), env), new_file=_no_file, devnull=devnull, argv=argv
            )
        except StartError as error:
            return Ran(text="", code=None, reason=str(error))
        finally:
            os.close(devnull)
        attempt = CommandAttempt(
            task,
            launched,
            marker=marker,
            capture=Capture(self._redactor, sink),
            family=family,
            ended=ended,
            crashed=crashes.append,
        )
        watch = _Watch(loop, attempt, memory_mb)
        try:
            await over.wait()
        except asyncio.CancelledError:
            attempt.end(TaskState.CANCELLED, "cancelled", grace_s=0.0)
            while not over.is_set():  # asked a second time to end, there is still nothing better to do
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    continue
            raise
        finally:
            watch.close()
        if crashes:
            raise crashes[0]
        (outcome,) = outcomes
        reached = outcome.state in (TaskState.TIMED_OUT, TaskState.CANCELLED) or outcome.exit_code is None
        broken = reached or (outcome.state is TaskState.FAILED and not outcome.reason.startswith("exit code"))
        return Ran(text="".join(pieces), code=None if broken else outcome.exit_code, reason=outcome.reason)

    def _scratch_of(self, folder: Path) -> Path:
        """A folder for what commands in `folder` keep beside it: their home, and temporary files."""
        if folder not in self._scratch:
            self._scratch[folder] = Path(tempfile.mkdtemp(prefix="maos-agent-")).resolve()
        for name in ("home", "tmp"):
            (self._scratch[folder] / name).mkdir(exist_ok=True)
        return self._scratch[folder]

    def close(self) -> None:
        """Remove what commands kept."""
        for folder in self._scratch.values():
            shutil.rmtree(folder, ignore_errors=True)  # what a command made unreadable there is left to the system
        self._scratch.clear()


def agent_environment(environ: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """All that an agent's command sees: names on a list, a home of its own, git without anybody's settings."""
    kept = {name: value for name, value in environ.items() if name in _KEPT or name.startswith("LC_")}
    return {
        **kept,
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "XDG_CACHE_HOME": str(scratch / "home/.cache"),
        "TERM": "dumb",
        "NO_COLOR": "1",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": os.devnull,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class _Watch:
    """Ends a command whose tree has too many processes or holds too much memory."""

    def __init__(self, loop: asyncio.AbstractEventLoop, attempt: CommandAttempt, memory_mb: float | None) -> None:
        self._loop = loop
        self._attempt = attempt
        self._watcher = Watcher()
        self._watcher.add(
            attempt.pid, marker=attempt.marker, memory_mb=memory_mb, processes=_MOST_PROCESSES, now=loop.time()
        )
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def _look(self) -> None:
        for breach in self._watcher.look(self._loop.time()):
            self._attempt.kill(TaskState.FAILED, breach.reason, known=breach.members, growing=breach.growing)
        due = self._watcher.due
        self._timer = None if due is None or due == float("inf") else self._loop.call_at(due, self._look)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()


def _no_file(suffix: str) -> Path:
    raise AssertionError(f"a program needs no script file ({suffix})")
