"""Starting a process: with exactly the environment, output, folder and signals it is to have, whichever way is used."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from pathlib import Path

import pytest

from maos_bot.execution import spawn as spawning
from maos_bot.execution.capture import Capture
from maos_bot.execution.environment import Environment, Shared
from maos_bot.execution.launch import Launched, Launcher, StartError
from maos_bot.execution.native_spawn import NativeSpawn
from maos_bot.execution.process import CommandAttempt
from maos_bot.execution.readers import LoopReaders, Watching, watching
from maos_bot.execution.shell import Script
from maos_bot.execution.spawn import keep_descriptors, spawn
from maos_bot.execution.tree import Family
from maos_bot.model import Outcome, TaskState
from maos_bot.redact import Redactor
from tests.integration.running import command

REPORT = (
    "import os, signal, sys; print(os.getcwd(), os.getsid(0) == os.getpid(), sorted(os.environ.items()),"
    " signal.getsignal(signal.SIGPIPE) is signal.SIG_DFL or signal.pthread_sigmask(signal.SIG_BLOCK, ()),"
    " sorted(fd for fd in map(int, os.listdir('/proc/self/fd')) if os.path.exists(f'/proc/self/fd/{fd}')),"
    " file=sys.stderr)"
)


@pytest.fixture(params=["native", "python"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of starting a process: with the C library's `posix_spawn`, and where there is none."""
    if request.param == "native":
        native = cache(NativeSpawn)
        monkeypatch.setattr(spawning, "_native", native)
    else:
        monkeypatch.setattr(spawning, "_native", lambda: None)
    return str(request.param)


@pytest.fixture
def devnull() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDONLY)
    yield fd
    os.close(fd)


def output_of(argv: tuple[str, ...], folder: Path, env: dict[str, str], devnull: int) -> tuple[str, int]:
    """What it printed, and its exit code."""
    keep_descriptors()
    pid, reader = spawn(argv, folder=folder, env=Environment(Shared({}), env), devnull=devnull)
    assert not os.get_blocking(reader)
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as file:
        printed = file.read().decode()
    return printed, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_process_has_a_session_its_folder_its_variables_and_nothing_else(
    tmp_path: Path, devnull: int, elsewhere: bool
) -> None:
    folder = tmp_path / "ein Ordner"
    folder.mkdir()
    where = folder if elsewhere else Path.cwd()
    env = {"PATH": os.environ["PATH"], "GRÜSSE": "süß=1", "EMPTY": ""}
    printed, code = output_of((sys.executable, "-E", "-S", "-c", REPORT), where, env, devnull)
    assert code == 0
    shown = dict(env)
    if "LC_CTYPE" in printed:
        shown["LC_CTYPE"] = "C.UTF-8"  # Python's own doing
    assert printed.startswith(f"{where} True {sorted(shown.items())} ")
    assert printed.rstrip().endswith("[0, 1, 2]")


@pytest.mark.usefixtures("way")
def test_a_program_is_looked_for_in_the_path_that_it_gets(tmp_path: Path, devnull: int) -> None:
    program = tmp_path / "greet"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert output_of(("greet",), Path.cwd(), env, devnull) == ("hello\n", 0)
    assert output_of(("greet",), tmp_path, env, devnull) == ("hello\n", 0)
    with pytest.raises(FileNotFoundError):
        output_of(("greet",), Path.cwd(), {"PATH": "/usr/bin:/bin"}, devnull)


