"""The example workflows through `act`, a runner of workflows on one machine: `uses: ./` and `uses: ./composite`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.container.conftest import OUTER
from tests.container.runner import TOKEN, Engine
from tests.e2e.events import git, pull_request
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn

ROOT = Path(__file__).parents[2]
ACT_S = 600
SPEC = """\
version: 1
name: Pull request
tasks:
  lint: {run: "git log -1 --format=%s && id -u > who.txt"}
  unit: {run: "echo fine", needs: [lint]}
"""


@pytest.fixture
def act() -> str:
    found = shutil.which("act", path=OUTER.get("PATH"))
    if not found:
        pytest.skip("act isn't installed: `make e2e` installs it")
    return found


@pytest.fixture
def docker_host(engine: Engine, tmp_path: Path) -> Iterator[str]:
    """The address of a Docker engine, or of podman that speaks as one."""
    if engine.program == "docker":
        yield OUTER.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        return
    path = tmp_path / "podman.sock"
    environ = {**engine.environ, "BUILDAH_ISOLATION": "chroot"}
    command = ["podman", "system", "service", "--time", "0", f"unix://{path}"]
    with (tmp_path / "podman.log").open("wb") as log:
        service = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
    give_up_at = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < give_up_at, (tmp_path / "podman.log").read_text()
        time.sleep(0.05)
    yield f"unix://{path}"
    os.killpg(service.pid, signal.SIGTERM)
    service.wait()


def base_for_act(engine: Engine, folder: Path) -> str:
    """A base with this machine's certificates: what act has built gets none of them as secrets."""
    bundle = next((OUTER[name] for name in ("SSL_CERT_FILE", "PIP_CERT") if Path(OUTER.get(name, "")).is_file()), "")
    release = re.findall(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    local = f"localhost/maos-base:{(release or ['unknown'])[0]}"
    if engine.program == "docker" or engine.command("image", "exists", local).returncode != 0:
        return ""
    folder.mkdir()
    lines = [f"FROM {local}"]
    if bundle:
        shutil.copy(bundle, folder / "ca.pem")
        (folder / "pip.conf").write_text("[global]\ncert = /etc/act-ca.pem\n", encoding="utf-8")
        lines += ["COPY ca.pem /etc/act-ca.pem", "COPY pip.conf /etc/pip.conf"]
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ("build", "--isolation", "chroot", "--quiet", "--tag", "localhost/maos-base:act", str(folder))
    made = engine.command(*words)
    assert made.returncode == 0, made.stderr
    return "localhost/maos-base:act"


def repository(folder: Path, example: str, uses: str, base: str) -> str:
    """This repository with one example as its only workflow and a spec of two tasks; its head commit."""
    folder.mkdir()
    subprocess.run(["sh", "-c", f"git -C {ROOT} archive HEAD | tar -x -C {folder}"], check=True)
    shutil.rmtree(folder / ".github")
    workflow = (ROOT / "examples" / "workflows" / example).read_text(encoding="utf-8")
    workflow, count = re.subn(r"uses: OWNER/maos-bot@.*", f"uses: {uses}", workflow)
    assert count == 1
    (folder / ".github" / "workflows").mkdir(parents=True)
    (folder / ".github" / "workflows" / example).write_text(workflow, encoding="utf-8")
    (folder / ".maos.yml").write_text(SPEC, encoding="utf-8")
    if base:
        dockerfile = (folder / "Dockerfile").read_text(encoding="utf-8")
        dockerfile = re.sub(r"^ARG BASE_IMAGE=.*$", f"ARG BASE_IMAGE={base}", dockerfile, flags=re.MULTILINE)
        (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "a commit for act")
    return git(folder, "rev-parse", "HEAD")


def run_act(
    act: str, folder: Path, github: GitHubStandIn, event: dict[str, Any], *words: str, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    path = folder.parent / "event.json"
    path.write_text(json.dumps(event), encoding="utf-8")
    command = [act, "pull_request", "-e", str(path), "--pull=false", "--no-recurse", "-s", f"GITHUB_TOKEN={TOKEN}"]
    for name, value in {"GITHUB_API_URL": github.url, "GITHUB_REPOSITORY": REPOSITORY}.items():
        command += ["--env", f"{name}={value}"]
    return subprocess.run(
        [*command, *words],
        cwd=folder,
        env={**OUTER, **env},
        capture_output=True,
        text=True,
        timeout=ACT_S,
        check=False,
    )


def event_of(sha: str) -> dict[str, Any]:
    pull = pull_request(sha=sha)
    return {
        "action": "opened",
        "number": pull["number"],
        "pull_request": pull,
        "repository": {"full_name": REPOSITORY, "default_branch": "master"},
    }


def check(done: subprocess.CompletedProcess[str], github: GitHubStandIn, sha: str) -> None:
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Job succeeded" in done.stdout
    assert "a commit for act" in done.stdout
    assert len(github.comments) == 1, done.stdout[-4000:]
    assert sorted(run["conclusion"] for run in github.checks) == ["success"] * 3
    assert {run["head_sha"] for run in github.checks} == {sha}


def test_the_basic_example_runs_with_the_action_of_this_repository(
    act: str, docker_host: str, engine: Engine, github: GitHubStandIn, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    sha = repository(folder, "basic.yml", "./", base_for_act(engine, tmp_path / "base"))
    words = ("--container-daemon-socket", "-", "--network", "host", "-P", f"ubuntu-latest={engine.image}")
    env = {"DOCKER_HOST": docker_host, **engine.environ}
    check(run_act(act, folder, github, event_of(sha), *words, env=env), github, sha)


def test_the_basic_example_runs_with_the_composite_action_on_the_runner(
    act: str, github: GitHubStandIn, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    sha = repository(folder, "basic.yml", "./composite", "")
    words = ("-P", "ubuntu-latest=-self-hosted")
    done = run_act(act, folder, github, event_of(sha), *words, env={"HOME": str(tmp_path)})
    check(done, github, sha)
    assert "packages installed in" in done.stdout
