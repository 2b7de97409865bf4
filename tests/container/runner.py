"""A runner's way with a container action: its folders, mounts, environment, and how it cancels.

Facts from the runner's `ContainerActionHandler.cs`, `DockerCommandManager.cs` and `ProcessInvoker.cs`. The engine is
docker or podman, on the host's network, so that the stand-ins on loopback are reached.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.e2e.github_stand_in import REPOSITORY

TOKEN: Final = "ghs_abcdefghijklmnopqrstuvwxyz0123456789"
RUNNER_UID: Final = 1001  # of the account `runner` on GitHub's machines
ACTION: Final = Path(__file__).parents[2] / "action.yml"
SIGTERM_AFTER_S: Final = 7.5
KILL_AFTER_S: Final = 2.5
RUN_S: Final = 180.0
PODMAN_CONF: Final = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
netns = "host"
pids_limit = 0
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """What runs containers here, and the image to run."""

    program: str  # docker | podman
    image: str
    environ: Mapping[str, str]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *words], env=self.environ, capture_output=True, text=True, timeout=RUN_S, check=False
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What a run of the action left: `said` is the log of the step, both streams together."""

    code: int
    said: str
    outputs: Mapping[str, str]
    summary: str
    wall_s: float


class DockerSocket:
    """A socket where Docker's would be, that counts who comes."""

    def __init__(self, path: Path) -> None:
        self.callers = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            self.callers += 1
            caller.close()

    def close(self) -> None:
        self._socket.close()


@dataclass(kw_only=True, slots=True)
class Runner:
    """A runner's folders below `root`, with the checkout in `workspace`."""

    root: Path
    engine: Engine
    api_url: str
    docker: DockerSocket = field(init=False)

    def __post_init__(self) -> None:
        for name in ("workspace", "home", "workflow", "file_commands"):
            (self.root / name).mkdir(exist_ok=True)
        self.docker = DockerSocket(self.root / "docker.sock")

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    def check_out(self, source: Path, *, commit: str = "HEAD") -> None:
        """What actions/checkout does, as the runner's user."""
        for words in (("clone", "-q", "--no-hardlinks", str(source), "."), ("checkout", "-q", "--detach", commit)):
            subprocess.run(["git", *words], cwd=self.workspace, check=True, capture_output=True)
        self.own()

    def own(self) -> None:
        """Give everything to the runner's user, as it is before a step."""
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                os.chown(Path(folder, name), RUNNER_UID, RUNNER_UID, follow_symlinks=False)

    def start(
        self,
        event: str,
        payload: object,
        *,
        inputs: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        name: str = "",
        keep: bool = False,
    ) -> subprocess.Popen[str]:
        """Start the action as the runner would; `inputs` go over the defaults of action.yml, `flags` to the engine."""
        (self.root / "workflow" / "event.json").write_text(json.dumps(payload), encoding="utf-8")
        for each in ("output", "step_summary", "env", "path", "state"):
            (self.root / "file_commands" / f"set_{each}").write_text("", encoding="utf-8")
        environ = {**self._environ(event), **_inputs(inputs or {}), **(env or {})}
        mounts = {
            self.root / "docker.sock": "/var/run/docker.sock",
            self.root / "home": "/github/home",
            self.root / "workflow": "/github/workflow",
            self.root / "file_commands": "/github/file_commands",
            self.workspace: "/github/workspace",
        }
        words = ["run", "--name", name or f"maos-{uuid.uuid4().hex[:12]}", "--workdir", "/github/workspace"]
        words += [] if keep else ["--rm"]
        words += ["--network", "host", *flags]
        words += [word for variable in environ for word in ("-e", variable)]
        words += [word for outside, inside in mounts.items() for word in ("-v", f"{outside}:{inside}")]
        return subprocess.Popen(
            [self.engine.program, *words, self.engine.image],
            env={**self.engine.environ, **environ, "HOME": self.engine.environ.get("HOME", "/root")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def run(self, event: str, payload: object, **options: Any) -> Ended:
        """Run the action to its end."""
        began = time.monotonic()
        process = self.start(event, payload, **options)
        said, _ = process.communicate(timeout=RUN_S)
        return self.ended(process.returncode, said, time.monotonic() - began)

    def cancel(self, process: subprocess.Popen[str]) -> float:
        """Cancel as the runner does; the seconds that it took. A run that had to be killed fails the test."""
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(SIGTERM_AFTER_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait(KILL_AFTER_S)
        return time.monotonic() - began

    def ended(self, code: int, said: str, wall_s: float = 0.0) -> Ended:
        commands = self.root / "file_commands"
        return Ended(
            code=code,
            said=said,
            outputs=read_outputs((commands / "set_output").read_text(encoding="utf-8")),
            summary=(commands / "set_step_summary").read_text(encoding="utf-8"),
            wall_s=wall_s,
        )

    def _environ(self, event: str) -> dict[str, str]:
        sha = subprocess.run(
            ["git", "-c", "safe.directory=*", "rev-parse", "HEAD"],
            cwd=self.workspace,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        return {
            "CI": "true",
            "HOME": "/github/home",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTOR": "Codertocat",
            "GITHUB_API_URL": self.api_url,
            "GITHUB_ENV": "/github/file_commands/set_env",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": "/github/workflow/event.json",
            "GITHUB_OUTPUT": "/github/file_commands/set_output",
            "GITHUB_PATH": "/github/file_commands/set_path",
            "GITHUB_REF": "refs/heads/master",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_RUN_ID": "1001",
            "GITHUB_RUN_NUMBER": "1",
            "GITHUB_SHA": sha,
            "GITHUB_STATE": "/github/file_commands/set_state",
            "GITHUB_STEP_SUMMARY": "/github/file_commands/set_step_summary",
            "GITHUB_WORKFLOW": "CI",
            "GITHUB_WORKSPACE": "/github/workspace",
            "RUNNER_OS": "Linux",
            "ACTIONS_RUNTIME_TOKEN": "a-runtime-token-of-the-runner",
        }


def _inputs(given: Mapping[str, str]) -> dict[str, str]:
    """Every input as the runner passes it: upper case, hyphens kept, the default where none was given."""
    from ruamel.yaml import YAML

    described = YAML(typ="safe").load(ACTION.read_text(encoding="utf-8"))["inputs"]
    assert set(given) <= set(described), set(given) - set(described)
    defaults = {name: str(each.get("default") or "") for name, each in described.items()}
    defaults["github-token"] = TOKEN
    return {f"INPUT_{name.upper()}": value for name, value in {**defaults, **given}.items()}


def read_outputs(text: str) -> dict[str, str]:
    """The outputs in a file of `name<<DELIMITER` blocks."""
    found = re.findall(r"^([\w-]+)<<(\S+)\n(.*?)\n\2$", text, re.MULTILINE | re.DOTALL)
    return {name: value for name, _, value in found}
