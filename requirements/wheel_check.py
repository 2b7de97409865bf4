"""Builds the package as it is released and tries it as a stranger would: a clean environment, an empty folder.

`python requirements/wheel_check.py [PYTHON ...]`: each PYTHON (default: every Python from 3.11 on that can be found)
gets the core from its hashed lock and the wheel; then `maos init`, `plan`, `run`, `history` and the dashboard must work
where nothing is. Prints what it measured, and ends with 1 at the first thing that is wrong.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LARGEST_MIB: Final = 60  # all files of the core in site-packages, without pip and what a new environment holds anyway
TOOLS: Final = ROOT / ".venv" / "release" / "bin"
TIMEOUT_S: Final = 600
# What is no module, and without which the package would start and then fail.
NEEDED: Final = (
    "maos_bot/py.typed",
    "maos_bot/spec/schema.json",
    "maos_bot/models/prices.json",
    "web/static/maos.css",
    "web/static/vendor/htmx-LICENSE.txt",
    "web/templates/base.html",
)


def main(arguments: Sequence[str]) -> int:
    """Build, look at the files, and try the wheel with each Python; the exit code."""
    pythons = list(arguments) or list(_pythons())
    with tempfile.TemporaryDirectory(prefix="wheel-check-") as scratch:
        wheel = _built(Path(scratch) / "dist")
        for python in pythons:
            _tried(python, wheel, Path(scratch))
    return 0


def _built(folder: Path) -> Path:
    """The sdist, and the wheel made from it, both looked through; the wheel's path."""
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    _run(str(TOOLS / "twine"), "check", "--strict", str(wheel), str(sdist))
    _run(str(TOOLS / "check-wheel-contents"), "--toplevel", "maos_bot,web", str(wheel))
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    ours = {
        str(path.relative_to(ROOT))
        for part in ("maos_bot", "web")
        for path in (ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    _require(not (missing := sorted((ours | set(NEEDED)) - held)), f"the wheel lacks {missing}")
    _require(not (missing := sorted(ours - sources)), f"the sdist lacks {missing}")
    for path in (wheel, sdist):
        _say(f"{path.name}: {path.stat().st_size / 1024:,.0f} KiB")
    return wheel


def _pythons() -> Iterator[str]:
    """The newest of each minor version from 3.11 on, on the PATH or among pyenv's."""
    found: dict[tuple[int, ...], str] = {}
    places = [*map(Path, os.environ.get("PATH", "").split(os.pathsep)), *Path.home().glob(".pyenv/versions/*/bin")]
    for place in places:
        for path in place.glob("python3.1?"):
            said = subprocess.run([path, "-VV"], capture_output=True, text=True, check=False, timeout=30).stdout
            version = re.match(r"Python 3\.(\d+)\.(\d+)", said)
            if version and int(version[1]) >= 11 and str(ROOT) not in str(path):
                found.setdefault((int(version[1]), int(version[2])), str(path))
    newest = {minor: found[minor, patch] for minor, patch in sorted(found)}
    yield from newest.values()


def _tried(python: str, wheel: Path, scratch: Path) -> None:
    version = _run(python, "-V").split()[1]
    venv = scratch / f"venv-{version}"
    _run(python, "-m", "venv", str(venv))
    site = next(venv.glob("lib/python*/site-packages"))
    before = {path.name for path in site.iterdir()}
    pip = (str(venv / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "install", "--require-hashes", "-r", str(ROOT / "requirements" / "core.lock"))
    _run(*pip, "install", "--no-deps", "--no-index", str(wheel))
    _run(*pip, "check")
    added = [path for path in site.iterdir() if path.name not in before and not path.name.startswith("pip")]
    files = [file for path in added for file in ([path, *path.rglob("*")] if path.is_dir() else [path])]
    size = sum(file.lstat().st_size for file in files if not file.is_dir()) / 2**20
    blocks = sum(file.lstat().st_blocks * 512 for file in files) / 2**20
    _require(size < LARGEST_MIB, f"the core takes {size:.1f} MiB, more than {LARGEST_MIB}")

    empty = scratch / f"empty-{version}"
    empty.mkdir()
    maos = str(venv / "bin" / "maos")
    _run(maos, "init", cwd=empty)
    _run(maos, "plan", "--mermaid", cwd=empty)
    report: dict[str, Any] = json.loads(_run(maos, "run", "--json", cwd=empty))
    _require(report["status"] == "succeeded", f"the starter's run ended as {report['status']}")
    _require(report["run_id"] in _run(maos, "history", cwd=empty), "the history doesn't know the run")
    _dashboard(maos, empty, report["run_id"])
    action = subprocess.run([maos, "action"], cwd=empty, capture_output=True, text=True, check=False, timeout=60)
    _require(action.returncode == 2, f"`maos action` outside a workflow ended with {action.returncode}")
    _say(
        f"Python {version}: core {size:.1f} MiB ({blocks:.1f} on this disk);"
        " init, plan, run, history and dashboard work from an empty folder"
    )
    shutil.rmtree(venv)


def _dashboard(maos: str, cwd: Path, run_id: str) -> None:
    served = subprocess.Popen([maos, "dashboard", "--port", "0"], cwd=cwd, stderr=subprocess.PIPE, text=True)
    try:
        line = served.stderr.readline() if served.stderr else ""
        url = line.split()[-1].rstrip("/")
        for page in ("/", f"/runs/{run_id}", "/static/maos.css"):
            with urllib.request.urlopen(url + page, timeout=30) as answer:
                _require(answer.status == 200, f"{page} answers {answer.status}")
    finally:
        served.terminate()
        served.wait(timeout=30)


def _run(*command: str, cwd: Path = ROOT) -> str:
    """The command's output; ends the program with all that it said where it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    _require(done.returncode == 0, f"{' '.join(command)}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"wheel-check: {otherwise}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
