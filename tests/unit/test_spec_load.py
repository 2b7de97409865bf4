"""Reading a spec: values, defaults, and every error at its line and column."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from maos_bot.errors import ConfigError, ExitCode, SpecError
from maos_bot.model import ExecutionMode, ParallelStrategy, Task
from maos_bot.spec.load import load_spec
from tests.unit.spec_texts import FULL, parse, problems, told


def tasks_of(text: str) -> dict[str, Task]:
    return {task.id: task for task in parse(text).tasks}


def test_reads_every_part_of_the_documented_example() -> None:
    spec = parse(FULL)

    assert (spec.name, spec.strategy, spec.mode) == (
        "Pull request",
        ParallelStrategy.BALANCED,
        ExecutionMode.HYBRID,
    )
    assert spec.limits == {
        "tokens-per-minute": 10000,
        "memory-mb": 2048,
        "cpu-percent": 80,
        "concurrent-agents": 8,
        "database": 1,
    }
    assert (spec.budget.usd, spec.budget.tokens, spec.budget.approve_above_usd) == (2.0, 400_000, None)
    assert (spec.teams["qa"].max_concurrent_workers, spec.teams["qa"].timeout_s) == (5, 180)
    assert spec.goal == "Cover the new parser with tests."
    assert (spec.text, spec.digest) == (FULL, hashlib.sha256(FULL.encode()).hexdigest())
    tasks = {task.id: task for task in spec.tasks}
    assert tasks["unit"].demand == {"memory-mb": 800, "cpu-percent": 50, "database": 1}
    assert (tasks["unit"].needs, tasks["unit"].estimate_s, tasks["unit"].outputs) == (("lint",), 90, ("coverage.xml",))
    assert (tasks["review"].tools, tasks["review"].report) == (("read", "search"), "findings")
    assert (tasks["docs"].writes, tasks["docs"].verify) == (("docs/**",), "mkdocs build --strict")
    assert (tasks["docs"].when.changed, tasks["docs"].when.events) == (("src/**",), ("pull_request",))
    assert (tasks["docs"].model, tasks["lint"].model) == ("claude-sonnet", "")
    assert (tasks["unit"].line, tasks["unit"].column) == (22, 3)


def test_a_tasks_own_value_beats_its_teams_and_the_teams_beats_the_default() -> None:
    tasks = tasks_of("""
env: {A: top, B: top, C: top}
defaults: {timeout-minutes: 10, max-attempts: 3, retry-delay-seconds: 4, shell: sh, working-directory: d,
           continue-on-error: true, env: {B: default, C: default}}
teams: {qa: {timeout-minutes: 0.5}}
tasks:
  own: {run: x, team: qa, timeout-minutes: 1, env: {C: task}, continue-on-error: false, shell: bash}
  team: {run: x, team: qa}
  default: {run: x}
