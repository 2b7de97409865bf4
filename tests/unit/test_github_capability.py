"""What is said before a run: what will be missing, why, and what would mend it."""

from __future__ import annotations

import pytest

from maos_bot.github.capability import Quota, abilities, token_kind
from maos_bot.github.trust import decide
from maos_bot.model import Trigger


def told(trigger: Trigger, *, token: str = "ghs_x", left: Quota | None = None) -> dict[str, tuple[str, str]]:
    decision = decide(trigger, has_token=bool(token))
    found = abilities(token=token, left=left, trigger=trigger, decision=decision)
    return {each.name: (each.says, each.mend) for each in found}


def test_no_token_says_how_to_give_one() -> None:
    assert "github-token: ${{ github.token }}" in told(Trigger(event="push"), token="")["token"][1]


def test_a_fork_gets_no_comment_and_no_permission_that_wouldnt_help() -> None:
    found = told(Trigger(event="pull_request", pull_request=1, is_fork=True))
    assert found["comment and checks"] == ("no", "")
    assert found["fork"][0] == "yes"


@pytest.mark.parametrize(("left", "word"), [(5, "late"), (4999, "")])
def test_a_quota_that_runs_out_is_said(left: int, word: str) -> None:
    said, mend = told(Trigger(event="push"), left=Quota(left=left, limit=5000, resets_at=0.0))["API quota"]
    assert said.startswith(f"{left:,} of 5,000")
    assert (word in mend) is True
    assert bool(mend) is bool(word)


def test_a_persons_token_makes_no_checks() -> None:
    assert told(Trigger(event="push"), token="ghp_x")["checks"][0].startswith("no")
    assert token_kind("?") == "of an unknown kind"
