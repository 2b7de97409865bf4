"""`setup` with a real virtual environment: made once, put back where it is gone, made anew for other requirements."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from maos_bot.execution.cache import TaskCache
from maos_bot.model import TaskState
from maos_bot.spec.load import parse_spec
from tests.integration.running import Ran
from tests.integration.running import run as run_tasks

S = TaskState
SPEC = """
setup:
  venv:
    run: |
      python3 -m venv --clear --without-pip .venv
      cp words.py .venv/lib/python*/site-packages/
    inputs: [words.py]
    outputs: [.venv, "!**/__pycache__/"]
  ready: {run: echo ready > ready.txt, needs: [venv], inputs: [words.py], outputs: [ready.txt]}
tasks:
  use:
    run: .venv/bin/python -c 'import sys; sys.path.pop(0); import words; print(words.SAID)'
    inputs: ["*.py"]
    env: {PYTHONDONTWRITEBYTECODE: ""}
  always: {run: cat ready.txt}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "words.py").write_text("SAID = 'first'\n")
    return tmp_path


def run(root: Path, text: str = SPEC, **options: Any) -> Ran:
    cache = TaskCache(root, run_id="20261126-080000-4f2a9c", max_bytes=2**30)
    return run_tasks(root, *parse_spec(text, path="x").tasks, cache=cache, **options)


def test_what_is_prepared_is_there_for_every_task_and_made_once(root: Path) -> None:
    first = run(root)
    assert set(first.states().values()) == {S.SUCCEEDED}
    assert (first.output("use"), first.output("always")) == ("first\n", "ready\n")
    assert list((root / ".venv").rglob("__pycache__"))  # what using it left there is no change of it

    again = run(root)
    assert again.states() == {"venv": S.CACHED, "ready": S.CACHED, "use": S.CACHED, "always": S.SUCCEEDED}


def test_a_clean_checkout_gets_it_from_the_cache_and_it_works(root: Path) -> None:
    run(root)
    shutil.rmtree(root / ".venv")
    (root / "ready.txt").unlink()
    text = SPEC.replace("print(words", "print(2, words")

    again = run(root, text)

    assert again.states() == {"venv": S.CACHED, "ready": S.CACHED, "use": S.SUCCEEDED, "always": S.SUCCEEDED}
    assert again.output("use") == "2 first\n"


def test_changed_inputs_prepare_anew_and_what_they_prepared_runs_anew(root: Path) -> None:
    run(root)
    (root / "words.py").write_text("SAID = 'second'\n")

    again = run(root)

    assert set(again.states().values()) == {S.SUCCEEDED}
    assert again.output("use") == "second\n"


def test_no_task_starts_where_a_step_failed(root: Path) -> None:
    ran = run(root, "setup: {modules: {run: exit 3}}\ntasks: {a: {run: echo ran}, b: {run: echo ran, needs: [a]}}")

    assert ran.states() == {"modules": S.FAILED, "a": S.UPSTREAM_FAILED, "b": S.UPSTREAM_FAILED}
    assert ran.end("a").reason == "needs modules (failed)"