""")
    assert [tasks[name].timeout_s for name in ("own", "team", "default")] == [60, 30, 600]
    assert tasks["own"].env == {"A": "top", "B": "default", "C": "task"}
    assert [tasks[name].continue_on_error for name in ("own", "team")] == [False, True]
    assert (tasks["own"].shell, tasks["team"].shell) == ("bash", "sh")
    assert (tasks["team"].max_attempts, tasks["team"].retry_delay_s, tasks["team"].working_directory) == (3, 4, "d")


def test_without_any_default_a_task_has_thirty_minutes_and_one_attempt() -> None:
    task = tasks_of("tasks: {a: {run: x}}")["a"]

    assert (task.timeout_s, task.max_attempts, task.continue_on_error) == (1800, 1, False)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("limits: auto", {}),
        ("limits: {memory-mb: auto, concurrent-agents: auto}", {}),
        ("limits: {memory-mb: auto, cpu-percent: 0x10}", {"cpu-percent": 16}),
        ("limits: {memory-mb: 1e3, concurrent-agents: 4.0}", {"memory-mb": 1000, "concurrent-agents": 4}),
    ],
)
def test_limits_may_be_auto_or_numbers(text: str, limits: dict[str, float]) -> None:
    assert parse(f"{text}\ntasks: {{a: {{run: x}}}}").limits == limits


def test_one_word_stands_for_a_list_of_one() -> None:
    task = tasks_of('tasks: {a: {run: x}, b: {run: x, needs: a, inputs: "*.py", when: {changed: src/**}}}')["b"]

    assert (task.needs, task.inputs, task.when.changed) == (("a",), ("*.py",), ("src/**",))


def test_a_goal_needs_no_tasks() -> None:
    assert parse("goal: Write tests.").tasks == ()


# Each row: the text, then for each problem its line:column and words of it, in order.
BAD = [
    ("tasks: {a: {rn: x}}", ["1:9 neither `run` nor `agent`", "1:13 unknown key `rn`; did you mean `run`?"]),
    ("tasks: {a: {run: x, timeout_minutes: 3}}", ["1:21 did you mean `timeout-minutes`?"]),
    ("tasks: {a: {run: x, if: y}}", ["1:21 unknown key `if`; `when:"]),
    ("tasks: {a: {run: x, depends_on: y}}", ["1:21 did you mean `needs`?"]),
    ("tasks: {a: {run: x, retry: 2}}", ["1:21 use `max-attempts` and `retry-delay-seconds`"]),
    ("on: push\ntasks: {a: {run: x}}", ["1:1 unknown key `on`; the workflow file says"]),
    ("jobs: {a: {run: x}}", ["1:1 the spec has no tasks", "1:1 unknown key `jobs`; tasks stand under `tasks`"]),
    ("tasks: {lint: {run: x}, b: {run: x, needs: [lnt]}}", ["1:45 unknown task `lnt` in `needs`; did you mean `lint`"]),
    ("tasks: {a: {run: x, needs: [a]}}", ["1:29 `a` needs itself"]),
    ("tasks: {a: {run: x, needs: b}, b: {run: x, needs: a}}", ["1:28 in a circle: a -> b -> a"]),
    (
        (
            "tasks:\n a: {run: x, needs: b}\n b: {run: x, needs: [c]}\n c: {run: x, needs: a}\n"
            " d: {run: x, needs: e}\n e: {run: x, needs: d}\n f: {run: x, needs: [a, d]}"
        ),
        ["2:21 circle: a -> b -> c -> a", "5:21 circle: d -> e -> d"],
    ),
    ("tasks: {a: {run: x, agent: y}}", ["1:21 both `run` and `agent`"]),
    ("tasks:\n  a:\n    team: qa", ["2:3 neither `run` nor `agent`"]),
    ("tasks:\n  a:\n  b: {run: x}", ["2:3 `a` has no value"]),
    ("tasks:\n  a: {run: x}\n  a: {run: y}", ["3:3 duplicate task id `a`; the first one is at 2:3"]),
    ("tasks: {a: {run: x, run: y}}", ["1:21 duplicate key `run`"]),
    ("name: a\nname: b\ntasks: {a: {run: x}}", ["2:1 duplicate key `name`"]),
    ("limits: {memory-mb: 10}\ntasks: {a: {run: x, resources: {memory-mb: 11}}}", ["2:44 wants 11 of `memory-mb`"]),
    ("tasks: {a: {run: x, resources: {cpu-percent: 101}}}", ["1:46 the limit is 100"]),
    ("tasks: {a: {run: x, resources: {database: 1}}}", ["1:33 unknown resource `database`; declare it"]),
    (
        "limits: {resources: {database: 1}}\ntasks: {a: {run: x, resources: {databse: 1, database: 2}}}",
        ["2:33 did you mean `database`?", "2:55 wants 2 of `database`"],
    ),
    ("teams: {backend: {}}\ntasks: {a: {run: x, team: backnd}}", ["2:27 unknown team `backnd`; did you mean"]),
    ("tasks: {a: {agent: x, tools: [read, serch]}}", ["1:37 `tools` can't be `serch`; did you mean `search`?"]),
    ("tasks: {a: {agent: x, report: sarif}}", ["1:31 `report` can't be `sarif`; use one of findings, text"]),
    ("tasks: {a: {run: x, shell: fishy}}", ["1:28 `shell` can't be `fishy`; use bash"]),
    ("tasks: {a: {run: x, tools: read}}", ["1:21 `tools` is for agent tasks"]),
    ("tasks: {a: {run: x, when: {events: [pul_request]}}}", ["1:37 did you mean `pull_request`?"]),
    ("strategy: agressive\ntasks: {a: {run: x}}", ["1:11 did you mean `aggressive`?"]),
    ("mode: Parallel\ntasks: {a: {run: x}}", ["1:7 did you mean `parallel`?"]),
    ("version: 2\ntasks: {a: {run: x}}", ["1:10 `version` can't be 2; this MAOS bot reads version 1"]),
    ("tasks: {a: {run: x, timeout-minutes: -1}}", ["1:38 must be more than 0"]),
    ("tasks: {a: {run: x, timeout-minutes: 0}}", ["1:38 must be more than 0"]),
    ("tasks: {a: {run: x, max-attempts: 0}}", ["1:35 must be at least 1"]),
    ("tasks: {a: {run: x, max-attempts: 1.5}}", ["1:35 wants a whole number, not `1.5`"]),
    ("limits: {memory-mb: -1}\ntasks: {a: {run: x}}", ["1:21 must be more than 0"]),
    ("limits: {memory-mb: lots}\ntasks: {a: {run: x}}", ["1:21 wants a number or `auto`"]),
    ("limits: {cpu-percent: 120}\ntasks: {a: {run: x}}", ["1:23 must be at most 100"]),
    ("budget: {usd: -2}\ntasks: {a: {run: x}}", ["1:15 must be at least 0"]),
    ("tasks: {a: {run: x, estimate: {}}}", ["1:21 lacks `seconds`"]),
    ("tasks: {a: {run: x, env: {A: [1]}}}", ["1:30 `A` wants text, a number or a switch, not a list"]),
    ("tasks: {a: {run: x, env: {A=B: 1}}}", ["1:27 can't be used as a name"]),
    ("tasks: {a: {run: x, env: [A]}}", ["1:26 `env` wants keys and values, not a list"]),
    ("tasks: {a: {run: [x]}}", ["1:18 `run` wants text, not a list"]),
    ("tasks: {a: {run: {x: 1}}}", ["1:13 `run` wants text, not keys and values"]),
    ("tasks: {a: {run: ' '}}", ["1:18 `run` can't be empty"]),
    ("tasks: {a: {run: x, needs: {b: 1}}}", ["1:21 `needs` wants text or a list"]),
    ("tasks: {a: {run: x, inputs: [/etc/passwd]}}", ["1:30 is absolute"]),
    ("tasks: {a: {run: x, inputs: [../x]}}", ["1:30 leaves the repository"]),
    ("tasks: {a: {run: x, outputs: 'a\\b'}}", ["1:30 holds a backslash"]),
    ("tasks: {a: {run: x, inputs: ['src/[ab']}}", ["1:30 never closed"]),
    ("tasks: {a: {run: x, inputs: ['']}}", ["1:30 can't be empty"]),
    ("tasks: {a b: {run: x}}", ["1:9 `a b` can't be used as a name; use letters"]),
    ('tasks: {"../a": {run: x}}', ["1:9 can't be used as a name"]),
    ("tasks: [a]", ["1:8 `tasks` wants keys and values, not a list"]),
    ("[a, b]", ["1:1 a spec is a mapping, not a list"]),
    ("tasks:", ["1:1 `tasks` has no value"]),
    ("tasks: {}", ["1:1 no tasks"]),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text[:60] for text, _ in BAD])
def test_says_what_is_wrong_and_where(text: str, expected: list[str]) -> None:
    found = problems(text)

    assert len(found) == len(expected), told(text)
    for problem, words in zip(found, expected, strict=True):
        place, _, part = words.partition(" ")
        assert f"{problem.line}:{problem.column}" == place, told(text)
        assert part in str(problem)


def test_reports_independent_errors_all_at_once_in_file_order() -> None:
    text = FULL.replace("run: pytest", "rn: pytest").replace("[review]", "[reviw]").replace("2048", "512")

    lines = [problem.line for problem in problems(text)]

    assert lines == sorted(lines)
    assert len(lines) == 4  # unit: neither run nor agent, unknown key, too much memory; docs: unknown need


def test_an_error_in_a_task_hides_no_need_on_it() -> None:
    assert len(problems("tasks: {a: 5, b: {run: x, needs: a}}")) == 1


def test_team_that_is_like_no_declared_one_is_free_to_use() -> None:
    assert tasks_of("teams: {qa: {}}\ntasks: {a: {run: x, team: security}}")["a"].team == "security"


def test_a_long_cycle_names_both_ends() -> None:
    count = 500
    text = "tasks:\n" + "".join(f"  t{i}: {{run: x, needs: t{(i + 1) % count}}}\n" for i in range(count))

    (problem,) = problems(text)

    assert "t0 -> t1" in problem.message
    assert problem.message.endswith("t499 -> t0")
    assert len(problem.message) < 600


def test_very_many_problems_are_counted_instead_of_listed() -> None:
    found = problems("tasks:\n" + "".join(f"  t{i}: {{rn: x}}\n" for i in range(2000)))

    assert len(found) == 501
    assert "and 3500 more problems" in str(found[-1])


def test_loads_a_file_and_names_it_in_problems(tmp_path: Path) -> None:
    path = tmp_path / ".maos.yml"
    path.write_bytes("\ufefftasks: {a: {run: x}}\r\n".encode())
    assert load_spec(path).path == str(path)

    path.write_text("tasks: {a: {rnu: x}}")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert str(caught.value).startswith(f"{path}:1:")
    assert caught.value.exit_code == ExitCode.CONFIG


def test_a_missing_file_and_a_directory_are_configuration_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="maos init"):
        load_spec(tmp_path / ".maos.yml")
    with pytest.raises(ConfigError, match="check the name"):
        load_spec(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match="is a directory"):
        load_spec(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"tasks:\n  a: {run: '\xff'}", "2:13: the file is not UTF-8"),
        ("tasks: {}".encode("utf-16"), "1:1: the file is not UTF-8"),
        (b"x" * 5_000_000, "1:1: the file is larger than 2048 KiB"),
        (b"", "1:1: the file is empty"),
        (b"# only a comment\n", "1:1: the file is empty"),
        (b"tasks: {a: {run: x\x00y}}", "1:19: a NUL byte"),
    ],
)
def test_refuses_files_that_are_no_text_or_too_large(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "spec.yml"
    path.write_bytes(content)

    with pytest.raises(SpecError) as caught:
        load_spec(path)

    assert words in str(caught.value)
