"""The command line as people use it: exit codes, one readable message, and the same figures everywhere."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from tests.integration.running import maos

SPEC = """version: 1
name: Commands
tasks:
  lint: {run: "echo linted"}
  unit: {run: "echo ${{ matrix.part }}", matrix: {part: [one, two]}, needs: lint}
  other: {run: "exit 7"}
"""


def test_a_task_is_run_with_its_needs_and_shown_as_it_was_printed(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text(SPEC, encoding="utf-8")
    done = maos(tmp_path, "run", "--task", "unit", "--json", "--events", "events.ndjson")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["tasks"]) == {"lint", "unit.one", "unit.two"}
    shown = maos(tmp_path, "show", "--json")
    assert json.loads(shown.stdout) == report
    assert maos(tmp_path, "show", "--task", "unit.two").stdout == "two\n"
    events = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert report["run_id"] in maos(tmp_path, "history").stdout
    assert json.loads(maos(tmp_path, "export", "--format", "trace").stdout)["traceEvents"]


def test_each_way_to_fail_has_its_code_and_words(tmp_path: Path) -> None:
    missing = maos(tmp_path, "run")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    (tmp_path / ".maos.yml").write_text(SPEC, encoding="utf-8")
    assert maos(tmp_path, "run", "--quiet").returncode == 1
    slip = maos(tmp_path, "run", "--task", "lnit")
    assert slip.returncode == 2
    assert "lint" in slip.stderr
    assert maos(tmp_path, "run", "--limit", "nonsense").returncode == 2
    assert maos(tmp_path, "show", "no-such-run").returncode == 2
    (tmp_path / ".maos.yml").write_text("version: 1\ntasks:\n  a: {agent: think}\n", encoding="utf-8")
    alone = maos(tmp_path, "run", "--json")
    assert alone.returncode == 3
    why = json.loads(alone.stdout)["tasks"]["a"]["reason"]
    assert why.startswith("no model provider configured; set ANTHROPIC_API_KEY")
    (tmp_path / ".maos.yml").write_text("version: 1\ntasks:\n  a: {runn: x}\n", encoding="utf-8")
    bad = maos(tmp_path, "validate")
    assert bad.returncode == 2
    assert ".maos.yml:3:" in bad.stderr
    for done in (missing, slip, alone, bad):
        assert "Traceback" not in done.stderr


def test_a_plan_runs_nothing_and_says_why(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text(SPEC, encoding="utf-8")
    plan = json.loads(maos(tmp_path, "plan", "--json").stdout)
    assert {"mode", "strategy", "chosen_because", "stages", "critical_path", "predicted", "tasks", "limits"} <= set(
        plan
    )
    assert not (tmp_path / ".maos").exists()
    assert maos(tmp_path, "plan").returncode == 0
    assert maos(tmp_path, "plan", "--mermaid").stdout.startswith(("graph", "flowchart", "```"))


def test_what_runs_took_is_the_next_plans_estimate(tmp_path: Path) -> None:
    tasks = "  quick: {run: 'sleep 0.05', team: qa}\n  slow: {run: 'sleep 0.2', estimate: {seconds: 60}}\n"
    (tmp_path / ".maos.yml").write_text(f"version: 1\ntasks:\n{tasks}", encoding="utf-8")
    for _ in range(3):
        assert maos(tmp_path, "run", "--quiet").returncode == 0
    plan = json.loads(maos(tmp_path, "plan", "--json").stdout)["tasks"]
    assert plan["quick"]["basis"] == plan["slow"]["basis"] == "history: 3 runs"
    assert 0.05 <= plan["quick"]["estimate_s"] < 10
    assert 0.19 <= plan["slow"]["estimate_s"] < 10
    rows = json.loads(maos(tmp_path, "history", "--estimates", "--json").stdout)
    assert [(row["task"], row["samples"]) for row in rows] == [("", 6), ("quick", 3), ("slow", 3)]
    assert all(row["error_percent"] > 0 for row in rows)
    assert "all tasks" in maos(tmp_path, "history", "--estimates").stdout


def test_a_database_that_cant_be_read_costs_the_history_and_not_the_plan(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text(SPEC, encoding="utf-8")
    (tmp_path / ".maos").mkdir()
    (tmp_path / ".maos" / "maos.db").write_text("this is no database, whatever its name says" * 100)
    done = maos(tmp_path, "plan", "--json")
    assert done.returncode == 0
    assert "planned without history" in done.stderr


def test_the_solver_is_asked_for_only_where_it_is(tmp_path: Path) -> None:
    (tmp_path / ".maos.yml").write_text(SPEC, encoding="utf-8")
    done = maos(tmp_path, "plan", "--optimal", "--plan-time", "1", "--json")
    if importlib.util.find_spec("ortools"):
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 2
        assert "pip install 'maos-bot[optimal]'" in done.stderr
    assert "Traceback" not in done.stderr
