"""Attempts of an agent to leave its worktree, read what isn't its own, and change what it may not: none succeeds.

Each attempt is a test of its own, through the real tools, on a real worktree with real links, pipes and processes.
After each, all around the worktree is as it was, and no result holds what was out of reach.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from maos_bot.agents import search
from maos_bot.agents.crew import Crew
from maos_bot.agents.tools import AgentTools
from maos_bot.agents.worktrees import Worktrees
from maos_bot.execution.confined import AgentCommands
from maos_bot.execution.confinement import Confinement, confinement
from maos_bot.model import Task, TaskState
from maos_bot.models.protocol import Returned, ToolCall, ToolResult
from maos_bot.redact import Redactor
from tests.agent_ground import ALL, KEY, SECRET, Ground, ask, processes_with
from tests.agent_parts import Folders, Scripted, call, crew, finish, say
from tests.integration.running import run

needs_landlock = pytest.mark.skipif(not confinement().holds, reason="this kernel has no Landlock")
needs_mounts = pytest.mark.skipif("mount" not in confinement().namespaces, reason="no mount namespaces here")


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    with contextlib.closing(Ground(tmp_path)) as made:
        before, link = made.state(), (made.work / ".git").read_bytes()
        yield made
        assert made.state() == before, "something outside was changed"
        assert (made.work / ".git").read_bytes() == link, "the worktree's link was changed"


def attempt(ground: Ground, name: str, *kinds: str, writes: tuple[str, ...] | None = None, **arguments: Any) -> str:
    """Make a call that has to fail, and give nothing away; what it said."""
    result = ask(ground.tools(*(kinds or ALL), writes=writes), name, **arguments)
    assert SECRET not in result.text
    assert KEY not in result.text
    assert result.failed, result.text
    return result.text


# Paths


def made_by(make: Callable[[Ground], object], path: str) -> Callable[[Ground], str]:
    def prepare(ground: Ground) -> str:
        make(ground)
        return path

    return prepare


def link(at: str, target: str) -> Callable[[Ground], object]:
    """A link at `at` in the worktree; `target` may name the places of the ground."""

    def make(ground: Ground) -> None:
        place = ground.work / at
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target.format(outside=ground.outside, repository=ground.repository, work=ground.work))

    return make


def chain(ground: Ground) -> None:
    (ground.work / "second").symlink_to(ground.outside)
    (ground.work / "first").symlink_to("second")


OUT = {
    "dot-dot": lambda _: "../outside/secret.txt",
    "dot-dot-inside": lambda _: "src/../../outside/secret.txt",
    "dot-dot-after-dots": lambda _: "./.././outside/secret.txt",
    "dot-dot-through-missing-folder": lambda _: "none/../../outside/secret.txt",
    "absolute": lambda ground: f"{ground.outside}/secret.txt",
    "two-slashes": lambda ground: f"/{ground.outside}/secret.txt",
    "absolute-into-the-worktree": lambda ground: f"{ground.work}/../outside/secret.txt",
    "home": lambda _: "~/secret.txt",
    "url": lambda ground: f"file://{ground.outside}/secret.txt",
    "percent-encoded": lambda _: "%2e%2e/outside/secret.txt",
    "wide-dots": lambda _: "\uff0e\uff0e/outside/secret.txt",
    "backslashes": lambda _: "..\\outside\\secret.txt",
    "nul-byte": lambda ground: f"README.md\0/../../{ground.outside}/secret.txt",
    "line-break": lambda _: "README.md\n../outside/secret.txt",
    "lone-surrogate": lambda _: "\udc2e\udc2e/outside/secret.txt",
    "too-long": lambda _: "src/" * 2000 + "../outside/secret.txt",
    "link-to-a-file": made_by(link("there", "{outside}/secret.txt"), "there"),
    "link-to-a-folder": made_by(link("there", "{outside}"), "there/secret.txt"),
    "link-upwards": made_by(link("there", ".."), "there/outside/secret.txt"),
    "link-in-a-folder": made_by(link("src/deep/there", "../../../outside"), "src/deep/there/secret.txt"),
    "link-to-a-link": made_by(chain, "first/secret.txt"),
    "link-to-the-root": made_by(link("there", "/"), "there/etc/passwd"),
    "link-through-proc-root": made_by(link("there", "/proc/self/root"), "there{outside}/secret.txt"),
    "link-through-proc-cwd": made_by(link("there", "/proc/self/cwd"), "there/pyproject.toml"),
    "link-to-a-descriptor": made_by(link("there", "/proc/self/fd/0"), "there"),
    "link-to-our-environment": made_by(link("there", "/proc/self/environ"), "there"),
    "hard-link": made_by(lambda g: os.link(g.outside / "secret.txt", g.work / "there"), "there"),
    "pipe": made_by(lambda g: os.mkfifo(g.work / "there"), "there"),
    "socket": made_by(lambda g: socket_at(g.work / "there"), "there"),
    "device": made_by(lambda g: device_at(g.work / "there"), "there"),
}


def socket_at(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def device_at(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


@pytest.mark.parametrize("way", OUT)
def test_no_path_is_read_outside(ground: Ground, way: str) -> None:
    path = OUT[way](ground).replace("{outside}", str(ground.outside))
    attempt(ground, "read", path=path)


@pytest.mark.parametrize("way", [way for way in OUT if way not in ("pipe", "socket", "device", "hard-link")])
def test_no_path_is_searched_or_listed_outside(ground: Ground, way: str) -> None:
    path = OUT[way](ground).replace("{outside}", str(ground.outside))
    attempt(ground, "search", pattern=".", path=path)
    attempt(ground, "list", path=path.removesuffix("/secret.txt"))


NO_FILE_THERE = {"home", "url", "percent-encoded", "wide-dots", "backslashes"}  # names like any other, if strange


@pytest.mark.parametrize("way", [way for way in OUT if way not in NO_FILE_THERE])
def test_no_path_is_written_outside(ground: Ground, way: str) -> None:
    path = OUT[way](ground).replace("{outside}", str(ground.outside))
    there = ground.work / "there"
    before = there.lstat().st_mode if os.path.lexists(there) else None
    attempt(ground, "write", path=path, text="overwritten")
    attempt(ground, "edit", path=path, old=SECRET[:5], new="overwritten")
    assert (there.lstat().st_mode if os.path.lexists(there) else None) == before


@pytest.mark.parametrize("way", ["link-to-a-file", "link-to-a-folder", "hard-link"])
def test_removing_a_link_removes_the_link_alone(ground: Ground, way: str) -> None:
    OUT[way](ground)
    assert not ask(ground.tools("edit"), "write", path="there", remove=True).failed
    assert (ground.outside / "secret.txt").read_text() == f"{SECRET}\n"


GIT = {
    "file": ".git",
    "with-a-slash": ".git/",
    "with-a-dot": "./.git",
    "upper-case": ".GIT",
    "mixed-case": ".Git/config",
    "trailing-dot": ".git.",
    "trailing-blank": ".git /config",
    "short-name": "GIT~1/config",
    "stream": ".git::$INDEX_ALLOCATION/config",
    "backslash": ".git\\config",
    "invisible": ".g\u200cit/config",
    "variation-selector": ".git\ufe0f/config",
    "wide-letters": ".\uff47\uff49\uff54/config",
    "nested": "src/.git/hooks/post-checkout",
    "of-a-module": "vendor/module/.GIT/config",
    "our-own-records": ".maos/history.db",
    "link-to-the-repository": "repository/config",
}


@pytest.mark.parametrize("way", GIT)
def test_git_is_out_of_reach_by_any_name(ground: Ground, way: str) -> None:
    (ground.work / "repository").symlink_to(ground.repository / ".git")
    path = GIT[way]
    for name, more in (
        ("read", {}),
        ("list", {}),
        ("search", {"pattern": "."}),
        ("write", {"text": "[core]\n\tfsmonitor = touch here\n"}),
        ("write", {"remove": True}),
        ("edit", {"old": "gitdir", "new": "x"}),
    ):
        said = attempt(ground, name, path=path, **more)
        assert str(ground.repository) not in said


# What a task may write


@pytest.mark.parametrize(
    ("writes", "path"),
    [
        pytest.param(("docs/**",), "src/a.py", id="another-folder"),
        pytest.param(("docs/**",), "README.md", id="the-root"),
        pytest.param(("docs/**",), "docs", id="the-folder-itself"),
        pytest.param(("docs/**",), "docs/../src/a.py", id="out-by-dot-dot"),
        pytest.param(("docs/**",), "Docs/a.md", id="another-case"),
        pytest.param(("docs/**",), "docs2/a.md", id="a-longer-name"),
        pytest.param(("docs/**",), "sub/docs/a.md", id="the-same-name-deeper"),
        pytest.param(("README.md",), "docs/README.md", id="a-plain-name-deeper"),
        pytest.param(("*.md",), "docs/a.md", id="a-pattern-deeper"),
        pytest.param(("docs/**", "!docs/a.md"), "docs/a.md", id="what-is-taken-out"),
        pytest.param(("docs/*.md",), "docs/deep/a.md", id="a-deeper-folder"),
        pytest.param((), "docs/a.md", id="nothing-at-all"),
        pytest.param(("**",), ".git/config", id="everything-but-git"),
        pytest.param(("docs/**",), "docs/link/a.py", id="through-a-link"),
        pytest.param(("docs/**",), "docs/hard.py", id="through-a-hard-link"),
    ],
)
def test_nothing_is_written_beside_what_the_task_writes(ground: Ground, writes: tuple[str, ...], path: str) -> None:
    (ground.work / "docs/link").symlink_to("../src")
    os.link(ground.work / "src/a.py", ground.work / "docs/hard.py")
    before = {each: each.read_bytes() for each in ground.work.rglob("*") if each.is_file()}
    for name, more in (("write", {"text": "x"}), ("write", {"remove": True}), ("edit", {"old": "e", "new": "x"})):
        if path == "docs/hard.py" and more == {"remove": True}:
            continue  # one of two names may go: the other stays
        attempt(ground, name, "edit", writes=writes, path=path, **more)
    assert {each: each.read_bytes() for each in ground.work.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize(
    ("kinds", "name", "arguments"),
    [
        pytest.param(("read", "search"), "write", {"path": "a", "text": "x"}, id="write-by-a-reader"),
        pytest.param(("read", "search"), "edit", {"path": "README.md", "old": "R", "new": "x"}, id="edit-by-a-reader"),
        pytest.param(("read", "search"), "run", {"command": "true"}, id="run-by-a-reader"),
        pytest.param(("edit",), "run", {"command": "true"}, id="run-by-an-editor"),
        pytest.param(("edit",), "search", {"pattern": "."}, id="search-by-an-editor"),
        pytest.param(("run",), "write", {"path": "a", "text": "x"}, id="write-by-a-runner"),
        pytest.param(ALL, "bash", {"command": "true"}, id="a-tool-that-is-not"),
        pytest.param(ALL, "_run", {"command": "true"}, id="a-method-of-ours"),
        pytest.param(ALL, "read", {"path": "README.md", "folder": "/"}, id="an-argument-that-is-not"),
    ],
)
def test_a_tool_that_was_not_given_is_not_there(
    ground: Ground, kinds: tuple[str, ...], name: str, arguments: dict[str, Any]
) -> None:
    attempt(ground, name, *kinds, **arguments)
    assert not (ground.work / "a").exists()


# Races: a thread puts links where files and folders were, and takes them away again, as fast as it can


LIBC = ctypes.CDLL(None)
EXCHANGE = 2  # renameat2(2)


class Racer:
    """Exchanges `place` with a link to `target`, at once, until the end of the block."""

    def __init__(self, place: Path, target: Path) -> None:
        self._names = tuple(os.fsencode(each) for each in (place, place.with_name(f"{place.name}-aside")))
        place.with_name(f"{place.name}-aside").symlink_to(target)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._race)
        self.swaps = 0

    def _race(self) -> None:
        while not self._over.is_set():
            if LIBC.renameat2(-100, self._names[0], -100, self._names[1], EXCHANGE) == 0:
                self.swaps += 1

    def __enter__(self) -> Racer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


RACE_S = 0.5


def race(ground: Ground, place: str, target: Path, name: str, **arguments: Any) -> None:
    """Make one call again and again while `place` is swapped with a link to `target`."""
    tools = ground.tools(*ALL)
    calls = 0
    until = time.monotonic() + RACE_S
    with Racer(ground.work / place, target) as racer:
        while time.monotonic() < until or calls < 2:
            result = ask(tools, name, **arguments)
            assert SECRET not in result.text
            calls += 1
    assert racer.swaps > 100
    assert calls > 1


def test_race_reading_a_file_that_becomes_a_link(ground: Ground) -> None:
    race(ground, "README.md", ground.outside / "secret.txt", "read", path="README.md")


def test_race_reading_in_a_folder_that_becomes_a_link(ground: Ground) -> None:
    (ground.work / "src/secret.txt").write_text("inside\n")
    race(ground, "src", ground.outside, "read", path="src/secret.txt")


def test_race_listing_a_folder_that_becomes_a_link(ground: Ground) -> None:
    (ground.outside / SECRET).touch()
    race(ground, "src", ground.outside, "list", path="src")
    (ground.outside / SECRET).unlink()


def test_race_writing_in_a_folder_that_becomes_a_link(ground: Ground) -> None:
    race(ground, "src", ground.outside, "write", path="src/victim.txt", text="overwritten")


def test_race_writing_a_file_that_becomes_a_link(ground: Ground) -> None:
    tools = ground.tools(*ALL)
    place = ground.work / "docs/a.md"
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            with contextlib.suppress(FileNotFoundError):
                place.unlink()
            with contextlib.suppress(FileExistsError):
                place.symlink_to(ground.outside / "victim.txt")

    thread = threading.Thread(target=swap)
    thread.start()
    until = time.monotonic() + RACE_S
    while time.monotonic() < until:
        ask(tools, "write", path="docs/a.md", text="overwritten")
        ask(tools, "edit", path="docs/a.md", old="untouched", new="overwritten")
    over.set()
    thread.join()


def test_race_making_folders_where_one_becomes_a_link(ground: Ground) -> None:
    (ground.work / "new").mkdir()
    race(ground, "new", ground.outside, "write", path="new/deep/er/victim.txt", text="overwritten")


def test_race_removing_in_a_folder_that_becomes_a_link(ground: Ground) -> None:
    race(ground, "src", ground.outside, "write", path="src/victim.txt", remove=True)


@pytest.mark.parametrize("program", ["python", "ripgrep"])
def test_race_searching_a_folder_that_becomes_a_link(
    ground: Ground, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program == "python":
        monkeypatch.setattr(search.shutil, "which", lambda _: None)  # type: ignore[attr-defined]
    elif not shutil.which("rg"):
        pytest.skip("no ripgrep")
    (ground.work / "src/secret.txt").write_text("inside\n")
    race(ground, "src", ground.outside, "search", pattern=SECRET[:12])


# Commands


@pytest.fixture(scope="module")
def bystander() -> Iterator[int]:
    """A process of the same user with a key in its environment."""
    ready, told = os.pipe()
    pid = os.posix_spawn(
        shutil.which("sh") or "/bin/sh",
        ["sh", "-c", "echo ready; exec sleep 600"],
        {"PATH": os.environ["PATH"], "BYSTANDER_KEY": KEY},
        file_actions=[(os.POSIX_SPAWN_DUP2, told, 1)],
    )
    os.close(told)
    assert os.read(ready, 16)
    os.close(ready)
    yield pid
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def places(ground: Ground, bystander: int) -> dict[str, str]:
    return {
        "OUTSIDE": str(ground.outside),
        "REPOSITORY": str(ground.repository),
        "WORK": str(ground.work),
        "BYSTANDER": str(bystander),
        "MAOS": str(os.getpid()),
    }


PEEK = "python3 -c 'import ctypes,sys; libc=ctypes.CDLL(None,use_errno=True); {}; print(ctypes.get_errno())'"
COMMANDS = {
    # reading
    "cat-by-dot-dot": "cat ../outside/secret.txt",
    "cat-absolute": "cat $OUTSIDE/secret.txt",
    "cd-and-cat": "cd $OUTSIDE; cat secret.txt",
    "cat-by-a-link": "ln -s $OUTSIDE/secret.txt l; cat l",
    "cat-by-a-linked-folder": "ln -s $OUTSIDE d; cat d/secret.txt",
    "cat-by-a-hard-link": "ln $OUTSIDE/secret.txt h && cat h",
    "copy-in": "cp $OUTSIDE/secret.txt . ; cat secret.txt",
    "pack": "tar c $OUTSIDE | strings",
    "by-proc-root": "cat /proc/self/root$OUTSIDE/secret.txt",
    "by-proc-cwd-of-another": "cat /proc/$BYSTANDER/root$OUTSIDE/secret.txt; cat /proc/$MAOS/root$OUTSIDE/secret.txt",
    "python": "python3 -c \"print(open('$OUTSIDE/secret.txt').read())\"",
    "list-outside": "ls $OUTSIDE/folder",
    "shadow": "cat /etc/shadow",
    "open-by-handle": PEEK.format("libc.open_by_handle_at(-100, 0, 0)"),
    # the environment
    "env": "env",
    "proc-environ": "cat /proc/self/environ /proc/$PPID/environ | tr '\\0' '\\n'",
    "environ-of-all": "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; true",
    "environ-of-maos": "cat /proc/$MAOS/environ",
    "environ-of-a-bystander": "cat /proc/$BYSTANDER/environ",
    "ps-with-environment": "ps axeww || true; ps -ef || true",
    "memory-of-a-bystander": "head -c 10 /proc/$BYSTANDER/mem; cat /proc/$BYSTANDER/maps",
    "ptrace": PEEK.format("print(libc.ptrace(16, {pid}, 0, 0))").replace("{pid}", "$BYSTANDER").replace("'", '"'),
    "descriptors-of-maos": "ls -l /proc/$MAOS/fd/",
    "inherited-descriptors": "ls /proc/self/fd | wc -l; cat <&3; cat <&4; cat <&5",
    # git
    "git-file": "cat .git; test ! -s .git",
    "git-file-replaced": "echo 'gitdir: $OUTSIDE' > .git",
    "git-file-removed": "rm -f .git",
    "git-file-moved": "mv .git elsewhere",
    "git-folder-in-its-place": "rm -f .git; mkdir .git; echo '[core]' > .git/config",
    "git-config": "git config --list; cat $REPOSITORY/.git/config",
    "git-hook": "echo 'echo pwned' > $REPOSITORY/.git/hooks/post-checkout",
    "git-by-directory": "git --git-dir=$REPOSITORY/.git --work-tree=. status",
    # writing
    "write": "echo x > $OUTSIDE/new.txt",
    "overwrite": "echo x > $OUTSIDE/victim.txt",
    "append-by-a-link": "ln -s $OUTSIDE/victim.txt l; echo x >> l",
    "write-by-a-hard-link": "ln $OUTSIDE/victim.txt h && echo x > h",
    "remove": "rm -rf $OUTSIDE/folder",
    "move-out": "mv README.md $OUTSIDE/",
    "move-in": "mv $OUTSIDE/victim.txt .",
    "make-a-folder": "mkdir $OUTSIDE/new",
    "truncate": "truncate -s 0 $OUTSIDE/victim.txt",
    "beside-the-worktree": "touch ../new.txt",
    "system": "touch /etc/maos-was-here /usr/maos-was-here",
    "temporary": "touch /tmp/maos-was-here /var/tmp/maos-was-here",
    "a-device": "mknod dev c 1 5; mknod dev b 8 0",
    "mount": "mount --bind $OUTSIDE src; mount -t tmpfs none src",
    "namespaces": "unshare -rm sh -c 'mount --bind $OUTSIDE src; cat src/secret.txt'",
    "another-root": "chroot $OUTSIDE /secret.txt",
    "a-huge-file": "truncate -s 3G huge; ls -l huge; test ! -s huge && exit 1",
    # rights
    "become-another": "su -c 'cat $OUTSIDE/secret.txt'; sudo -n cat $OUTSIDE/secret.txt",
    "kill-maos": "kill -9 $MAOS",
    "kill-a-bystander": "kill -9 $BYSTANDER",
    "kill-all": "kill -9 -1",
}


@needs_landlock
@pytest.mark.parametrize("way", COMMANDS)
def test_no_command_reaches_out(ground: Ground, bystander: int, way: str) -> None:
    command = COMMANDS[way]
    for name, value in places(ground, bystander).items():
        command = command.replace(f"${name}", value)
    result = ask(ground.tools("run"), "run", command=f"{{ {command}\n}} 2>&1")
    assert SECRET not in result.text
    assert KEY not in result.text
    for trace in ("/tmp/maos-was-here", "/var/tmp/maos-was-here", "/etc/maos-was-here", "/usr/maos-was-here"):
        assert not Path(trace).exists()
    assert not (ground.base / "new.txt").exists()
    assert Path(f"/proc/{bystander}").exists()
    os.kill(bystander, 0)
    for made in ground.work.rglob("*"):
        assert not stat.S_ISCHR(made.lstat().st_mode)
        assert made.is_symlink() or not made.is_file() or SECRET not in made.read_text(errors="replace")


@needs_mounts
@pytest.mark.parametrize(
    "command",
    [
        pytest.param("chmod 777 $OUTSIDE/victim.txt", id="mode"),
        pytest.param("chown 12345 $OUTSIDE/victim.txt", id="owner"),
        pytest.param("touch -d 2001-01-01 $OUTSIDE/victim.txt", id="time"),
        pytest.param("setfattr -n user.x -v y $OUTSIDE/victim.txt", id="attribute"),
        pytest.param("touch /dev/shm/maos-was-here", id="shared-memory"),
    ],
)
def test_what_a_file_is_is_not_changed_outside(ground: Ground, command: str) -> None:
    victim = ground.outside / "victim.txt"
    before = victim.stat()
    ask(ground.tools("run"), "run", command=command.replace("$OUTSIDE", str(ground.outside)))
    after = victim.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime) == (before.st_mode, before.st_uid, before.st_mtime)
    assert not os.listxattr(victim)
    assert not Path("/dev/shm/maos-was-here").exists()


class Listener:
    """Notes whoever comes: by TCP, UDP, a socket in the file system, and an abstract one."""

    def __init__(self, folder: Path) -> None:
        self.tcp, self.udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        self.tcp.bind(("127.0.0.1", 0))
        self.udp.bind(("127.0.0.1", 0))
        self.unix, self.abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self.path, self.name = folder / "s", f"maos-test-{os.getpid()}"
        with contextlib.chdir(folder):
            self.unix.bind("s")
        self.abstract.bind(f"\0{self.name}")
        self.all = (self.tcp, self.udp, self.unix, self.abstract)
        for each in (self.tcp, self.unix, self.abstract):
            each.listen()
        for each in self.all:
            each.setblocking(False)

    def came(self) -> list[socket.socket]:
        found = []
        for each in self.all:
            with contextlib.suppress(BlockingIOError):
                each.recv(100) if each is self.udp else each.accept()[0].close()
                found.append(each)
        return found

    def close(self) -> None:
        for each in self.all:
            each.close()


CALLS = {
    "tcp": "s=socket.create_connection(('127.0.0.1',{tcp}),2); s.send(b'x')",
    "udp": "s=socket.socket(type=socket.SOCK_DGRAM); s.sendto(b'x',('127.0.0.1',{udp}))",
    "unix": "os.chdir('{folder}'); s=socket.socket(socket.AF_UNIX); s.connect('s')",
    "abstract": "s=socket.socket(socket.AF_UNIX); s.connect(chr(0)+'{name}')",
    "raw": "s=socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.send(b'x')",
    "a-name": "socket.getaddrinfo('example.invalid', 80)",
}


@needs_landlock
@pytest.mark.parametrize("namespaces", [True, False], ids=["in-namespaces", "without"])
@pytest.mark.parametrize("way", CALLS)
def test_no_command_reaches_a_network(tmp_path: Path, way: str, namespaces: bool) -> None:
    here = confinement()
    if not (here.calls or (namespaces and "net" in here.namespaces)):
        pytest.skip("nothing here closes the network")
    held_by = here if namespaces else Confinement(landlock=here.landlock, calls=here.calls)
    with contextlib.closing(Ground(tmp_path, held_by=held_by)) as ground:
        result, came = called(ground, way)
    assert came == []
    assert result.failed or way == "udp"  # a datagram into a network of its own is just lost


def called(ground: Ground, way: str) -> tuple[ToolResult, list[socket.socket]]:
    """What a command that calls said, and on which sockets anybody came."""
    with contextlib.closing(Listener(ground.outside)) as listener:
        code = CALLS[way].format(
            tcp=listener.tcp.getsockname()[1],
            udp=listener.udp.getsockname()[1],
            folder=ground.outside,
            name=listener.name,
        )
        result = ask(ground.tools("run"), "run", command=f'python3 -c "import socket, os; {code}; print(1)"')
        return result, listener.came()


@pytest.mark.parametrize("way", ["cat-absolute", "cat-by-a-link", "by-proc-root", "write"])
def test_the_same_commands_do_reach_out_where_nothing_holds(tmp_path: Path, bystander: int, way: str) -> None:
    """Or else the tests above would prove nothing."""
    environ = {**os.environ, "MAOS_UNCONFINED_RUN": "1"}
    with contextlib.closing(Ground(tmp_path, held_by=Confinement(), environ=environ)) as ground:
        ground.redactor = Redactor()
        ground.commands = AgentCommands(redactor=ground.redactor, environ=environ, held_by=Confinement())
        command = COMMANDS[way]
        for name, value in places(ground, bystander).items():
            command = command.replace(f"${name}", value)
        said = ask(ground.tools("run"), "run", command=command).text
        assert SECRET in said or KEY in said or (ground.outside / "new.txt").exists()


@pytest.mark.parametrize("way", ["tcp", "udp", "unix", "abstract"])
def test_the_same_calls_do_come_through_where_nothing_holds(tmp_path: Path, way: str) -> None:
    environ = {**os.environ, "MAOS_UNCONFINED_RUN": "1"}
    with contextlib.closing(Ground(tmp_path, held_by=Confinement(), environ=environ)) as ground:
        assert len(called(ground, way)[1]) == 1


@needs_landlock
@pytest.mark.parametrize(
    "command",
    [
        pytest.param("cat $OUTSIDE/secret.txt", id="read"),
        pytest.param("echo x > $OUTSIDE/victim.txt", id="write"),
        pytest.param("cat /proc/$BYSTANDER/environ", id="environment"),
        pytest.param("ln $OUTSIDE/secret.txt h && cat h", id="hard-link"),
        pytest.param("cat /proc/$MAOS/root$OUTSIDE/secret.txt", id="root-of-maos"),
        pytest.param("cat /proc/$BYSTANDER/root$OUTSIDE/secret.txt", id="root-of-a-bystander"),
        pytest.param("head -c 1 /proc/$BYSTANDER/mem", id="memory"),
        pytest.param("truncate -s 0 $OUTSIDE/victim.txt", id="truncate"),
        pytest.param("touch /dev/shm/maos-was-here /tmp/maos-was-here", id="temporary"),
        pytest.param("unshare -rm true", id="namespaces"),
        pytest.param("echo 'gitdir: $OUTSIDE' > .git", id="git-file-replaced"),
        pytest.param("rm -f .git; ln -s $OUTSIDE .git", id="git-link"),
        pytest.param("rm -f .git; mkdir .git", id="git-folder"),
    ],
)
def test_files_hold_by_landlock_alone(tmp_path: Path, bystander: int, command: str) -> None:
    """As in a container, where namespaces can't be opened."""
    here = confinement()
    held_by = Confinement(landlock=here.landlock, calls=here.calls)
    with contextlib.closing(Ground(tmp_path, held_by=held_by)) as ground:
        before, link_before = ground.state(), (ground.work / ".git").read_bytes()
        for name, value in places(ground, bystander).items():
            command = command.replace(f"${name}", value)
        result = ask(ground.tools("run"), "run", command=command)
        assert SECRET not in result.text
        assert KEY not in result.text
        assert ground.state() == before
        assert (ground.work / ".git").read_bytes() == link_before
        assert result.failed, result.text


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("setsid sleep 654321 & exit 0", id="a-session-of-its-own"),
        pytest.param("(setsid sh -c 'sleep 654321 & sleep 654321 &' &); sleep 0.1", id="two-generations"),
        pytest.param("nohup sleep 654321 >/dev/null 2>&1 &", id="no-hang-up"),
        pytest.param("env -i setsid sleep 654321 & sleep 0.1", id="without-its-environment"),
        pytest.param("trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM; sleep 654321' & exit 3", id="deaf"),
    ],
)
@pytest.mark.parametrize("held", ["in-namespaces", "by-landlock", "by-nothing"])
def test_nothing_a_command_starts_outlives_it(tmp_path: Path, command: str, held: str) -> None:
    here = confinement()
    alone = Confinement(landlock=here.landlock, calls=here.calls) if held == "by-landlock" else Confinement()
    environ = {**os.environ, "MAOS_UNCONFINED_RUN": "1"}
    held_by = here if held == "in-namespaces" else alone
    with contextlib.closing(Ground(tmp_path, held_by=held_by, environ=environ)) as ground:
        ask(ground.tools("run"), "run", command=command)
        assert processes_with("sleep\x00654321") == []


