"""Settings from flags, action inputs and the environment, gathered into one frozen `Config`.

Precedence: a flag or action input, then the spec, then the default. Nothing below this module reads the environment
for settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from maos_bot.errors import ConfigError
from maos_bot.frozen import dataclass
from maos_bot.model import ExecutionMode, ParallelStrategy

SPEC_NAMES: Final = (".maos.yml", ".maos.yaml")
DATABASE: Final = ".maos/maos.db"
CACHE_BYTES: Final = 2 * 2**30

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What a run was asked to do. `root` is where tasks run: the repository's root, as on a CI runner."""

    root: Path
    spec: Path
    db: Path
    mode: ExecutionMode | None = None
    strategy: ParallelStrategy | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    plan_time_s: float | None = None  # None: the default of what plans
    optimal: bool = False
    goal: str = ""  # to be turned into tasks before planning
    events: Path | None = None
    json: bool = False
    quiet: bool = False
    spec_given: bool = False  # named by the user, not found
    use_cache: bool = True
    cache_bytes: int = CACHE_BYTES  # what the cache may hold
    apply: bool = False  # what agents changed goes into the working tree
    approve: bool = False  # agents may cost more than `budget.approve-above`


def find_root(start: Path) -> Path:
    """The closest folder at or above `start` that holds `.git`; `start` itself where there is none."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / ".git").exists():
            return folder
    return start


def find_spec(start: Path) -> Path:
    """The spec in `start` or at its repository's root; the first name where neither is there, for the error to name."""
    for folder in dict.fromkeys((start, find_root(start))):
        for name in SPEC_NAMES:
            if (folder / name).is_file():
                return folder / name
    return start / SPEC_NAMES[0]


def parse_limits(pairs: Iterable[str]) -> dict[str, str]:
    """`KEY=VALUE` flags as a mapping; raises `ConfigError` for one without a key or a value."""
    limits: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ConfigError(f"--limit {pair!r} is not KEY=VALUE", hint="for example --limit concurrent-agents=4")
        limits[key.strip()] = value.strip()
    return limits


def parse_size(text: str, flag: str) -> int:
    """`2G`, `500M`, `64K` or plain bytes, in bytes; units are powers of 1024. Raises `ConfigError`."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ConfigError(f"{flag} {text!r} is not a size", hint=f"for example {flag} 500M, or 2G")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def make_config(
    *,
    cwd: Path,
    spec: str | None = None,
    db: str | None = None,
    mode: str | None = None,
    strategy: str | None = None,
    limits: Iterable[str] = (),
    tasks: Iterable[str] = (),
    plan_time: float | None = None,
    optimal: bool = False,
    goal: str = "",
    events: str | None = None,
    json: bool = False,
    quiet: bool = False,
    use_cache: bool = True,
    cache_size: str | None = None,
    apply: bool = False,
    approve: bool = False,
) -> Config:
    """A `Config` from what the user gave; relative paths count from `cwd`."""
    spec_path = cwd / spec if spec else find_spec(cwd)
    root = find_root(spec_path.parent if spec_path.parent.is_dir() else cwd)
    return Config(
        root=root,
        spec=spec_path,
        db=cwd / db if db else root / DATABASE,
        mode=_choice(ExecutionMode, mode, "--mode"),
        strategy=_choice(ParallelStrategy, strategy, "--strategy"),
        limits=parse_limits(limits),
        tasks=tuple(tasks),
        plan_time_s=plan_time,
        optimal=optimal,
        goal=goal,
        events=cwd / events if events else None,
        json=json,
        quiet=quiet,
        spec_given=bool(spec),
        use_cache=use_cache,
        cache_bytes=parse_size(cache_size, "--cache-size") if cache_size else CACHE_BYTES,
        apply=apply,
        approve=approve,
    )


def database_path(cwd: Path, db: str | None) -> Path:
    """Where history is read from: `--db`, else the repository's own database."""
    return cwd / db if db else find_root(cwd) / DATABASE


def _choice(kind: type[_Choice], value: str | None, flag: str) -> _Choice | None:
    if not value:
        return None
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise ConfigError(f"{flag} {value!r} is unknown", hint=f"one of {known}") from None
