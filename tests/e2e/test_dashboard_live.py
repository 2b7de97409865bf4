"""The page of a running run in a real Chromium follows the run as it is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from maos_bot.events import OutputChunk, RunEvent, TranscriptAdded
from maos_bot.store.writer import StoreWriter
from tests.e2e.dashboard import PHONE, chromium, serving, watched
from tests.factories import PIPELINE, REVIEWERS, make_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def happening_now(events: list[RunEvent], upto: int) -> list[RunEvent]:
    """The events with times as if event `upto` had just come."""
    shift = time.time() - events[upto].at
    return [replace(event, at=event.at + shift) for event in events]


def add(path: Path, events: list[RunEvent]) -> None:
    with StoreWriter(path) as writer:
        for event in events:
            writer.add(event)


def test_a_running_run_is_followed_to_its_end_while_focus_details_and_scroll_stay(
    browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "maos.db"
    whole = make_run()
    half = len(whole) // 2
    events = happening_now(whole, half)
    add(path, events[:half])
    with serving(path) as url, watched(browser, url, size=PHONE) as seen:
        page = seen.page
        page.goto(f"{url}runs/{events[0].run_id}")
        before = page.inner_text("#outcome-title")
        assert "running" in before
        page.click("#about summary")
        page.focus("#task-3")
        page.evaluate("window.scrollTo(0, 900)")
        add(path, events[half : half + 12])
        page.wait_for_function("before => document.querySelector('#outcome-title').innerText !== before", arg=before)
        assert page.evaluate("document.activeElement.id") == "task-3"
        assert page.evaluate("document.querySelector('#about').open")
        assert page.evaluate("window.scrollY") == 900
        add(path, events[half + 12 :])
        page.wait_for_function("() => document.querySelector('#outcome-title').innerText === 'All 12 tasks succeeded'")
        assert page.inner_text("#live-note").strip() == "The run has ended."
        assert page.locator(".title-row .pill").inner_text() == "Succeeded"
        polls = len(seen.requests)
        page.wait_for_timeout(2600)
        assert len(seen.requests) == polls
        seen.axe()
        seen.check()


def test_a_lost_contact_is_said_and_said_to_be_over(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    events = happening_now(make_run(cut_at=20.0), -1)
    add(path, events)
    with serving(path) as url, watched(browser, url) as seen:
        page = seen.page
        page.goto(f"{url}runs/{events[0].run_id}")
        page.route("**/live?*", lambda route: route.abort())
        page.wait_for_function("() => document.querySelector('#contact').innerText.startsWith('No contact')")
        page.unroute("**/live?*")
        page.wait_for_function("() => document.querySelector('#contact').innerText === ''")


def test_nothing_is_sent_while_nothing_changes(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    events = happening_now(make_run(cut_at=20.0), -1)
    add(path, events)
    with serving(path) as url, watched(browser, url) as seen:
        page = seen.page
        page.goto(f"{url}runs/{events[0].run_id}")
        with page.expect_response("**/live?*") as answer:
            pass
        assert answer.value.status == 204
        seen.check()


def test_the_log_of_a_running_task_grows_where_it_is_read(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    whole = make_run(cut_at=30.0)
    chunks = [index for index, event in enumerate(whole) if type(event) is OutputChunk and event.task == "install"]
    events = happening_now(whole, chunks[0])
    add(path, events[: chunks[0] + 1])
    with serving(path) as url, watched(browser, url) as seen:
        page = seen.page
        page.goto(f"{url}runs/{events[0].run_id}/tasks/install")
        assert "Successfully installed" not in page.inner_text("#log")
        add(path, events[chunks[0] + 1 :])
        page.wait_for_function("() => document.querySelector('#log').innerText.includes('Successfully installed')")
        page.wait_for_selector("#live-note >> text=It has ended")
        assert page.locator("#log input").count() == 0
        seen.axe()
        seen.check()


def test_the_conversation_of_a_running_agent_grows_where_it_is_read(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "maos.db"
    whole = make_run(jobs=(*PIPELINE, *REVIEWERS), cut_at=30.0)
    words = [index for index, event in enumerate(whole) if type(event) is TranscriptAdded and event.task == "review"]
    events = happening_now(whole, words[2])
    add(path, events[: words[2] + 1])
    with serving(path) as url, watched(browser, url) as seen:
        page = seen.page
        page.goto(f"{url}runs/{events[0].run_id}/tasks/review")
        assert "Turn 2" not in page.inner_text("#talk")
        add(path, events[words[2] + 1 :])
        page.wait_for_function("() => document.querySelector('#talk').innerText.includes('Turn 3')")
        turns = page.locator("#talk .turn-head b").all_inner_texts()
        assert turns == ["Turn 1", "Turn 2", "Turn 3"]
        assert page.locator("#talk input").count() == 0
        seen.axe()
        seen.check()
