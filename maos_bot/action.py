"""`maos action`: the run inside a GitHub workflow, from the event file to comment, checks, summary and outputs.

Everything comes through the environment (docs: "Metadata syntax" and "Workflow commands" of GitHub Actions): inputs as
`INPUT_*` with hyphens kept, the event as `GITHUB_EVENT_PATH`. What can't be posted is said in the log and never changes
the run's exit code.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from maos_bot import app
from maos_bot.config import Config, make_config
from maos_bot.errors import ConfigError, ExitCode, MaosError
from maos_bot.execution.changes import changed_files
from maos_bot.execution.environment import with_trusted_checkout
from maos_bot.github.client import API_URL, GitHubClient
from maos_bot.github.publisher import Publisher
from maos_bot.github.trigger import decide, read_trigger, read_workflow_run
from maos_bot.model import Trigger
from maos_bot.reporting import markdown
from maos_bot.reporting.escape import fenced, unissuable
from maos_bot.reporting.report import RunReport

SUMMARY_BYTES: Final = 1024 * 1024 - 4096  # a summary above 1 MiB is dropped whole (runner FileCommandManager.cs)
_ERROR_CHARACTERS: Final = 60_000  # of an error, in the summary; the log has all of it
OUTPUT_BYTES: Final = 900 * 1024  # all outputs of a job: 1 MB


def main(environ: Mapping[str, str] | None = None) -> int:
    """Run as the action; the exit code is the run's. What stops it is said in the log and in the job summary."""
    env = os.environ if environ is None else environ
    try:
        return _act(env)
    except MaosError as error:
        click.echo(f"maos: {unissuable(str(error))}", err=True)  # a bad spec's own words are in it
        _write_summary(env, f"MAOS bot stopped:\n\n{fenced(str(error)[:_ERROR_CHARACTERS])}\n")
        return error.exit_code


def _act(env: Mapping[str, str]) -> int:
    workspace = Path(env.get("GITHUB_WORKSPACE") or Path.cwd())
    trigger = read_trigger(env.get("GITHUB_EVENT_NAME", ""), _payload(env), env)
    token = _input(env, "github-token")
    decision = decide(trigger, has_token=bool(token))
    click.echo(f"maos: {decision.reason}", err=True)
    if not decision.run:
        _write_summary(env, f"MAOS bot ran nothing: {decision.reason}\n")
        return ExitCode.NOTHING_TO_DO
    config = _config(env, workspace)
    job = app.prepare(config, repository=trigger.repository)
    publisher = None
    if decision.publish:
        publisher = Publisher(
            trigger,
            GitHubClient(
                token=token,
                repository=trigger.repository or env.get("GITHUB_REPOSITORY", ""),
                api_url=env.get("GITHUB_API_URL") or API_URL,
                write_pause_s=float(env.get("MAOS_WRITE_PAUSE_S") or 1.0),
            ),
            workflow_run=read_workflow_run(env, spec=_input(env, "spec")),
            comment=_flag(env, "comment"),
            checks=_flag(env, "checks"),
        )
    try:
        report = app.execute(
            job,
            config,
            trigger=trigger,
            changed=_changed(config.root, trigger),
            sinks=[publisher] if publisher else [],
            environ=with_trusted_checkout(env, config.root),
        )
    finally:
        if publisher is not None:
            result = publisher.close()
            for problem in result.problems:
                click.echo(f"::warning title=Not posted to GitHub::{_escaped(problem)}")
            if result.comment_url:
                click.echo(f"maos: comment at {result.comment_url}", err=True)
    _write_summary(env, markdown.summary(report, limit_bytes=SUMMARY_BYTES).text)
    _write_outputs(env, report)
    return report.exit_code if report.exit_code is not None else ExitCode.BUG


def _config(env: Mapping[str, str], workspace: Path) -> Config:
    config = make_config(
        use_cache=_flag(env, "cache"),
        cache_size=_input(env, "cache-size") or None,
        cwd=workspace,
        spec=_input(env, "spec") or None,
        db=_input(env, "database") or None,
        mode=_input(env, "mode") or None,
        strategy=_input(env, "strategy") or None,
        limits=_input(env, "limits").split(),
        tasks=_input(env, "tasks").split(),
    )
    return replace(config, root=workspace)


def _payload(env: Mapping[str, str]) -> object:
    path = env.get("GITHUB_EVENT_PATH", "")
    if not path:
        hint = "`maos action` runs in GitHub Actions; here use `maos run`"
        raise ConfigError("GITHUB_EVENT_PATH is not set", hint=hint)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the event file {path} can't be read: {error}") from error


def _input(env: Mapping[str, str], name: str) -> str:
    """An input of the action: upper case, hyphens stay (runner `Handler.cs`)."""
    return env.get(f"INPUT_{name.upper()}", "").strip()


def _flag(env: Mapping[str, str], name: str) -> bool:
    value = _input(env, name).lower() or "true"
    if value not in ("true", "false"):
        raise ConfigError(f"input {name} is {value!r}", hint="give true or false")
    return value == "true"


def _changed(root: Path, trigger: Trigger) -> frozenset[str] | None:
    changes = changed_files(root, trigger.base_sha, trigger.sha) if trigger.base_sha else None
    return changes.files if changes else None


def _write_summary(env: Mapping[str, str], text: str) -> None:
    path = env.get("GITHUB_STEP_SUMMARY", "")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _write_outputs(env: Mapping[str, str], report: RunReport) -> None:
    """Outputs with a random delimiter, refused where a value holds it (actions/toolkit `file-command.ts`)."""
    path = env.get("GITHUB_OUTPUT", "")
    if not path:
        return
    row = report.to_json()
    usage = row["usage"]
    whole = json.dumps(row, ensure_ascii=False)
    values = {
        "status": report.status,
        "run-id": report.run_id,
        "cost-usd": "unknown" if usage["usd"] is None else str(usage["usd"]),
        "tokens": str(sum(usage[name] or 0 for name in usage if name.endswith("tokens"))),
        "report-json": whole if len(whole.encode()) <= OUTPUT_BYTES else "",
    }
    with Path(path).open("a", encoding="utf-8") as file:
        for name, value in values.items():
            delimiter = f"maos-{secrets.token_hex(16)}"
            if delimiter in value:
                raise ConfigError(f"output {name} holds its own delimiter")
            file.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
