"""What may happen because of an event: the one place that decides it, and the table that shows it (pure).

With secrets in reach the spec comes from the base, and code of a pull request runs only where someone who may write
to the repository could have put it there, or said so for that very commit. Who may write was asked of the API; no
name decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.github.commands import RUNNING, Command
from maos_bot.model import Trigger

OWN_EVENTS: Final = ("push", "workflow_dispatch", "schedule", "merge_group", "repository_dispatch", "release")
# These run with the base repository's secrets and write token, whoever caused them.
PRIVILEGED_EVENTS: Final = frozenset({"pull_request_target", "issue_comment", "workflow_run"})
SUPPORTED_EVENTS: Final = ("pull_request", *sorted(PRIVILEGED_EVENTS), *OWN_EVENTS)
READ_TOOLS: Final = ("read", "search")


class Permission(StrEnum):
    """What GitHub's API says an account may do with the repository; `unknown` where it couldn't be asked."""

    UNKNOWN = "unknown"
    NONE = "none"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def writes(self) -> bool:
        return self in (Permission.WRITE, Permission.ADMIN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known beside the trigger. `permission` is the acting account's, `approved` the commit that was allowed.

    `by_bot`: the head was proposed by a bot's account, which may be led by the texts of strangers. `stored_run`: a
    finished run's events were handed over to be published.
    """

    has_token: bool = True
    permission: Permission = Permission.UNKNOWN
    by_person: bool = True
    fresh: bool = True
    by_bot: bool = False
    approved: str = ""
    command: Command | None = None
    stored_run: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What may happen: `run` commands of the spec, `agents` with `tools`, and `publish` to the API.

    `spec_from` and `code_from` say which commit's tree gives the spec and the files: head or base. `answer` says a
    command may be answered. `reason` says in words why, and what would change it.
    """

    run: bool
    publish: bool
    spec_from: str  # head | base
    reason: str
    code_from: str = "head"
    agents: bool = False
    tools: tuple[str, ...] = ()
    answer: bool = False


def decide(trigger: Trigger, *, has_token: bool = True, facts: Facts | None = None) -> Decision:
    """What may happen for `trigger`; `facts` (default: nothing was asked) is what the API and the inputs say."""
    known = facts or Facts(has_token=has_token)
    if trigger.event == "pull_request":
        return _pull_request(trigger, known)
    if trigger.event == "pull_request_target":
        return _target(trigger, known)
    if trigger.event == "issue_comment":
        return _comment(trigger, known)
    if trigger.event == "workflow_run":
        return _workflow_run(known)
    if trigger.event in OWN_EVENTS:
        return _full(known, f"{trigger.event} from this repository itself")
    return _nothing(f"{trigger.event or 'an event without a name'} is none of those that set off a run: {_SUPPORTED}")


_SUPPORTED: Final = ", ".join(SUPPORTED_EVENTS)


def _full(known: Facts, reason: str) -> Decision:
    if not known.has_token:
        reason = "no token was given, so nothing is posted; pass `github-token: ${{ github.token }}` to the action"
    return Decision(run=True, publish=known.has_token, spec_from="head", agents=True, tools=("all",), reason=reason)


def _nothing(reason: str, *, answer: bool = False) -> Decision:
    return Decision(run=False, publish=False, spec_from="base", code_from="base", reason=reason, answer=answer)


def _pull_request(trigger: Trigger, known: Facts) -> Decision:
    if not trigger.is_fork and trigger.actor != "dependabot[bot]":
        return _full(known, "pull_request from this repository itself")
    # A name decides here towards less only: whoever bears it loses nothing that GitHub had given.
    if trigger.is_fork:
        reason = (
            "this pull request comes from a fork, for which GitHub gives a read-only token and no secrets: "
            "the report is in the job summary, not in a comment or check runs; "
            "examples/workflows/fork-safe.yml of MAOS bot shows how a second workflow can post it"
        )
    else:
        reason = (
            "GitHub treats a Dependabot pull request like one from a fork (read-only token, no secrets): "
            "the report is in the job summary"
        )
    return Decision(run=True, publish=False, spec_from="head", reason=reason)


def _target(trigger: Trigger, known: Facts) -> Decision:
    if _is_approved(trigger, known):
        return _approved(trigger, known)
    return _nothing(
        f"pull_request_target runs with {_SECRETS}; use `on: pull_request` for the tasks, or let someone who may "
        f"write comment `/maos approve {trigger.sha or 'SHA'}`"
    )


_SECRETS: Final = "this repository's secrets and write token, so code that a pull request brings is not run here"


def _comment(trigger: Trigger, known: Facts) -> Decision:  # noqa: PLR0911 - one return for each answer
    command = known.command
    if command is None or trigger.pull_request is None:
        return _nothing("the comment is no command to us on an open pull request (issue_comment)")
    refused = (
        "a comment by a bot or through an app is no command"
        if not known.by_person
        else "a comment that was edited or deleted is no command: write a new one"
        if not known.fresh
        else "no token was given: who may command can't be asked"
        if not known.has_token
        else f"only people who may write to this repository command; GitHub says: {known.permission}"
        if not known.permission.writes
        else ""
    )
    if refused:
        return _nothing(refused)
    if command.problem:
        return _nothing(command.problem, answer=True)
    if command.verb not in RUNNING:
        return _nothing(f"`/maos {command.verb}` runs no task", answer=True)
    if command.verb == "approve" and command.words != (trigger.sha,):
        return _nothing(
            f"`/maos approve` named {command.words[0][:12]}, but the pull request is at {trigger.sha or 'no commit'}: "
            "look at what changed, then approve that",
            answer=True,
        )
    if _is_approved(trigger, known):
        return _approved(trigger, known)
    if trigger.is_fork or known.by_bot:
        whose = "a fork" if trigger.is_fork else "a bot"
        return _nothing(
            f"the code comes from {whose} and runs beside secrets here: read it, then `/maos approve {trigger.sha}`",
            answer=True,
        )
    return replace(
        _approved(trigger, known), reason="asked for by someone who may write, for a branch of this repository"
    )


def _is_approved(trigger: Trigger, known: Facts) -> bool:
    return bool(trigger.sha) and known.has_token and known.approved == trigger.sha


def _approved(trigger: Trigger, known: Facts) -> Decision:
    return Decision(
        run=True,
        publish=known.has_token,
        spec_from="base",
        code_from="head",
        agents=True,
        tools=READ_TOOLS,
        answer=trigger.event == "issue_comment",
        reason=f"someone who may write approved commit {trigger.sha[:12]}; the spec is the base's",
    )


def _workflow_run(known: Facts) -> Decision:
    if known.stored_run and known.has_token:
        return Decision(
            run=False,
            publish=True,
            spec_from="base",
            code_from="base",
            reason="workflow_run publishes the report of a run that had no write token; nothing is run",
        )
    return _nothing(
        f"workflow_run runs with {_SECRETS}; with the input `report` it publishes the events of the run before"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table: the case in words, and what is decided."""

    event: str
    case: str
    decision: Decision


