"""The dashboard served as it is served to people, and a Chromium that watches what happens in it."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, sync_playwright

from web import create_app
from web.serve import Server

WIDE = (1280, 900)
PHONE = (375, 800)
AXE = Path(__file__).parent / "browser" / "node_modules" / "axe-core" / "axe.min.js"

_QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
_NOTE_VIOLATIONS = """
window.refused = [];
document.addEventListener("securitypolicyviolation", event => window.refused.push(event.violatedDirective));
"""


@dataclass
class Watched:
    """A page, and everything it did that it must not: errors, refused inline code, requests to other hosts."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fails where the page did anything it must not."""
        refused = self.page.evaluate("window.refused || []")
        assert (self.faults, refused) == ([], [])

    def axe(self, *, only: str = "") -> None:
        """Fails where axe-core finds the page hard to use, by all of its rules or by one."""
        if not AXE.exists():
            _missing("axe-core is not installed: run `make stand-ins`")
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate(
            "async only => (await axe.run(document, {resultTypes: ['violations'],"
            " ...(only ? {runOnly: {type: 'rule', values: [only]}} : {})}))"
            ".violations.map(v => ({rule: v.id, nodes: v.nodes.map(n => n.html + ' | ' + n.failureSummary)}))",
            only,
        )
        assert found == [], json.dumps(found, indent=1)[:4000]

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith((self.url, "data:")):
            self.faults.append(f"request to {request.url}")


@contextmanager
def serving(database: Path, *, clock: Callable[[], float] = time.time) -> Iterator[str]:
    """The dashboard over `database` on a free port; gives its URL."""
    server = Server(create_app(database, clock=clock), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, name="dashboard")
    thread.start()
    try:
        yield server.url
    finally:
        server.close()
        thread.join(timeout=10)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium of this machine."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(_QUIET))
        except Error as error:
            _missing(f"there is no Chromium that starts: run `make chromium` ({error.message.splitlines()[0]})")
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched(
    browser: Browser, url: str, *, size: tuple[int, int] = WIDE, scheme: Any = "light", scripts: bool = True
) -> Iterator[Watched]:
    """A fresh page of the dashboard at `url`."""
    context: BrowserContext = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    try:
        page = context.new_page()
        if scripts:
            page.add_init_script(_NOTE_VIOLATIONS)
        found = Watched(page=page, url=url)
        page.on("console", found._console)
        page.on("pageerror", lambda error: found.faults.append(f"exception: {error}"))
        page.on("request", found._request)
        yield found
    finally:
        context.close()


def _missing(reason: str) -> NoReturn:
    """Skip where a developer hasn't installed a part; fail where all of them are asked for, as in CI."""
    if os.environ.get("MAOS_REQUIRE_STAND_INS"):
        pytest.fail(reason)
    pytest.skip(reason)
