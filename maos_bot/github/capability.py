"""What this job may do on GitHub, said before the run: what will be missing, why, and what would mend it.

A token's permissions can't be asked for: GitHub tells of one only by refusing. So what is not known stays `unknown`,
and the first refused write says the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from maos_bot.errors import GitHubError
from maos_bot.frozen import dataclass
from maos_bot.github.client import GitHubClient
from maos_bot.github.refusals import PERMISSIONS
from maos_bot.github.trust import Decision
from maos_bot.model import Trigger
from maos_bot.resources.runner import Runner

_KEY: Final = "env:\n  ANTHROPIC_API_KEY: ${{ secrets.ANTHROPIC_API_KEY }}"
_GIVE_IT: Final = "with:\n  github-token: ${{ github.token }}"
_SECOND_STAGE: Final = """on: # of a second workflow, examples/workflows/fork-safe-report.yml
  workflow_run:
    workflows: [MAOS bot]
    types: [completed]"""
_LATE: Final = "# nothing to be changed: the report may come late; it is in the job summary all the same"
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


def machine(runner: Runner, providers: Mapping[str, str]) -> Sequence[Ability]:
    """The runner's size and who answers agents; `providers` says by name what each offers."""
    memory = "unknown" if runner.memory_mb is None else f"{runner.memory_mb:,.0f} MB ({runner.memory_reason})"
    disk = "" if runner.disk_free_mb is None else f", {runner.disk_free_mb:,.0f} MB of disk free"
    size = f"{runner.cpus:g} CPUs ({runner.cpu_reason}), memory {memory}{disk}"
    models = "; ".join(f"{name}: {says}" for name, says in providers.items())
    return (
        Ability(name="runner", says=size),
        Ability(name="providers", says=models or "none: agents' tasks are skipped", mend="" if models else _KEY),
    )


def lines(found: Iterable[Ability], *, width: int = 0) -> Iterator[str]:
    """The report, line by line, with the YAML as it is to be written."""
    for each in found:
        yield f"{f'{each.name}:':<{width}} {each.says}"
        if each.mend:
            yield "  to mend it:"
            yield from (f"    {line}" for line in each.mend.splitlines())


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
        yield Ability(name="token", says="none: nothing can be posted", mend=_GIVE_IT)
    else:
        yield Ability(name="token", says=token_kind(token))
        few = left is not None and left.left < FEW
        said = "unknown: GitHub didn't say" if left is None else f"{left.left:,} of {left.limit:,} requests left"
        yield Ability(name="API quota", says=said, mend=_LATE if few else "")
    if trigger is None or decision is None:
        return
    yield Ability(name="event", says=f"{trigger.event or 'none'}: {decision.reason}")
    yield Ability(name="fork", says="yes" if trigger.is_fork else "no")
    spec = "this commit's" if decision.spec_from == "head" else "the base's"
    yield Ability(name="spec", says=spec)
    yield Ability(name="agents", says=f"may use {' '.join(decision.tools)}" if decision.agents else "don't run")
    if not decision.publish:
        where = "no: the report is in the job summary alone"
        mend = _SECOND_STAGE if trigger.is_fork else PERMISSIONS if not token else ""
        yield Ability(name="comment and checks", says=where, mend=mend)
        return
    comment = "unknown until the first is written" if trigger.pull_request else "none: no pull request set this off"
    yield Ability(
        name="comment",
        says=f"{comment}; needs the permission below, else the job summary has it",
        mend=_write("pull-requests"),
    )
    if token_kind(token).endswith("check runs"):
        yield Ability(name="checks", says="no: only an app's token makes them", mend=_GIVE_IT)
    else:
        checks = "unknown until the first is written; needs the permission below, else the comment has it"
        yield Ability(name="checks", says=checks, mend=_write("checks"))


def _write(scope: str) -> str:
    return f"permissions:\n  contents: read\n  {scope}: write"
