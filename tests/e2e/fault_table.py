"""What is seen when GitHub fails: each fault at each call, tried out, as the table of docs/github.md.

`python -m tests.e2e.fault_table` prints it. A fault happens to every request of its kind, which is the worst case.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from maos_bot.action import main
from tests.e2e.events import comment_event, environment, pull_request, repository
from tests.e2e.github_stand_in import GitHubStandIn, Trouble
from tests.e2e.publishing import publish
from tests.unit.report_streams import Job

FAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "401": {"status": 401, "said": "Bad credentials"},
    "403, a permission": {"status": 403, "said": "Resource not accessible by integration"},
    "403, the hour's quota": {
        "status": 403,
        "said": "API rate limit exceeded",
        "headers": {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"},
    },
    "403, secondary limit, `retry-after`": {
        "status": 403,
        "said": "You have exceeded a secondary rate limit",
        "headers": {"retry-after": "0"},
    },
    "403, secondary limit, no time": {"status": 403, "said": "You have exceeded a secondary rate limit"},
    "404": {"status": 404, "said": "Not Found"},
    "409": {"status": 409, "said": "Conflict"},
    "422": {"status": 422, "said": "Validation Failed"},
    "429, `retry-after`": {"status": 429, "said": "slow down", "headers": {"retry-after": "0"}},
    "429, no time": {"status": 429, "said": "slow down"},
    "500": {"status": 500},
    "502, though it took effect": {"status": 502, "done": True},
    "no answer in time": {"late_s": 1.6, "status": 503},
    "an answer that drips": {"drips_s": 1.6},
    "connection cut": {"cut": True},
    "cut, though it took effect": {"cut": True, "done": True},
    "slow": {"late_s": 0.05, "status": 200},
}
POSTS: Final[Mapping[str, tuple[str, str]]] = {
    "read comments": ("GET", "/comments"),
    "write a new comment": ("POST", "/comments"),
    "change the comment": ("PATCH", "/comments/1"),
    "create checks": ("POST", "/check-runs"),
    "complete checks": ("PATCH", "/check-runs/"),
}
COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "ask who may command": ("run", "GET", "/permission"),
    "read the pull request": ("run", "GET", "/pulls/2"),
    "read the command again": ("run", "GET", "/issues/comments/1"),
    "ask for the quota": ("run", "GET", "/rate_limit"),
    "react": ("run", "POST", "/reactions"),
    "look for runs to cancel": ("cancel", "GET", "/check-runs"),
    "cancel": ("cancel", "POST", "/cancel"),
}
AT_ONCE: Final = 8
JOBS: Final = [Job(id="lint"), Job(id="unit", output="::error file=a.py,line=1::boo\n")]
NEW: Final = "b" * 40


def of_posting(fault: str, call: str) -> str:
    """What stands on GitHub after a run whose `call` meets `fault`; fails where something is missing and unsaid."""
    method, ending = POSTS[call]
    with GitHubStandIn() as github:
        if call == "change the comment":
            publish(github, JOBS)
            github.forget_checks()
        github.troubles = [Trouble(method=method, ending=ending, always=True, **FAULTS[fault])]
        result, report, summary = publish(
            github, JOBS, number=2, sha=NEW, within_s=15.0, patience_s=6.0, timeout_s=_timeout(fault)
        )
        assert report.exit_code == 0
        assert "`lint`" in summary
        assert len(github.comments) <= 1, "a comment twice"
        assert len({run["external_id"] for run in github.checks}) == len(github.checks), "a check twice"
        comment = bool(github.comments) and NEW in github.comments[0]["body"]
        ends = {run["conclusion"] for run in github.checks}
        checks = len(github.checks) == 3 and ends == {"success"}
        assert (comment and checks) or result.problems, "something is missing and nobody said so"
        unfinished = bool(github.checks) and None in ends
        left = "checks stay in progress" if unfinished else "no checks" if not github.checks else "fewer checks"
        words = ["" if comment else "no comment" if not github.comments else "the old comment", "" if checks else left]
        return ", ".join(word for word in words if word) or ("all" if not result.problems else "all, and a warning")


def of_command(fault: str, call: str) -> str:
    """What a command comes to whose `call` meets `fault`."""
    verb, method, ending = COMMANDS[call]
    with tempfile.TemporaryDirectory() as scratch, GitHubStandIn() as github:
        place = repository(Path(scratch))
        github.permissions = {"maintainer": "write"}
        github.pull = pull_request(sha=place.head)
        github.someone_comments(f"/maos {verb}", login="maintainer")
        run = {"name": "x", "head_sha": place.head, "status": "in_progress", "external_id": "run-1"}
        page = "https://github.com/Codertocat/Hello-World/actions/runs/77"
        github.answer("POST", "/repos/Codertocat/Hello-World/check-runs", {**run, "details_url": page})
        event = comment_event(github.comments[0])
        github.troubles = [Trouble(method=method, ending=ending, always=True, **FAULTS[fault])]
        more = {"MAOS_TIMEOUT_S": str(_timeout(fault)), "MAOS_PATIENCE_S": "6"}
        with contextlib.redirect_stdout(io.StringIO()):  # workflow commands are none of the table's
            code = main(environment(github, place.folder, "issue_comment", event, sha=place.base) | more)
        ran = (place.folder / "ran.txt").exists()
        assert code in ((0,) if ran else (0, 5))
        answered = any(comment["user"]["type"] == "Bot" for comment in github.comments)
        if verb == "cancel":
            done = "cancelled" if github.cancelled else "not cancelled"
            return f"{done}, {'answered' if answered else 'not answered'}"
        if not ran:
            return f"not run, exit code {code}"
        assert answered
        return "run" if github.reactions else "run, no reaction"


def _timeout(fault: str) -> float:
    """Short where the time-out is what is tried, else longer than a busy machine takes."""
    return 1.0 if fault in ("no answer in time", "an answer that drips") else 20.0


def table() -> str:
    """Both tables, in markdown."""
    return f"{_rows(POSTS, of_posting)}\n\n{_rows(COMMANDS, of_command)}"


def _rows(calls: Iterable[str], seen: Callable[[str, str], str]) -> str:
    names = list(calls)
    cases = [(fault, call) for fault in FAULTS for call in names]
    # Most of the time is waiting for answers that don't come: so many at once keep two cores from idling.
    with ProcessPoolExecutor(AT_ONCE, mp_context=multiprocessing.get_context("fork")) as pool:
        cells = dict(zip(cases, pool.map(seen, *zip(*cases, strict=True)), strict=True))
    lines = [f"| | {' | '.join(names)} |", f"|:--|{':--|' * len(names)}"]
    lines += [f"| {fault} | {' | '.join(cells[fault, call] for call in names)} |" for fault in FAULTS]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201 - a program's output
