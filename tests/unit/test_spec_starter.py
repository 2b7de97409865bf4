"""The starter files fit what a repository holds, and are good as they are."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("files", "commands"),
    [
        (
            {"pyproject.toml": "[build-system]\n[tool.ruff]\n[tool.mypy]\n[tool.pytest.ini_options]\n"},
            {"lint": "ruff check .", "types": "mypy .", "test": "python -m pytest -q", "build": "python -m build"},
        ),
        ({"setup.py": "", "uv.lock": "", "tests/test_a.py": ""}, {"test": "uv run python -m pytest -q"}),
        ({"requirements.txt": ""}, {"compile": "python -m compileall -q ."}),
        (
            {"package.json": '{"scripts": {"lint": "x", "test": "y"}}', "package-lock.json": "{}"},
            {"node-install": "npm ci", "lint": "npm run lint", "test": "npm run test"},
        ),
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
        ({"package.json": "{broken"}, {"whitespace": None}),
        ({}, {"whitespace": None}),
    ],
)
def test_the_starter_runs_what_the_repository_has_tools_for(
    tmp_path: Path, files: dict[str, str], commands: dict[str, str | None]
) -> None:
    tasks = tasks_for(tmp_path, files)

    assert list(tasks) == list(commands)
    assert all(command is None or tasks[name].run == command for name, command in commands.items())


def test_the_workflow_may_write_what_the_action_writes(tmp_path: Path) -> None:
    _, (name, text) = starter(tmp_path, action="someone/something@v9")
    workflow = YAML(typ="safe").load(text)

    assert name == ".github/workflows/maos.yml"
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write", "checks": "write"}
    assert workflow["jobs"]["maos"]["steps"][-1]["uses"] == "someone/something@v9"
