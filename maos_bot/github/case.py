"""From an event to all that the decision needs, asking the API no more than the case is worth.

A stranger's comment costs one question (who may write?), anything that is no command none.
"""

from __future__ import annotations

from dataclasses import replace

from maos_bot.frozen import dataclass
from maos_bot.github.client import GitHubClient
from maos_bot.github.commands import RUNNING, Command, Said, parse, read_comment
from maos_bot.github.desk import Desk
from maos_bot.github.trust import Facts
from maos_bot.model import Trigger


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A trigger, what is known of it, and the comment that commands, where one does."""

    trigger: Trigger
    facts: Facts
    said: Said | None = None
    command: Command | None = None
    desk: Desk | None = None


def look_into(trigger: Trigger, payload: object, client: GitHubClient | None, *, stored_run: bool = False) -> Case:
    """The case behind an event; raises `GitHubError` where the API must answer and doesn't."""
    facts = Facts(has_token=client is not None, stored_run=stored_run)
    if trigger.event == "issue_comment":
        return _of_comment(trigger, payload, client, facts)
    if client is None or trigger.pull_request is None:
        return Case(trigger=trigger, facts=facts)
    desk = Desk(client, trigger.pull_request)
    if trigger.event == "pull_request_target" and desk.approved(trigger.sha):
        facts = replace(facts, approved=trigger.sha)
    return Case(trigger=trigger, facts=facts, desk=desk)


def _of_comment(trigger: Trigger, payload: object, client: GitHubClient | None, facts: Facts) -> Case:
    said = read_comment(payload)
    command = parse(said.body) if said else None
    case = Case(trigger=trigger, facts=replace(facts, command=command), said=said, command=command)
    if said is None or command is None or trigger.pull_request is None:
        return replace(case, facts=replace(case.facts, command=None))
    facts = replace(case.facts, by_person=said.is_person, fresh=said.fresh)
    if client is None or not (said.is_person and said.fresh):
        return replace(case, facts=facts)
    desk = Desk(client, trigger.pull_request)
    facts = replace(facts, permission=desk.permission(said.author))
    if not facts.permission.writes:
        return replace(case, facts=facts)
    pull = desk.pull()
    if not pull.open or not desk.unchanged(said.id, said.body):  # the event may have waited for a runner
        return replace(case, facts=replace(facts, fresh=False))
    trigger = replace(trigger, sha=pull.sha, ref=pull.ref, base_sha=pull.base_sha, is_fork=pull.is_fork)
    named = command.verb == "approve" and command.words == (pull.sha,)
    earlier = command.verb in RUNNING - {"approve"} and (pull.is_fork or pull.by_bot) and desk.approved(pull.sha)
    facts = replace(facts, by_bot=pull.by_bot, approved=pull.sha if named or earlier else "")
    return replace(case, trigger=trigger, facts=facts, desk=desk)
