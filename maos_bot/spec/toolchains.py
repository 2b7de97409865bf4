"""What a repository has tools for: the steps that prepare them and the checks that run them, by language."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from maos_bot.frozen import dataclass

VENV: Final = ".venv-maos"  # not .venv: that is the developer's, and making ours anew would take it away

_MAX_BYTES: Final = 1024 * 1024
_MAKE_TARGETS: Final = ("lint", "check", "test", "build")
_SCRIPTS: Final = ("lint", "format:check", "typecheck", "type-check", "test", "build")
_TEST_EXTRAS: Final = ("dev", "test", "tests", "testing")
_NO_BYTECODE: Final = "!**/__pycache__/"  # made by whoever imports first, and again after a checkout
_QUIET: Final = "--quiet --disable-pip-version-check"
_TOOLS: Final = ("ruff", "flake8", "mypy", "pytest", "build")
_LOCKED: Final = {  # lock file: command, how it prepares, what it needs to be told
    "uv.lock": ("uv", "uv sync --locked", {}),
    "poetry.lock": ("poetry", "poetry install --no-interaction", {"POETRY_VIRTUALENVS_IN_PROJECT": "true"}),
    "pdm.lock": ("pdm", "pdm install --frozen-lockfile", {}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step of `setup`."""

    id: str
    run: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A task."""

    id: str
    run: str
    team: str = "qa"
    needs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    pool: str = ""  # held alone while it runs


@dataclass(frozen=True, kw_only=True, slots=True)
class Toolchain:
    """What one language asks for. `in_image` says whether the action's image has its tools."""

    checks: tuple[Check, ...]
    steps: tuple[Step, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    in_image: bool = False


def toolchains(root: Path) -> list[Toolchain]:
    """Those found in `root`; the Makefile's targets count where there is no other."""
    found = [each for each in (_python(root), _node(root), _go(root), _rust(root)) if each.checks]
    return found or [each for each in (_make(root),) if each.checks]


def _python(root: Path) -> Toolchain:
    if not any((root / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")):
        return Toolchain(checks=())
    lock = next((name for name in _LOCKED if (root / name).is_file()), "")
    if lock:
        command, prepare, env = _LOCKED[lock]
        step = Step(id="venv", run=(prepare,), inputs=("pyproject.toml", lock), outputs=(".venv", _NO_BYTECODE))
        checks = tuple(_python_checks(root, f"{command} run ", f"{command} run python"))
        return Toolchain(steps=(step,), checks=checks, env=tuple(env.items()))
    checks = tuple(_python_checks(root, f"{VENV}/bin/", f"{VENV}/bin/python"))
    return Toolchain(steps=(_venv(root, checks),), checks=checks, in_image=True)


def _python_checks(root: Path, prefix: str, python: str) -> Iterator[Check]:
    settings = "".join(_text(root / name) for name in ("pyproject.toml", "setup.cfg", "tox.ini"))
    inputs = ("**/*.py", "*.toml", "*.cfg", "*.ini")
    first: tuple[str, ...] = ()
    if "ruff" in settings or (root / "ruff.toml").is_file():
        yield Check(id="lint", run=f"{prefix}ruff check .", inputs=inputs)
        first = ("lint",)
    elif "flake8" in settings or (root / ".flake8").is_file():
        yield Check(id="lint", run=f"{prefix}flake8 --extend-exclude .venv,{VENV}", inputs=inputs)
        first = ("lint",)
    if "mypy" in settings or (root / "mypy.ini").is_file():
        yield Check(id="types", run=f"{prefix}mypy .", inputs=inputs)
    if "pytest" in settings or (root / "conftest.py").is_file() or _has_python_tests(root):
        yield Check(id="test", run=f"{python} -m pytest -q", needs=first)
    elif not first:
        yield Check(id="compile", run=f"{python} -m compileall -q -x '/[.]' .", inputs=("**/*.py",))
    if "[build-system]" in settings:
        yield Check(id="build", run=f"{python} -m build", team="release", needs=first)


def _has_python_tests(root: Path) -> bool:
    return any(any((root / name).glob("test_*.py")) for name in (".", "tests", "test"))


def _venv(root: Path, checks: Sequence[Check]) -> Step:
    """A virtual environment with what the project asks for, and the tools that the checks run."""
    python = f"{VENV}/bin/python"
    files = sorted(path.name for path in root.glob("*requirements*.txt"))
    project = [name for name in ("pyproject.toml", "setup.py", "setup.cfg") if (root / name).is_file()]
    wanted = [f"-r {shlex.quote(name)}" for name in files]
    settings = _toml(root / "pyproject.toml")
    groups = [name for name in _TEST_EXTRAS if name in _table(settings, "dependency-groups")]
    extras = [name for name in _TEST_EXTRAS if name in _table(settings, "project", "optional-dependencies")]
    run = [f"python3 -m venv --clear {VENV}", f"echo '*' > {VENV}/.gitignore"]
    if "setup.py" in project or "build-system" in settings:
        wanted.append(f"-e '.[{','.join(extras)}]'" if extras else "-e .")
    elif extras or _table(settings, "project").get("dependencies"):
        # No package: setuptools would guess at its modules, and refuse a folder with two. What it depends on is wanted.
        lists = " + ".join(["p.get('dependencies', [])", *(f"p['optional-dependencies']['{name}']" for name in extras)])
        read = "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']"
        run.append(f'{python} -c "{read}; print(*({lists}), sep=chr(10))" > {VENV}/wanted.txt')
        wanted.append(f"-r {VENV}/wanted.txt")
    wanted += [f"--group {name}" for name in groups]
    if groups:
        run.append(f"{python} -m pip install --quiet 'pip>=25.1'  # the first that knows --group")
    # The tools apart: where requirements have hashes, pip takes nothing without; what is there already stays.
    tools = dict.fromkeys(tool for check in checks if (tool := _tool(check.run)))
    run += [f"{python} -m pip install {_QUIET} {' '.join(names)}" for names in (wanted, list(tools)) if names]
    return Step(id="venv", run=tuple(run), inputs=(*files, *project), outputs=(VENV, _NO_BYTECODE))


def _tool(run: str) -> str:
    """The tool of Python's that a check runs, to be installed."""
    words = run.split()
    name = words[2] if words[1:2] == ["-m"] else words[0].rpartition("/")[2]
    return name if name in _TOOLS else ""


def _node(root: Path) -> Toolchain:
    package = _package(root / "package.json")
    scripts = {name: str(value) for name, value in _table(package, "scripts").items()}
    named = [name for name in _SCRIPTS if name in scripts and "no test specified" not in scripts[name]]
    locks = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn", "package-lock.json": "npm"}
    lock = next((name for name in locks if (root / name).is_file()), "")
    manager = locks.get(lock, "npm")
    install = {
        "pnpm-lock.yaml": "pnpm install --frozen-lockfile",
        "yarn.lock": "yarn install --frozen-lockfile",
        "package-lock.json": "npm ci --no-audit --no-fund",
        "": "npm install --no-package-lock --no-audit --no-fund",
    }[lock]
    inputs = ("package.json", lock) if lock else ("package.json",)
    step = Step(id="modules", run=(install,), inputs=inputs, outputs=("node_modules",))
    checks = tuple(
        Check(id=name.replace(":", "-"), run=f"{manager} run {name}", team="release" if name == "build" else "qa")
        for name in named
    )
    needs_modules = any(_table(package, name) for name in ("dependencies", "devDependencies", "optionalDependencies"))
    return Toolchain(steps=(step,) if checks and needs_modules else (), checks=checks)


def _package(path: Path) -> dict[str, Any]:
    try:
        package: Any = json.loads(_text(path) or "{}")
    except ValueError:  # npm could not read it either: it says nothing about scripts
        return {}
    return package if isinstance(package, dict) else {}


def _go(root: Path) -> Toolchain:
    if not (root / "go.mod").is_file():
        return Toolchain(checks=())
    inputs = ("**/*.go", "go.mod", "go.sum")
    return Toolchain(
        checks=(
            Check(id="vet", run="go vet ./...", inputs=inputs),
            Check(id="test", run="go test ./...", inputs=inputs),
            Check(id="build", run="go build ./...", team="release", inputs=inputs),
        )
    )


def _rust(root: Path) -> Toolchain:
    if not (root / "Cargo.toml").is_file():
        return Toolchain(checks=())
    inputs = ("**/*.rs", "**/Cargo.toml", "Cargo.lock")
    # Cargo locks its target directory: two at once would only wait for each other inside a slot.
    return Toolchain(
        checks=(
            Check(id="format", run="cargo fmt --check", inputs=inputs),
            Check(id="lint", run="cargo clippy -- -D warnings", inputs=inputs, pool="cargo"),
            Check(id="test", run="cargo test", inputs=inputs, pool="cargo"),
        )
    )


def _make(root: Path) -> Toolchain:
    makefile = _text(root / "Makefile") or _text(root / "makefile")
    targets = set(re.findall(r"^([A-Za-z0-9_.-]+)\s*:(?!=)", makefile, re.MULTILINE))
    return Toolchain(checks=tuple(Check(id=name, run=f"make {name}") for name in _MAKE_TARGETS if name in targets))


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError:  # pip will say so, with the line
        return {}


def _table(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    found: Any = settings
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")
