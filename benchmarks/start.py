"""How long the commands that people type most take to answer: CPU seconds of the whole process.

`python -m benchmarks.start [--quick] [--json]`. The least of several runs, for all else only adds to it; an empty
Python process in the same run is the bound.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._common import compile_product, emit

SPEC = "version: 1\ntasks:\n  lint: {run: ruff check .}\n  unit: {run: pytest -q, needs: [lint]}\n"
COMMANDS = {
    "python": ["-c", "pass"],
    "help": ["-m", "maos_bot", "--help"],
    "validate": ["-m", "maos_bot", "validate"],
    "plan": ["-m", "maos_bot", "plan", "--json"],
}


def cpu_s(arguments: list[str], folder: Path) -> float:
    """User and system seconds of one process, by the kernel's account."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} failed with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", help="not used")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds = 5 if options.quick else 20
    compile_product()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / ".maos.yml").write_text(SPEC)
        least = {name: min(cpu_s(command, folder) for _ in range(rounds)) for name, command in COMMANDS.items()}
    emit({"cpu_s": least, "rounds": rounds}, options.json)


if __name__ == "__main__":
    main()