@needs_landlock
def test_a_bystander_is_not_killed_where_landlock_knows_signals(tmp_path: Path) -> None:
    here = confinement()
    if here.landlock < 6:
        pytest.skip("this Landlock doesn't know signals")
    held_by = Confinement(landlock=here.landlock, calls=here.calls)
    victim = subprocess.Popen(["sleep", "600"])
    try:
        with contextlib.closing(Ground(tmp_path, held_by=held_by)) as ground:
            assert ask(ground.tools("run"), "run", command=f"kill -9 {victim.pid}").failed
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_a_command_cannot_fill_the_machine_with_processes(ground: Ground) -> None:
    result = ask(ground.tools("run"), "run", command="bomb() { bomb | bomb & }; bomb; sleep 60")
    assert "processes at once of at most" in result.text
    assert processes_with(str(ground.work)) == []


def test_a_repository_of_its_own_is_no_place_for_commands(ground: Ground) -> None:
    tools = AgentTools(ground.repository, Task(id="job", agent="x", tools=("run",)), commands=ground.commands)
    assert "a repository of its own" in ask(tools, "run", command="cat .git/config").text


# Secrets


def whole(key: str) -> str:
    return key


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": whole,
    "base64": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "base64-in-lines": lambda key: base64.encodebytes(f"{'x' * 50}{key}{key}".encode()).decode(),
    "url-safe-base64": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "url": lambda key: quote(key, safe=""),
    "hex": lambda key: key.encode().hex(),
    "json": lambda key: json.dumps({"key": key}),
}
SHELL = {
    "plain": 'printf %s "$key"',
    "base64": "printf 'user:%s' \"$key\" | base64",
    "base64-in-lines": 'printf \'%050d%s%s\' 0 "$key" "$key" | base64',
    "url-safe-base64": "printf %s \"$key\" | base64 | tr '+/' '-_'",
    "url": 'python3 -c \'import sys,urllib.parse; print(urllib.parse.quote(sys.argv[1], safe=""))\' "$key"',
    "hex": "printf %s \"$key\" | od -An -v -tx1 | tr -d ' \\n'",
    "json": 'python3 -c \'import sys,json; print(json.dumps({"key": sys.argv[1]}))\' "$key"',
    "in-two-pieces": 'printf %s "$key" | cut -c1-12 | tr -d \'\\n\'; sleep 0.3; printf %s "$key" | cut -c13-',
}


