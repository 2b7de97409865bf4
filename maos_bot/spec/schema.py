"""The task spec's keys as pydantic models, and the JSON Schema made from them (DESIGN section 5).

The models are the one definition. What is shipped beside them is their JSON Schema, `schema.json`: `validate` reads
that, so that checking a spec needs no import of pydantic (0.15 s of CPU, more than all the rest together), and
editors and the loader go by the same rules. `python -m maos_bot.spec.schema` writes it anew; a test holds it current.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from maos_bot.model import ExecutionMode, ParallelStrategy

SCHEMA_ID: Final = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FILE: Final = Path(__file__).with_name("schema.json")

NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"
ENV_NAME: Final = r"^[^=\s]+$"
SHELL: Final = r"^(bash|sh|python|pwsh)$|\{0\}"

MAX_MINUTES: Final = 43_200  # thirty days
MAX_QUANTITY: Final = 1e12

Name = Annotated[str, Field(pattern=NAME)]
Text = Annotated[str, Field(min_length=1)]
Shell = Annotated[str, Field(pattern=SHELL, examples=["bash", "sh", "python", "pwsh", "perl {0}"])]
Glob = Annotated[str, Field(min_length=1, json_schema_extra={"format": "path-pattern"})]
Globs = Glob | list[Glob]
Scalar = str | float | bool
Env = dict[Annotated[str, Field(pattern=ENV_NAME)], str | float | bool | None]
Quantity = Annotated[float, Field(ge=0, le=MAX_QUANTITY)]
Rate = Annotated[float, Field(gt=0, le=MAX_QUANTITY)]
Workers = Annotated[int, Field(ge=1, le=10_000)]
Minutes = Annotated[float, Field(gt=0, le=MAX_MINUTES)]
Seconds = Annotated[float, Field(ge=0, le=MAX_MINUTES * 60)]
Attempts = Annotated[int, Field(ge=1, le=100)]
Auto = Literal["auto"]
Tool = Literal["read", "search", "edit", "run"]

_TIMEOUT = "Minutes after which an attempt is ended, with all processes it started. Fractions are fine: 0.5."
_ATTEMPTS = "How often the task is tried before it counts as failed; 1 is no retry."
_DELAY = "Seconds before the second attempt; doubles with each further one."
_SHELL = "What runs the script: bash, sh, python, pwsh, or a command with {0} where the script's path goes."
_DIRECTORY = "Directory to run in, relative to the repository's root."
_ENV = "Environment variables; numbers and switches keep the text they are written with."
_CONTINUE = "Whether a failure of the task lets what needs it run on, and the run succeed."


def _hyphenated(name: str) -> str:
    return name.replace("_", "-")


class Part(BaseModel):
    """What all parts share: hyphenated keys, and nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=_hyphenated)


class Limits(Part):
    """What may be in use at once. `auto`, the default, is sized to the runner."""

    tokens_per_minute: Rate | Auto = Field("auto", description="Model tokens per minute, over all agents.")
    memory_mb: Rate | Auto = Field("auto", description="Memory of all running tasks together, in MiB.")
    cpu_percent: Annotated[float, Field(gt=0, le=100)] | Auto = Field(
        "auto", description="CPU of all running tasks together, in percent of the whole runner."
    )
    concurrent_agents: Workers | Auto = Field(
        "auto", description="How many tasks, commands and agents alike, run at once."
    )
    processes_per_task: Workers | Auto = Field(
        "auto", description="How many processes one task's tree may have; one with more is ended."
    )
    resources: dict[Name, Quantity] = Field(
        {},
        description="Pools of your own, each with how much of it there is; tasks take from them with `resources`.",
        examples=[{"database": 1}],
    )


class Cap(Part):
    """What may be spent on models."""

    usd: Quantity | None = Field(None, description="Dollars that may be spent.", examples=[2.0])
    tokens: Annotated[int, Field(ge=0)] | None = Field(None, description="Tokens that may be used.", examples=[400_000])


class Budget(Cap):
    """What one run may spend on models."""

    approve_above: Quantity | None = Field(
        None, description="A run predicted to cost more dollars than this waits for an approval.", examples=[1.0]
    )


