"""Where state that was carried over from an earlier run comes from, and who may believe it (pure).

`.maos/` (the history and the results of unchanged tasks) travels from run to run through caches and artifacts. Whoever
wrote it decides what later tasks "came to", so a run believes only what was left by runs at least as trusted as itself.
"""

from __future__ import annotations

from enum import IntEnum

from maos_bot.frozen import dataclass
from maos_bot.github.trust import OWN_EVENTS, PRIVILEGED_EVENTS
from maos_bot.model import Trigger


class Level(IntEnum):
    """Whose code had a hand in it: a stranger's, a branch's that nobody merged yet, the protected branch's alone."""

    FORK = 0
    BRANCH = 1
    PROTECTED = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What state says of itself: the repository it belongs to, and the least trusted of all who wrote it."""

    repository: str
    level: Level
    ref: str = ""
    event: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standards:
    """What a run asks of state (`needs`), and what the state is worth after it (`leaves`)."""

    needs: Level
    leaves: Level


def standards(trigger: Trigger, *, protected: bool) -> Standards:
    """The standards of the run that `trigger` set off; `protected` says that its ref is a protected or default branch.

    With secrets in reach only the protected branch's own state will do, and what approved code leaves isn't that.
    """
    code = Level.FORK if trigger.is_fork or trigger.actor == "dependabot[bot]" else Level.BRANCH
    if trigger.event in PRIVILEGED_EVENTS:
        return Standards(needs=Level.PROTECTED, leaves=code)
    if trigger.event in OWN_EVENTS and protected:
        return Standards(needs=Level.PROTECTED, leaves=Level.PROTECTED)
    return Standards(needs=code, leaves=code)


def objection(found: Provenance | None, *, repository: str, needs: Level, tracked: bool = False) -> str:
    """Why a run of `repository` must not believe the state it found, in words; empty where it may.

    `found` is None where the state doesn't say where it comes from; `tracked` says that it is part of the commit.
    """
    if tracked:
        return "it is part of the commit, so whoever wrote the commit wrote it"
    if found is None:
        return "it doesn't say which run left it"
    if found.repository.lower() != repository.lower():
        return f"it belongs to {found.repository or 'no repository'}, not to {repository}"
    if found.level < needs:
        whose = "a fork's code" if found.level is Level.FORK else "a branch that isn't protected"
        return f"{whose} had a hand in it ({found.event or 'unknown event'} of {found.ref or 'unknown ref'})"
    return ""


def after(found: Provenance | None, trigger: Trigger, *, repository: str, leaves: Level) -> Provenance:
    """What the state is once this run has written to it: no better than it was, no better than the run."""
    if found is not None and found.level < leaves:
        return found
    return Provenance(repository=repository, level=leaves, ref=trigger.ref, event=trigger.event)