def traces(text: str) -> list[str]:
    """In which encodings `text` holds the key, or a part of its code that gives it away."""
    joined = re.sub(r"\n(?:\d+\t|notes.txt:\d+: )?", "", text)
    found = [name for name, encode in ENCODINGS.items() if encode(KEY).strip('{}"') in joined]
    codes = [base64.b64encode(b"\0" * shift + KEY.encode()).decode()[8:28] for shift in range(3)]
    codes += [code.replace("+", "-").replace("/", "_") for code in codes]
    return found + [code for code in codes if code in joined]


@pytest.mark.parametrize("encoding", SHELL)
def test_no_command_prints_a_known_secret(ground: Ground, encoding: str) -> None:
    (ground.work / "key").write_text(KEY)
    result = ask(ground.tools("run"), "run", command=f"key=$(cat key); {SHELL[encoding]}")
    assert not result.failed, result.text
    assert traces(result.text) == []
    assert "***" in result.text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_file_shows_a_known_secret(ground: Ground, encoding: str) -> None:
    (ground.work / "notes.txt").write_text(f"before\n{ENCODINGS[encoding](KEY)}\nafter\n")
    tools = ground.tools(*ALL)
    for result in (ask(tools, "read", path="notes.txt"), ask(tools, "search", pattern=".")):
        assert traces(result.text) == []
        assert "***" in result.text
        assert "after" in result.text


