"""A played run, published to the stand-in by the real publisher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maos_bot.github.client import GitHubClient
from maos_bot.github.publisher import Publisher, PublishResult
from maos_bot.github.trigger import WorkflowRun
from maos_bot.model import Trigger
from maos_bot.reporting import markdown
from maos_bot.reporting.report import RunReport, report_of
from tests.e2e.github_stand_in import REPOSITORY, GitHubStandIn
from tests.unit.report_streams import Job, play

SHA = "a" * 40
DOCUMENT = Path(__file__).parents[2] / "docs" / "github.md"


def trigger_of(sha: str = SHA) -> Trigger:
    return Trigger(event="pull_request", repository=REPOSITORY, sha=sha, pull_request=2, ref="topic")


def client_of(github: GitHubStandIn, *, patience_s: float = 60.0, timeout_s: float = 20.0) -> GitHubClient:
    return GitHubClient(
        token="ghs_0123456789",
        repository=REPOSITORY,
        api_url=github.url,
        write_pause_s=0.0,
        retry_pause_s=0.01,
        patience_s=patience_s,
        timeout_s=timeout_s,
    )


def publisher_of(
    github: GitHubStandIn, *, number: int = 1, attempt: int = 1, sha: str = SHA, settle_s: float = 0.0, **options: float
) -> Publisher:
    return Publisher(
        trigger_of(sha),
        client_of(github, **options),
        workflow_run=WorkflowRun(id="1", number=number, attempt=attempt, key="0123456789ab"),
        comment_every_s=0.05,
        settle_s=settle_s,
    )


def publish(
    github: GitHubStandIn,
    jobs: Sequence[Job],
    *,
    number: int = 1,
    sha: str = SHA,
    within_s: float = 60.0,
    **options: float,
) -> tuple[PublishResult, RunReport, str]:
    """What was posted of a run that ended, its report, and its job summary."""
    publisher = publisher_of(github, number=number, sha=sha, **options)  # type: ignore[arg-type]
    events = play(jobs, trigger=trigger_of(sha))
    for event in events:
        publisher.add(event)
    result = publisher.close(within_s=within_s)
    report = report_of(events)
    return result, report, markdown.summary(report, standing=result.standing).text
