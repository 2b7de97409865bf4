"""Whether a task runs at all: `when`, what its needs came to, and what can't run here (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from maos_bot.frozen import dataclass
from maos_bot.model import BAD_STATES, GOOD_STATES, Outcome, Task, TaskState

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_NAMED: Final = 3  # needs named in a reason before the rest is counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of the run from outside: decides `when` and what can't run here.

    `event` is the name of what set the run off; `changed` the changed paths, with `/`, from the repository's root, or
    None where unknown (then `when.changed` holds back nothing); `unavailable` gives, by task id, why a task can't run,
    `finished` why it needn't, as it has succeeded before.
    """

    event: str = "local"
    changed: frozenset[str] | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    finished: Mapping[str, str] = field(default_factory=dict)


class Conditions:
    """Decides for one run; patterns are compiled once and remembered."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._changed: dict[tuple[str, ...], bool] = {}

    def verdict(self, task: Task, needs: Sequence[Task], states: Mapping[str, TaskState]) -> Outcome | None:
        """The outcome of `task` if it isn't to run, now that its needs have ended; None if it is.

        What doesn't apply to this run at all is skipped, whatever became of its needs. Only then they count: a failure
        weighs more than a skip, so the answer doesn't depend on the order in which they ended.
        """
        known = self._known(task)
        if known is not None or task.when.needs == "any":
            return known
        failed = [need for need in needs if _failed(need, states[need.id])]
        if task.when.needs == "failed":
            return None if failed else Outcome(state=TaskState.SKIPPED, reason="no need failed")
        unmet = failed or [need for need in needs if states[need.id] is TaskState.CANCELLED]
        if unmet:
            return Outcome(state=TaskState.UPSTREAM_FAILED, reason=_names(unmet, states))
        skipped = [need for need in needs if not _met(need, states[need.id])]
        if skipped:
            return Outcome(state=TaskState.SKIPPED, reason=_names(skipped, states))
        return None

    def _known(self, task: Task) -> Outcome | None:
        """The outcome that is known before any need has ended."""
        skip = self._unwanted(task)
        if skip:
            return Outcome(state=TaskState.SKIPPED, reason=skip)
        reused = self._facts.finished.get(task.id)
        return Outcome(state=TaskState.CACHED, reason=reused) if reused else None

    def _unwanted(self, task: Task) -> str:
        """Why `task` doesn't apply to this run, or nothing."""
        facts, when = self._facts, task.when
        if when.events and facts.event not in when.events:
            return f"runs on {', '.join(when.events)} only; this is {facts.event}"
        if when.changed and facts.changed is not None and not self._is_changed(when.changed, facts.changed):
            return f"nothing that matches {', '.join(when.changed)} was changed"
        return facts.unavailable.get(task.id, "")

    def _is_changed(self, patterns: tuple[str, ...], changed: frozenset[str]) -> bool:
        if patterns not in self._changed:
            spec = _compiled(patterns)
            self._changed[patterns] = any(spec.match_file(path) for path in changed)
        return self._changed[patterns]


def _compiled(patterns: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(patterns)


def _failed(need: Task, state: TaskState) -> bool:
    """A failure that may not continue; what couldn't run because of one counts as one."""
    return state is TaskState.UPSTREAM_FAILED or (state in BAD_STATES and not need.continue_on_error)


def _met(need: Task, state: TaskState) -> bool:
    return state in GOOD_STATES or (state in BAD_STATES and need.continue_on_error)


def _names(needs: Sequence[Task], states: Mapping[str, TaskState]) -> str:
    """`needs unit (failed), lint (timed_out) and 2 more`."""
    named = ", ".join(f"{need.id} ({states[need.id]})" for need in needs[:_NAMED])
    more = len(needs) - _NAMED
    return f"needs {named} and {more} more" if more > 0 else f"needs {named}"