# Through a worker


class Worktree(Folders):
    """Places with the real tools, in the one worktree of the ground."""

    ground: Ground

    async def open(self, task: Task) -> Path:
        self.opened[task.id] = self.ground.work
        return self.ground.work

    def tools(self, task: Task, folder: Path) -> Any:  # noqa: ARG002
        return self.ground.tools(*task.tools, writes=task.writes)


def team(ground: Ground, *calls: ToolCall) -> tuple[Crew, Scripted]:
    provider = Scripted({"job": [*(say("", each) for each in calls), finish("tried")]})
    made = crew(provider, ground.base)
    worktree = Worktree(ground.base)
    worktree.ground = ground
    made._places = worktree
    return made, provider


@pytest.mark.parametrize(
    ("kinds", "calls"),
    [
        pytest.param(("read",), (call("read", path="../outside/secret.txt"),), id="read-outside"),
        pytest.param(("read",), (call("read", path=".git"),), id="read-git"),
        pytest.param(("read",), (call("run", command="cat ../outside/secret.txt"),), id="run-by-a-reader"),
        pytest.param(("edit",), (call("write", path="../outside/victim.txt", text="x"),), id="write-outside"),
        pytest.param(("edit",), (call("write", path="src/a.py", text="x"),), id="write-beside-writes"),
        pytest.param(
            ("run",), (call("run", command="ln -s ../outside l; cat l/secret.txt; env"),), id="run-reads-outside"
        ),
    ],
)
def test_a_worker_is_told_no_and_goes_on(ground: Ground, kinds: tuple[str, ...], calls: tuple[ToolCall, ...]) -> None:
    if "run" in kinds and not confinement().holds:
        pytest.skip("this kernel has no Landlock")
    made, provider = team(ground, *calls)
    task = Task(id="job", agent="Try it.", tools=kinds, writes=("docs/**",) if "edit" in kinds else None)
    ran = run(ground.base, task, agents=made)
    assert ran.states() == {"job": TaskState.SUCCEEDED}
    (returned,) = [message for message in provider.turns[-1].messages if isinstance(message, Returned)]
    assert returned.results[0].failed
    assert SECRET not in str(provider.turns)
    assert KEY not in str(ran.events)
    assert (ground.work / "src/a.py").read_text().startswith("def foo")


