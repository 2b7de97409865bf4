"""Whatever is changed in whatever order: with the cache, files and states are those without it."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from maos_bot.execution.cache import FOLDER, TaskCache
from maos_bot.execution.cache_store import CacheStore
from maos_bot.model import GOOD_STATES, Task
from tests.integration.running import command
from tests.integration.running import run as run_tasks

FILES = ("a.txt", "b.txt", "sub/c.txt")
TEXTS = ("1\n", "2\n", "1\n1\n")


class Edits(RuleBasedStateMachine):
    """Two work trees with the same edits: one run with the cache, one without."""

    @initialize()
    def begin(self) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="edits-")
        self.with_cache, self.without = (Path(self.scratch.name) / name for name in ("with", "without"))
        for root in (self.with_cache, self.without):
            (root / "sub").mkdir(parents=True)
            for name in FILES:
                (root / name).write_text("0\n")
        self.word = "x"
        self.level = "1"
        self.extra = ""

    @rule(name=st.sampled_from(FILES), text=st.sampled_from(TEXTS))
    def write(self, name: str, text: str) -> None:
        for root in (self.with_cache, self.without):
            (root / name).write_text(text)
        self.run()

    @rule(name=st.sampled_from(FILES), executable=st.booleans())
    def change_mode(self, name: str, executable: bool) -> None:
        for root in (self.with_cache, self.without):
            if (root / name).exists():
                (root / name).chmod(0o755 if executable else 0o644)
        self.run()

    @rule(name=st.sampled_from(FILES[1:]))
    def delete(self, name: str) -> None:
        for root in (self.with_cache, self.without):
            (root / name).unlink(missing_ok=True)
        self.run()

    @rule(word=st.sampled_from(["x", "y"]), level=st.sampled_from(["1", "2"]), extra=st.sampled_from(["", "; exit 3"]))
    def change_task(self, word: str, level: str, extra: str) -> None:
        self.word, self.level, self.extra = word, level, extra
        self.run()

    @rule()
    def spoil_outputs(self) -> None:
        for root in (self.with_cache, self.without):
            shutil.rmtree(root / "list", ignore_errors=True)
            if (root / "sum").exists():
                (root / "sum").write_text("spoilt")
        self.run()

    def run(self) -> None:
        tasks = self.tasks()
        cache = TaskCache(self.with_cache, run_id="20261126-080000-4f2a9c", max_bytes=2**30)
        cached = run_tasks(self.with_cache, *tasks, cache=cache).states()
        plain = run_tasks(self.without, *tasks).states()
        assert {task: state in GOOD_STATES for task, state in cached.items()} == {
            task: state in GOOD_STATES for task, state in plain.items()
        }
        assert contents(self.with_cache) == contents(self.without)

    def tasks(self) -> list[Task]:
        return [
            command(
                "list",
                "rm -rf list; mkdir list; for f in *.txt sub/*; do test -e $f && cp -p $f list/$(basename $f); done; :",
                inputs=("*.txt",),
                outputs=("list/**",),
            ),
            command(
                "sum",
                f'cat list/* > sum; echo {self.word} "$LEVEL" >> sum{self.extra}',
                needs=("list",),
                inputs=("list/**",),
                outputs=("sum",),
                env={"LEVEL": self.level},
            ),
            command("last", "wc -c < sum > last", needs=("sum",), inputs=("a.txt", "sum"), outputs=("last",)),
        ]

    @invariant()
    def nothing_is_damaged(self) -> None:
        if hasattr(self, "with_cache"):
            assert CacheStore(self.with_cache / FOLDER).verify() == []

    def teardown(self) -> None:
        if hasattr(self, "scratch"):
            self.scratch.cleanup()


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not name.startswith(".maos/"):
            found[name] = (path.stat().st_mode & 0o111, path.read_bytes())
    return found


EditsTest = Edits.TestCase
EditsTest.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
pytestmark = pytest.mark.slow

SPEC = """version: 1
tasks:
  big: {run: "rm -rf big; mkdir big; for n in 1 2 3 4 5 6; do yes $(cat seed)$n | head -c 1000000 > big/$n; done",
        inputs: [seed], outputs: ["big/**"]}
  sums: {run: "cat big/* | sha256sum > sums", needs: [big], inputs: ["big/**"], outputs: [sums]}
"""


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "maos_bot", "run", "--quiet", "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def states(process: subprocess.Popen[str]) -> set[str]:
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return {task["state"] for task in json.loads(out)["tasks"].values()}


def test_two_processes_at_once_share_a_cache(tmp_path: Path) -> None:
    """Two work trees of one repository, their cache the same folder."""
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        (root / ".maos").mkdir(parents=True)
        (root / ".maos.yml").write_text(SPEC)
        (root / "seed").write_text("s")
    (roots[0] / ".maos/cache").mkdir()
    (roots[1] / ".maos/cache").symlink_to(roots[0] / ".maos/cache")
    for _ in range(3):
        for root in roots:
            shutil.rmtree(root / "big", ignore_errors=True)
        for process in [start(root) for root in roots]:
            assert states(process) <= {"succeeded", "cached"}
    assert (roots[0] / "sums").read_text() == (roots[1] / "sums").read_text()
    assert CacheStore(roots[0] / ".maos/cache").verify() == []
    assert states(start(roots[0])) == {"cached"}


def test_a_death_in_the_middle_leaves_nothing_that_deceives(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text(SPEC)
    rng = random.Random(3)
    right: dict[str, str] = {}
    for turn in range(6):
        seed = rng.choice("ab")
        (tmp_path / "seed").write_text(seed)
        shutil.rmtree(tmp_path / "big", ignore_errors=True)
        process = start(tmp_path)
        time.sleep(rng.uniform(0.3, 0.9))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        time.sleep(0.2)  # what it left running ends
        assert CacheStore(tmp_path / ".maos/cache").verify() == []
        assert states(start(tmp_path)) <= {"succeeded", "cached"}
        made = (tmp_path / "sums").read_text()
        assert right.setdefault(seed, made) == made, turn
    assert len(right) == 2
