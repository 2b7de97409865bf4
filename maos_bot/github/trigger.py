"""From a GitHub event to what triggered us (pure); `maos_bot.github.trust` decides what may come of it.

`read_trigger` reads any webhook payload without failing: what a payload doesn't say stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from maos_bot.errors import ConfigError
from maos_bot.frozen import dataclass
from maos_bot.model import Trigger

SERVER_URL: Final = "https://github.com"
_NO_COMMIT: Final = "0" * 40  # how a push says "there was no commit before" or "the branch is gone"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkflowRun:
    """Which run of which workflow we are; `number` and `attempt` are 0 outside GitHub Actions.

    `key` names what has one comment in a pull request: this workflow with this spec.
    """

    id: str = ""
    number: int = 0
    attempt: int = 0
    key: str = ""


def read_trigger(event_name: str, payload: object, env: Mapping[str, str]) -> Trigger:
    """What set this run off, from the event's name, its payload and the runner's environment.

    Raises `ConfigError` where the payload is no JSON object; unknown events give what is known of them.
    """
    if not isinstance(payload, Mapping):
        raise ConfigError(
            f"the event payload is {_kind(payload)}, not an object", hint="GITHUB_EVENT_PATH must name a JSON object"
        )
    repository = env.get("GITHUB_REPOSITORY") or _text(payload, "repository", "full_name")
    common: dict[str, Any] = {
        "event": event_name,
        "action": _text(payload, "action"),
        "repository": repository,
        "actor": _text(payload, "sender", "login") or env.get("GITHUB_ACTOR", ""),
        "url": run_url(env, repository),
    }
    if event_name in ("pull_request", "pull_request_target"):
        return Trigger(**common, **_of_pull_request(payload, env))
    if event_name == "push":
        return Trigger(**common, **_of_push(payload, env))
    if event_name == "workflow_run":
        return Trigger(**common, **_of_workflow_run(payload))
    if event_name == "merge_group":
        return Trigger(**common, **_of_merge_group(payload, env))
    return Trigger(**common, **_of_other(payload, env))


def read_workflow_run(env: Mapping[str, str], *, spec: str = "") -> WorkflowRun:
    """Our place among the runs of this workflow; `spec` is the spec's path in the repository."""
    # GITHUB_WORKFLOW_REF is `owner/name/.github/workflows/ci.yml@refs/...`: the file is stable, the ref is not.
    workflow = env.get("GITHUB_WORKFLOW_REF", "").partition("@")[0] or env.get("GITHUB_WORKFLOW", "")
    return WorkflowRun(
        id=env.get("GITHUB_RUN_ID", ""),
        number=_number(env.get("GITHUB_RUN_NUMBER", "")),
        attempt=_number(env.get("GITHUB_RUN_ATTEMPT", "")),
        key=sha256(f"{workflow}\n{spec}".encode()).hexdigest()[:12],
    )


def run_url(env: Mapping[str, str], repository: str) -> str:
    """The page of the workflow run, or nothing where there is none."""
    run_id = env.get("GITHUB_RUN_ID", "")
    if not run_id or not repository:
        return ""
    server = (env.get("GITHUB_SERVER_URL") or SERVER_URL).rstrip("/")
    return f"{server}/{repository}/actions/runs/{run_id}"


def _of_pull_request(payload: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    base = _text(payload, "pull_request", "base", "repo", "full_name") or _text(payload, "repository", "full_name")
    # A head repository that was deleted is null. It was not ours: ours is where the event comes from.
    head = _text(payload, "pull_request", "head", "repo", "full_name")
    return {
        "ref": _text(payload, "pull_request", "head", "ref") or env.get("GITHUB_HEAD_REF", ""),
        "sha": _text(payload, "pull_request", "head", "sha"),
        "base_sha": _text(payload, "pull_request", "base", "sha"),
        "pull_request": _integer(payload, "pull_request", "number") or _integer(payload, "number"),
        "is_fork": not head or head != base,
    }


def _of_push(payload: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    after, before = _text(payload, "after"), _text(payload, "before")
    return {
        "ref": _short_ref(_text(payload, "ref") or env.get("GITHUB_REF", "")),
        "sha": env.get("GITHUB_SHA", "") if after in ("", _NO_COMMIT) else after,
        "base_sha": "" if before == _NO_COMMIT else before,
    }


def _of_workflow_run(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The commit that the run before was for; which pull request it belongs to must be asked of the API."""
    head = _text(payload, "workflow_run", "head_repository", "full_name")
    return {
        "ref": _text(payload, "workflow_run", "head_branch"),
        "sha": _text(payload, "workflow_run", "head_sha"),
        "is_fork": not head or head != _text(payload, "repository", "full_name"),
    }


def _of_merge_group(payload: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    return {
        "ref": _short_ref(_text(payload, "merge_group", "head_ref") or env.get("GITHUB_REF", "")),
        "sha": _text(payload, "merge_group", "head_sha") or env.get("GITHUB_SHA", ""),
        "base_sha": _text(payload, "merge_group", "base_sha"),
    }


def _of_other(payload: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    number = _integer(payload, "pull_request", "number")
    if number is None and _at(payload, "issue", "pull_request") is not None:
        number = _integer(payload, "issue", "number")  # a comment on a pull request
    return {
        "ref": _short_ref(env.get("GITHUB_REF", "") or _text(payload, "ref")),
        "sha": _text(payload, "pull_request", "head", "sha") or env.get("GITHUB_SHA", ""),
        "base_sha": _text(payload, "pull_request", "base", "sha"),
        "pull_request": number,
    }


def _at(payload: Mapping[str, Any], *path: str) -> Any:
    value: Any = payload
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _text(payload: Mapping[str, Any], *path: str) -> str:
    value = _at(payload, *path)
    return value if isinstance(value, str) else ""


def _integer(payload: Mapping[str, Any], *path: str) -> int | None:
    value = _at(payload, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _short_ref(ref: str) -> str:
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
