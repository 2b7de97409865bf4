"""What stands above every page of a run: its name, state and trigger, and where its other pages are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from maos_bot.model import RunStatus
from maos_bot.store.rows import RunRow
from web import words

TABS: Final = (
    ("run", "Overview"),
    ("run_graph_page", "Graph"),
    ("run_resources_page", "Resources"),
    ("run_log", "Log"),
    ("run_events", "Events"),
    ("run_agents_page", "Agents"),
    ("run_spec", "Spec"),
)


_SHA: Final = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunHead:
    """The head of a run's pages."""

    run_id: str
    name: str
    mark: words.Mark
    live: bool
    last_seq: int
    trigger: str
    branch: str
    sha: str
    pull_request: int | None
    workflow_url: str
    commit_url: str
    pull_request_url: str
    started_at: float
    tabs: tuple[tuple[str, str], ...] = TABS


def head_of(row: RunRow) -> RunHead:
    """The head for a run of the list."""
    home = repository_address(row)
    return RunHead(
        run_id=row.run_id,
        name=row.name or row.run_id,
        mark=words.mark(row.status),
        live=row.status == RunStatus.RUNNING,
        last_seq=row.last_seq,
        trigger=trigger_of(row),
        branch=row.branch,
        sha=row.sha,
        pull_request=row.pull_request,
        workflow_url=web_address(row.url),
        commit_url=f"{home}/commit/{row.sha}" if home and _SHA.fullmatch(row.sha) else "",
        pull_request_url=f"{home}/pull/{row.pull_request}" if home and row.pull_request is not None else "",
        started_at=row.started_at,
    )


def trigger_words(event: str, actor: str) -> str:
    """What set a run off, in words."""
    what = "started by hand" if event in {"", "local"} else event.replace("_", " ")
    return f"{what} by {actor}" if actor else what


def web_address(url: str) -> str:
    """The address where it leads to the web: a link must not run anything."""
    return url if url.startswith(("https://", "http://")) else ""


def repository_address(row: RunRow) -> str:
    """Where the run's repository is on the web, as far as its workflow run's address says; else nothing."""
    home, actions, _ = web_address(row.url).partition("/actions/")
    return home if actions and row.repository and home.endswith(f"/{row.repository}") else ""


def file_address(row: RunRow, path: str, line: int) -> str:
    """Where a line of a file of the run's commit is on the web; nothing where that isn't known."""
    home = repository_address(row)
    return f"{home}/blob/{row.sha}/{quote(path)}#L{line}" if home and _SHA.fullmatch(row.sha) else ""


def trigger_of(row: RunRow) -> str:
    """What set the run off, without what stands beside it."""
    if row.pull_request is not None and row.event.startswith("pull_request"):
        return f"by {row.actor}" if row.actor else ""  # the number beside it says the rest
    return trigger_words(row.event, row.actor)
