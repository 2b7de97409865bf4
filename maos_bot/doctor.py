"""What this machine, its models and its token allow: `maos doctor`, and an action's first words."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from maos_bot.config import find_root
from maos_bot.errors import ConfigError, ExitCode
from maos_bot.model import Spec
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.runner import probe

if TYPE_CHECKING:
    from maos_bot.github.capability import Ability


def doctor(cwd: Path, *, as_json: bool) -> int:
    """Show what this machine offers and which limits `auto` becomes, each with its reason."""
    from maos_bot import crewing
    from maos_bot.execution.confinement import confinement
    from maos_bot.github.capability import lines
    from maos_bot.resources.cgroup import cgroups
    from maos_bot.resources.pressure import Gauge

    root = find_root(cwd)
    runner, groups, gauge = probe(root), cgroups(), Gauge()
    github = _on_github(os.environ)
    providers = crewing.providers_here(root)
    limits = resolve_limits(Spec(path="", name="", tasks=()), {}, runner)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "cpus": runner.cpus,
                    "cpu_reason": runner.cpu_reason,
                    "memory_mb": runner.memory_mb,
                    "memory_reason": runner.memory_reason,
                    "available_mb": runner.available_mb,
                    "disk_free_mb": runner.disk_free_mb,
                    "processes_free": runner.processes_free,
                    "cgroups": {"version": groups.version, "writable": groups.writable, "reason": groups.reason},
                    "agent_commands": confinement().words(),
                    "pressure": list(gauge.sources),
                    "memory_floor_mb": gauge.floor_mb,
                    "limits": {name: {"value": limit.value, "reason": limit.reason} for name, limit in limits.items()},
                    "github": {each.name: {"says": each.says, "mend": each.mend} for each in github},
                    "providers": providers,
                },
                indent=2,
                ensure_ascii=False,
            )
        )
        return ExitCode.OK
    from rich.text import Text

    from maos_bot.reporting.page import page, say

    console = page()
    pressure = ", ".join(gauge.sources) or "the kernel doesn't tell it: slots aren't scaled by it"
    processes = "unknown" if runner.processes_free is None else f"{runner.processes_free:,} more may be started"
    floor = "unknown" if gauge.floor_mb is None else f"below {gauge.floor_mb:.0f} MB left a task is put back"
    for name, value in (
        ("CPUs", f"{runner.cpus:g} ({runner.cpu_reason})"),
        ("memory", f"{_megabytes(runner.memory_mb)} ({runner.memory_reason}), {_megabytes(runner.available_mb)} free"),
        ("floor", floor),
        ("disk", f"{_megabytes(runner.disk_free_mb)} free"),
        ("processes", f"{processes} ({runner.processes_reason})"),
        ("cgroups", f"{groups.version}: {groups.reason}"),
        ("agents' commands", confinement().words()),
        ("pressure", pressure),
        ("providers", "; ".join(f"{name}: {says}" for name, says in providers.items()) or crewing.NO_KEY),
        *(
            (f"limit {name}", f"{'none' if limit.value is None else f'{limit.value:g}'} ({limit.reason})")
            for name, limit in limits.items()
        ),
    ):
        say(console, Text.assemble((f"{name:<26}", "dim"), value))
    say(console, Text("\n".join(("", "On GitHub:", *lines(github, width=25)))))
    return ExitCode.OK


def this_machine(root: Path) -> Sequence[Ability]:
    """The runner's size and the providers, as an action says them at its start."""
    from maos_bot import crewing
    from maos_bot.github.capability import machine

    return machine(probe(root), crewing.providers_here(root))


def _on_github(env: Mapping[str, str]) -> Sequence[Ability]:
    """What the token in the environment is and has left, and in a workflow what its event allows."""
    from maos_bot.github.capability import Ability, abilities, quota
    from maos_bot.github.client import GitHubClient
    from maos_bot.github.trigger import read_trigger
    from maos_bot.github.trust import decide
    from maos_bot.github.workflow import read_api, read_input, read_payload

    token = read_input(env, "github-token") or env.get("GITHUB_TOKEN") or ""
    repository = env.get("GITHUB_REPOSITORY", "")
    left = None
    if token and repository:
        address, bundle = read_api(env)
        try:
            left = quota(
                GitHubClient(token=token, repository=repository, api_url=address, ca_bundle=bundle, timeout_s=5)
            )
        except ConfigError as error:
            return [Ability(name="client", says=error.message, mend=error.hint)]
    if not env.get("GITHUB_EVENT_PATH"):
        return abilities(token=token, left=left, trigger=None, decision=None)
    trigger = read_trigger(env.get("GITHUB_EVENT_NAME", ""), read_payload(env), env)
    return abilities(token=token, left=left, trigger=trigger, decision=decide(trigger, has_token=bool(token)))


def _megabytes(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f} MB"
