"""The comment as a reader sees it, in Chromium at a desk's and a phone's width: what counts is read first and whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.e2e.comments import DESK, KINDS, PHONE, page_of
from tests.e2e.dashboard import chromium

# What the kind has to show without a click, in this order, and what it must not show.
SHOWN = {
    "green": (("all 5 tasks succeeded", "instead of", "package", "Critical path"), ("failed", "upstream_failed")),
    "failed": (("1 of 5 tasks failed", "unit", "exit code 1", "not reached", "DID NOT RAISE"), ("upstream_failed",)),
    "40-tasks": (("2 of 40 tasks failed", "test-11", "test-29", "38 other tasks"), ("Part 12 of the suite",)),
    "findings": (
        ("4 findings", "2 errors, 1 warning, 1 notice: 3 new, 1 persisting, 2 fixed", "src/app/session.py:41"),
        ("1.0x",),
    ),
    "cancelled": (("cancelled", "SIGINT", "lint"), ("as fast",)),
    "over-budget": (("over budget", "review", "$2.00", "$2.03"), ("as fast",)),
    "fork": (("whose workflow it may have changed", "all 2 tasks succeeded"), ()),
    "running": (("running", "so far", "predicted"), ("as fast",)),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_counts_is_read_first_and_whole(browser: Browser, kind: str, size: tuple[int, int]) -> None:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    try:
        page.set_content(page_of(KINDS[kind]()))
        text = page.locator("article").inner_text()
        wanted, unwanted = SHOWN[kind]
        places = [text.find(word) for word in wanted]
        assert -1 not in places, dict(zip(wanted, places, strict=True))
        assert places == sorted(places)
        assert [word for word in unwanted if word in text] == []
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, "the page scrolls sideways"
        heading = page.locator("h3").bounding_box()
        assert heading is not None
        assert heading["y"] < size[1] / 4
        closed = page.locator("details:not([open])").count()
        assert page.locator("details").count() - closed <= 1
    finally:
        page.close()


def test_every_kind_is_looked_at() -> None:
    assert set(SHOWN) == set(KINDS)
