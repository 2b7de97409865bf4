"""What is said before a run: what will be missing, why, and what would mend it."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from maos_bot.github.capability import Quota, abilities, lines, machine, token_kind
from maos_bot.github.trust import decide
from maos_bot.model import Trigger
from maos_bot.resources.runner import Runner


def told(trigger: Trigger, *, token: str = "ghs_x", left: Quota | None = None) -> dict[str, tuple[str, str]]:
    decision = decide(trigger, has_token=bool(token))
    found = abilities(token=token, left=left, trigger=trigger, decision=decision)
    return {each.name: (each.says, each.mend) for each in found}


def test_no_token_says_how_to_give_one() -> None:
    assert "github-token: ${{ github.token }}" in told(Trigger(event="push"), token="")["token"][1]


def test_a_fork_gets_no_comment_and_no_permission_that_wouldnt_help() -> None:
    found = told(Trigger(event="pull_request", pull_request=1, is_fork=True))
    says, mend = found["comment and checks"]
    assert "job summary" in says
    assert "workflow_run:" in mend
    assert "write" not in mend
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


def test_the_machine_and_its_providers_are_said_with_what_would_give_one() -> None:
    runner = Runner(
        cpus=2, cpu_reason="quota", memory_mb=7000, memory_reason="limit", available_mb=5000, disk_free_mb=None
    )
    size, none = machine(runner, {})
    assert size.says == "2 CPUs (quota), memory 7,000 MB (limit)"
    assert none.mend
    assert machine(runner, {"anthropic": "claude"})[1].says == "anthropic: claude"


@pytest.mark.parametrize("event", ["pull_request", "push", "issue_comment", "workflow_run"])
@pytest.mark.parametrize("token", ["", "ghs_x", "ghp_x"])
@pytest.mark.parametrize("fork", [True, False])
def test_what_would_mend_is_yaml_as_it_is_to_be_written(event: str, token: str, fork: bool) -> None:
    trigger = Trigger(event=event, pull_request=1, is_fork=fork)
    decision = decide(trigger, has_token=bool(token))
    found = abilities(token=token, left=Quota(left=1, limit=1000, resets_at=0.0), trigger=trigger, decision=decision)
    for each in found:
        parsed = YAML(typ="safe").load(each.mend) if each.mend else {}
        assert parsed is None or isinstance(parsed, dict), each
        shown = list(lines([each]))[2:]
        assert "\n".join(line.removeprefix("    ") for line in shown) == each.mend
