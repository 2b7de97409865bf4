"""Writes what is in the image as a CycloneDX 1.6 bill of materials: `sbom.py FILE`, run inside it.

Python's packages are read from their metadata, Debian's from dpkg's own list; nothing is looked up. The same image
gives the same bytes: no time, no random number.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

DPKG_FORMAT = "${binary:Package}\t${Version}\t${Architecture}\t${db:Status-Abbrev}\n"


def main(path: Path) -> None:
    """Write the bill of materials to `path`."""
    components = sorted((*python_packages(), *debian_packages()), key=lambda each: str(each["bom-ref"]))
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "maos-bot", "version": version("maos-bot")}},
        "components": components,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(components)} components in {path}\n")


def version(name: str) -> str:
    """The version of an installed Python package."""
    return importlib.metadata.version(name)


def python_packages() -> list[dict[str, Any]]:
    """The packages beside this interpreter, and the interpreter itself."""
    found = [_component("python", platform.python_version(), f"pkg:generic/python@{platform.python_version()}")]
    for package in importlib.metadata.distributions():
        name = package.metadata["Name"]
        slug = name.lower().replace("_", "-")
        component = _component(name, package.version, f"pkg:pypi/{slug}@{quote(package.version)}")
        licence = package.metadata["License-Expression"]
        if licence:
            component["licenses"] = [{"expression": licence}]
        found.append(component)
    return found


def debian_packages() -> list[dict[str, Any]]:
    """The packages that dpkg has installed."""
    listed = subprocess.run(
        ["/usr/bin/dpkg-query", "-W", "-f", DPKG_FORMAT], capture_output=True, text=True, check=True
    ).stdout
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    distro = f"debian-{release.get('VERSION_ID', 'unknown').strip(chr(34))}"
    rows = [line.split("\t") for line in listed.splitlines()]
    return [
        _component(
            name.partition(":")[0],
            installed,
            f"pkg:deb/debian/{name.partition(':')[0]}@{quote(installed)}?arch={architecture}&distro={distro}",
        )
        for name, installed, architecture, status in rows
        if status.startswith("ii")
    ]


def _component(name: str, installed: str, purl: str) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": installed, "purl": purl}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
