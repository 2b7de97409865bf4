"""The scheduler's rules on thousands of random task sets: the same properties as in the tests, with more examples.

`examples` is how many random cases each property was given, `failed` how many properties didn't hold (their output is
on standard error). A figure of trust, not of speed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks._common import emit

ROOT: Final = Path(__file__).resolve().parents[1]
PROPERTIES: Final = ("tests/unit/test_scheduler_rules.py", "tests/unit/test_planning_rules.py")
# Profiles of tests/conftest.py, and how many examples these properties get by them.
PROFILES: Final = {"quick": 75, "deep": 6_000}


def measure(*, quick: bool) -> dict[str, Any]:
    """Run the properties, those of each file in a process of its own."""
    profile = "quick" if quick else "deep"
    began = time.monotonic()
    environ = {**os.environ, "HYPOTHESIS_PROFILE": profile}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "--no-header", path],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for path in PROPERTIES
    ]
    held = failed = 0
    for each in started:
        said, _ = each.communicate()
        told = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", said)}
        held += told.get("passed", 0)
        failed += told.get("failed", 0) + told.get("error", 0) + (each.returncode > 1)
        if each.returncode:
            sys.stderr.write(said)
    return {"examples": PROFILES[profile], "held": held, "failed": failed, "took_s": time.monotonic() - began}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="75 examples instead of 6,000: over in 50 s")
    parser.add_argument("--data", help="not used: the task sets are made up")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    emit(measure(quick=arguments.quick), arguments.json)


if __name__ == "__main__":
    main()
