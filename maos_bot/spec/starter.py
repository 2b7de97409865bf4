"""The files `maos init` writes: a spec with the checks a repository already has tools for, and a workflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SPEC_NAME: Final = ".maos.yml"
WORKFLOW_NAME: Final = ".github/workflows/maos.yml"
ACTION: Final = "maos-bot/maos-bot@v1"

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git's name for no files at all, in every repository
_MAX_BYTES = 1024 * 1024
_MAKE_TARGETS = ("lint", "check", "test", "build")
_SCRIPTS = ("lint", "format:check", "typecheck", "type-check", "test", "build")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Check:
    """A task of the starter spec."""

    id: str
    run: str
    team: str = "qa"
    needs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    pool: str = ""  # held alone while it runs


def starter(root: Path, *, action: str = ACTION) -> list[tuple[str, str]]:
    """Paths below `root` and their texts, fitted to the tools found there; nothing is written here."""
    checks = [*_python(root), *_node(root), *_go(root), *_rust(root)] or [*_make(root)] or [_whitespace()]
    return [(SPEC_NAME, _spec(_distinct(checks))), (WORKFLOW_NAME, _workflow(action))]


def _python(root: Path) -> Iterator[_Check]:
    if not any((root / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")):
        return
    settings = _text(root / "pyproject.toml") + _text(root / "setup.cfg") + _text(root / "tox.ini")
    prefix = next((f"{tool} run " for tool in ("uv", "poetry", "pdm") if (root / f"{tool}.lock").is_file()), "")
    inputs = ("**/*.py", "*.toml", "*.cfg")
    first: tuple[str, ...] = ()
    if "ruff" in settings or (root / "ruff.toml").is_file():
        yield _Check(id="lint", run=f"{prefix}ruff check .", inputs=inputs)
        first = ("lint",)
    elif "flake8" in settings or (root / ".flake8").is_file():
        yield _Check(id="lint", run=f"{prefix}flake8", inputs=inputs)
        first = ("lint",)
    if "mypy" in settings or (root / "mypy.ini").is_file():
        yield _Check(id="types", run=f"{prefix}mypy .", inputs=inputs)
    if "pytest" in settings or (root / "conftest.py").is_file() or _has_python_tests(root):
        yield _Check(id="test", run=f"{prefix}python -m pytest -q", needs=first, inputs=inputs)
    elif not first:
        yield _Check(id="compile", run=f"{prefix}python -m compileall -q .", inputs=("**/*.py",))
    if "[build-system]" in settings:
        yield _Check(id="build", run=f"{prefix}python -m build", team="release", needs=first)


def _has_python_tests(root: Path) -> bool:
    return any(any((root / name).glob("test_*.py")) for name in ("tests", "test"))


def _node(root: Path) -> Iterator[_Check]:
    scripts = _scripts(root / "package.json")
    manager = "pnpm" if (root / "pnpm-lock.yaml").is_file() else "yarn" if (root / "yarn.lock").is_file() else "npm"
    install = {"pnpm": "pnpm install --frozen-lockfile", "yarn": "yarn install --frozen-lockfile"}.get(
        manager, "npm ci" if (root / "package-lock.json").is_file() else "npm install"
    )
    named = [name for name in _SCRIPTS if name in scripts and "no test specified" not in scripts[name]]
    if named:
        yield _Check(id="node-install", run=install, team="setup")
    for name in named:
        team = "release" if name == "build" else "qa"
        yield _Check(id=name.replace(":", "-"), run=f"{manager} run {name}", team=team, needs=("node-install",))


def _scripts(path: Path) -> dict[str, str]:
    try:
        package: Any = json.loads(_text(path) or "{}")
    except ValueError:  # a package.json that npm could not read either: it says nothing about scripts
        return {}
    scripts = package.get("scripts") if isinstance(package, dict) else None
    return {str(key): str(value) for key, value in scripts.items()} if isinstance(scripts, dict) else {}


def _go(root: Path) -> Iterator[_Check]:
    if (root / "go.mod").is_file():
        inputs = ("**/*.go", "go.mod", "go.sum")
        yield _Check(id="vet", run="go vet ./...", inputs=inputs)
        yield _Check(id="test", run="go test ./...", inputs=inputs)
        yield _Check(id="build", run="go build ./...", team="release", inputs=inputs)


def _rust(root: Path) -> Iterator[_Check]:
    if (root / "Cargo.toml").is_file():
        inputs = ("**/*.rs", "**/Cargo.toml", "Cargo.lock")
        yield _Check(id="format", run="cargo fmt --check", inputs=inputs)
        # Cargo locks its target directory: two at once would only wait for each other inside a slot.
        yield _Check(id="lint", run="cargo clippy -- -D warnings", inputs=inputs, pool="cargo")
        yield _Check(id="test", run="cargo test", inputs=inputs, pool="cargo")


def _make(root: Path) -> Iterator[_Check]:
    makefile = _text(root / "Makefile") or _text(root / "makefile")
    targets = set(re.findall(r"^([A-Za-z0-9_.-]+)\s*:(?!=)", makefile, re.MULTILINE))
    for target in _MAKE_TARGETS:
        if target in targets:
            yield _Check(id=target, run=f"make {target}")


def _whitespace() -> _Check:
    return _Check(id="whitespace", run=f"git diff --check {_EMPTY_TREE} HEAD")


def _text(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _distinct(checks: list[_Check]) -> list[_Check]:
    """Ids of a repository in two languages: the second `test` becomes `test-2`."""
    seen: dict[str, int] = {}
    distinct: list[_Check] = []
    for check in checks:
        seen[check.id] = seen.get(check.id, 0) + 1
        name = check.id if seen[check.id] == 1 else f"{check.id}-{seen[check.id]}"
        distinct.append(
            _Check(id=name, run=check.run, team=check.team, needs=check.needs, inputs=check.inputs, pool=check.pool)
        )
    return distinct


def _spec(checks: list[_Check]) -> str:
    lines = [
        "# What MAOS bot runs on a pull request, as parallel as needs and limits allow.",
        "# `maos validate` checks this file, `maos plan` shows what would run when, `maos run` runs it here.",
        "version: 1",
        "name: Checks",
    ]
    pools = sorted({check.pool for check in checks if check.pool})
    if pools:
        lines += ["limits:", f"  resources: {{{', '.join(f'{pool}: 1' for pool in pools)}}}"]
    lines += ["defaults:", "  timeout-minutes: 15", "tasks:"]
    for check in checks:
        lines += [f"  {check.id}:", f"    run: {check.run}", f"    team: {check.team}"]
        if check.needs:
            lines.append(f"    needs: [{', '.join(check.needs)}]")
        if check.pool:
            lines.append(f"    resources: {{{check.pool}: 1}}")
        if check.inputs:
            lines.append(f"    inputs: [{', '.join(json.dumps(pattern) for pattern in check.inputs)}]")
    return "\n".join(lines) + "\n"


def _workflow(action: str) -> str:
    return f"""\
name: MAOS bot
on:
  pull_request:
  workflow_dispatch:
permissions:
  contents: read
  pull-requests: write
  checks: write
concurrency:
  group: maos-${{{{ github.ref }}}}
  cancel-in-progress: true
jobs:
  maos:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
      - uses: {action}
"""
