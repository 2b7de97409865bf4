"""What a workflow's runner gives to an action and takes from it: inputs, the event, log commands, summary, outputs.

Everything comes through the environment (docs: "Metadata syntax" and "Workflow commands" of GitHub Actions).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from maos_bot.errors import ConfigError
from maos_bot.github.client import API_URL

SUMMARY_BYTES: Final = 1024 * 1024 - 4096  # a summary above 1 MiB is dropped whole (runner FileCommandManager.cs)
OUTPUT_BYTES: Final = 900 * 1024  # all outputs of a job: 1 MB of UTF-16 (docs: passing information between jobs)


def read_payload(env: Mapping[str, str]) -> object:
    """The event; raises `ConfigError` where there is none that can be read."""
    path = env.get("GITHUB_EVENT_PATH", "")
    if not path:
        hint = "`maos action` runs in GitHub Actions; here use `maos run`"
        raise ConfigError("GITHUB_EVENT_PATH is not set", hint=hint)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the event file {path} can't be read: {error}") from error


def read_input(env: Mapping[str, str], name: str) -> str:
    """An input of the action: upper case, hyphens stay (runner `Handler.cs`)."""
    return env.get(f"INPUT_{name.upper()}", "").strip()


def read_flag(env: Mapping[str, str], name: str) -> bool:
    """An input that is true or false; true where it isn't given."""
    value = read_input(env, name).lower() or "true"
    if value not in ("true", "false"):
        raise ConfigError(f"input {name} is {value!r}", hint="give true or false")
    return value == "true"


def comment_mode(env: Mapping[str, str]) -> str:
    """The input `comment`; true and false are what it was once."""
    given = read_input(env, "comment").lower() or "update"
    mode = {"true": "update", "false": "off"}.get(given, given)
    if mode not in ("update", "recreate", "off"):
        raise ConfigError(f"input comment is {given!r}", hint="give update, recreate or off")
    return mode


def read_seconds(env: Mapping[str, str], name: str, usual: float = 1.0) -> float:
    """A wait that tests make short; a second otherwise, as GitHub advises between writes."""
    text = env.get(name) or str(usual)
    try:
        return max(0.0, float(text))
    except ValueError as error:
        raise ConfigError(f"{name} is {text!r}", hint="give seconds, such as 1.0") from error


def read_api(env: Mapping[str, str]) -> tuple[str, str]:
    """Where GitHub's API is, and the file of the certificates to trust there (empty: the usual ones)."""
    return env.get("GITHUB_API_URL") or API_URL, env.get("REQUESTS_CA_BUNDLE") or env.get("SSL_CERT_FILE") or ""


def write_summary(env: Mapping[str, str], text: str) -> None:
    """Add to the job summary."""
    path = env.get("GITHUB_STEP_SUMMARY", "")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def write_outputs(env: Mapping[str, str], values: Mapping[str, str]) -> None:
    """Outputs with a random delimiter, refused where a value holds it (actions/toolkit `file-command.ts`)."""
    path = env.get("GITHUB_OUTPUT", "")
    if not path:
        return
    with Path(path).open("a", encoding="utf-8") as file:
        for name, value in values.items():
            delimiter = f"maos-{secrets.token_hex(16)}"
            if delimiter in value:
                raise ConfigError(f"output {name} holds its own delimiter")
            file.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def mask(value: str) -> None:
    """Have the runner take `value` out of the log from now on."""
    click.echo(f"::add-mask::{escaped(value)}")


def escaped(text: str) -> str:
    """As a workflow command's data (actions/toolkit `command.ts`)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
