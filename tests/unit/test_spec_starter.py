"""The starter files fit what a repository holds, and are good as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from maos_bot.model import Task
from maos_bot.spec.load import parse_spec
from maos_bot.spec.starter import starter


def tasks_for(root: Path, files: dict[str, str]) -> dict[str, Task]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (name, spec), _ = starter(root)
    assert name == ".maos.yml"
    return {task.id: task for task in parse_spec(spec, path=name).tasks}


VENV = ".venv-maos/bin"


@pytest.mark.parametrize(
    ("files", "commands"),
    [
        (
            {"pyproject.toml": "[build-system]\n[tool.ruff]\n[tool.mypy]\n[tool.pytest.ini_options]\n"},
            {
                "venv": None,
                "lint": f"{VENV}/ruff check .",
                "types": f"{VENV}/mypy .",
                "test": f"{VENV}/python -m pytest -q",
                "build": f"{VENV}/python -m build",
            },
        ),
        (
            {"setup.py": "", "uv.lock": "", "tests/test_a.py": ""},
            {"venv": "uv sync --locked", "test": "uv run python -m pytest -q"},
        ),
        ({"requirements.txt": ""}, {"venv": None, "compile": f"{VENV}/python -m compileall -q -x '/[.]' ."}),
        (
            {
                "package.json": '{"scripts": {"lint": "x", "test": "y"}, "devDependencies": {"a": "1"}}',
                "package-lock.json": "{}",
            },
            {"modules": "npm ci --no-audit --no-fund", "lint": "npm run lint", "test": "npm run test"},
        ),
        ({"package.json": '{"scripts": {"test": "node --test"}}'}, {"test": "npm run test"}),
        (
            {
                "package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\""}}',
                "Makefile": "test: x\n\tgo\n",
            },
            {"test": "make test"},
        ),
        ({"go.mod": "module x"}, {"vet": "go vet ./...", "test": "go test ./...", "build": "go build ./..."}),
        (
            {"Cargo.toml": ""},
            {"format": "cargo fmt --check", "lint": "cargo clippy -- -D warnings", "test": "cargo test"},
        ),
        ({"Makefile": "CC := gcc\nall: test\nlint:\n\tx\n"}, {"lint": "make lint"}),
        (
            {"go.mod": "module x", "Cargo.toml": ""},
            {
                "vet": "go vet ./...",
                "test": "go test ./...",
                "build": "go build ./...",
                "format": "cargo fmt --check",
                "lint": "cargo clippy -- -D warnings",
                "test-2": "cargo test",
            },
        ),
        ({"package.json": "{broken", ".git/HEAD": ""}, {"whitespace": None}),
        ({"pyproject.toml": "broken = [", "package.json": "[]"}, {"venv": None, "compile": None}),
        ({}, {"hello": None}),
    ],
)
def test_the_starter_runs_what_the_repository_has_tools_for(
    tmp_path: Path, files: dict[str, str], commands: dict[str, str | None]
) -> None:
    tasks = tasks_for(tmp_path, files)

    assert list(tasks) == list(commands)
    assert all(command is None or tasks[name].run == command for name, command in commands.items())


def test_a_virtual_environment_of_our_own_gets_what_the_project_asks_for_and_the_tools_of_the_checks(
    tmp_path: Path,
) -> None:
    project = """
[build-system]
[project]
name = "x"
[project.optional-dependencies]
test = []
[dependency-groups]
dev = []
[tool.ruff]
"""
    tasks = tasks_for(tmp_path, {"pyproject.toml": project, "requirements-dev.txt": "", "test_a.py": ""})
    venv = tasks["venv"]

    install = ".venv-maos/bin/python -m pip install --quiet --disable-pip-version-check"
    assert (venv.run or "").splitlines() == [
        "python3 -m venv --clear .venv-maos",
        "echo '*' > .venv-maos/.gitignore",
        ".venv-maos/bin/python -m pip install --quiet 'pip>=25.1'  # the first that knows --group",
        f"{install} -r requirements-dev.txt -e '.[test]' --group dev",
        f"{install} ruff pytest build",
    ]
    assert venv.inputs[:2] == ("/requirements-dev.txt", "/pyproject.toml")
    assert venv.outputs == (".venv-maos", "!**/__pycache__/")
    assert tasks["test"].needs == ("venv", "lint")


@pytest.mark.parametrize(
    ("files", "uses"),
    [
        ({"requirements.txt": ""}, "someone/something@v9"),
        ({"go.mod": "module x"}, "someone/something/composite@v9"),
        ({"poetry.lock": "", "pyproject.toml": ""}, "someone/something/composite@v9"),
        ({}, "someone/something@v9"),
    ],
)
def test_the_workflow_runs_where_the_tools_are_and_may_write_what_the_action_writes(
    tmp_path: Path, files: dict[str, str], uses: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    _, (name, text) = starter(tmp_path, action="someone/something@v9")
    workflow = YAML(typ="safe").load(text)

    assert (name, workflow["permissions"]) == (".github/workflows/maos.yml", {})
    job = workflow["jobs"]["maos"]
    assert job["permissions"] == {"contents": "read", "pull-requests": "write", "checks": "write"}
    assert job["steps"][-1]["uses"] == uses


def test_a_project_that_is_no_package_gets_its_dependencies_and_not_itself(tmp_path: Path) -> None:
    project = """
[project]
name = "x"
dependencies = ["one>=1"]
[project.optional-dependencies]
test = ["two", "three; python_version > '3'"]
"""
    script = tasks_for(tmp_path, {"pyproject.toml": project, "a.py": "", "b.py": ""})["venv"].run or ""
    (read,) = [line for line in script.splitlines() if "tomllib" in line]
    (tmp_path / ".venv-maos/bin").mkdir(parents=True)
    (tmp_path / ".venv-maos/bin/python").symlink_to(sys.executable)
    subprocess.run(["bash", "-ec", read], cwd=tmp_path, check=True, timeout=60)

    wanted = (tmp_path / ".venv-maos/wanted.txt").read_text().splitlines()
    assert wanted == ["one>=1", "two", "three; python_version > '3'"]
    assert "-r .venv-maos/wanted.txt" in script
    assert "-e ." not in script
