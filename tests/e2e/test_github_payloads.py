"""Every webhook payload of `@octokit/webhooks-examples` is read, and decided on as the table in docs/github.md says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from maos_bot.github.case import look_into
from maos_bot.github.trigger import read_trigger
from maos_bot.github.trust import SUPPORTED_EVENTS, decide, table
from tests.e2e.github_api import PARTS

EXAMPLES = PARTS / "node_modules" / "@octokit" / "webhooks-examples" / "api.github.com" / "index.json"
ENV = {"GITHUB_REPOSITORY": "Codertocat/Hello-World", "GITHUB_SHA": "a" * 40, "GITHUB_REF": "refs/heads/main"}


@pytest.fixture(scope="module")
def payloads() -> list[tuple[str, dict[str, Any]]]:
    if not EXAMPLES.exists():
        if os.environ.get("MAOS_REQUIRE_STAND_INS"):
            pytest.fail("the payloads are not installed: make stand-ins")
        pytest.skip("the payloads are not installed: make stand-ins")
    events = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    return [(event["name"], payload) for event in events for payload in event["examples"]]


def test_every_payload_is_read(payloads: list[tuple[str, dict[str, Any]]]) -> None:
    assert len(payloads) > 300
    assert len({name for name, _ in payloads}) > 50
    for name, payload in payloads:
        trigger = read_trigger(name, payload, ENV)
        assert trigger.event == name
        assert trigger.repository == ENV["GITHUB_REPOSITORY"]
        assert decide(trigger).reason


def test_a_pull_request_is_read_whole(payloads: list[tuple[str, dict[str, Any]]]) -> None:
    found = [payload for name, payload in payloads if name == "pull_request"]
    assert len(found) > 20
    for payload in found:
        trigger = read_trigger("pull_request", payload, ENV)
        head, base = payload["pull_request"]["head"], payload["pull_request"]["base"]
        assert (trigger.sha, trigger.base_sha, trigger.ref) == (head["sha"], base["sha"], head["ref"])
        assert trigger.pull_request == payload["pull_request"]["number"]
        own = head["repo"] is not None and head["repo"]["full_name"] == base["repo"]["full_name"]
        assert trigger.is_fork is not own


def test_a_push_names_what_it_brought(payloads: list[tuple[str, dict[str, Any]]]) -> None:
    for payload in (payload for name, payload in payloads if name == "push"):
        trigger = read_trigger("push", payload, ENV)
        gone = payload["after"] == "0" * 40
        assert trigger.sha == (ENV["GITHUB_SHA"] if gone else payload["after"])
        assert "/" not in trigger.ref.removeprefix("refs/")[:5]


def test_a_pull_request_is_decided_on_by_where_its_head_lives(payloads: list[tuple[str, dict[str, Any]]]) -> None:
    own = next(payload for name, payload in payloads if name == "pull_request")
    for head in (
        {"full_name": "someone/Hello-World"},
        None,
    ):  # derived: the examples hold no fork; a deleted one is null
        fork = json.loads(json.dumps(own))
        fork["pull_request"]["head"]["repo"] = head
        decision = decide(read_trigger("pull_request", fork, ENV))
        assert (decision.run, decision.publish, decision.spec_from) == (True, False, "head")
        assert "fork" in decision.reason
    decision = decide(read_trigger("pull_request", own, ENV))
    assert (decision.run, decision.publish, decision.spec_from) == (True, True, "head")
    assert not decide(read_trigger("pull_request", own, ENV), has_token=False).publish
    dependabot = own | {"sender": {"login": "dependabot[bot]"}}  # derived
    assert not decide(read_trigger("pull_request", dependabot, ENV)).publish


@pytest.mark.parametrize("event", ["push", "workflow_dispatch", "merge_group", "schedule"])
def test_the_repositorys_own_events_run_and_publish(event: str, payloads: list[tuple[str, dict[str, Any]]]) -> None:
    examples = [payload for name, payload in payloads if name == event]
    for payload in examples or [{"schedule": "0 3 * * *"}]:  # no webhook is sent for a schedule
        trigger = read_trigger(event, payload, ENV)
        assert (trigger.ref[:5] == "refs/", trigger.pull_request, trigger.is_fork) == (False, None, False)
        assert len(trigger.sha) == 40
        decision = decide(trigger)
        assert (decision.run, decision.publish, decision.spec_from) == (True, True, "head")


def test_a_comment_names_its_pull_request_and_an_issues_comment_none(
    payloads: list[tuple[str, dict[str, Any]]],
) -> None:
    for payload in (payload for name, payload in payloads if name == "issue_comment"):
        number = payload["issue"]["number"]
        issue = payload["issue"] | {"pull_request": {"url": "https://api.github.com/x"}}  # derived
        assert read_trigger("issue_comment", payload | {"issue": issue}, ENV).pull_request == number
        plain = {name: value for name, value in payload["issue"].items() if name != "pull_request"}
        assert read_trigger("issue_comment", payload | {"issue": plain}, ENV).pull_request is None


@pytest.mark.parametrize("event", ["issue_comment", "workflow_run", "pull_request_target"])
def test_no_head_code_runs_where_secrets_are_in_reach(event: str, payloads: list[tuple[str, dict[str, Any]]]) -> None:
    source = "pull_request" if event == "pull_request_target" else event
    found = [payload for name, payload in payloads if name == source]
    assert found
    for payload in found:
        decision = decide(read_trigger(event, payload, ENV))
        assert (decision.run, decision.publish, decision.spec_from) == (False, False, "base")


def _damaged(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside `value`."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _damaged(each, (*path, key))
    elif isinstance(value, list):
        for key, each in enumerate(value):
            yield from _damaged(each, (*path, key))


@pytest.mark.parametrize("instead", [None, 7, "x", [], {}], ids=repr)
def test_a_payload_with_anything_else_in_any_place_is_still_read(
    instead: Any, payloads: list[tuple[str, dict[str, Any]]]
) -> None:
    payload = next(payload for name, payload in payloads if name == "pull_request")
    ways = [way for way in _damaged(payload) if len(way) <= 4 and way[0] in {"number", "pull_request", "sender"}]
    assert len(ways) > 100
    for way in ways:
        copy = json.loads(json.dumps(payload))
        place = copy
        for key in way[:-1]:
            place = place[key]
        place[way[-1]] = instead
        decide(read_trigger("pull_request", copy, ENV))


def _case_of(event: str, payload: dict[str, Any]) -> str:
    """Which line of the table a payload belongs to, going by the payload alone; nobody was asked anything."""
    if event == "pull_request":
        pull = payload["pull_request"]
        own = pull["head"]["repo"] and pull["head"]["repo"]["full_name"] == pull["base"]["repo"]["full_name"]
        by_dependabot = payload["sender"]["login"] == "dependabot[bot]"
        return "a fork" if not own else "by Dependabot" if by_dependabot else "a branch of this repository"
    if event == "issue_comment":
        return "no command, or not on an open pull request"  # none of the examples holds one
    return "any"


def test_each_payload_is_decided_on_as_the_table_says(payloads: list[tuple[str, dict[str, Any]]]) -> None:
    rows = {(row.event, row.case): row.decision for row in table()}
    seen: set[str] = set()
    for name, payload in payloads:
        events = [name, "pull_request_target"] if name == "pull_request" else [name]
        for event in events:
            listed = event if event in SUPPORTED_EVENTS else "any other"
            wanted = rows[listed, _case_of(event, payload) if listed == event else "any"]
            client = None
            case = look_into(read_trigger(event, payload, ENV), payload, client)
            made = decide(case.trigger, facts=replace(case.facts, has_token=True))
            for field in ("run", "publish", "spec_from", "code_from", "agents", "tools", "answer"):
                assert getattr(made, field) == getattr(wanted, field), (event, payload.get("action"), field)
            seen.add(listed)
    assert seen == {*SUPPORTED_EVENTS, "any other"} - {"schedule"}, "no webhook is sent for a schedule"


def test_what_comes_of_a_comment_that_commands_is_the_tables(payloads: list[tuple[str, dict[str, Any]]]) -> None:
    rows = {(row.event, row.case): row.decision for row in table()}
    made_of = next(payload for name, payload in payloads if name == "issue_comment" and payload["action"] == "created")
    payload = json.loads(json.dumps(made_of))  # derived: the examples hold no comment on a pull request
    payload["issue"] |= {"state": "open", "pull_request": {"url": "https://api.github.com/x"}}
    payload["comment"]["body"] = "/maos run"
    payload["comment"]["updated_at"] = payload["comment"]["created_at"]
    for change, case_named in (
        ({}, "who may write is unknown"),
        ({"action": "edited"}, "edited or deleted"),
        ({"action": "deleted"}, "edited or deleted"),
        ({"sender": {"login": "x", "type": "Bot"}}, "by a bot or through an app"),
    ):
        case = look_into(read_trigger("issue_comment", payload | change, ENV), payload | change, None)
        made = decide(case.trigger, facts=replace(case.facts, has_token=True))
        assert made == rows["issue_comment", case_named]