@pytest.mark.usefixtures("way")
def test_a_relative_path_counts_from_the_folder_and_a_folder_is_no_program(tmp_path: Path, devnull: int) -> None:
    (tmp_path / "tools" / "greet").mkdir(parents=True)
    program = tmp_path / "bin" / "greet"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho hello\n")
    env = {"PATH": "nowhere:tools:bin:/usr/bin:/bin"}
    with pytest.raises(FileNotFoundError):
        output_of(("greet",), tmp_path, env, devnull)
    program.chmod(0o755)
    assert output_of(("greet",), tmp_path, env, devnull) == ("hello\n", 0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("argv", "folder", "env"),
    [(("nowhere",), ".", {}), (("true",), "nowhere", {}), (("true", "\0"), ".", {}), (("true",), ".", {"A": "\0"})],
)
def test_what_cant_be_started_leaves_no_descriptor_open(
    argv: tuple[str, ...], folder: str, env: dict[str, str], devnull: int
) -> None:
    def descriptors() -> list[Path]:
        return sorted(Path("/proc/self/fd").iterdir())

    before = descriptors()
    with pytest.raises((OSError, ValueError)):
        output_of(argv, Path.cwd() / folder, {"PATH": os.environ["PATH"], **env}, devnull)
    assert descriptors() == before


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("argv", "env"), [(("echo", "a\0b"), {}), (("echo",), {"A": "x\0y"}), (("echo",), {"A=B": ""})]
)
def test_what_no_process_can_be_given_is_refused(argv: tuple[str, ...], env: dict[str, str], devnull: int) -> None:
    with pytest.raises(ValueError, match=r"null|illegal"):
        output_of(argv, Path.cwd(), {"PATH": os.environ["PATH"], **env}, devnull)


def test_a_blocked_signal_is_not_passed_on_nor_on_linux_an_ignored_one(way: str, devnull: int) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does to what it starts in the background
    try:
        printed, _ = output_of(
            ("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"), Path.cwd(), dict(os.environ), devnull
        )
    finally:
        signal.signal(signal.SIGINT, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    masks = {line.split(":")[0]: int(line.split(":")[1], 16) for line in printed.splitlines()}
    assert masks["SigBlk"] == 0
    left = 1 << signal.SIGINT - 1 if way == "python" else 0  # `subprocess` resets what Python itself ignores
    named = (1 << 31) - 1  # the two that follow are the C library's own
    assert masks["SigIgn"] & named == left


@pytest.mark.parametrize("readers", [watching, lambda loop: nullcontext(LoopReaders(loop))])
def test_the_launcher_gives_back_on_the_loops_thread_what_was_started_or_why_not(
    readers: Callable[[asyncio.AbstractEventLoop], AbstractContextManager[Watching]],
) -> None:
    async def main() -> list[tuple[str, str, bool]]:
        got: list[tuple[str, str, bool]] = []
        both = asyncio.Event()

        def start(error: str) -> Launched:
            if error:
                raise StartError(error)
            assert threading.current_thread() is not threading.main_thread()
            return Launched(1, Script(("true",)), 0, 0.0)

        def then(name: str, launched: Launched | Exception) -> None:
            on_loop = threading.current_thread() is threading.main_thread()
            got.append((name, str(getattr(launched, "pid", launched)), on_loop))
            if len(got) == 2:
                both.set()

        with readers(asyncio.get_running_loop()) as watched:
            launcher = Launcher(watched)
            launcher.launch(partial(start, ""), partial(then, "good"))
            launcher.launch(partial(start, "no room"), partial(then, "bad"))
            await asyncio.wait_for(both.wait(), 10)
            launcher.close()
        return sorted(got)

    assert asyncio.run(main()) == [("bad", "no room", True), ("good", "1", True)]


def test_a_copy_of_the_pipe_in_a_process_just_being_started_holds_up_an_end_only_while_it_is_there(
    devnull: int,
) -> None:
    async def main() -> tuple[Outcome, float, float]:
        loop = asyncio.get_running_loop()
        pid, reader = spawn(("true",), folder=Path.cwd(), env=Environment(Shared(os.environ)), devnull=devnull)
        writer = os.open(f"/proc/self/fd/{reader}", os.O_WRONLY)
        ended: asyncio.Future[Outcome] = loop.create_future()
        CommandAttempt(
            command("it", "true"),
            Launched(pid, Script(("true",)), reader, loop.time()),
            marker=b"MAOS_RUN_ID=nobody",
            capture=Capture(Redactor(), lambda *_: None),
            family=Family(b"MAOS_RUN_ID=nobody"),
            ended=ended.set_result,
            crashed=ended.set_exception,
        )
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        await asyncio.sleep(0.1)
        closed = loop.time()
        assert not ended.done()
        os.close(writer)
        outcome = await asyncio.wait_for(ended, 10)
        return outcome, closed, loop.time()

    outcome, closed, ended = asyncio.run(main())
    assert outcome.state is TaskState.SUCCEEDED
    assert ended - closed < 1.0  # long before it would be given up
