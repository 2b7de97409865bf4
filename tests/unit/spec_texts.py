"""Specs that several tests start from."""

from __future__ import annotations

from maos_bot.errors import SpecError, SpecProblem
from maos_bot.model import Spec
from maos_bot.spec.load import parse_spec

# The example of the documentation: every part of the format once.
FULL = """\
version: 1
name: Pull request
strategy: balanced
mode: hybrid
limits:
  tokens-per-minute: 10000
  memory-mb: 2048
  cpu-percent: 80
  concurrent-agents: 8
  resources: {database: 1}
budget: {usd: 2.00, tokens: 400000}
defaults: {timeout-minutes: 30, max-attempts: 1, model: claude-sonnet}
teams:
  qa: {max-concurrent-workers: 5, timeout-minutes: 3, max-attempts: 2}
goal: >
  Cover the new parser with tests.
tasks:
  lint:
    run: ruff check .
    team: qa
    inputs: ["**/*.py"]
  unit:
    run: pytest -q
    needs: [lint]
    resources: {memory-mb: 800, cpu-percent: 50, database: 1}
    estimate: {seconds: 90}
    outputs: [coverage.xml]
  review:
    agent: Review this change for security defects.
    team: security
    tools: [read, search]
    report: findings
  docs:
    agent: Bring the docs in line with the changed API.
    needs: [review]
    writes: ["docs/**"]
    verify: mkdocs build --strict
    when: {changed: ["src/**"], events: [pull_request], needs: succeeded}
  matrix:
    run: tox -e ${{ matrix.python }}
    matrix: {python: [3.9, 3.10], os: [linux, mac], exclude: [{python: 3.9, os: mac}]}
    env: {LEVEL: 010, EMPTY: }
    continue-on-error: true
    retry-delay-seconds: 0.5
    working-directory: src
    shell: bash
"""


def parse(text: str) -> Spec:
    """The spec in a text that is expected to be good."""
    return parse_spec(text, path="spec.yml")


def problems(text: str) -> tuple[SpecProblem, ...]:
    """What is wrong with a text; empty for a good spec."""
    try:
        parse_spec(text, path="spec.yml")
    except SpecError as error:
        return error.problems
    return ()


def told(text: str) -> str:
    """All problems as the user reads them."""
    return "\n".join(str(problem) for problem in problems(text))
