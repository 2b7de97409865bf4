"""Which conversation a task is done in: what it saves is reckoned from prices, what was read, and how many turns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maos_bot.agents.batching import CACHED_S, Conversation, Terms, best, files_read, may_share, names, saving
from maos_bot.model import Task
from maos_bot.models.prices import load_prices
from maos_bot.models.protocol import Answered, Asked, Message, Returned, ToolCall, ToolResult

PRICE = load_prices().price("anthropic", "claude-sonnet-5-5")
TERMS = Terms(price=PRICE, prefix=6000, turns=3.0)
TOOLS = ("read", "list", "search", "finish")


def read(path: str, size: int, *, failed: bool = False) -> tuple[Message, ...]:
    call = ToolCall(id=f"c-{path}", name="read", arguments={"path": path})
    return Answered(calls=(call,)), Returned(results=(ToolResult(call_id=call.id, text="x" * size, failed=failed),))


def conversation(*messages: Message, task: str = "first", used_at: float = 0.0) -> Conversation:
    said = (Asked(text="Task first: look."), *messages)
    return Conversation(messages=said, tools="those", model="m", base=frozenset(), task=task, used_at=used_at)


def job_of(words: str, **values: object) -> Task:
    return replace(Task(id="next", agent=words), **values)  # type: ignore[arg-type]


def chosen(job: Task, *known: Conversation, now: float = 1.0, terms: Terms = TERMS) -> str:
    found = best(job, known, terms=terms, tools="those", model="m", base=frozenset(), now=now, most_tokens=100_000)
    return found[0].task if found else ""


def test_a_task_goes_on_where_its_file_was_read() -> None:
    one, other = conversation(*read("src/a.py", 9000)), conversation(*read("src/b.py", 9000), task="other")
    assert chosen(job_of("Look for bounds in src/b.py."), one, other) == "other"
    assert chosen(job_of("Look for bounds in b.py, please."), one, other) == "other"
    assert chosen(job_of("Look at it.", inputs=("src/a*",)), one, other) == "first"
    assert chosen(job_of("Look for bounds in src/c.py."), one, other) == ""


def test_what_it_saves_is_what_the_prices_say() -> None:
    assert PRICE is not None
    talk = conversation(*read("src/a.py", 7000))
    job = job_of("Look for bounds in src/a.py.")
    size = sum(files_read(talk.messages).values())
    assert size == 2000
    alone = (2000 * 2.5 + 2000 * 0.1 + 6000 * 0.1) / 1e6
    assert saving(job, talk, TERMS) == pytest.approx(alone - 2 * 0.1 * 2030 / 1e6, rel=0.02)


def test_a_conversation_is_left_when_reading_it_along_costs_more_than_it_saves() -> None:
    job = job_of("Look for bounds in src/a.py.")
    talk = conversation(*read("src/a.py", 3500))
    joined = 0
    while chosen(job, talk):
        joined += 1
        talk = replace(talk, messages=(*talk.messages, Asked(text="y" * 3500), Answered(text="z" * 700)))
        assert joined < 100
    assert 5 < joined < 40, "the number follows from the figures: about 2.8 cents a million read, against 3.2 saved"
    dear = replace(TERMS, prefix=0, turns=20.0)
    assert not chosen(job, talk, terms=dear)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tools": "others"}, "other tools are another beginning in the cache"),
        ({"model": "other"}, "another model has another cache"),
        ({"base": frozenset({"edit"})}, "its files have other changes in them"),
        ({"used_at": -CACHED_S}, "the cache has forgotten it"),
    ],
)
def test_what_does_not_fit_is_not_joined(change: dict[str, object], why: str) -> None:
    talk = replace(conversation(*read("src/a.py", 9000)), **change)  # type: ignore[arg-type]
    assert not chosen(job_of("Look in src/a.py."), talk), why


def test_an_unknown_price_and_a_failed_reading_save_nothing() -> None:
    job = job_of("Look in src/a.py.")
    assert not chosen(job, conversation(*read("src/a.py", 9000)), terms=replace(TERMS, price=None))
    assert not chosen(job, conversation(*read("src/a.py", 9000, failed=True)))


def test_only_small_reading_tasks_share_and_those_of_qa_stay_atomic() -> None:
    assert may_share(job_of("look"), TOOLS)
    assert not may_share(job_of("look", team="qa"), TOOLS)
    assert not may_share(job_of("look", writes=("docs/**",)), TOOLS)
    assert not may_share(job_of("look"), (*TOOLS, "run"))


def test_a_name_within_another_name_is_not_meant() -> None:
    assert names(job_of("Look in a.py."), "src/a.py")
    assert not names(job_of("Look in data.py."), "src/a.py")
    assert not names(job_of("Look in lib/a.py."), "src/a.py")
