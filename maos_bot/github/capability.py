"""What this job may do on GitHub, said before the run: what will be missing, why, and what would mend it.

A token's permissions can't be asked for: GitHub tells of one only by refusing. So what is not known stays `unknown`,
and the first refused write says the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from maos_bot.errors import GitHubError
from maos_bot.github.client import GitHubClient
from maos_bot.github.refusals import PERMISSIONS
from maos_bot.github.trust import Decision
from maos_bot.model import Trigger

FEW: Final = 100  # requests left: fewer may not last to the end of a run
_KINDS: Final = {
    "ghs_": "of an app's installation, as GITHUB_TOKEN is",
    "ghp_": "a person's (classic): it can't make check runs",
    "github_pat_": "a person's (fine-grained): it can't make check runs",
    "gho_": "of an OAuth app: it can't make check runs",
    "ghu_": "of an app on a person's behalf",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """Requests left of how many, and when it is full again (seconds since the epoch)."""

    left: int
    limit: int
    resets_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ability:
    """One thing, how it stands, and where it isn't well the YAML or words that would mend it."""

    name: str
    says: str
    mend: str = ""


def quota(client: GitHubClient) -> Quota | None:
    """What is left of the API's hourly quota; None where GitHub doesn't say. Asking costs none of it."""

    def read() -> Quota:
        _, data = client.handle().requester.requestJsonAndCheck("GET", "/rate_limit")
        core: dict[str, Any] = data["resources"]["core"]
        return Quota(left=int(core["remaining"]), limit=int(core["limit"]), resets_at=float(core["reset"]))

    try:
        return client.call("ask for the quota", read, attempts=1)
    except (GitHubError, KeyError, TypeError):
        return None


def token_kind(token: str) -> str:
    """What a token is, by its beginning."""
    return next((words for start, words in _KINDS.items() if token.startswith(start)), "of an unknown kind")


def abilities(
    *, token: str, left: Quota | None, trigger: Trigger | None, decision: Decision | None
) -> Sequence[Ability]:
    """The report's lines. `trigger` and `decision` are None outside a workflow."""
    return tuple(_abilities(token, left, trigger, decision))


def _abilities(token: str, left: Quota | None, trigger: Trigger | None, decision: Decision | None) -> Iterator[Ability]:
    if not token:
        yield Ability(
            name="token", says="none: nothing can be posted", mend="with:\n  github-token: ${{ github.token }}"
        )
    else:
        yield Ability(name="token", says=token_kind(token))
        few = left is not None and left.left < FEW
        said = "unknown: GitHub didn't say" if left is None else f"{left.left:,} of {left.limit:,} requests left"
        yield Ability(
            name="API quota", says=said, mend="the report may come late; it is in the job summary" if few else ""
        )
    if trigger is None or decision is None:
        return
    yield Ability(name="event", says=f"{trigger.event or 'none'}: {decision.reason}")
    yield Ability(name="fork", says="yes" if trigger.is_fork else "no")
    spec = "this commit's" if decision.spec_from == "head" else "the base's"
    yield Ability(name="spec", says=spec)
    if not decision.publish:
        yield Ability(name="comment and checks", says="no", mend="" if trigger.is_fork else PERMISSIONS)
        return
    comment = "unknown until the first is written" if trigger.pull_request else "none: no pull request set this off"
    yield Ability(name="comment", says=f"{comment}; needs `pull-requests: write`")
    if token_kind(token).endswith("check runs"):
        yield Ability(
            name="checks", says="no: only an app's token makes them", mend="with:\n  github-token: ${{ github.token }}"
        )
    else:
        yield Ability(name="checks", says="unknown until the first is written; needs `checks: write`")
