"""Takes the pictures of the dashboard that the documentation shows: `python -m tests.e2e.pictures docs/images`.

The runs in them are made up (`tests.factories`); the pages are the real ones.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.dashboard import PHONE, WIDE, chromium, serving, watched
from tests.factories import make_history, store_runs


def take(folder: Path) -> None:
    """Write the pictures into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    now = time.time()
    history = make_history(now=now)
    run = f"runs/{history[-2][0].run_id}"
    review = f"{run}/tasks/review"
    shots = (
        ("dashboard-runs-light", "", WIDE, "light"),
        ("dashboard-runs-dark", "", WIDE, "dark"),
        ("dashboard-run-light", run, (WIDE[0], 1945), "light"),
        ("dashboard-run-dark", run, (WIDE[0], 1945), "dark"),
        ("dashboard-agent-light", review, (WIDE[0], 1245), "light"),
        ("dashboard-phone-light", run, (PHONE[0], 1500), "light"),
        ("dashboard-phone-dark", "", (PHONE[0], 1500), "dark"),
    )
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        path = store_runs(Path(scratch) / "maos.db", history)
        with serving(path, clock=lambda: now) as url:
            for name, page, size, scheme in shots:
                with watched(browser, url, size=size, scheme=scheme) as seen:
                    seen.page.goto(url + page)
                    seen.page.screenshot(path=folder / f"{name}.png")
                    seen.check()


if __name__ == "__main__":
    take(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
