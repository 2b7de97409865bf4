"""MAOS bot on the runner itself: its packages into a folder of their own, then the action, as this process.

`python3 maos.py`, with the inputs as a JSON object in MAOS_INPUTS. The packages are those of `requirements/image.lock`,
every file checked by its hash; they are kept in the runner's tool cache, by lock and Python, for the next job.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "image.lock"
OLDEST = (3, 11)
READY = "ready"
# With -I neither the workspace nor PYTHON* variables decide what is imported; our own code comes last.
START = """
import sys
sys.path.append(sys.argv[1])
sys.argv = ["maos", "action"]
from maos_bot.__main__ import main
main()
"""


def main() -> None:
    """Install what is missing, then become `maos action`; ends with 2 where that can't be."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        raise SystemExit(_said(f"python3 here is {found}, and MAOS bot needs 3.11: put actions/setup-python before it"))
    try:
        inputs = json.loads(os.environ.pop("MAOS_INPUTS", "") or "{}")
    except ValueError as error:
        raise SystemExit(_said(f"MAOS_INPUTS is no JSON: {error}")) from error
    hand_over(inputs, os.environ)
    place = place_of(os.environ)
    try:
        install(place)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(_said(f"the packages can't be installed into {place}: {error}")) from error
    os.execv(place / "bin" / "python", [str(place / "bin" / "python"), "-I", "-u", "-c", START, str(ROOT)])


def hand_over(inputs: Mapping[str, object], environ: MutableMapping[str, str]) -> None:
    """Put the inputs where a container action finds them: as INPUT_ and the name in capitals, hyphens kept."""
    for name, value in inputs.items():
        environ[f"INPUT_{name.upper()}"] = str(value)


def place_of(environ: Mapping[str, str]) -> Path:
    """The folder for this lock and this Python."""
    python = f"{sys.version}{sysconfig.get_platform()}{sys.base_prefix}"
    key = hashlib.sha256(LOCK.read_bytes() + python.encode()).hexdigest()[:16]
    cache = environ.get("RUNNER_TOOL_CACHE") or environ.get("RUNNER_TEMP") or tempfile.gettempdir()
    return Path(cache) / "maos-bot" / key


def install(place: Path) -> None:
    """Make the folder whole, under another name until it is; nothing where it is there already."""
    if (place / READY).exists():
        return
    began = time.monotonic()
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)  # what an interrupted job left
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    words = ["install", "--quiet", "--require-hashes", "--only-binary", ":all:", "--requirement", str(LOCK)]
    subprocess.run([*pip, *words], check=True)
    (place / READY).touch()
    sys.stderr.write(f"maos: packages installed in {time.monotonic() - began:.1f} s\n")


def _said(why: str) -> int:
    sys.stderr.write(f"maos: {why}\n")
    return 2


if __name__ == "__main__":
    main()
