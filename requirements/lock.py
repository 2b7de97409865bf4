"""Writes the lock files from `pyproject.toml`: every version pinned, every file hashed, no address of an index.

`python requirements/lock.py [--upgrade]`, with the oldest Python that is supported, so that what only that one needs
is in. pip's own settings are left out of it: a mirror's rebuilt file would carry a hash that nobody else can install.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
OPTIONS = (
    "--quiet",
    "--no-config",
    "--generate-hashes",
    "--strip-extras",
    "--allow-unsafe",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-trusted-host",
    "--no-emit-options",
)


def main(arguments: list[str]) -> None:
    """Writes all lock files: core, dev (core, extras, tools), image, and those that few need."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    core = project["project"]["dependencies"]
    extras = project["project"]["optional-dependencies"]
    groups = project["dependency-groups"]
    _compile("core.lock", core, arguments)
    whole = [*core, *extras["github"]]
    _compile("dev.lock", [*whole, *groups["dev"]], arguments, constraint="core.lock")
    _compile("image.lock", [*whole, *extras["anthropic"]], arguments, constraint="dev.lock")
    _compile("build.lock", ["pip", *project["build-system"]["requires"]], arguments, constraint="dev.lock")
    _compile("docs.lock", groups["docs"], arguments, constraint="dev.lock")
    _compile("release.lock", groups["release"], arguments, constraint="dev.lock")
    _compile("e2e.lock", groups["e2e"], arguments)
    _compile("peers.lock", groups["peers"], arguments)
    _compile("../examples/itsdangerous/tools.lock", groups["example"], arguments)


def _compile(name: str, requirements: list[str], arguments: list[str], *, constraint: str = "") -> None:
    environment = {key: value for key, value in os.environ.items() if key not in {"PIP_FIND_LINKS", "PIP_NO_INDEX"}}
    environment = {key: value for key, value in environment.items() if not key.endswith("INDEX_URL")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "CUSTOM_COMPILE_COMMAND": "make lock"}
    command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, *arguments, "--output-file", name]
    if constraint:
        command += ["--constraint", constraint]
    subprocess.run([*command, "-"], input="\n".join(requirements), text=True, check=True, cwd=HERE, env=environment)
    sys.stdout.write(f"{(HERE / name).resolve().relative_to(HERE.parent)} written\n")


if __name__ == "__main__":
    main(sys.argv[1:])
