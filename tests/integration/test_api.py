"""The original system's Python API: each snippet of its description runs, and tells what was measured."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import maos_bot
from maos_bot import (
    DependencyAnalyzer,
    ExecutionMode,
    ExecutionPlan,
    ParallelOrchestrator,
    ParallelStrategy,
    ResourceAllocation,
    ResourceManager,
    ResourceType,
    TeamLead,
)
from maos_bot.errors import ConfigError, SpecError

RESOURCE_LIMITS = {
    ResourceType.TOKENS: 10000.0,
    ResourceType.MEMORY: 2048.0,
    ResourceType.CPU: 80.0,
    ResourceType.CONCURRENT_AGENTS: 8,
}


def original_tasks() -> list[dict[str, Any]]:
    """Four tasks in two layers, as the original's project files hold them."""

    def task(task_id: str, team: str, *needs: str) -> dict[str, Any]:
        return {
            "id": task_id,
            "description": f"Build the {task_id} of the shop, with tests",
            "team": team,
            "status": "queued",
            "dependencies": list(needs),
            "subtasks": [],
            "artifacts": [],
            "attempts": 0,
            "error": None,
        }

    return [
        task("cart", "frontend"),
        task("orders", "backend"),
        task("cart-tests", "qa", "cart", "a-task-that-never-was"),
        task("order-tests", "qa", "orders"),
    ]


def project(run: str = "sleep 0.1") -> dict[str, Any]:
    """The same as a project whose tasks run something."""
    tasks = [{**task, "run": run} for task in original_tasks()]
    return {"projectId": "5f1c", "objective": "A shop", "status": "planning", "tasks": tasks}


# Core infrastructure


def test_snippet_analyzer() -> None:
    tasks = original_tasks()

    analyzer = DependencyAnalyzer(ParallelStrategy.BALANCED)
    plan = analyzer.analyze_dependencies(tasks)

    assert isinstance(plan, ExecutionPlan)
    assert [stage.tasks for stage in plan.stages] == [("orders", "cart"), ("cart-tests", "order-tests")]
    assert 1 - 1 / plan.predicted.speedup > 0.4  # the 40-70 % it promises, where the graph allows it


# Smart execution strategy selection


@pytest.mark.parametrize(("count", "mode"), [(4, ExecutionMode.PARALLEL), (1, ExecutionMode.SEQUENTIAL)])
def test_snippet_strategy_selection(count: int, mode: ExecutionMode) -> None:
    tasks = original_tasks()[:count]
    analyzer = DependencyAnalyzer(ParallelStrategy.BALANCED)

    opportunities = analyzer.get_parallelism_opportunities(tasks)
    if opportunities["parallelism_factor"] > 1.5:  # noqa: SIM108 - as it is described
        chosen = ExecutionMode.PARALLEL
    else:
        chosen = ExecutionMode.SEQUENTIAL

    assert chosen is mode
    assert opportunities["max_parallel_tasks"] == min(2, count)
    assert opportunities["sequential_s"] >= opportunities["parallel_s"] >= opportunities["lower_bound_s"] > 0


# Configuration and control


@pytest.mark.parametrize(
    ("strategy", "group", "at_once"),
    [(ParallelStrategy.CONSERVATIVE, 3, 2), (ParallelStrategy.BALANCED, 5, 4), (ParallelStrategy.AGGRESSIVE, 8, 6)],
)
def test_snippet_strategies(strategy: ParallelStrategy, group: int, at_once: int) -> None:
    tasks = [{"id": f"t{number}", "description": "x", "team": f"team{number % 9}"} for number in range(90)]
    plan = DependencyAnalyzer(strategy).analyze_dependencies(tasks)
    assert max(len(each.tasks) for stage in plan.stages for each in stage.groups) == group
    assert max(len(stage.groups) for stage in plan.stages) == at_once


def test_snippet_resource_limits() -> None:
    for config in (RESOURCE_LIMITS, {"resource_limits": RESOURCE_LIMITS}):
        manager = ResourceManager(config)
        assert {kind: limit.value for kind, limit in manager.limits.items()} == RESOURCE_LIMITS


def test_snippet_team_configuration() -> None:
    max_concurrent_workers = 5
    lead = TeamLead("frontend", max_concurrent_workers=max_concurrent_workers)
    assert lead.get_parallel_capabilities() == {
        "team": "frontend",
        "max_workers": 5,
        "observed_workers": None,
        "estimated_parallel_speedup": None,
        "success_rate": None,
        "tasks": 0,
        "runs": 0,
        "delegation_status": None,
    }


# Monitoring and analytics


def test_snippet_execution_status(tmp_path: Path) -> None:
    orchestrator = ParallelOrchestrator({"root": tmp_path})
    assert orchestrator.get_execution_status()["status"] == "idle"
    seen: list[dict[str, Any]] = []

    async def watch() -> None:
        run = asyncio.ensure_future(orchestrator.execute_project_parallel(project("sleep 0.4")))
        while not run.done():
            await asyncio.sleep(0.02)
            seen.append(orchestrator.get_execution_status())
        assert run.result()

    asyncio.run(watch())
    running = [each for each in seen if each["status"] == "running" and each["active_tasks"]]
    assert running
    assert all(each["active_groups"] for each in running)
    assert [each["completion_rate"] for each in seen] == sorted(each["completion_rate"] for each in seen)
    status = orchestrator.get_execution_status()
    assert (status["status"], status["completion_rate"], status["active_groups"]) == ("succeeded", 1.0, [])
    assert status["estimated_speedup"] > 1.5
    assert status["speedup"] > 1.0


