"""The repository keeps its word: locks, Makefile, documents, action and what a command imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted([*ROOT.glob("requirements/*.lock"), *ROOT.glob("examples/*/*.lock")])
HEAVY = {"anthropic", "flask", "github", "networkx", "pydantic", "requests", "rich", "sqlite_utils", "waitress"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_pins_and_hashes_all_and_holds_no_address_or_path(lock: Path) -> None:
    words = [line for line in lock.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    pins = [line for line in words if line and not line.startswith(" ")]
    assert pins
    assert all(re.fullmatch(r"[a-z0-9-]+==[^ /]+( ; [^/]+)? \\", line) for line in pins)
    rest = [line for line in words if line.startswith(" ")]
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in rest)
    assert sum(not line.endswith("\\") for line in rest) == len(pins), "a pin without a hash"


def test_the_lock_files_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = {"core": project["project"]["dependencies"]}
    asked["dev"] = [*asked["core"], *project["dependency-groups"]["dev"]]
    for name, requirements in asked.items():
        lock = (ROOT / f"requirements/{name}.lock").read_text(encoding="utf-8")
        pinned = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
        wanted = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace(".", "-") for line in requirements}
        assert wanted <= pinned


def test_dev_and_core_agree_on_every_version() -> None:
    core, dev = (
        dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / f"requirements/{name}.lock").read_text(), re.MULTILINE))
        for name in ("core", "dev")
    )
    assert core.items() <= dev.items()


def test_every_make_target_says_what_it_does() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (run .*)$", makefile, re.MULTILINE)
    documented = set(re.findall(r"^([a-z0-9-]+):.* ## \S", makefile, re.MULTILINE))
    assert set(phony.split()) == documented


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "docs/cli.md", "docs/spec.md", "docs/planning.md", "examples/README.md"]
)
def test_commands_in_the_documents_exist(name: str) -> None:
    from maos_bot.cli import maos

    text = (ROOT / name).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([a-z-]+)", text)) <= targets
    assert set(re.findall(r"(?:`|\$ |^)maos ([a-z-]+)", text, re.MULTILINE)) <= set(maos.commands)


def test_the_commands_page_names_every_command() -> None:
    from maos_bot.cli import maos

    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert [name for name in maos.commands if f"`maos {name}" not in text] == []


def test_every_input_and_output_of_the_action_is_described() -> None:
    action = YAML(typ="safe").load((ROOT / "action.yml").read_text(encoding="utf-8"))
    for kind in ("inputs", "outputs"):
        assert action[kind]
        assert all(entry.get("description") for entry in action[kind].values())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["validate", ".maos.yml"]], ids=" ".join)
def test_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import json, sys\nfrom maos_bot.cli import main\n"
        "try:\n    main()\nfinally:\n    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(done.stderr.splitlines()[-1])) == set()


def test_the_page_of_events_names_every_kind_with_all_its_fields() -> None:
    import dataclasses

    from maos_bot.events import EVENT_TYPES, TaskInfo

    sections = dict(
        re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", (ROOT / "docs/events.md").read_text(), re.MULTILINE | re.DOTALL)
    )
    assert list(sections) == list(EVENT_TYPES)
    for name, cls in EVENT_TYPES.items():
        own = [field.name for field in dataclasses.fields(cls) if field.name not in ("run_id", "seq", "at")]
        assert [field for field in own if f"`{field}`" not in sections[name]] == []
    assert all(f"`{field.name}`" in sections["RunFinished"] for field in dataclasses.fields(TaskInfo))
