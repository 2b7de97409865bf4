"""Which models answer at present: after three failures in a row one is left alone for a while (pure).

Instants are seconds on the caller's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from maos_bot.models.protocol import Fault

FAILURES: Final = 3
REST_S: Final = 60.0


@dataclass(kw_only=True, slots=True)
class _State:
    failures: int = 0
    until: float = float("-inf")
    fault: Fault | None = None


@dataclass(kw_only=True, slots=True)
class Health:
    """Of all models, each named as provider/model."""

    _states: dict[str, _State] = field(default_factory=dict)

    def succeeded(self, target: str) -> None:
        """It answered."""
        self._states.pop(target, None)

    def failed(self, target: str, fault: Fault, now: float) -> None:
        """It didn't. One that refuses us, or isn't there, stays out for good."""
        state = self._states.setdefault(target, _State())
        state.failures += 1
        state.fault = fault
        if fault in {Fault.NO_RIGHT, Fault.NO_MODEL, Fault.NO_CREDIT}:
            state.until = float("inf")
        elif state.failures >= FAILURES:
            state.until = now + REST_S

    def ill(self, target: str, now: float) -> Fault | None:
        """Why it should be left alone at `now`; None where it shouldn't."""
        state = self._states.get(target)
        return state.fault if state is not None and now < state.until else None
