"""What keeps an agent's commands to their worktree on this machine: found out once, and said in words.

The strongest that works is taken: Landlock for files, seccomp for sockets and for looking into other processes, and
namespaces of their own for mounts, processes and the network. Where the kernel has no Landlock, or one too old, a
command could read what the user can read, keys in our own environment too, so none is run there unless
`MAOS_UNCONFINED_RUN=1` says so.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from maos_bot.execution.jail import Hold
from maos_bot.frozen import dataclass

UNCONFINED: Final = "MAOS_UNCONFINED_RUN"
MORE_FOLDERS: Final = "MAOS_AGENT_READS"  # folders, joined as in PATH
JAIL: Final = (sys.executable, "-I", "-m", "maos_bot.execution.jail")
_TRUNCATES: Final = 3  # the version of Landlock that knows of truncating
_PROBE_S: Final = 20.0

_SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/proc"),
    *("/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage"),
    *("/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"),
)
_OF_ETC: Final = (  # what programs look up; neither passwords nor keys nor anybody's settings
    *("alternatives", "ca-certificates", "ca-certificates.conf", "debian_version", "fonts", "group", "host.conf"),
    *("hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types"),
    *("nsswitch.conf", "os-release", "passwd", "pki/ca-trust", "pki/tls/certs", "protocols", "resolv.conf"),
    *("services", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone", "java-17-openjdk", "java-21-openjdk"),
)
_OF_PREFIX: Final = ("bin", "include", "lib", "lib64", "libexec", "pyvenv.cfg")
_OF_HOME: Final = (  # where version managers keep programs
    *(".asdf", ".nodenv", ".nvm", ".pyenv", ".rbenv", ".rustup", ".sdkman/candidates", ".volta", ".cargo/bin"),
    *(".local/bin", ".local/lib", ".local/share/mise", ".local/share/uv/python"),
)
_PROGRAMS: Final = ("python3", "python", "node", "ruby", "java", "go", "php", "perl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Confinement:
    """What holds here: Landlock's version (0: none), whether seccomp does, and the namespaces; `why_not` names what a
    probe that failed said.
    """

    landlock: int = 0
    calls: bool = False
    namespaces: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def holds(self) -> bool:
        """Whether an agent's command is kept from files that aren't its own.

        Before version 3 Landlock lets files be emptied; a mount that is read-only doesn't.
        """
        return self.landlock >= _TRUNCATES or (self.landlock > 0 and self._has("mount"))

    def refusal(self, environ: Mapping[str, str]) -> str:
        """Why agents run no commands here; empty where they may."""
        if self.holds or environ.get(UNCONFINED) == "1":
            return ""
        why = self.why_not or (
            f"Landlock is of version {self.landlock} here, and it takes {_TRUNCATES}, which Linux 6.2 has"
            if self.landlock
            else "the kernel has no Landlock"
        )
        return f"commands of agents can't be confined here ({why}); {UNCONFINED}=1 runs them all the same"

    def hold(self, *, readable: tuple[str, ...], writable: tuple[str, ...], hidden: tuple[str, ...] = ()) -> Hold:
        """How a command is to be held that may read the one and change the other."""
        return Hold(
            readable=readable,
            writable=writable,
            hidden=hidden,
            namespaces=self.namespaces,
            files=self.landlock > 0,
            calls=self.calls,
        )

    def words(self) -> str:
        """What holds and what doesn't, for `maos doctor`."""
        files = (
            f"files by Landlock (version {self.landlock})" + (" and read-only mounts" if self._has("mount") else "")
            if self.holds
            else "files are NOT confined"
        )
        if self._has("net"):
            network = "a network of its own with nothing in it"
        elif self.calls:
            network = "no network (seccomp)"
        else:
            network = "no TCP (Landlock), but UDP is open" if self.landlock >= 4 else "the network is OPEN"
        if self._has("pid"):
            processes = "processes of its own"
        elif self.landlock >= 6:
            processes = "other processes neither read nor signalled"
        else:
            processes = (
                "other processes can be signalled" if self.holds else "other processes can be read and signalled"
            )
        return "; ".join((files, network, processes, *((self.why_not,) if self.why_not else ())))

    def _has(self, kind: str) -> bool:
        return kind in self.namespaces


@functools.cache
def confinement() -> Confinement:
    """What holds on this machine; asked of the kernel once, by trying, which takes about a tenth of a second."""
    if not sys.platform.startswith("linux"):
        return Confinement(why_not=f"{sys.platform} has no Landlock")
    try:
        said = subprocess.run(  # noqa: S603 - our own program
            [*JAIL, "--probe"], capture_output=True, timeout=_PROBE_S, check=True, stdin=subprocess.DEVNULL, env={}
        ).stdout
        found = json.loads(said)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Confinement(why_not=f"asking the kernel failed: {type(error).__name__}: {error}")
    return Confinement(landlock=found["landlock"], calls=found["calls"], namespaces=tuple(found["namespaces"] or ()))


def readable_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What any command may read: the system's programs and libraries, and those that `PATH` leads to.

    The user's home is not among it, but for the folders in which version managers keep programs.
    """
    home = Path(environ.get("HOME") or "/nonexistent")
    found = [*_SYSTEM, *(f"/etc/{name}" for name in _OF_ETC), *(str(home / name) for name in _OF_HOME)]
    found += _on_path(environ.get("PATH", ""), home)
    found += [each for name in ("RUNNER_TOOL_CACHE", "JAVA_HOME", "GOROOT") if (each := environ.get(name))]
    found += environ.get(MORE_FOLDERS, "").split(os.pathsep)
    return tuple(dict.fromkeys(each for each in found if each.startswith("/") and each != "/"))


def _on_path(path: str, home: Path) -> Iterator[str]:
    for entry in path.split(os.pathsep):
        folder = Path(entry)
        if not folder.is_absolute() or folder in (home, *home.parents) or (folder / ".git").exists():
            continue
        yield entry
        prefixes = [folder.parent] if folder.name in ("bin", "sbin") else []
        for name in _PROGRAMS:
            program = folder / name
            if program.is_symlink():
                prefixes.append(program.resolve().parent.parent)
        for prefix in dict.fromkeys(prefixes):
            if prefix not in (home, *home.parents):
                yield from (str(prefix / part) for part in _OF_PREFIX)
