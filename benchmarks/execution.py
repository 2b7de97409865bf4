"""Plans carried out: does a run take as long as predicted, and how near is it to what no schedule can beat?

`traces`: real workflows (`--data DIR`) in scaled time, each task a `sleep`, 8 slots. Once with durations as estimated:
`observed_over_predicted`, and `over_allowance_percent`, how far the run took longer than 3 % more than predicted plus
3 ms a task (below 0: it didn't). Once with durations off by a log-normal factor (sigma 0.5), which the plan doesn't
know: `gap_percent` over the lower bound LB2 of the durations as they were.

`real`: the spec of 24 mixed tasks, one after the other and as planned (its estimates from the first of the two), with
the bound, the prediction and the observation; `less_time_percent` is what being parallel saves.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._common import emit
from benchmarks.planning import SLOTS, Instance, sets
from maos_bot.planning.bounds import lower_bound
from maos_bot.planning.problem import Problem

ROOT: Final = Path(__file__).resolve().parents[1]
MIXED: Final = ROOT / "examples" / "mixed.maos.yml"
SIGMA: Final = 0.5
LARGEST: Final = 320  # tasks of a trace that is run
LONG_S: Final = 8.0  # a run in scaled time
SHORT_S: Final = 4.0


def measure(folder: Path, *, quick: bool) -> dict[str, Any]:
    """All figures."""
    traces = [each for each in sets(folder).get("traces", []) if 20 <= len(each.durations) <= LARGEST]
    step = max(1, -(-len(traces) // (3 if quick else 14)))
    rows = [_trace(trace, SHORT_S if quick else LONG_S) for trace in traces[::step]]
    exact = [row["observed_over_predicted"] for row in rows]
    return {
        "observed_over_predicted": statistics.fmean(exact),
        "observed_over_predicted_worst": max(exact),
        "over_allowance_percent_worst": max(row["over_allowance_percent"] for row in rows),
        "gap_percent": statistics.fmean(row["gap_percent"] for row in rows),
        "gap_percent_worst": max(row["gap_percent"] for row in rows),
        "sigma": SIGMA,
        "traces": {row.pop("name"): row for row in rows},
        "real": _mixed(),
    }


def _trace(trace: Instance, wanted_s: float) -> dict[str, Any]:
    bound = _bound(trace, trace.durations)
    # So long that what starting a process takes is small beside the tasks.
    scale = max(wanted_s, 0.02 * len(trace.durations)) / bound
    estimates = [duration * scale for duration in trace.durations]
    dice = random.Random(trace.name)
    actual = [estimate * dice.lognormvariate(0.0, SIGMA) for estimate in estimates]
    exact = _run(_spec(trace, estimates, estimates))
    noisy = _run(_spec(trace, estimates, actual))
    predicted = exact["predicted"]["makespan_s"]
    allowed = 1.03 * predicted + 0.003 * len(estimates)
    return {
        "name": trace.name,
        "tasks": len(estimates),
        "predicted_s": predicted,
        "observed_s": exact["wall_s"],
        "observed_over_predicted": exact["wall_s"] / predicted,
        "over_allowance_percent": 100 * (exact["wall_s"] / allowed - 1),
        "gap_percent": 100 * (noisy["wall_s"] / _bound(trace, actual) - 1),
    }


def _bound(trace: Instance, durations: Sequence[float]) -> float:
    return lower_bound(Problem.from_numbers(durations, trace.preds, trace.demands, trace.capacities))


def _spec(trace: Instance, estimates: Sequence[float], actual: Sequence[float]) -> str:
    tasks = {
        f"t{number}": {
            "run": f"sleep {took:.6f}",
            "estimate": {"seconds": round(estimate, 6)},
            "needs": [f"t{need}" for need in needs],
        }
        for number, (estimate, took, needs) in enumerate(zip(estimates, actual, trace.preds, strict=True))
    }
    return json.dumps({"version": 1, "limits": {"concurrent-agents": SLOTS}, "tasks": tasks})


def _run(spec: str, *flags: str) -> Any:
    """The report of one run, as `maos run --json` gives it, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="maos-bench-") as name:
        folder = Path(name)
        (folder / ".maos.yml").write_text(spec, encoding="utf-8")
        return _maos(folder, "run", "--json", "--quiet", *flags)


def _mixed() -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory(prefix="maos-bench-") as name:
        database = f"--db={name}/maos.db"
        common = (str(MIXED), database, "--json", "--quiet", "--no-cache")
        one_by_one = _maos(ROOT, "run", *common, "--mode=sequential")
        planned = _maos(ROOT, "run", *common)
    return {
        "tasks": len(planned["tasks"]),
        "sequential_s": one_by_one["wall_s"],
        "mode": planned["mode"],
        "bound_s": planned["predicted"]["lower_bound_s"],
        "predicted_s": planned["predicted"]["makespan_s"],
        "observed_s": planned["wall_s"],
        "less_time_percent": 100 * (1 - planned["wall_s"] / one_by_one["wall_s"]),
    }


def _maos(folder: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "maos_bot", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.execution", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three traces, shorter: over in 50 s")
    parser.add_argument("--data", default="data", help="the folder of the instances")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    emit(measure(Path(arguments.data), quick=arguments.quick), arguments.json)


if __name__ == "__main__":
    main()
