"""`maos action`: the run inside a GitHub workflow, from the event file to comment, checks, summary and outputs.

Everything comes through the environment (docs: "Metadata syntax" and "Workflow commands" of GitHub Actions): inputs as
`INPUT_*` with hyphens kept, the event as `GITHUB_EVENT_PATH`. What can't be posted is said in the log and never changes
the run's exit code.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from maos_bot import app, carried
from maos_bot._version import __version__
from maos_bot.carried import Carried
from maos_bot.config import SPEC_NAMES, Config, make_config
from maos_bot.doctor import this_machine
from maos_bot.errors import ExitCode, GitHubError, MaosError, StoreError
from maos_bot.execution.changes import changed_files
from maos_bot.execution.environment import child_environment, hide_from_children, secret_values, with_trusted_checkout
from maos_bot.execution.ownership import give_back
from maos_bot.github.capability import abilities, lines, quota
from maos_bot.github.case import Case, look_into
from maos_bot.github.checkout import Checkout
from maos_bot.github.client import PATIENCE_S, TIMEOUT_S, GitHubClient
from maos_bot.github.commands import HELP, RUNNING, Command
from maos_bot.github.comment import Marker, StickyComment
from maos_bot.github.desk import Desk
from maos_bot.github.publisher import Publisher, PublishResult
from maos_bot.github.stored import claimed_pull_request, ours, read_stored, report_of_stored
from maos_bot.github.trigger import SERVER_URL, read_trigger, read_workflow_run
from maos_bot.github.trust import Decision, decide
from maos_bot.github.workflow import (
    OUTPUT_BYTES,
    SUMMARY_BYTES,
    comment_mode,
    escaped,
    mask,
    read_api,
    read_flag,
    read_input,
    read_payload,
    read_seconds,
    write_outputs,
    write_summary,
)
from maos_bot.granting import ALL_TOOLS, Grant
from maos_bot.interruption import Interruption
from maos_bot.job import Beginning, Job, prepare
from maos_bot.model import Task, Trigger
from maos_bot.reporting import markdown
from maos_bot.reporting import words as words_of
from maos_bot.reporting.escape import code, fenced, inline, one_line, unissuable
from maos_bot.reporting.findings import Finding, from_sarif, named, to_sarif
from maos_bot.reporting.report import RunReport
from maos_bot.retrying import Finished, finished_before

_NOTES_BYTES: Final = 16_000  # for what wasn't posted, in the summary
_SARIF_BYTES: Final = 20 * 1024 * 1024
_GRAPH_BYTES: Final = 30_000  # of a plan's picture in an answer
_ERROR_CHARACTERS: Final = 60_000  # of an error, in the summary; the log has all of it
_LEAST_MASKED: Final = 8  # characters: a mask for less would hide ordinary words


def main(environ: Mapping[str, str] | None = None) -> int:
    """Run as the action; the exit code is the run's. What stops it is said in the log and in the job summary."""
    env = os.environ if environ is None else environ
    workspace = Path(env.get("GITHUB_WORKSPACE") or Path.cwd())
    began = time.time()
    if environ is None:
        hide_from_children()
    try:
        with Interruption() as interruption:
            _mask_secrets(env)
            return _act(env, workspace, interruption)
    except MaosError as error:
        click.echo(f"maos: {unissuable(str(error))}", err=True)  # a bad spec's own words are in it
        write_summary(env, f"MAOS bot stopped:\n\n{fenced(str(error)[:_ERROR_CHARACTERS])}\n")
        return error.exit_code
    finally:
        try:
            give_back(workspace, since=began)
        except OSError as error:
            click.echo(f"::warning title=Files of root remain in the workspace::{escaped(str(error))}")