class Defaults(Part):
    """Values for tasks that don't set their own, and whose team doesn't either."""

    timeout_minutes: Minutes = Field(30, description=_TIMEOUT)
    max_attempts: Attempts = Field(1, description=_ATTEMPTS)
    retry_delay_seconds: Seconds = Field(1, description=_DELAY)
    continue_on_error: bool = Field(False, description=_CONTINUE)
    model: Text | None = Field(None, description="Model for agent tasks.", examples=["claude-sonnet"])
    shell: Shell | None = Field(None, description=_SHELL)
    env: Env = Field({}, description=_ENV)
    working_directory: Text | None = Field(None, description=_DIRECTORY)


class Team(Part):
    """Bounds and values shared by the tasks of one team."""

    max_concurrent_workers: Workers | None = Field(None, description="How many tasks of this team run at once.")
    timeout_minutes: Minutes | None = Field(None, description=_TIMEOUT)
    max_attempts: Attempts | None = Field(None, description=_ATTEMPTS)
    budget: Cap | None = Field(None, description="What the team's agents may spend together, within the run's budget.")


class Estimate(Part):
    """What you expect a task to take, until there is a history."""

    seconds: Seconds = Field(description="Duration in seconds.", examples=[90])


class When(Part):
    """The condition under which a task runs; all that is given must hold."""

    changed: Globs = Field([], description="Runs only if a changed file matches one of these.", examples=[["src/**"]])
    events: Text | list[Text] = Field([], description="Runs only on these events.", examples=[["pull_request", "push"]])
    needs: Literal["succeeded", "failed", "any"] = Field(
        "succeeded", description="How its needs must have ended: all succeeded, at least one failed, or any way."
    )


