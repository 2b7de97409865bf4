"""Cut GitHub's OpenAPI description down to the addresses this project uses, with all they refer to.

    npm pack @octokit/openapi@23.0.2 && tar xzf octokit-openapi-*.tgz package/generated/api.github.com.json
    python tests/e2e/github/trim_openapi.py package/generated/api.github.com.json

writes `openapi.json` beside this script. The description is GitHub's (github/rest-api-description, MIT).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

REPO: Final = "/repos/{owner}/{repo}"
PATHS: Final = (
    "/rate_limit",
    "/user",
    REPO,
    f"{REPO}/actions/artifacts",
    f"{REPO}/actions/artifacts/{{artifact_id}}/{{archive_format}}",
    f"{REPO}/actions/runs/{{run_id}}",
    f"{REPO}/actions/runs/{{run_id}}/cancel",
    f"{REPO}/check-runs",
    f"{REPO}/check-runs/{{check_run_id}}",
    f"{REPO}/check-runs/{{check_run_id}}/annotations",
    f"{REPO}/collaborators/{{username}}/permission",
    f"{REPO}/commits/{{ref}}",
    f"{REPO}/commits/{{ref}}/check-runs",
    f"{REPO}/compare/{{basehead}}",
    f"{REPO}/contents/{{path}}",
    f"{REPO}/issues/comments/{{comment_id}}",
    f"{REPO}/issues/comments/{{comment_id}}/reactions",
    f"{REPO}/issues/{{issue_number}}",
    f"{REPO}/issues/{{issue_number}}/comments",
    f"{REPO}/pulls/{{pull_number}}",
    f"{REPO}/pulls/{{pull_number}}/files",
)
WORDS: Final = {"description", "example", "examples", "externalDocs", "summary", "tags", "x-github"}


def trim(whole: dict[str, Any]) -> dict[str, Any]:
    """The paths of `PATHS` and the components they reach, without what is only prose."""
    paths = {path: _bare(whole["paths"][path]) for path in PATHS}
    components: dict[str, dict[str, Any]] = {}
    todo = list(_references(paths))
    while todo:
        _, _, kind, name = todo.pop().split("/")
        if name not in components.setdefault(kind, {}):
            components[kind][name] = _bare(whole["components"][kind][name])
            todo.extend(_references(components[kind][name]))
    return {"openapi": whole["openapi"], "info": whole["info"], "paths": paths, "components": components}


def _bare(value: Any, *, named: bool = False) -> Any:
    """`value` without prose; with `named` its keys are names of somebody's, such as a property `description`."""
    if isinstance(value, dict):
        kept = value if named else {key: each for key, each in value.items() if key not in WORDS}
        return {key: _bare(each, named=key in ("properties", "headers") and not named) for key, each in kept.items()}
    return [_bare(each) for each in value] if isinstance(value, list) else value


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for each in value.values() for found in _references(each)]
    return [found for each in value for found in _references(each)] if isinstance(value, list) else []


if __name__ == "__main__":
    trimmed = trim(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    text = json.dumps(trimmed, sort_keys=True, separators=(",", ":")).replace('"paths":{', '"paths":{\n')
    Path(__file__).with_name("openapi.json").write_text(text + "\n", encoding="utf-8")