def _act(env: Mapping[str, str], workspace: Path, interruption: Interruption) -> int:
    payload = read_payload(env)
    trigger = read_trigger(env.get("GITHUB_EVENT_NAME", ""), payload, env)
    client = _client(env, trigger)
    stored = read_input(env, "report")
    case = look_into(trigger, payload, client, stored_run=bool(stored))
    decision = decide(case.trigger, facts=case.facts)
    click.echo(f"maos: {unissuable(decision.reason)}", err=True)
    if decision.run or decision.publish:
        _tell_abilities(env, workspace, client, case, decision)
    if case.said and decision.answer:
        _react(case, "rocket" if decision.run else "confused" if _refused(case) else "+1")
    if decision.run:
        with contextlib.ExitStack() as stack:
            config = _config(env, workspace, case.command)
            if decision.spec_from == "base":
                config = stack.enter_context(_beside_secrets(env, config, case.trigger))
            state = carried.admit(workspace, case.trigger, payload, env)
            try:
                posting = client if decision.publish else None
                return _run(env, config, case, decision, posting, interruption=interruption, state=state)
            finally:
                state.sign()  # whatever a task made of it
    if decision.publish and client:
        return _publish_stored(env, workspace / stored, case.trigger, client)
    if decision.answer:
        return _answer(env, workspace, case, decision.reason, client)
    write_summary(env, f"MAOS bot ran nothing: {decision.reason}\n")
    return ExitCode.OK if trigger.event == "issue_comment" else ExitCode.NOTHING_TO_DO


def _run(
    env: Mapping[str, str],
    config: Config,
    case: Case,
    decision: Decision,
    client: GitHubClient | None,
    *,
    interruption: Interruption,
    state: Carried,
) -> int:
    if state.refused:
        click.echo(f"::warning title=Earlier state not used::{escaped(_refusal(state))}")
    beginning = Beginning(trigger=case.trigger, grant=_grant(case, decision))
    job = prepare(config, repository=case.trigger.repository, beginning=beginning)
    publisher = _publisher(env, case.trigger, client, case.desk) if client else None
    before = _finished(config, job, case)
    if publisher is not None:
        publisher.add_findings(before.findings)
    interruption.then(publisher.hurry if publisher else lambda _: None)
    try:
        report = app.execute(
            job,
            config,
            trigger=case.trigger,
            changed=_changed(config.root, case.trigger),
            sinks=[publisher] if publisher else [],
            environ=with_trusted_checkout(env, config.root),
            finished=before.reasons,
        )
        found = _sarif_findings(config.root, job.tasks, report)
        report = replace(report, more_findings=(*before.findings, *found))
        if publisher is not None:
            publisher.add_findings(found)
    finally:
        result = publisher.close() if publisher is not None else PublishResult()
        _say(result)
    _summarise(env, config.db.parent, report, result, note=_refusal(state))
    if read_input(env, "sarif"):
        (config.root / read_input(env, "sarif")).write_text(
            to_sarif(result.standing.open(report.findings), version=__version__), encoding="utf-8"
        )
    _write_outputs(env, config.db.parent, report, result, _patch(config, report.run_id))
    return report.exit_code if report.exit_code is not None else ExitCode.BUG


def _patch(config: Config, run_id: str) -> str:
    """The agents' patch from the workspace on: later steps run on the host, where a container's paths lead nowhere."""
    path = app.patch_of(config, run_id)
    if path is None:
        return ""
    return str(path.relative_to(config.root)) if path.is_relative_to(config.root) else str(path)


def _finished(config: Config, job: Job, case: Case) -> Finished:
    """What `/maos retry` needn't do again; nothing for any other command or event."""
    if case.command is None or case.command.verb != "retry":
        return Finished()
    try:
        return finished_before(
            config.db, job.tasks, digest=job.spec.digest, trigger=case.trigger, again=case.command.words
        )
    except StoreError as error:
        click.echo(f"::warning title=Nothing reused::{escaped(str(error))}")
        return Finished()


def _grant(case: Case, decision: Decision) -> Grant:
    """What agents may do by the decision; a commit that was approved may cost more than `budget.approve-above`."""
    tools = ALL_TOOLS if "all" in decision.tools else decision.tools
    approved = bool(case.trigger.sha) and case.facts.approved == case.trigger.sha
    return Grant(agents=decision.agents, tools=tools, reason=decision.reason, approved=approved)