class Matrix(BaseModel):
    """Lists of values by name; the task runs once for each combination, as in GitHub Actions."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Annotated[list[Scalar], Field(min_length=1)]]

    include: list[dict[Name, Scalar]] = Field(
        [], description="Combinations to add, or values to add to the combinations they fit."
    )
    exclude: list[dict[Name, Scalar]] = Field([], description="Combinations to leave out.")


class Task(Part):
    """One task: a shell command (`run`) or work for an agent (`agent`)."""

    run: Text | None = Field(None, description="Shell script to run.", examples=["pytest -q"])
    agent: Text | None = Field(None, description="What an agent is to do, in words.")
    name: Text | None = Field(None, description="Title for people; the id by default.")
    team: Name | None = Field(None, description="Team the task belongs to.", examples=["qa"])
    needs: Text | list[Text] = Field(
        [],
        description="Tasks that must end first; the id of a matrix task means all its variants.",
        examples=[["lint"]],
    )
    when: When | None = Field(None, description="Condition under which the task runs.")
    resources: dict[Name, Quantity] = Field(
        {},
        description="What it holds while it runs: memory-mb, cpu-percent, or pools of `limits.resources`.",
        examples=[{"memory-mb": 800, "database": 1}],
    )
    estimate: Estimate | None = Field(None, description="What you expect it to take.")
    inputs: Globs = Field([], description="Files its result depends on: the cache key.", examples=[["**/*.py"]])
    outputs: Globs = Field([], description="Files it makes.", examples=[["coverage.xml"]])
    cache: bool | None = Field(
        None,
        description="Whether an unchanged result is taken instead of running it again; by default where it has inputs.",
    )
    tools: Tool | list[Tool] = Field([], description="What the agent may do.")
    report: Literal["findings", "text"] = Field(
        "text", description="`findings`: path, line, severity and message of each, shown as annotations."
    )
    writes: Globs | None = Field(None, description="All that the agent may change.", examples=[["docs/**"]])
    verify: Text | None = Field(None, description="Command that must succeed before an agent's work is taken.")
    model: Text | None = Field(None, description="Model for this agent task.", examples=["claude-sonnet"])
    budget: Cap | None = Field(None, description="What this agent task may spend, over all its attempts.")
    env: Env = Field({}, description=_ENV)
    shell: Shell | None = Field(None, description=_SHELL)
    working_directory: Text | None = Field(None, description=_DIRECTORY)
    timeout_minutes: Minutes | None = Field(None, description=_TIMEOUT)
    max_attempts: Attempts | None = Field(None, description=_ATTEMPTS)
    retry_delay_seconds: Seconds | None = Field(None, description=_DELAY)
    continue_on_error: bool | None = Field(None, description=_CONTINUE)
    matrix: Matrix | None = Field(
        None,
        description="Runs the task once for each combination of values; `${{ matrix.KEY }}` stands for a value.",
        examples=[{"python": ["3.11", "3.12"], "os": ["linux"]}],
    )


class Step(Part):
    """A command that prepares what every task needs; cached by content like a task."""

    run: Text = Field(description="Shell script to run.", examples=["npm ci"])
    name: Text | None = Field(None, description="Title for people; the id by default.")
    needs: Text | list[Text] = Field([], description="Steps that must end first.", examples=[["venv"]])
    resources: dict[Name, Quantity] = Field(
        {}, description="What it holds while it runs: memory-mb, cpu-percent, or pools of `limits.resources`."
    )
    estimate: Estimate | None = Field(None, description="What you expect it to take.")
    inputs: Globs = Field(
        [], description="Files it depends on: it isn't run while they are unchanged.", examples=[["package-lock.json"]]
    )
    outputs: Globs = Field([], description="Files and folders it makes.", examples=[["node_modules"]])
    cache: bool | None = Field(
        None, description="Whether an unchanged result is taken instead of running it; by default where it has inputs."
    )
    env: Env = Field({}, description=_ENV)
    shell: Shell | None = Field(None, description=_SHELL)
    working_directory: Text | None = Field(None, description=_DIRECTORY)
    timeout_minutes: Minutes | None = Field(None, description=_TIMEOUT)
    max_attempts: Attempts | None = Field(None, description=_ATTEMPTS)
    retry_delay_seconds: Seconds | None = Field(None, description=_DELAY)


class SpecFile(Part):
    """The task spec of a repository, `.maos.yml`."""

    version: Literal[1] = Field(1, description="Version of this format.")
    name: Text | None = Field(None, description="Title of the run.", examples=["Pull request"])
    strategy: ParallelStrategy = Field(
        ParallelStrategy.BALANCED, description="How much is packed together and how much headroom is left."
    )
    mode: ExecutionMode = Field(
        ExecutionMode.HYBRID, description="How the plan is carried out; hybrid predicts the others and takes the best."
    )
    limits: Limits | Auto = Field("auto", description="What may be in use at once; `auto` is sized to the runner.")
    budget: Budget | None = Field(None, description="What one run may spend on models.")
    defaults: Defaults | None = Field(None, description="Values for tasks that don't set their own.")
    teams: dict[Name, Team] = Field(
        {}, description="Teams by name; a task may name others too.", examples=[{"qa": {"max-concurrent-workers": 2}}]
    )
    goal: Text | None = Field(None, description="A goal in words that an agent turns into tasks.")
    env: Env = Field({}, description=_ENV)
    setup: dict[Name, Step] = Field(
        {},
        description="Steps that prepare what every task needs, by id; each task waits for all of them.",
        examples=[{"modules": {"run": "npm ci", "inputs": ["package-lock.json"], "outputs": ["node_modules"]}}],
    )
    tasks: dict[Name, Task] = Field({}, description="The tasks by id.", examples=[{"lint": {"run": "ruff check ."}}])


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file as YAML or JSON, for editors and `maos schema`."""
    schema = SpecFile.model_json_schema(mode="validation")
    schema.pop("title")
    return {"$schema": SCHEMA_ID, "title": "MAOS bot task spec", **_tidy(schema)}


def _tidy(schema: Any) -> Any:
    """Without generated titles and defaults that say nothing; `null` is no value here: an empty key is refused."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidy: dict[str, Any] = {}
    for key, value in schema.items():
        if key in {"properties", "$defs"}:
            tidy[key] = {name: _tidy(item) for name, item in value.items()}
        elif key == "patternProperties":  # one pattern for all names: say it as the stricter `propertyNames`
            ((pattern, item),) = value.items()
            tidy["propertyNames"] = {"pattern": pattern}
            tidy["additionalProperties"] = _tidy(item)
        elif key in {"examples", "enum"}:
            tidy[key] = value
        elif key != "title" and not (key == "default" and (value is None or value in ([], {}))):
            tidy[key] = _tidy(value)
    return _without_null(tidy)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema.get("anyOf")
    if choices is None or len(choices) > 3:  # an environment variable may be empty: the one place for `null`
        return schema
    kept = [choice for choice in choices if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**kept[0], **rest} if len(kept) == 1 else {**rest, "anyOf": kept}


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
