"""What is in the image, what isn't, and as whom it runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.container.runner import Engine

MOST_COMPRESSED_MB = 120.0
ROOT = Path(__file__).parents[2]


def inside(engine: Engine, script: str, *flags: str) -> str:
    """What a shell in the image prints."""
    done = engine.command("run", "--rm", *flags, "--entrypoint", "sh", engine.image, "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bill(engine: Engine) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(inside(engine, "cat /usr/share/maos/sbom.cdx.json"))
    return said


def test_no_compiler_no_caches_and_none_of_the_builds_secrets_are_left(engine: Engine) -> None:
    look = "for name in gcc cc make ld pip hatch; do command -v $name; done; true"
    assert inside(engine, f"PATH=/opt/maos/bin:$PATH; {look}").replace("/usr/local/bin/pip\n", "") == ""
    for path in ("/root/.cache", "/src", "/build", "/wheels", "/tmp/container", "/etc/pip.conf", "/run/ca.pem"):
        assert inside(engine, f"ls -d {path} 2>/dev/null || true") == ""
    assert inside(engine, "ls /var/lib/apt/lists /var/log | grep -v : || true").strip() == ""
    assert inside(engine, "find /opt/maos -name tests -o -name direct_url.json") == ""


def test_what_tasks_and_agents_need_is_there(engine: Engine) -> None:
    said = inside(
        engine,
        "git --version; rg --version; tini --version; maos --version; /opt/maos/bin/python -c 'import anthropic'",
    )
    assert {line.split()[0] for line in said.splitlines()} >= {"git", "ripgrep", "tini", "maos,"}
    assert inside(engine, "command -v python3").strip() != "/opt/maos/bin/python3"  # a task's Python isn't ours


def test_the_bill_of_materials_names_all_that_is_installed(engine: Engine, bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "maos-bot"
    purls = [component["purl"] for component in bill["components"]]
    assert len(set(purls)) == len(purls) == len({component["bom-ref"] for component in bill["components"]})
    listed = inside(engine, "dpkg-query -W -f '${binary:Package}\\n'")
    debian = {name.partition(":")[0] for name in listed.split()}
    assert debian == {component["name"] for component in bill["components"] if component["purl"].startswith("pkg:deb/")}
    python = [component for component in bill["components"] if component["purl"].startswith("pkg:pypi/")]
    pypi = {(re.sub(r"[-_.]+", "-", each["name"]).lower(), each["version"]) for each in python}
    lock = (ROOT / "requirements" / "image.lock").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock, re.MULTILINE))
    assert {name for name, _ in pypi - pinned} == {"maos-bot"}
    assert {name for name, _ in pinned - pypi} == {"pip"}


def test_labels_say_what_it_is(engine: Engine) -> None:
    said = json.loads(engine.command("inspect", "--type", "image", engine.image).stdout)[0]
    labels = said.get("Labels") or said["Config"]["Labels"]
    named = {name.rpartition(".")[2]: value for name, value in labels.items() if "opencontainers" in name}
    assert named["title"] == "MAOS bot"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", named["version"])
    assert re.fullmatch(r"[0-9a-f]{40}", named["revision"])


def test_it_is_small_enough_to_pull(engine: Engine, tmp_path: Path) -> None:
    if engine.program == "podman":  # the layers as a registry gets them
        pushed = engine.command("push", "--quiet", engine.image, f"oci:{tmp_path}/layers:it")
        assert pushed.returncode == 0, pushed.stderr
        compressed_mb = sum(path.stat().st_size for path in (tmp_path / "layers" / "blobs").rglob("*")) / 1e6
    else:
        script = f"docker save {engine.image} | gzip -c | wc -c"
        packed = subprocess.run(["sh", "-c", script], env=engine.environ, capture_output=True, text=True, check=True)
        compressed_mb = int(packed.stdout) / 1e6
    print(f"{compressed_mb:.1f} MB compressed")
    assert compressed_mb < MOST_COMPRESSED_MB


def run_in(engine: Engine, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`maos run` outside Actions in a folder of this machine."""
    (folder / ".maos.yml").write_text("version: 1\ntasks:\n  who: {run: 'id -u > who.txt'}\n", encoding="utf-8")
    return engine.command("run", "--rm", "-v", f"{folder}:/workspace", *flags, engine.image, "run")


def test_outside_actions_it_works_as_the_owner_of_the_folder(engine: Engine, tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    done = run_in(engine, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "who.txt").read_text() == "1234\n"
    assert {path.stat().st_uid for path in (tmp_path / ".maos").iterdir()} == {1234}


def test_outside_actions_it_is_never_root_by_itself(engine: Engine, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = run_in(engine, tmp_path)  # the folder is root's: nothing may be written there
    assert done.returncode == 2
    assert "can't write to" in done.stderr
    (tmp_path / "who.txt").unlink(missing_ok=True)
    assert not list(tmp_path.glob(".maos/*"))
    assert engine.command("run", "--rm", engine.image, "doctor").returncode == 0  # without a folder, as its own user


def test_a_user_that_the_engine_was_told_stays(engine: Engine, tmp_path: Path) -> None:
    os.chown(tmp_path, 4321, 4321)
    done = run_in(engine, tmp_path, "--user", "4321:4321")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "who.txt").read_text() == "4321\n"


def test_the_workspace_cant_change_what_is_imported(engine: Engine, tmp_path: Path) -> None:
    for name in ("click.py", "json.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('taken over')\n", encoding="utf-8")
    done = engine.command(
        *("run", "--rm", "-v", f"{tmp_path}:/workspace", "-e", "PYTHONPATH=/workspace", engine.image, "--version")
    )
    assert done.stdout.startswith("maos, version"), done.stderr
