"""Numbers, times and states in the words and marks a page shows (pure).

A figure that isn't known is an em dash, never a zero. Time is passed in, so that a page can be drawn for any moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from maos_bot.model import TaskState

UNKNOWN: Final = "—"  # what stands for a figure nobody measured

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How a state looks: its word, and the shape that says it without colour (an id in `_icons.html`)."""

    state: str
    word: str
    icon: str


_MARKS: Final = {
    mark.state: mark
    for mark in (
        Mark(state="pending", word="Waiting", icon="dots"),
        Mark(state="ready", word="Ready", icon="circle"),
        Mark(state="running", word="Running", icon="ring"),
        Mark(state="succeeded", word="Succeeded", icon="check"),
        Mark(state="failed", word="Failed", icon="cross"),
        Mark(state="timed_out", word="Timed out", icon="clock"),
        Mark(state="cancelled", word="Cancelled", icon="stop"),
        Mark(state="skipped", word="Skipped", icon="skip"),
        Mark(state="upstream_failed", word="Upstream failed", icon="blocked"),
        Mark(state="cached", word="Cached", icon="bolt"),
        Mark(state="over_budget", word="Over budget", icon="blocked"),
        Mark(state="nothing", word="Nothing to do", icon="skip"),
        Mark(state="lost", word="Lost", icon="question"),
    )
}


def mark(state: str) -> Mark:
    """The mark of a task state or a run status; one we don't know keeps its own name."""
    return _MARKS.get(state) or Mark(state="other", word=state or "Unknown", icon="question")


_SEVERITIES: Final = {
    mark.state: mark
    for mark in (
        Mark(state="error", word="Error", icon="cross"),
        Mark(state="warning", word="Warning", icon="warning"),
        Mark(state="notice", word="Notice", icon="note"),
    )
}


def severity(level: str) -> Mark:
    """The mark of a finding's weight."""
    return _SEVERITIES.get(level) or Mark(state="other", word=level or "Unknown", icon="question")


def counts_of(tasks: Mapping[TaskState, int]) -> tuple[tuple[Mark, int], ...]:
    """How many tasks are in each state, with the state's mark, bad news first."""
    order = (TaskState.FAILED, TaskState.TIMED_OUT, TaskState.UPSTREAM_FAILED, TaskState.CANCELLED, *TaskState)
    return tuple((mark(state), tasks[state]) for state in dict.fromkeys(order) if tasks.get(state))


def duration(seconds: float | None) -> str:
    """A duration in at most two units: `420 ms`, `8.3 s`, `2 m 05 s`, `1 h 04 m`, `3 d 02 h`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 59.95:
        return _short(seconds)
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} m {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} m"
    return f"{whole // DAY} d {whole % DAY // HOUR:02d} h"


def _short(seconds: float) -> str:
    if seconds >= 0.9995:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 else "0 s"


def tick(seconds: float) -> str:
    """A round instant on a time axis: `0`, `30s`, `1m`, `1m30`, `2h`."""
    if seconds == 0:
        return "0"
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    if seconds < MINUTE:
        return f"{seconds:g}s"
    whole = round(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02d}" if whole % MINUTE else f"{whole // MINUTE}m"
    return f"{whole // HOUR}h{whole % HOUR // MINUTE:02d}" if whole % HOUR else f"{whole // HOUR}h"


def ago(at: float, now: float) -> str:
    """How long before `now` an instant was, in the one unit a reader needs."""
    seconds = now - at
    if seconds < 10:
        return "just now"
    for size, unit in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (1, "second")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def instant(at: float) -> str:
    """An instant for people, in UTC."""
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at: float) -> str:
    """An instant for machines: the value of `<time datetime>`."""
    return datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def usd(amount: float | None) -> str:
    """Money; below one cent with the digits that still say something."""
    if amount is None:
        return UNKNOWN
    if amount == 0:
        return "$0"
    return f"${amount:.4f}" if abs(amount) < 0.01 else f"${amount:,.2f}"


def count(number: float | None) -> str:
    """A count: `950`, `12.4 k`, `3.1 M`."""
    if number is None:
        return UNKNOWN
    if number < 1000:
        return f"{number:g}"
    if number < 999_950:
        return f"{number / 1000:.1f} k"
    return f"{number / 1e6:.1f} M"


def memory(mb: float | None) -> str:
    """Memory given in MiB."""
    if mb is None:
        return UNKNOWN
    return f"{mb / 1024:.1f} GiB" if mb >= 1024 else f"{mb:.0f} MiB"


def size(number: int) -> str:
    """A size in bytes."""
    if number < 1024:
        return f"{number} B"
    if number < 1024**2:
        return f"{number / 1024:.1f} KiB"
    return f"{number / 1024**2:.1f} MiB"


def change(now_s: float | None, before_s: float | None) -> str:
    """How a duration moved: `+12 %`, `-8 %`, `±0 %`; an em dash where there is nothing to compare with."""
    if now_s is None or not before_s:
        return UNKNOWN
    percent = round((now_s - before_s) / before_s * 100)
    return f"{percent:+d} %" if percent else "±0 %"


def plural(number: int, noun: str) -> str:
    """`1 task`, `3 tasks`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def parse_duration(text: str) -> float | None:
    """Seconds in `90`, `90s`, `1.5m`, `2m 30s`, `1h`; None where the text says no duration."""
    units = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}
    total, number = 0.0, ""
    for char in text.strip().lower() + " ":
        if char.isascii() and (char.isdigit() or char == "."):
            number += char
        elif char in units or char == " ":
            if not number and char == " ":
                continue
            try:
                total += float(number) * units.get(char, 1)
            except ValueError:
                return None
            number = ""
        else:
            return None
    return total if text.strip() else None


def parse_usd(text: str) -> float | None:
    """An amount in `0.5`, `$2`, `1.25`; None where the text says none."""
    digits = text.strip().removeprefix("$").strip()
    whole, _, part = digits.partition(".")
    if (
        not (whole or part)
        or len(digits) > 12
        or not all(not one or (one.isascii() and one.isdigit()) for one in (whole, part))
    ):
        return None
    return float(digits)
