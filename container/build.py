"""Builds the action's image with what is here: a Docker engine, podman or buildah (`make image`).

Without a Docker engine buildah builds, needing no daemon and no kernel feature; as root on Debian it is installed
where it is missing. Where the registry can't be reached, a base is made from this machine's own Debian mirror
instead. Its own certificates and its pip's settings go in as secrets, which no layer keeps.

`python3 container/build.py [--tag NAME] [--base IMAGE] [--run]`; with `--run` what runs the image is installed too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LOCAL_BASE: Final = "localhost/maos-base"
BASE_PACKAGES: Final = "ca-certificates,netbase,tzdata,python3,python3-venv"
# Programs by the Debian packages that have them.
BUILDERS: Final = ("buildah", "mmdebstrap")
RUNNERS: Final = ("podman", "runc", "conmon")
BESIDE: Final = ("netavark", "golang-github-containers-common", "ca-certificates")  # what those only recommend
# As Debian's own slim images do: no manuals, no translations.
LEFT_OUT: Final = (
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
)
PULL_S: Final = 300
CA_BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")


class BuildError(Exception):
    """Why no image can be built here, and what would help."""


def main(arguments: list[str]) -> int:
    """Build, and say which image was made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", default="localhost/maos-bot:latest", help="the image's name (default %(default)s)")
    parser.add_argument("--base", default="", help="the base image (default: the Dockerfile's, else one made here)")
    parser.add_argument("--run", action="store_true", help="see to it that the image can be run here, too")
    asked = parser.parse_args(arguments)
    try:
        if _works("docker", "info"):
            _docker(asked.tag, asked.base)
        else:
            _buildah(asked.tag, asked.base, tools=(*BUILDERS, *(RUNNERS if asked.run else ())))
    except BuildError as error:
        sys.stderr.write(f"make image: {error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"make image: {' '.join(map(str, error.cmd[:3]))} ended with {error.returncode}\n")
        return 1
    sys.stdout.write(f"{asked.tag} built\n")
    return 0


def _docker(tag: str, base: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = ["docker", "build", "--tag", tag, *_arguments(base), *_secrets(Path(folder)), str(ROOT)]
        _run(*command, env={"DOCKER_BUILDKIT": "1", "SOURCE_DATE_EPOCH": _epoch()})


def _buildah(tag: str, base: str, *, tools: tuple[str, ...]) -> None:
    _install(tools)
    base = base or (_local_base() if not _pulled(_default_base()) else "")
    with tempfile.TemporaryDirectory() as folder:
        command = ["buildah", "bud", "--isolation", "chroot", "--layers", "--timestamp", _epoch(), "--tag", tag]
        _run(*command, *_arguments(base), *_secrets(Path(folder)), str(ROOT))


def _arguments(base: str) -> list[str]:
    values = {"SOURCE_DATE_EPOCH": _epoch(), "REVISION": _git("rev-parse", "HEAD") or "unknown"}
    version: dict[str, str] = {}
    exec((ROOT / "maos_bot" / "_version.py").read_text(encoding="utf-8"), version)
    values["VERSION"] = version["__version__"]
    if base:
        values["BASE_IMAGE"] = base
    return [word for name, value in values.items() for word in ("--build-arg", f"{name}={value}")]


def _secrets(folder: Path) -> list[str]:
    """Certificates and pip's index of this machine, for the time of the build alone."""
    lines = ["[global]"]
    words = []
    bundle = next((os.environ[name] for name in CA_BUNDLES if Path(os.environ.get(name, "")).is_file()), "")
    if bundle:
        words += ["--secret", f"id=ca.pem,src={bundle}"]
        lines.append("cert = /run/ca.pem")
    index = os.environ.get("PIP_INDEX_URL") or _said(sys.executable, "-m", "pip", "config", "get", "global.index-url")
    if index:
        lines.append(f"index-url = {index}")
    path = folder / "pip.conf"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*words, "--secret", f"id=pip.conf,src={path}"]


def _install(tools: tuple[str, ...]) -> None:
    """Install what is missing of `tools`; raises `BuildError` where that can't be done here."""
    debian = Path("/etc/debian_version").exists()
    missing = [name for name in tools if not shutil.which(name) and (debian or name != "mmdebstrap")]
    if not missing:
        return
    if os.geteuid() != 0 or not debian:
        raise BuildError(
            f"no Docker engine runs here, and {', '.join(missing)} can be installed by root on Debian only"
        )
    _run("apt-get", "update", "-qq")
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, *BESIDE)
    _run(*install, env={"DEBIAN_FRONTEND": "noninteractive"})


def _default_base() -> str:
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("ARG BASE_IMAGE="):
            return line.partition("=")[2]
    raise BuildError("the Dockerfile names no BASE_IMAGE")


def _pulled(image: str) -> bool:
    if _works("buildah", "inspect", "--type", "image", image):
        return True
    try:
        done = subprocess.run(["buildah", "pull", "--quiet", image], capture_output=True, timeout=PULL_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _local_base() -> str:
    """A Debian with Python, made of packages from where this machine's own come from; made once for a release."""
    release = _os_release().get("VERSION_CODENAME", "")
    name = f"{LOCAL_BASE}:{release}"
    if _works("buildah", "inspect", "--type", "image", name):
        return name
    sources = _debian_sources(release)
    if not sources or not shutil.which("mmdebstrap"):
        raise BuildError("the base image can't be pulled, and this isn't a Debian to make one from; give --base IMAGE")
    sys.stderr.write(f"The base can't be pulled: making {name} from this machine's Debian mirror\n")
    with tempfile.TemporaryDirectory() as folder:
        archive, recipe = Path(folder, "rootfs.tar"), Path(folder, "Dockerfile")
        options = [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={BASE_PACKAGES}", *options, release]
        subprocess.run([*command, str(archive), "-"], input=sources, text=True, check=True)
        recipe.write_text('FROM scratch\nADD rootfs.tar /\nCMD ["python3"]\n', encoding="utf-8")
        _run("buildah", "bud", "--quiet", "--isolation", "chroot", "--timestamp", "0", "--tag", name, folder)
    return name


def _debian_sources(release: str) -> str:
    """This machine's Debian archives, as lines of a sources.list."""
    listed = _said("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    wanted = {release, f"{release}-updates", f"{release}-security"}
    rows = {tuple(line.split()) for line in listed.splitlines()}
    return "".join(f"deb {' '.join(row)}\n" for row in sorted(rows) if len(row) == 3 and row[1] in wanted)


def _os_release() -> dict[str, str]:
    path = Path("/etc/os-release")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


def _epoch() -> str:
    return os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or "0"


def _git(*words: str) -> str:
    return _said("git", "-C", str(ROOT), *words)


def _said(*command: str) -> str:
    """What a command prints; nothing where it isn't there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, env={**os.environ, **(env or {})})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