def table() -> Iterator[Row]:
    """Every case that makes a difference, with `decide`'s own answer."""
    own = Trigger(event="pull_request", sha=_EXAMPLE, pull_request=1)
    fork = replace(own, is_fork=True)
    writer = Facts(permission=Permission.WRITE)
    for event, case, trigger, facts in (
        ("pull_request", "a branch of this repository", own, Facts()),
        ("pull_request", "the same, without a token", own, Facts(has_token=False)),
        ("pull_request", "a fork", fork, Facts()),
        ("pull_request", "by Dependabot", replace(own, actor="dependabot[bot]"), Facts()),
        ("pull_request_target", "any", fork, Facts()),
        ("pull_request_target", "this commit was approved", fork, Facts(approved=_EXAMPLE)),
        ("pull_request_target", "an earlier commit was approved", fork, Facts(approved="b" * 40)),
        *((event, "any", Trigger(event=event, sha=_EXAMPLE), Facts()) for event in OWN_EVENTS),
        ("issue_comment", "no command, or not on an open pull request", own, writer),
        ("issue_comment", "by someone who may not write", own, Facts(permission=Permission.READ, command=_RUN)),
        ("issue_comment", "who may write is unknown", own, Facts(command=_RUN)),
        ("issue_comment", "by a bot or through an app", own, replace(writer, by_person=False, command=_RUN)),
        ("issue_comment", "edited or deleted", own, replace(writer, fresh=False, command=_RUN)),
        ("issue_comment", "help, plan, cancel, dismiss", own, replace(writer, command=Command(verb="help"))),
        ("issue_comment", "run or retry, a branch of this repository", own, replace(writer, command=_RUN)),
        ("issue_comment", "run or retry, proposed by a bot", own, replace(writer, by_bot=True, command=_RUN)),
        ("issue_comment", "run or retry, a fork", fork, replace(writer, command=_RUN)),
        (
            "issue_comment",
            "run or retry, a fork, this commit was approved",
            fork,
            replace(writer, approved=_EXAMPLE, command=_RUN),
        ),
        (
            "issue_comment",
            "approve, the commit is the head",
            fork,
            replace(writer, approved=_EXAMPLE, command=Command(verb="approve", words=(_EXAMPLE,))),
        ),
        (
            "issue_comment",
            "approve, the head has moved on",
            fork,
            replace(writer, command=Command(verb="approve", words=("b" * 40,))),
        ),
        ("workflow_run", "any", own, Facts()),
        ("workflow_run", "with the events of the run before", own, Facts(stored_run=True)),
        ("any other", "any", Trigger(event="issues"), Facts()),
    ):
        named = trigger if event == "any other" else replace(trigger, event=event)
        yield Row(event=event, case=case, decision=decide(named, facts=facts))


_EXAMPLE: Final = "a" * 40
_RUN: Final = Command(verb="run")


def table_markdown() -> str:
    """The table for docs/github.md."""
    lines = [
        "| event | case | spec from | tasks run | agents | their tools | comment and checks | a command is answered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table():
        made = row.decision
        works = made.run
        cells = (
            f"`{row.event}`" if row.event != "any other" else row.event,
            row.case,
            made.spec_from if works else "-",
            f"yes, the {made.code_from}'s code" if made.run else "no",
            "yes" if made.agents else "no",
            " ".join(made.tools) or "-",
            "yes" if made.publish else "no",
            "yes" if made.answer else "no",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
