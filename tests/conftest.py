"""What holds for every test: loopback only, a known environment, a hypothesis profile.

The guard stops this process at its sockets and points child processes at a proxy that isn't there, so that anything
which would leave the machine fails at once and says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests import loopback

# Profiles: `default` for every day, `ci` gives the same examples each time, `deep` looks longer.
hypothesis.settings.register_profile("default", max_examples=100, deadline=None)
hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("deep", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# What a CI runner, a shell or a developer's key would change about a run; tests set what they mean.
_OUTSIDE = ("GITHUB_", "RUNNER_", "INPUT_", "ACTIONS_", "ANTHROPIC_", "OPENAI_", "GEMINI_", "GIT_", "MAOS_")
_OUTSIDE_NAMES = frozenset({"CI", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE"})
_KEPT = frozenset({"MAOS_REQUIRE_STAND_INS"})

_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.invalid",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.invalid",
}


@pytest.fixture(scope="session", autouse=True)
def known_environment() -> Iterator[None]:
    """The environment every test starts from, whatever this machine or CI has set."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if (name.startswith(_OUTSIDE) or name in _OUTSIDE_NAMES) and name not in _KEPT:
                patch.delenv(name)
        for name, value in (_GIT | loopback.CHILD_ENVIRONMENT).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """Sockets of this process reach loopback and Unix sockets, nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        loopback.guard(patch)
        yield
