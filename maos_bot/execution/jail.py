"""The program that becomes an agent's command: `python -I -m maos_bot.execution.jail JSON`.

It stays as the command's guardian: what the command starts and abandons becomes its child, and is killed when the
command ends, when the guardian is told to end, or when who started it is gone. The command itself runs in its
descendant, held as the JSON says (see `Hold`). With `--probe` it tells what this machine allows, and runs nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from maos_bot.execution import kernel

CANT: Final = 125  # exit code: it could not be held as asked, and so was not started
_LARGEST_FILE: Final = 2**30  # bytes
_KINDS: Final = (("mount", "pid", "net", "ipc"), ("net",))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """How a command is held. `namespaces` are names of `kernel.NAMESPACES`; `files` and `calls` say whether Landlock
    and seccomp do their part. `hidden` are files that read as empty, where mounts can do that.
    """

    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    files: bool = False
    calls: bool = False

    def to_json(self) -> str:
        """For the command line of this program."""
        return json.dumps(asdict(self))


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; the exit code is the command's (128 + signal where it was killed)."""
    if list(arguments) == ["--probe"]:
        json.dump(_probe(), sys.stdout)
        return 0
    hold, argv = _hold(json.loads(arguments[0])), list(arguments[1:])
    if not sys.platform.startswith("linux"):  # nothing here holds there, and nothing was promised
        os.execvp(argv[0], argv)  # noqa: S606
    return _guard(lambda: _become(hold, argv), lambda: _enter(hold))


def _hold(given: Mapping[str, Any]) -> Hold:
    return Hold(
        readable=tuple(given["readable"]),
        writable=tuple(given["writable"]),
        hidden=tuple(given["hidden"]),
        namespaces=tuple(given["namespaces"]),
        files=given["files"],
        calls=given["calls"],
    )


# The guardian


def _guard(become: Callable[[], NoReturn], enter: Callable[[], None]) -> int:
    kernel.adopt_orphans()
    kernel.end_with_parent(signal.SIGTERM)
    with contextlib.suppress(OSError):  # where memory ends, the kernel takes what agents started before all else
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    ended = _Ended()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ended)
    inner = os.fork()
    if not inner:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _or_say(lambda: _inside(become, enter))
    code = CANT
    try:
        code = _wait_for(inner)
    except InterruptedError:
        code = 128 + signal.SIGTERM
    finally:
        ended.armed = False
        _kill_children()
    return code


class _Ended:
    """A signal handler that breaks off waiting, once."""

    def __init__(self) -> None:
        self.armed = True

    def __call__(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            raise InterruptedError


def _inside(become: Callable[[], NoReturn], enter: Callable[[], None]) -> NoReturn:
    """In the new namespaces: the first process there only collects orphans, so that the command isn't process 1."""
    kernel.end_with_parent(signal.SIGKILL)
    enter()
    command = os.fork()
    if not command:
        _or_say(become)
    os._exit(_wait_for(command))


def _or_say(step: Callable[[], NoReturn]) -> NoReturn:
    """What goes wrong before the command runs is told in words, and nothing is run."""
    try:
        step()
    except OSError as error:
        os.write(2, f"the command could not be started: {error}\n".encode())
    finally:
        os._exit(CANT)


def _wait_for(pid: int) -> int:
    while True:
        found, status = os.waitpid(-1, 0)
        if found == pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _kill_children() -> None:
    """Kill all descendants: each generation becomes ours when the one before it has died."""
    while True:
        try:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
        except OSError:  # a kernel that doesn't list them: who started us looks for them by session and marker
            return
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(child), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


# Its descendant


def _enter(hold: Hold) -> None:
    """Go into new namespaces, of which that for processes begins with the next fork."""
    namespaces = hold.namespaces
    if not namespaces:
        return
    kernel.leave(namespaces)
    if "net" in namespaces:
        kernel.raise_loopback()
    if "pid" in namespaces:
        first = os.fork()
        if first:
            os._exit(_wait_for(first))
        kernel.end_with_parent(signal.SIGKILL)
    if "mount" in namespaces:
        here = os.getcwd()  # noqa: PTH109
        kernel.only_writable(hold.writable)
        for file in hold.hidden:
            kernel.cover(file)
        os.chdir(here)  # into what is mounted there now
        if "pid" in namespaces:
            kernel.mount_fresh("proc", "/proc")
        if os.path.isdir("/dev/shm"):  # noqa: PTH112, S108
            kernel.mount_fresh("tmpfs", "/dev/shm", "size=256m,mode=1777")  # noqa: S108


def _become(hold: Hold, argv: Sequence[str]) -> NoReturn:
    """Give up all that the command isn't to have, and become it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    own = ("/dev/shm",) if "mount" in hold.namespaces else ()  # noqa: S108 - nobody else's
    kernel.drop_capabilities()
    if hold.files:
        kernel.hold_files(
            readable=hold.readable, writable=(*hold.writable, *own, "/dev/null"), tcp="net" in hold.namespaces
        )
    if hold.calls:
        kernel.filter_calls(loopback="net" in hold.namespaces)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # what Python ignores for itself and no program expects
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, 1024)
    os.execvp(argv[0], list(argv))  # noqa: S606 - in the caller's own PATH


# What this machine allows


def _probe() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="maos-probe-") as folder:
        return {
            "landlock": kernel.landlock_version() if _works(lambda: _try_files(folder)) else 0,
            "calls": kernel.can_filter_calls() and _works(lambda: kernel.filter_calls(loopback=False)),
            "namespaces": next((kind for kind in _choices() if _works(functools.partial(_try, kind, folder))), ()),
        }


def _choices() -> list[tuple[str, ...]]:
    """From the most to the least; who may not open them as they are may do so in a user namespace."""
    return [(*user, *kind) for kind in _KINDS for user in ((), ("user",))]


def _try(namespaces: Sequence[str], folder: str) -> None:
    _enter(Hold(namespaces=tuple(namespaces), writable=(folder,)))
    Path(folder, "probe").write_text("", encoding="ascii")


def _try_files(folder: str) -> None:
    kernel.hold_files(readable=(), writable=(folder,), tcp=False)


def _works(step: Callable[[], None]) -> bool:
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(OSError):
            step()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