def _is_small_file_of(root: Path, path: Path) -> bool:
    """Whether a task left a plain file there, of a size that is read: no link that leads out, no pipe."""
    inside = path.is_file() and path.resolve().is_relative_to(root.resolve())
    return inside and path.stat().st_size <= _SARIF_BYTES


def _sarif_findings(root: Path, tasks: Sequence[Task], report: RunReport) -> tuple[Finding, ...]:
    """The findings in the SARIF files that tasks name as outputs and did write; a damaged one is said in the log."""
    from maos_bot.execution.environment import secret_values
    from maos_bot.redact import Redactor

    redactor = Redactor(secret_values(os.environ))
    found: list[Finding] = []
    for task in tasks:
        reported = report.tasks.get(task.id)
        if reported is None or not (reported.ran or reported.good):
            continue
        for name in (name for name in task.outputs if name.endswith((".sarif", ".sarif.json"))):
            for path in sorted(root.glob(name)) if glob.has_magic(name) else [root / name]:
                try:
                    if _is_small_file_of(root, path):
                        document = redactor.document(json.loads(path.read_text(encoding="utf-8-sig")))
                        found += named(from_sarif(document), task.id)
                except FileNotFoundError:
                    continue
                except (OSError, ValueError, RecursionError) as error:
                    click.echo(f"::warning title=Findings not read::{escaped(f'{name}: {error}')}")
    return tuple(found)


def _refusal(state: Carried) -> str:
    """Why what an earlier run left isn't used; empty where it is, or none was there."""
    if not state.refused:
        return ""
    return (
        f"The history and cache in {carried.FOLDER} are not used: {state.refused}. They are in {carried.REFUSED} now."
    )


def _summarise(
    env: Mapping[str, str], folder: Path, report: RunReport, result: PublishResult, *, note: str = ""
) -> None:
    """The job summary, within what GitHub takes; what has no room even there goes to a file beside the database."""
    path = folder / f"{report.run_id}-rest.md"
    made = markdown.summary(
        report, limit_bytes=SUMMARY_BYTES - _NOTES_BYTES, rest_at=f"the file {path.name}", standing=result.standing
    )
    if made.left:
        path.write_text(made.overflow, encoding="utf-8")
    notes = [f"- {inline(problem, limit=600)}" for problem in result.problems[:20]]
    told = "\n".join(("", "", "#### Not posted to GitHub", "", *notes, "")) if notes else "\n"
    if note:
        told += f"\n{inline(note, limit=600)}\n"
    write_summary(env, made.text + told)


def _tell_abilities(
    env: Mapping[str, str], workspace: Path, client: GitHubClient | None, case: Case, decision: Decision
) -> None:
    """What will be missing and what would mend it, in the log before anything is run."""
    token = read_input(env, "github-token")
    left = quota(client) if client else None
    found = abilities(token=token, left=left, trigger=case.trigger, decision=decision)
    for line in lines((*this_machine(workspace), *(each for each in found if each.name != "event"))):
        click.echo(f"maos: {unissuable(line)}", err=True)


def _mask_secrets(env: Mapping[str, str]) -> None:
    """Let the runner take out of the log what looks like a secret; it knows those that came from its own store."""
    if env.get("GITHUB_ACTIONS") != "true":
        return
    for value in secret_values(env):
        if value != read_input(env, "github-token") and len(value) >= _LEAST_MASKED and not value.isdigit():
            mask(value)


def _client(env: Mapping[str, str], trigger: Trigger) -> GitHubClient | None:
    token = read_input(env, "github-token")
    if not token:
        return None
    address, bundle = read_api(env)
    return GitHubClient(
        token=token,
        repository=trigger.repository or env.get("GITHUB_REPOSITORY", ""),
        api_url=address,
        ca_bundle=bundle,
        timeout_s=read_seconds(env, "MAOS_TIMEOUT_S", TIMEOUT_S),
        patience_s=read_seconds(env, "MAOS_PATIENCE_S", PATIENCE_S),
        write_pause_s=read_seconds(env, "MAOS_WRITE_PAUSE_S"),
        retry_pause_s=read_seconds(env, "MAOS_RETRY_PAUSE_S"),
    )


