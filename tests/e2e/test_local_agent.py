"""A real small model does an agent's task, where one is installed (`make local-agent` does that)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / ".venv" / "local"


@pytest.mark.slow
def test_a_small_model_does_a_task_and_its_conversation_is_stored(tmp_path: Path) -> None:
    if not (LOCAL / ".ready").exists():
        pytest.skip("make local-agent installs a small model")
    environ = {**os.environ, "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"}
    command = [str(LOCAL / "bin" / "python"), str(ROOT / "examples" / "local_agent.py"), "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    report, end = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
    task = report["tasks"]["summary"]
    assert task["state"] == "succeeded"
    assert task["usage"]["output_tokens"] > 5
    assert task["usage"]["usd"] is None, "nobody knows what it costs"
    shown = done.stdout[end:]
    assert "it answered (smollm2):" in shown