def test_snippet_performance_metrics() -> None:
    async def measure() -> tuple[dict[str, Any], dict[str, Any]]:
        resource_manager = ResourceManager(RESOURCE_LIMITS)
        before = resource_manager.get_performance_metrics()
        await resource_manager.start_monitoring(interval_s=0.01)
        await resource_manager.allocate_resources("group", ResourceAllocation(memory=2048, cpu=10))
        while resource_manager.get_performance_metrics()["samples"] < 8:
            await asyncio.sleep(0.01)
        metrics = resource_manager.get_performance_metrics()
        await resource_manager.stop_monitoring()
        return before, metrics

    before, metrics = asyncio.run(measure())
    assert before["samples"] == 0
    assert before["efficiency_score"] is None
    assert before["resource_trends"]["memory_mb_per_minute"] is None
    assert before["optimization_opportunities"] == []
    assert 0 < metrics["efficiency_score"] <= 100
    assert any(hint.startswith("memory-mb: ") for hint in metrics["optimization_opportunities"])
    assert metrics["resource_trends"]["memory_mb_per_minute"] is not None
    assert metrics["allocations"] == {"group": {"memory-mb": 2048, "cpu-percent": 10, "concurrent-agents": 0}}
    assert metrics["available"]["memory"] == 0


def test_snippet_team_capabilities(tmp_path: Path) -> None:
    db = tmp_path / "maos.db"
    orchestrator = ParallelOrchestrator({"root": tmp_path, "db": db})
    assert asyncio.run(orchestrator.execute_project_parallel(project("sleep 0.3"), mode=ExecutionMode.PARALLEL))
    team_lead = TeamLead("qa", db=db)

    capabilities = team_lead.get_parallel_capabilities()

    assert (capabilities["runs"], capabilities["tasks"], capabilities["success_rate"]) == (1, 2, 1.0)
    assert capabilities["observed_workers"] == 2
    assert 1.0 < capabilities["estimated_parallel_speedup"] <= 2.0


# Integration points


def test_snippet_orchestrator(tmp_path: Path) -> None:
    config = {"root": tmp_path, "resource_limits": RESOURCE_LIMITS}
    project_state = project()

    async def main() -> bool:
        parallel_orchestrator = ParallelOrchestrator(config, ParallelStrategy.BALANCED)
        return await parallel_orchestrator.execute_project_parallel(project_state, mode=ExecutionMode.PARALLEL)

    assert asyncio.run(main())


def test_snippet_resource_manager() -> None:
    config = {"resource_limits": RESOURCE_LIMITS}

    async def main() -> None:
        resource_manager = ResourceManager(config)
        await resource_manager.start_monitoring()

        allocation = ResourceAllocation(tokens=500, memory=256, cpu=20, concurrent_agents=3)
        success = await resource_manager.allocate_resources("task_group_1", allocation)

        assert success
        assert await resource_manager.allocate_resources("task_group_2", allocation)
        assert not await resource_manager.allocate_resources("task_group_3", allocation)
        assert resource_manager.shortage(allocation) == "concurrent-agents: 2 of 8 free, wants 3"
        assert await resource_manager.release_resources("task_group_1")
        assert not await resource_manager.release_resources("task_group_1")
        assert await resource_manager.allocate_resources("task_group_3", allocation)
        assert resource_manager.shortage(ResourceAllocation(tokens=10_000)).startswith("tokens: refill in ")
        await resource_manager.stop_monitoring()

    asyncio.run(main())


# Beyond the snippets


@pytest.mark.parametrize("mode", list(ExecutionMode))
def test_a_failing_task_is_told_and_what_needs_it_doesn_t_run(tmp_path: Path, mode: ExecutionMode) -> None:
    state = project("true")
    state["tasks"][0]["run"] = "exit 3"
    orchestrator = ParallelOrchestrator({"root": tmp_path})
    assert not asyncio.run(orchestrator.execute_project_parallel(state, mode=mode))
    status = orchestrator.get_execution_status()
    assert status["tasks"] == {"succeeded": 2, "failed": 1, "upstream_failed": 1}
    assert status["reason"] == "failed: cart"


def test_agents_without_a_provider_are_no_success(tmp_path: Path) -> None:
    orchestrator = ParallelOrchestrator({"root": tmp_path})
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"objective": "A shop", "tasks": original_tasks()}))
    assert not asyncio.run(orchestrator.execute_project_parallel(path))
    assert orchestrator.get_execution_status()["status"] == "nothing"


def test_what_is_complete_is_not_done_again(tmp_path: Path) -> None:
    state = project("echo $MAOS_TASK >> ran")
    state["tasks"][0]["status"] = "complete"
    assert asyncio.run(ParallelOrchestrator({"root": tmp_path}).execute_project_parallel(state))
    assert sorted((tmp_path / "ran").read_text().split()) == ["cart-tests", "order-tests", "orders"]


def test_a_cycle_is_an_error_that_names_its_members() -> None:
    tasks = [{"id": "a", "dependencies": ["b"]}, {"id": "b", "dependencies": ["a"]}]
    with pytest.raises(SpecError, match="a needs b needs a"):
        DependencyAnalyzer().analyze_dependencies(tasks)


@pytest.mark.parametrize("wrong", [[{"description": "no id"}], ["text"], [{"id": "a"}, {"id": "a"}]])
def test_what_is_no_task_is_refused(wrong: list[Any]) -> None:
    with pytest.raises(ConfigError):
        DependencyAnalyzer().analyze_dependencies(wrong)


def test_the_names_are_loaded_only_when_used() -> None:
    code = "import sys, maos_bot; print('networkx' in sys.modules, 'maos_bot.api' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
    assert set(maos_bot.__all__) <= set(dir(maos_bot))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = maos_bot.nonsense
