"""How fast we may write: GitHub advises a second between two writes, and allows 80 a minute and 500 an hour (pure).

The limits are GitHub's secondary ones for requests that create content (docs: rate limits for the REST API); who
passes them is shut out for minutes, so they are kept here instead of found out.
"""

from __future__ import annotations

from collections import deque
from typing import Final

WRITES: Final = ((60.0, 80), (3600.0, 500))  # in so many seconds, at most so many
_SLACK_S: Final = 1.0  # GitHub's clock isn't ours


class Pace:
    """When the next write may be; instants are of any one clock, in seconds."""

    def __init__(self, *, pause_s: float) -> None:
        self._pause_s = pause_s
        self._written: deque[float] = deque(maxlen=max(most for _, most in WRITES))

    def quicken(self, pause_s: float) -> None:
        """From now on pause no longer than that; the limits stay. May come from another thread."""
        self._pause_s = min(self._pause_s, pause_s)

    def wait_s(self, now: float) -> float:
        """How long to wait before the next write."""
        times = self._written
        until = times[-1] + self._pause_s if times else now
        for seconds, most in WRITES:
            if len(times) >= most:
                until = max(until, times[-most] + seconds + _SLACK_S)
        return max(0.0, until - now)

    def wrote(self, now: float) -> None:
        """A write was sent, whatever came of it."""
        self._written.append(now)