def _publisher(
    env: Mapping[str, str],
    trigger: Trigger,
    client: GitHubClient,
    desk: Desk | None = None,
    *,
    told_by_stranger: bool = False,
) -> Publisher:
    mode = comment_mode(env)
    return Publisher(
        trigger,
        client,
        workflow_run=read_workflow_run(env, spec=read_input(env, "spec")),
        comment=mode != "off",
        recreate=mode == "recreate",
        checks=read_flag(env, "checks"),
        settle_s=read_seconds(env, "MAOS_WRITE_PAUSE_S"),
        dismissed=desk.dismissed if desk else None,
        told_by_stranger=told_by_stranger,
    )


def _say(result: PublishResult) -> None:
    for problem in result.problems:
        click.echo(f"::warning title=Not posted to GitHub::{escaped(problem)}")
    if result.comment_url:
        click.echo(f"maos: comment at {result.comment_url}", err=True)


@contextlib.contextmanager
def _beside_secrets(env: Mapping[str, str], config: Config, trigger: Trigger) -> Iterator[Config]:
    """The base's spec, then the head's files: what was approved is the code, never the say over what is run."""
    names = (str(config.spec.relative_to(config.root)),) if config.spec_given else SPEC_NAMES
    checkout = Checkout(config.root, environ=child_environment(os.environ))
    spec = checkout.trusted_file(env.get("GITHUB_SHA", ""), names)
    checkout.check_out(
        trigger.sha,
        token=read_input(env, "github-token"),
        server_url=env.get("GITHUB_SERVER_URL") or SERVER_URL,
        mask=mask,
    )
    replaced = checkout.trust_instructions(env.get("GITHUB_SHA", ""))
    if replaced:
        listed = one_line(", ".join(replaced), limit=300)
        click.echo(f"maos: instructions for agents are the base's: {unissuable(listed)}", err=True)
    with tempfile.TemporaryDirectory(prefix="maos-base-") as folder:
        path = Path(folder) / SPEC_NAMES[0]
        path.write_bytes(spec)
        yield replace(config, spec=path)


def _answer(env: Mapping[str, str], workspace: Path, case: Case, reason: str, client: GitHubClient | None) -> int:
    """Do what a command asks that runs nothing, and say in the one comment what came of it."""
    if case.said is None or case.command is None or case.desk is None or client is None:
        return ExitCode.NOTHING_TO_DO
    words = reason
    if not _refused(case):
        words = _done(env, workspace, case)
    text = f"---\n\n{code(case.said.body.partition(chr(10))[0], limit=120)} by {inline(case.said.author)}:\n\n{words}"
    marker = Marker(key=read_workflow_run(env, spec=read_input(env, "spec")).key, sha=case.trigger.sha)
    sticky = StickyComment(client, pull_request=case.trigger.pull_request or 0, marker=marker)
    try:
        sticky.answer(text)
    except GitHubError as error:
        click.echo(f"::warning title=Not posted to GitHub::{escaped(f'answer: {error}')}")
    write_summary(env, f"{text}\n")
    return ExitCode.OK


def _refused(case: Case) -> bool:
    return case.command is None or bool(case.command.problem) or case.command.verb in RUNNING


