"""The composition root: builds the real parts, wires event to spec to plan to run to report, gives the exit code.

Every sink of the event stream is made here and closed here; nothing below knows of more than its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from maos_bot.config import Config
from maos_bot.errors import ConfigError, ExitCode, MaosError, NothingToDoError
from maos_bot.events import RunEvent
from maos_bot.model import Limit, Plan, Spec, Task, TaskKind, Trigger
from maos_bot.planning.planner import make_plan
from maos_bot.resources.limits import resolve_limits
from maos_bot.resources.runner import probe
from maos_bot.spec.load import load_spec

NO_PROVIDER = "no model provider configured"


class Sink(Protocol):
    """Something that follows the event stream; `add` returns at once."""

    def add(self, event: RunEvent) -> object: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A spec, which of its tasks are to run, and the plan for them."""

    spec: Spec
    tasks: tuple[Task, ...]
    limits: Mapping[str, Limit]
    plan: Plan
