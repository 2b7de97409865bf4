"""The container's first program: an init that knows nothing, who to be, then `maos` with the container's arguments.

Whoever is process 1 shows in `/proc` the environment it was started with, tokens and keys in it, to every process of
its user: to the tasks. So this program, the first process, becomes tini with an empty environment, and what it had
comes through a pipe to the second start of this program, in whose memory it stays (`maos` hides that).

In GitHub Actions it stays root, which the workspace needs: that belongs to the runner's user. Anywhere else it becomes
the owner of the folder it is in, so that nothing there turns root's. It is no shell script: Debian's shell drops the
variables of the action's inputs, whose names have hyphens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

NOBODY_SPECIAL = 1000  # the image's own user
INIT = "/usr/bin/tini"
_TAKE = "--environment-from="
ALL_USERS = 4294967295  # how many a process sees that is in no user namespace


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """What `maos` is to do: without arguments the action in Actions, its help elsewhere."""
    return list(arguments) or ["action" if environ.get("GITHUB_ACTIONS") == "true" else "--help"]


def new_user(*, us: int, owner: tuple[int, int], environ: Mapping[str, str], users: int) -> tuple[int, int] | None:
    """The user and group to become; None to stay. `owner` has the folder, `users` exist in our user namespace."""
    if us != 0 or environ.get("GITHUB_ACTIONS") == "true":
        return None
    if users != ALL_USERS:  # an engine without root: its user 0 is whoever started it
        return None
    return owner if owner[0] != 0 else (NOBODY_SPECIAL, NOBODY_SPECIAL)


def become(user: int, group: int) -> None:
    """Be that user for good, with a home that it may write to."""
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    os.environ["HOME"] = "/home/maos" if user == NOBODY_SPECIAL else "/tmp"


def hand_over(environ: Mapping[bytes, bytes]) -> int:
    """A descriptor to read `environ` from once, by whoever inherits it."""
    data = b"\0".join(name + b"=" + value for name, value in environ.items())
    reader, writer = os.pipe()
    if os.fork() == 0:  # it may be more than a pipe holds, and nobody reads yet
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)
        os._exit(0)
    os.close(writer)
    os.set_inheritable(reader, True)
    return reader


def take_over(descriptor: int) -> None:
    """Make what `hand_over` wrote our environment."""
    with os.fdopen(descriptor, "rb") as pipe:
        data = pipe.read()
    for variable in filter(None, data.split(b"\0")):
        name, _, value = variable.partition(b"=")
        os.environb[name] = value


def main() -> None:
    """Become the init, or, started by it, who we should be, and run the command in this process."""
    if os.getpid() == 1:
        ours = [sys.executable, "-I", "-B", "-u", __file__, f"{_TAKE}{hand_over(os.environb)}", *sys.argv[1:]]
        os.execve(INIT, [INIT, "--", *ours], {})
    if sys.argv[1:] and sys.argv[1].startswith(_TAKE):
        take_over(int(sys.argv.pop(1).removeprefix(_TAKE)))
    here = Path.cwd().stat()
    users = int(Path("/proc/self/uid_map").read_text(encoding="ascii").split()[2])
    user = new_user(us=os.getuid(), owner=(here.st_uid, here.st_gid), environ=os.environ, users=users)
    if user:
        become(*user)
    sys.argv = ["maos", *command(sys.argv[1:], os.environ)]
    from maos_bot.__main__ import main as maos

    maos()


if __name__ == "__main__":
    main()
