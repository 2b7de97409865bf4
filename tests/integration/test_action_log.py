"""`maos action` as a program: no word of a spec becomes a workflow command or an output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow_commands import commands_of, outputs_of

OURS = {"group", "endgroup"}


def act(folder: Path, spec: str) -> subprocess.CompletedProcess[str]:
    """Run the action on a push, without a token; log and errors come together in `stdout`, as in a runner's log."""
    (folder / ".maos.yml").write_text(spec, encoding="utf-8")
    (folder / "event.json").write_text('{"repository": {"full_name": "a/b"}}', encoding="utf-8")
    environ = {
        **os.environ,
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": "push",
        "GITHUB_EVENT_PATH": str(folder / "event.json"),
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "output"),
    }
    command = [sys.executable, "-m", "maos_bot", "action"]
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_runs_names_and_output_issue_no_command_and_no_output(tmp_path: Path) -> None:
    spec = r"""
version: 1
name: "::error::x\nstatus<<EOF\nsucceeded\nEOF\n##[add-mask]x"
tasks:
  lint: {run: "printf '::error::boo\\n##[add-mask]x\\nstatus<<EOF\\nsucceeded\\nEOF\\n'; exit 3"}
  shell: {run: "true", shell: "no##[warning] {0}"}
  folder: {run: "true", working-directory: "no\n::error::y ##[warning]x"}
"""
    done = act(tmp_path, spec)
    assert done.returncode == 1, done.stdout
    assert set(commands_of(done.stdout)) <= OURS
    outputs = outputs_of((tmp_path / "output").read_text(encoding="utf-8"))
    assert set(outputs) == {"status", "run-id", "cost-usd", "patch", "tokens", "findings", "report-json"}
    assert outputs["status"] == "failed"
    assert json.loads(outputs["report-json"])["run_id"] == outputs["run-id"]


@pytest.mark.parametrize(
    "spec",
    [
        'version: 1\n"a\\n::error::boo": 1\nmode: "##[add-mask]x"\ntasks:\n  "##[warning]w": {run: "true"}\n',
        'version: 1\ntasks:\n  lint: {run: "true", needs: ["\\n::add-path::zz", "##[warning]w"]}\n',
        "version: 1\ntasks:\n  ::error::x\n##[warning]x: [\n",
    ],
)
def test_a_bad_specs_words_issue_no_command_and_stand_in_the_summary(tmp_path: Path, spec: str) -> None:
    done = act(tmp_path, spec)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stdout
    assert commands_of(done.stdout) == []
    assert ".maos.yml:" in (tmp_path / "summary.md").read_text(encoding="utf-8")
