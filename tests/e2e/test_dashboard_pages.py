"""The dashboard's pages in a real Chromium: usable by everyone, at any width, in light and dark, without scripts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from maos_bot.demo.pipeline import PIPELINE, Ending, renamed
from maos_bot.events import ChangeTaken, FindingReported, TranscriptAdded
from maos_bot.model import Trigger
from tests.e2e.dashboard import PHONE, WIDE, chromium, serving, watched
from tests.factories import make_history, make_run, store_runs, with_agent

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN_PARTS = ("graph", "resources", "log", "events", "teams", "spec")
OVER_TIME = ("tasks", "history", "compare", "usage", "search", "status")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A served history: the address of each kind of page."""
    now = time.time()  # stands still, or the running run would be lost before the last test
    history = make_history(now=now, count=60)
    path = store_runs(tmp_path_factory.mktemp("site") / "maos.db", history)
    failed, running = history[-2][0].run_id, history[-1][0].run_id
    with serving(path, clock=lambda: now) as url:
        yield {
            "": url,
            "runs": url,
            "failed": f"{url}runs/{failed}",
            "running": f"{url}runs/{running}",
            "task": f"{url}runs/{failed}/tasks/unit-api",
            "agent": f"{url}runs/{failed}/tasks/review",
            "change": f"{url}runs/{failed}/tasks/api-docs",
            "found": f"{url}runs/{failed}/tasks/unit-api?q=orders",
            **{part: f"{url}runs/{failed}/{part}" for part in RUN_PARTS},
            "tasks": f"{url}tasks",
            "history": f"{url}tasks/unit-api?repo=acme/shop",
            "compare": f"{url}compare?b={failed}",
            "usage": f"{url}usage",
            "search": f"{url}search?q=AssertionError",
            "status": f"{url}status",
            "missing": f"{url}runs/nope",
        }


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize(
    "name", ["runs", "failed", "running", "task", "agent", "change", "found", *RUN_PARTS, *OVER_TIME]
)
def test_a_page_is_accessible_fits_and_does_nothing_it_must_not(
    browser: Browser, site: dict[str, str], name: str, size: tuple[int, int]
) -> None:
    with watched(browser, site[""], size=size) as seen:
        seen.page.goto(site[name])
        for summary in seen.page.locator("summary").all():
            summary.click()
        seen.axe()
        assert seen.overflow() <= 0
        seen.page.emulate_media(color_scheme="dark")
        seen.axe(only="color-contrast")  # all else is the same in the dark
        assert seen.overflow() <= 0
        seen.check()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_empty_page_and_the_error_page_are_accessible(
    browser: Browser, site: dict[str, str], tmp_path: Path, size: tuple[int, int]
) -> None:
    with serving(tmp_path / "none.db") as url, watched(browser, url, size=size) as seen:
        seen.page.goto(url)
        assert "maos init" in seen.page.inner_text("main")
        seen.axe()
        assert seen.overflow() <= 0
        seen.check()
    with watched(browser, site[""], size=size) as seen:
        seen.page.goto(site["missing"])
        seen.axe()


def test_without_scripts_filters_paging_and_links_work(browser: Browser, site: dict[str, str]) -> None:
    with watched(browser, site[""], scripts=False) as seen:
        page = seen.page
        page.goto(site["runs"])
        page.select_option("#f-status", "failed")
        page.click("text=Filter")
        assert "status=failed" in page.url
        rows = page.locator("#results tbody tr")
        assert rows.count() > 1
        assert {row.inner_text().split()[0] for row in rows.all()} == {"Failed"}
        rows.first.locator("a.name").click()
        assert page.locator(".failure .log").count() >= 1
        assert page.locator(".lanes .lane-bars").count() == 14
        page.locator("#tasks a.name").nth(4).click()
        assert "test_total_is_rounded" in page.inner_text(".log.full")
        page.goto(site["runs"])
        page.click("text=Older runs")
        assert "before=" in page.url
        page.click("a.button:text-is('Newest')")
        assert page.locator("#results tbody tr").count() == 50


def test_without_scripts_a_running_run_says_how_to_see_more(browser: Browser, site: dict[str, str]) -> None:
    with watched(browser, site[""], scripts=False) as seen:
        seen.page.goto(site["running"])
        seen.page.click("text=Load the page again")
        assert seen.page.locator(".lanes .lane-bars").count() == 14


def test_filters_take_effect_as_they_are_typed_and_going_back_undoes_them(
    browser: Browser, site: dict[str, str]
) -> None:
    with watched(browser, site[""]) as seen:
        page = seen.page
        page.goto(site["runs"])
        page.locator("#f-text").press_sequentially("adaeze", delay=15)
        page.wait_for_url("**/?text=adaeze")
        assert set(page.locator("#results tbody .sub").all_inner_texts()) <= {"by adaeze", "push by adaeze"}
        assert page.evaluate("document.activeElement.id") == "f-text"
        page.select_option("#f-status", "failed")
        page.wait_for_url("**/?text=adaeze&status=failed")
        page.go_back()
        page.wait_for_url("**/?text=adaeze")
        page.go_back()
        page.wait_for_url(site["runs"])
        page.wait_for_function("() => document.querySelectorAll('#results tbody tr').length === 50")
        seen.check()


