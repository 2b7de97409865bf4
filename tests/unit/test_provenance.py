"""Whose state a run believes: the whole table of who left it and who finds it."""

from __future__ import annotations

import itertools

import pytest

from maos_bot.github.provenance import Level, Provenance, Standards, after, objection, standards
from maos_bot.github.trust import PRIVILEGED_EVENTS
from maos_bot.model import Trigger

REPOSITORY = "octo/shop"


def trigger(event: str, *, fork: bool = False, actor: str = "someone") -> Trigger:
    return Trigger(event=event, repository=REPOSITORY, is_fork=fork, actor=actor, ref="topic")


def left_by(level: Level, repository: str = REPOSITORY) -> Provenance:
    return Provenance(repository=repository, level=level, ref="topic", event="pull_request")


@pytest.mark.parametrize(
    ("event", "fork", "protected", "expected"),
    [
        ("pull_request", False, False, Standards(needs=Level.BRANCH, leaves=Level.BRANCH)),
        ("pull_request", False, True, Standards(needs=Level.BRANCH, leaves=Level.BRANCH)),  # the head's code still
        ("pull_request", True, True, Standards(needs=Level.FORK, leaves=Level.FORK)),
        ("push", False, True, Standards(needs=Level.PROTECTED, leaves=Level.PROTECTED)),
        ("push", False, False, Standards(needs=Level.BRANCH, leaves=Level.BRANCH)),
        ("schedule", False, True, Standards(needs=Level.PROTECTED, leaves=Level.PROTECTED)),
        ("issue_comment", False, True, Standards(needs=Level.PROTECTED, leaves=Level.BRANCH)),
        ("issue_comment", True, True, Standards(needs=Level.PROTECTED, leaves=Level.FORK)),
        ("pull_request_target", True, True, Standards(needs=Level.PROTECTED, leaves=Level.FORK)),
    ],
)
def test_a_run_asks_for_state_as_trusted_as_itself(
    event: str, fork: bool, protected: bool, expected: Standards
) -> None:
    assert standards(trigger(event, fork=fork), protected=protected) == expected


def test_dependabots_runs_count_as_a_forks() -> None:
    assert standards(trigger("pull_request", actor="dependabot[bot]"), protected=False).leaves is Level.FORK


def test_no_event_beside_secrets_believes_less_than_the_protected_branch() -> None:
    for event, fork, protected in itertools.product(PRIVILEGED_EVENTS, (True, False), (True, False)):
        asked = standards(trigger(event, fork=fork), protected=protected)
        assert asked.needs is Level.PROTECTED
        assert asked.leaves < Level.PROTECTED


@pytest.mark.parametrize(("found", "needs"), list(itertools.product(Level, Level)))
def test_state_is_believed_where_it_is_at_least_as_trusted(found: Level, needs: Level) -> None:
    said = objection(left_by(found), repository=REPOSITORY, needs=needs)
    assert bool(said) is (found < needs)


def test_state_of_another_repository_of_nobody_or_of_the_commit_is_never_believed() -> None:
    best = left_by(Level.PROTECTED)
    for level in Level:
        other = objection(left_by(Level.PROTECTED, "evil/shop"), repository=REPOSITORY, needs=level)
        assert "belongs to evil/shop" in other
        assert "doesn't say" in objection(None, repository=REPOSITORY, needs=level)
        assert "part of the commit" in objection(best, repository=REPOSITORY, needs=level, tracked=True)
    assert objection(best, repository="Octo/Shop", needs=Level.PROTECTED) == ""  # GitHub's names know no case


def test_state_never_gets_better() -> None:
    for before, leaves in itertools.product(Level, Level):
        now = after(left_by(before), trigger("push"), repository=REPOSITORY, leaves=leaves)
        assert now.level is min(before, leaves)
    assert after(None, trigger("push"), repository=REPOSITORY, leaves=Level.PROTECTED).level is Level.PROTECTED
