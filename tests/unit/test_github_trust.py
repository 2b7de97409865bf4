"""Who may set off what: the decision for every case, and the table in the documents that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maos_bot.github.commands import RUNNING, Command, parse
from maos_bot.github.trust import PRIVILEGED_EVENTS, SUPPORTED_EVENTS, Facts, Permission, decide, table, table_markdown
from maos_bot.model import Trigger

DOCUMENT = Path(__file__).parents[2] / "docs" / "github.md"
SHA = "a" * 40


def test_the_table_in_the_documents_is_the_codes_own() -> None:
    assert table_markdown() in DOCUMENT.read_text(encoding="utf-8")


def test_the_table_has_every_supported_event() -> None:
    assert {row.event for row in table()} == {*SUPPORTED_EVENTS, "any other"}


commands = st.one_of(
    st.none(),
    st.builds(
        Command,
        verb=st.sampled_from(["help", "plan", "run", "retry", "cancel", "approve", "dismiss"]),
        words=st.sampled_from([(), (SHA,), ("b" * 40,)]),
        problem=st.sampled_from(["", "wrong"]),
    ).filter(lambda command: command.verb != "approve" or command.words),
)
facts = st.builds(
    Facts,
    has_token=st.booleans(),
    permission=st.sampled_from(Permission),
    by_person=st.booleans(),
    fresh=st.booleans(),
    by_bot=st.booleans(),
    approved=st.sampled_from(["", SHA, "b" * 40]),
    command=commands,
    stored_run=st.booleans(),
)
triggers = st.builds(
    Trigger,
    event=st.sampled_from([*SUPPORTED_EVENTS, "issues", "watch", ""]),
    actor=st.sampled_from(["someone", "dependabot[bot]"]),
    sha=st.sampled_from(["", SHA]),
    pull_request=st.sampled_from([None, 7]),
    is_fork=st.booleans(),
)


@given(trigger=triggers, known=facts)
def test_what_holds_in_every_case(trigger: Trigger, known: Facts) -> None:
    made = decide(trigger, facts=known)
    assert made.reason
    assert known.has_token or not (made.publish or made.answer)
    assert made.agents <= made.run
    if trigger.event not in SUPPORTED_EVENTS:
        assert not any((made.run, made.publish, made.answer))
    if trigger.event in PRIVILEGED_EVENTS:
        assert made.spec_from == "base"
        assert "all" not in made.tools
    if trigger.event in PRIVILEGED_EVENTS and made.run and (trigger.is_fork or known.by_bot):
        assert known.approved == trigger.sha != ""
    if trigger.event == "issue_comment" and (made.run or made.publish or made.answer):
        assert known.permission.writes
        assert known.by_person
        assert known.fresh
        assert known.command is not None
        assert not made.run or known.command.verb in RUNNING
    if trigger.event == "workflow_run":
        assert not made.run
    if trigger.event == "pull_request" and trigger.is_fork:
        assert (made.publish, made.agents) == (False, False)


@pytest.mark.parametrize(
    ("body", "verb", "words"),
    [
        ("/maos", "help", ()),
        ("/maos help", "help", ()),
        ("/maos run", "run", ()),
        ("/maos run lint Unit.3", "run", ("lint", "Unit.3")),
        ("/maos retry unit\r\nthank you", "retry", ("unit",)),
        (f"/maos approve {SHA}", "approve", (SHA,)),
        ("/maos dismiss 0123456789ab", "dismiss", ("0123456789ab",)),
    ],
)
def test_a_command_is_read_as_it_was_written(body: str, verb: str, words: tuple[str, ...]) -> None:
    assert parse(body) == Command(verb=verb, words=words)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    command = parse(text)
    assert command is None or text.startswith("/maos")
    parsed = parse(f"/maos run {text}")
    assert parsed is not None
    assert all(word.replace("_", "a").replace(".", "a").replace("-", "a").isalnum() for word in parsed.words)
