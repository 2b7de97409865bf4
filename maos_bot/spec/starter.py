"""The files `maos init` writes: a spec with the checks a repository already has tools for, and a workflow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from maos_bot.spec.toolchains import Check, Step, toolchains

SPEC_NAME: Final = ".maos.yml"
WORKFLOW_NAME: Final = ".github/workflows/maos.yml"
ACTION: Final = "OWNER/maos-bot@v0"  # until it is given: where this project lives is for its owner to say

# Of all tracked files, before the first commit too: the work tree beside git's tree of no files.
_WHITESPACE: Final = Check(id="whitespace", run='git diff --check "$(git hash-object -t tree /dev/null)"')
_HELLO: Final = Check(id="hello", run="echo 'Put a command of yours here, such as one that tests'")


def starter(root: Path, *, action: str = ACTION) -> list[tuple[str, str]]:
    """Paths below `root` and their texts, fitted to the tools found there; nothing is written here.

    `action` is where the action lives, OWNER/NAME@REF.
    """
    found = toolchains(root)
    checks = [check for each in found for check in each.checks]
    checks = checks or [_WHITESPACE if (root / ".git").exists() else _HELLO]
    steps = [step for each in found for step in each.steps]
    env = dict(pair for each in found for pair in each.env)
    where, _, ref = action.partition("@")
    # The image has Python and git; what else a project's checks call stands on the runner.
    uses = action if all(each.in_image for each in found) else f"{where}/composite@{ref}"
    return [(SPEC_NAME, _spec(steps, _distinct(checks), env)), (WORKFLOW_NAME, _workflow(uses))]


def _distinct(checks: Sequence[Check]) -> list[Check]:
    """Ids of a repository in two languages: the second `test` becomes `test-2`."""
    seen: dict[str, int] = {}
    distinct: list[Check] = []
    for check in checks:
        seen[check.id] = seen.get(check.id, 0) + 1
        distinct.append(check if seen[check.id] == 1 else replace(check, id=f"{check.id}-{seen[check.id]}"))
    return distinct


def _spec(steps: Sequence[Step], checks: Sequence[Check], env: dict[str, str]) -> str:
    lines = [
        "# What MAOS bot runs on a pull request, as parallel as needs and limits allow.",
        "# `maos validate` checks this file, `maos plan` shows what would run when, `maos run` runs it here.",
        "version: 1",
        "name: Checks",
    ]
    pools = sorted({check.pool for check in checks if check.pool})
    if pools:
        lines += ["limits:", f"  resources: {{{', '.join(f'{pool}: 1' for pool in pools)}}}"]
    lines += ["defaults:", "  timeout-minutes: 15"]
    if env:
        lines += ["env:", *(f"  {name}: {json.dumps(value)}" for name, value in env.items())]
    if steps:
        lines.append("setup: # every task waits for these; they aren't run again while their inputs are unchanged")
    for step in steps:
        lines += [f"  {step.id}:", *_run(step.run)]
        lines += [f"    inputs: {_list(step.inputs)}", f"    outputs: {_list(step.outputs)}"]
    lines.append("tasks:")
    for check in checks:
        lines += [f"  {check.id}:", *_run((check.run,)), f"    team: {check.team}"]
        if check.needs:
            lines.append(f"    needs: [{', '.join(check.needs)}]")
        if check.pool:
            lines.append(f"    resources: {{{check.pool}: 1}}")
        if check.inputs:
            lines.append(f"    inputs: {_list(check.inputs)}")
    return "\n".join(lines) + "\n"


def _run(commands: Sequence[str]) -> list[str]:
    if len(commands) == 1 and ": " not in commands[0] and " #" not in commands[0]:
        return [f"    run: {commands[0]}"]
    return ["    run: |", *(f"      {command}" for command in commands)]


def _list(words: Sequence[str]) -> str:
    return f"[{', '.join(json.dumps(word) for word in words)}]"


def _workflow(action: str) -> str:
    return f"""\
name: MAOS bot
on:
  pull_request:
  workflow_dispatch:
permissions: {{}}
concurrency:
  group: maos-${{{{ github.ref }}}}
  cancel-in-progress: true
jobs:
  maos:
    runs-on: ubuntu-latest
    timeout-minutes: 30
    permissions:
      contents: read
      pull-requests: write
      checks: write
    steps:
      - uses: actions/checkout@11d5960a326750d5838078e36cf38b85af677262 # v4.4.0
        with:
          fetch-depth: 0
          persist-credentials: false
      # The history and what hasn't changed, from run to run; those of branches stay apart.
      - uses: actions/cache@0057852bfaa89a56745cba8c7296529d2fc39830 # v4.3.0
        with:
          path: .maos
          key: maos-${{{{ github.ref }}}}-${{{{ github.run_id }}}}
          restore-keys: |
            maos-${{{{ github.ref }}}}-
            maos-
      - uses: {action}
"""
