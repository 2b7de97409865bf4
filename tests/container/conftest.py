"""The image under test, and what it talks to. Without an image (`make e2e` builds one) these tests are skipped."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.runner import PODMAN_CONF, Engine, Runner
from tests.e2e.github_stand_in import GitHubStandIn

_NAMES = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "DOCKER_HOST", "HOME", "PATH")
OUTER = dict(os.environ)  # before the suite's own: builds need this machine's network


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    image = OUTER.get("MAOS_IMAGE")
    if not image:
        pytest.skip("no image to test: `make e2e` builds one and runs these tests")
    if os.geteuid() != 0:
        pytest.skip("the runner's user and root's files are told apart by root alone")
    program = OUTER.get("MAOS_ENGINE") or ("docker" if _docker_runs() else "podman")
    if not shutil.which(program):
        pytest.skip(f"{program} isn't installed")
    environ = {name: OUTER[name] for name in _NAMES if name in OUTER}
    if program == "podman" and "CONTAINERS_CONF" not in environ:
        settings = tmp_path_factory.mktemp("podman") / "containers.conf"
        settings.write_text(PODMAN_CONF, encoding="utf-8")
        environ["CONTAINERS_CONF"] = str(settings)
    return Engine(program=program, image=image, environ=environ)


def _docker_runs() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def runner(engine: Engine, github: GitHubStandIn, tmp_path: Path) -> Iterator[Runner]:
    for folder in (tmp_path, *tmp_path.parents[:3]):  # the runner's user has to come this far
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    root = tmp_path / "runner"
    root.mkdir()
    made = Runner(root=root, engine=engine, api_url=github.url)
    yield made
    made.docker.close()
