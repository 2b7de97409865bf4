"""The cache as people meet it: the flags of `maos run`, `maos cache`, and the pages that show what came from it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from maos_bot.config import parse_size
from maos_bot.errors import ConfigError, SpecError
from maos_bot.spec.load import parse_spec
from tests.integration.running import maos
from web import create_app

SPEC = """version: 1
tasks:
  make: {run: "cat in.txt > made; echo making", inputs: [in.txt], outputs: [made]}
  always: {run: "echo always"}
"""


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return {name: task["state"] for name, task in json.loads(done.stdout)["tasks"].items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".maos.yml").write_text(SPEC)
    (tmp_path / "in.txt").write_text("1\n")
    return tmp_path


def test_from_the_first_run_to_an_empty_cache(root: Path) -> None:
    assert states(maos(root, "run", "--json")) == {"make": "succeeded", "always": "succeeded"}
    (root / "made").unlink()
    cached = maos(root, "run", "--json")
    assert states(cached) == {"make": "cached", "always": "succeeded"}
    report = json.loads(cached.stdout)
    assert report["saved_s"] == report["tasks"]["make"]["saved_s"] > 0
    assert report["sequential_s"] == pytest.approx(
        report["saved_s"] + report["tasks"]["always"]["duration_s"], abs=1e-5
    )
    assert "1 task unchanged" in cached.stderr
    assert json.loads(maos(root, "show", "--json").stdout) == report
    (history,) = json.loads(maos(root, "history", "--limit", "1", "--json").stdout)
    assert history["sequential_s"] == pytest.approx(report["sequential_s"], abs=1e-5)
    assert maos(root, "show", "--task", "make").stdout == "making\n"
    assert states(maos(root, "run", "--json", "--no-cache"))["make"] == "succeeded"

    (entry,) = json.loads(maos(root, "cache", "list", "--json").stdout)["entries"]
    assert (entry["task"], entry["outputs"]) == ("make", ["made"])
    assert "make" in maos(root, "cache").stdout
    assert maos(root, "cache", "verify").returncode == 0
    (blob,) = [path for path in (root / ".maos/cache/blobs").rglob("*") if path.is_file()]
    blob.write_text("damaged")
    found = maos(root, "cache", "verify")
    assert found.returncode == 1
    assert "damaged, removed" in found.stdout
    assert "of make: lacks made, removed" in found.stdout
    assert states(maos(root, "run", "--json"))["make"] == "succeeded"
    assert json.loads(maos(root, "cache", "prune", "--max-size", "0", "--json").stdout)["entries"] == 1
    assert states(maos(root, "run", "--json"))["make"] == "succeeded"
    assert states(maos(root, "run", "--json"))["make"] == "cached"
    assert maos(root, "cache", "clear").returncode == 0
    assert not (root / ".maos/cache").exists()
    assert maos(root, "cache", "list", "--max-size", "1G").returncode == 2


def test_without_the_cache_nothing_is_kept(root: Path) -> None:
    maos(root, "run", "--no-cache")
    assert not (root / ".maos/cache").exists()


def test_a_spec_without_inputs_makes_no_cache(root: Path) -> None:
    (root / ".maos.yml").write_text("version: 1\ntasks:\n  it: {run: 'true'}\n")
    assert maos(root, "run").returncode == 0
    assert not (root / ".maos/cache").exists()


def test_the_cache_may_be_carried_to_another_clone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As a CI service does that keeps a folder: other times and inodes, the same contents."""
    maos(root, "run")
    clone = tmp_path_factory.mktemp("clone")
    shutil.copytree(root / ".maos/cache", clone / ".maos/cache")
    for name in (".maos.yml", "in.txt"):
        shutil.copyfile(root / name, clone / name)
    assert states(maos(clone, "run", "--json"))["make"] == "cached"
    assert (clone / "made").read_text() == "1\n"


def test_the_page_of_a_cached_task_shows_what_it_had_printed(root: Path) -> None:
    maos(root, "run")
    maos(root, "run")
    client = create_app(root / ".maos/maos.db").test_client()
    run_id = json.loads(maos(root, "history", "--json").stdout)[0]["run_id"]
    page = client.get(f"/runs/{run_id}/tasks/make")
    assert page.status_code == 200
    assert "making" in page.text
    assert "unchanged since run" in page.text
    assert " saved" in page.text


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512", 512), ("2G", 2 * 2**30), ("1.5 MiB", 3 * 2**19), ("64kb", 65536)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--cache-size") == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1 X", "G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size"):
        parse_size(text, "--cache-size")


def test_an_agent_is_never_cached() -> None:
    with pytest.raises(SpecError, match="an agent's work is never taken from the cache"):
        parse_spec("version: 1\ntasks:\n  it: {agent: Look., cache: true}\n", path=".maos.yml")
    (task,) = parse_spec("version: 1\ntasks:\n  it: {run: 'true', cache: false}\n", path=".maos.yml").tasks
    assert task.cache is False