def test_a_filter_that_says_nothing_is_named_beside_the_field(browser: Browser, site: dict[str, str]) -> None:
    with watched(browser, site[""]) as seen:
        page = seen.page
        page.goto(site["runs"])
        page.click("#more-filters > summary")
        page.fill("#f-pr", "twelve")
        page.wait_for_selector("#filter-note:not(:empty)")
        assert page.inner_text("#filter-note") == "The pull request is a number, such as 412."
        assert page.locator("#results tbody tr").count() == 50
        page.fill("#f-pr", "412")
        page.wait_for_url("**/?pr=412")
        assert page.inner_text("#filter-note") == ""


def test_the_keyboard_reaches_the_content_the_filters_and_the_runs(browser: Browser, site: dict[str, str]) -> None:
    with watched(browser, site[""]) as seen:
        page = seen.page
        page.goto(site["runs"])
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        header = set()
        for _ in range(8):
            page.keyboard.press("Tab")
            header.add(page.evaluate("document.activeElement.id"))
        assert "find-q" in header
        page.focus("#more-filters > summary")
        page.keyboard.press("Enter")
        page.focus(".skip")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        reached = set()
        for _ in range(70):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.closest('ol')?.className"))
        fields = {f"f-{name}" for name in ("text", "status", "repo", "branch", "pr", "since", "min", "cost", "sort")}
        assert {"strip"} | fields <= reached
        assert any(str(name).startswith("run-") for name in reached)


def test_hostile_text_does_nothing_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    jobs = renamed(PIPELINE[:5], HOSTILE)
    jobs = (*jobs[:2], replace(jobs[2], kind="agent"), *jobs[3:])
    trigger = Trigger(event="push", actor=HOSTILE, ref=HOSTILE, sha=HOSTILE, url="javascript:document.title='owned'")
    run = make_run(
        name=HOSTILE, jobs=jobs, trigger=trigger, endings={jobs[1].id: Ending(log=(HOSTILE,), reason=HOSTILE)}
    )
    said = [
        (TranscriptAdded, {"turn": 1, "role": role, "text": f"{HOSTILE} {HOSTILE}"})
        for role in ("asked", "answered", "called", "returned", HOSTILE)
    ]
    finding = {"path": HOSTILE[1:20], "line": 1, "severity": "failure", "message": HOSTILE, "suggestion": HOSTILE}
    change = {"commit": HOSTILE, "files": (HOSTILE,), "patch": f"+{HOSTILE}\n-{HOSTILE}\n"}
    run = with_agent(run, jobs[2].id, [*said, (FindingReported, finding), (ChangeTaken, change)])
    with serving(store_runs(tmp_path / "maos.db", [run])) as url, watched(browser, url) as seen:
        page = seen.page
        page.goto(f"{url}?text=&branch=%3Cimg%20src=x%20onerror=alert(1)%3E")
        page.goto(url)
        page.click("#results a.name")
        page.wait_for_selector(".failure .log")
        assert HOSTILE in page.inner_text(".failure .log")
        page.locator("#tasks a.name").nth(1).click()
        page.wait_for_selector(".log.full")
        assert HOSTILE in page.inner_text("h1")
        assert "owned" not in page.title().replace(HOSTILE, "")
        assert page.locator("img").count() == 0
        page.go_back()
        page.locator("#tasks a.name").nth(2).click()
        page.wait_for_selector("#talk")
        assert page.inner_text("#talk").count(HOSTILE) >= 4
        assert HOSTILE in page.inner_text(".diff")
        assert HOSTILE in page.inner_text(".findings")
        assert page.locator("img").count() == 0
        page.go_back()
        page.locator("#tasks a.name").nth(1).click()
        page.click("text=Plain text")
        assert page.evaluate("document.contentType") == "text/plain"
        seen.check()


def test_without_scripts_every_page_is_a_link_away(browser: Browser, site: dict[str, str]) -> None:
    with watched(browser, site[""], scripts=False) as seen:
        page = seen.page
        page.goto(site["failed"])
        for name in ("Graph", "Resources", "Log", "Events", "Agents", "Spec"):
            page.click(f".tabs >> text={name}")
            assert page.inner_text(".tabs [aria-current]") == name
        page.click(".top nav >> text=Usage")
        assert "By model" in page.inner_text("main")
        page.click(".top nav >> text=Tasks")
        page.click("main >> a.name:text-is('unit-web')")
        page.click(".card-head >> text=Flaky")
        assert page.locator("tbody tr").count() >= 2
        page.click(".top nav >> text=Compare")
        assert "in another state" in page.inner_text("main")
        page.fill("#find-q", "AssertionError")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        assert page.locator(".hits li").count() == 3


def test_the_keyboard_opens_a_task_of_the_graph(browser: Browser, site: dict[str, str]) -> None:
    with watched(browser, site[""]) as seen:
        seen.page.goto(site["graph"])
        seen.page.focus(".node >> nth=4")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_url("**/tasks/**")
        seen.check()


def test_the_conversation_and_the_worker_lanes_can_be_used_by_keyboard(browser: Browser, site: dict[str, str]) -> None:
    with watched(browser, site[""]) as seen:
        seen.page.goto(site["teams"])
        seen.page.focus(".piece >> nth=2")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_url("**/tasks/**")
        seen.page.goto(site["agent"])
        assert seen.page.inner_text("#talk .turn-head >> nth=0").startswith("Turn 1")
        seen.page.click("text=Plain text")
        assert seen.page.evaluate("document.contentType") == "text/plain"
        seen.check()