def _done(env: Mapping[str, str], workspace: Path, case: Case) -> str:
    """What `/maos help | plan | cancel | dismiss` comes to, in markdown."""
    verb = case.command.verb if case.command else ""
    if verb == "plan":
        from maos_bot.reporting.mermaid import graph_of_plan

        job = prepare(_config(env, workspace, None), repository=case.trigger.repository)
        text = (
            f"{words_of.number(len(job.tasks), 'task')} in {words_of.number(len(job.plan.stages), 'stage')}, "
            f"{job.plan.mode}, about {words_of.duration(job.plan.predicted.makespan_s)} "
            f"({words_of.duration(job.plan.predicted.sequential_s)} one after the other), by the base's spec."
        )
        graph = f"```mermaid\n{graph_of_plan(job.tasks, job.plan)}\n```"
        return f"{text}\n\n{graph}" if len(graph.encode()) < _GRAPH_BYTES else text
    if verb == "cancel" and case.desk:
        try:
            ended = case.desk.cancel(case.trigger.sha, but=env.get("GITHUB_RUN_ID", ""))
        except GitHubError as error:
            return inline(str(error), limit=400)
        return f"Cancelled {words_of.number(len(ended), 'workflow run')}." if ended else "Nothing of ours runs here."
    if verb == "dismiss" and case.command:
        return f"Left out from the next run on: {', '.join(code(word) for word in case.command.words)}."
    return HELP


def _react(case: Case, content: str) -> None:
    if case.said is None or case.desk is None:
        return
    try:
        case.desk.react(case.said.id, content)
    except GitHubError as error:
        click.echo(f"::warning title=Not posted to GitHub::{escaped(f'reaction: {error}')}")


def _publish_stored(env: Mapping[str, str], path: Path, trigger: Trigger, client: GitHubClient) -> int:
    """Post the report of a run that had no write token. Its events are a stranger's: words to show, nothing more."""
    events = read_stored(path)
    number = claimed_pull_request(events)
    trigger = replace(trigger, pull_request=number if number and _is_of(client, number, trigger) else None)
    report = report_of_stored(events, trigger)
    publisher = _publisher(env, trigger, client, told_by_stranger=True)
    for event in ours(events, trigger):
        publisher.add(event)
    result = publisher.close()
    _say(result)
    _summarise(env, path.parent, report, result)
    return ExitCode.OK


def _is_of(client: GitHubClient, number: int, trigger: Trigger) -> bool:
    """Whether the pull request that a stranger's report names is at the commit that GitHub says was run."""
    try:
        return Desk(client, number).pull().sha == trigger.sha
    except GitHubError as error:
        click.echo(f"::warning title=Not posted to GitHub::{escaped(f'comment: {error}')}")
        return False


def _config(env: Mapping[str, str], workspace: Path, command: Command | None) -> Config:
    named = list(command.words) if command and command.verb in ("run", "retry") else []
    config = make_config(
        use_cache=read_flag(env, "cache"),
        cache_size=read_input(env, "cache-size") or None,
        cwd=workspace,
        spec=read_input(env, "spec") or None,
        db=read_input(env, "database") or None,
        mode=read_input(env, "mode") or None,
        strategy=read_input(env, "strategy") or None,
        limits=read_input(env, "limits").split(),
        tasks=named or read_input(env, "tasks").split(),
        events=read_input(env, "events") or None,
    )
    return replace(config, root=workspace)


def _changed(root: Path, trigger: Trigger) -> frozenset[str] | None:
    changes = changed_files(root, trigger.base_sha, trigger.sha) if trigger.base_sha else None
    return changes.files if changes else None


def _write_outputs(env: Mapping[str, str], folder: Path, report: RunReport, result: PublishResult, patch: str) -> None:
    """The run's outputs; a report that is too large for one goes to a file in `folder`."""
    row = report.to_json()
    usage = row["usage"]
    whole = json.dumps(row, ensure_ascii=False)
    if len(whole.encode("utf-16-le", "replace")) > OUTPUT_BYTES:
        place = folder / f"{report.run_id}.json"
        place.write_text(whole, encoding="utf-8", errors="replace")
        click.echo(f"maos: the report is too large for an output: it is in {place}", err=True)
        whole = ""
    values = {
        "status": report.status,
        "run-id": report.run_id,
        "cost-usd": "unknown" if usage["usd"] is None else str(usage["usd"]),
        "tokens": str(sum(usage[name] or 0 for name in usage if name.endswith("tokens"))),
        "findings": str(len(result.standing.open(report.findings))),
        "patch": patch,
        "report-json": whole,
    }
    write_outputs(env, values)
