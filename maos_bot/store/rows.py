"""What queries are asked with and answer with (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from maos_bot.frozen import dataclass
from maos_bot.model import TaskState

# A trigger doesn't say which branch is the repository's default: these are the names that it has.
MAIN_BRANCHES: Final = ("main", "master", "trunk")
LOST: Final = "lost"  # the status of a run that neither ended nor gave a sign of life for a while


class RunSort(StrEnum):
    """What the list of runs is ordered by."""

    STARTED = "started"
    DURATION = "duration"
    COST = "cost"
    TOKENS = "tokens"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFilter:
    """Which runs; None (or an empty text) asks nothing. `since` is in seconds since the epoch.

    `status` is a word of `RunStatus` or `lost`; `text`, in any case of letters, is looked for in run id, name,
    repository, branch, pull request (`#12`), actor and commit.
    """

    repository: str | None = None
    branch: str | None = None
    pull_request: int | None = None
    status: str | None = None
    sha: str | None = None
    since: float | None = None
    min_duration_s: float | None = None
    min_usd: float | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One run in the list. Times are seconds since the epoch, durations seconds; unknown figures are None.

    `usd` is what is known; `unpriced` counts the calls it leaves out. `tasks` counts tasks by state (only states
    that occur). `status` is `lost` for a run that stopped giving signs of life before it ended.
    """

    run_id: str
    name: str
    repository: str
    branch: str
    sha: str
    pull_request: int | None
    event: str
    action: str
    actor: str
    is_fork: bool
    url: str
    spec_path: str
    spec_digest: str
    mode: str
    strategy: str
    version: str
    status: str
    exit_code: int | None
    reason: str
    started_at: float
    finished_at: float | None
    last_event_at: float
    last_seq: int
    events: int
    wall_s: float | None
    sequential_s: float
    predicted_s: float | None
    predicted_sequential_s: float | None
    lower_bound_s: float | None
    attempts: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    tokens: int
    usd: float
    unpriced: int
    peak_memory_mb: float | None
    peak_cpu_percent: float | None
    peak_agents: int | None
    peak_tokens_per_minute: float | None
    saved_s: float
    tasks: Mapping[TaskState, int]

    @property
    def speedup(self) -> float | None:
        """Time one after the other over wall time; None until the run ended."""
        return self.sequential_s / self.wall_s if self.wall_s else None

    @property
    def is_complete(self) -> bool:
        """Whether no event up to the last stored one is missing."""
        return self.events == self.last_seq


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The run that another is compared with, and how long it took in seconds."""

    run_id: str
    branch: str
    wall_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptRow:
    """One attempt of a task in a run; `wait_reason` is what it waited `queued_s` seconds for."""

    run_id: str
    task: str
    attempt: int
    state: TaskState
    reason: str
    queued_s: float
    wait_reason: str
    freed_by: str
    started_at: float | None
    finished_at: float | None
    duration_s: float | None
    exit_code: int | None
    cpu_s: float | None
    peak_memory_mb: float | None
    output_bytes: int
    omitted_bytes: int
    tokens: int
    usd: float
    unpriced: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreStatus:
    """The database itself: bytes on disk, rows, and when it last took something in."""

    path: str
    schema: int
    bytes: int
    runs: int
    lost: int
    last_event_at: float | None
    intakes: tuple[tuple[str, float], ...]  # what came in from elsewhere, and when, the newest first
