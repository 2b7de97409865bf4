"""Run the checks of itsdangerous in three modes and compare outcomes and files, byte for byte.

`make example`, or `python examples/compare_modes.py`. Needs the package index for the download.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SPEC = HERE / "itsdangerous.maos.yml"
OUT = HERE / ".work" / "itsdangerous" / "out"
MODES = ("sequential", "parallel", "pipelined")


def run(mode: str) -> tuple[dict[str, str], dict[str, str], float]:
    """Outcome by task, SHA-256 by file, and wall time in seconds of one run that starts clean."""
    done = subprocess.run(
        [sys.executable, "-m", "maos_bot", "run", str(SPEC), "--mode", mode, "--json", "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    states = {name: task["state"] for name, task in report["tasks"].items()}
    files = {
        str(path.relative_to(OUT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(OUT.rglob("*"))
        if path.is_file()
    }
    return states, files, report["wall_s"]


def main() -> int:
    """0 where all modes agree and every task succeeded, else 1."""
    seen = {mode: run(mode) for mode in MODES}
    states, files, _ = seen[MODES[0]]
    for mode, (_, _, wall_s) in seen.items():
        print(f"{mode:<10} {wall_s:6.1f} s")
    same = all(seen[mode][:2] == (states, files) for mode in MODES)
    good = all(state == "succeeded" for state in states.values())
    print(f"{len(states)} tasks, {len(files)} files: {'the same' if same else 'NOT the same'} in all modes")
    for name in sorted(set().union(*(seen[mode][1] for mode in MODES))):
        if len({seen[mode][1].get(name) for mode in MODES}) > 1:
            print(f"differs: {name}")
    for name, state in states.items():
        if state != "succeeded":
            print(f"{state}: {name}")
    return 0 if same and good else 1


if __name__ == "__main__":
    sys.exit(main())