# Through a worktree of the run, and what is taken from it


@needs_landlock
@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param("echo x >> src/a.py; echo x > docs/b.md", "src/a.py (changed)", id="beside-writes"),
        pytest.param("mv src/a.py docs/a.py", "src/a.py (deleted)", id="moved-into-writes"),
        pytest.param("rm src/a.py", "src/a.py (deleted)", id="removed"),
        pytest.param("chmod +x src/a.py", "mode", id="mode"),
        pytest.param("ln -s $OUTSIDE/secret.txt docs/link", "a link that leads out", id="link-out"),
        pytest.param("ln -s ../../outside docs/link", "a link that leads out", id="relative-link-out"),
        pytest.param("mkdir -p docs/in/.git && echo x > docs/in/.git/config", "", id="a-repository-inside"),
    ],
)
def test_what_a_command_changed_beside_writes_is_not_taken(tmp_path: Path, command: str, words: str) -> None:
    with contextlib.closing(Ground(tmp_path)) as ground:
        script = [say("", call("run", command=command.replace("$OUTSIDE", str(ground.outside)))), finish("done")]
        made = crew(Scripted({"job": script}), ground.base)
        worktrees = Worktrees(
            ground.repository,
            run_id="run-1",
            base="",
            order=["job"],
            needs={},
            make_tools=lambda task, folder: AgentTools(folder, task, commands=ground.commands),
            environ={"PATH": os.environ["PATH"]},
        )
        made._places = worktrees
        task = Task(id="job", agent="Try it.", tools=("read", "run"), writes=("docs/**",))
        ran = run(ground.repository, task, agents=made)
        merged = asyncio.run(worktrees.result())
        patch = merged.patch.decode() if merged else ""
        if words:
            assert ran.states() == {"job": TaskState.FAILED}
            assert words in ran.end("job").reason
            assert patch == ""
        assert ".git" not in patch
        assert SECRET not in patch
        assert (ground.repository / "src/a.py").read_text().startswith("def foo")
        assert not ground.git("status", "--porcelain")
