"""Plans and runs drawn as lines of text, one bar a task on a common axis (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from maos_bot.frozen import dataclass

NARROWEST: Final = 8
_INSTANT_S: Final = 1e-9  # an axis shorter than that has one place
_BLOCKS: Final = "▏▎▍▌▋▊▉█"  # eighths of a cell, from the left


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """When a task ran, in seconds of the axis; `waits_from` is when it was ready."""

    start_s: float
    finish_s: float
    waits_from: float | None = None


def draw(spans: Sequence[Span], total_s: float, width: int, *, ascii_only: bool = False) -> str:
    """The bars of one task (one each attempt, in order), at most `width` characters together.

    Waiting is drawn light (`·`), running solid; each span fills at least a part of a cell. With Unicode the last one
    ends on an eighth of a cell.
    """
    if not spans:
        return ""
    width = max(width, 1)
    if total_s < _INSTANT_S:
        return "#" if ascii_only else "█"
    full, light = ("#", ".") if ascii_only else ("█", "·")
    scale = width / total_s
    cells: list[str] = []
    for span in spans:
        first = max(min(width - 1, int(max(span.start_s, 0.0) * scale)), len(cells) - 1)
        waits_from = first if span.waits_from is None else int(max(span.waits_from, 0.0) * scale)
        cells += " " * (min(waits_from, first) - len(cells))
        cells += light * (first - len(cells))
        end = min(float(width), span.finish_s * scale)
        if ascii_only or span is not spans[-1]:
            cells[first:] = full * max(1, round(end) - first)
            continue
        eighths = int((end - int(end)) * 8)
        cells[first:] = full * (int(end) - first) + (_BLOCKS[eighths - 1] if eighths else "")
        if len(cells) == first:
            cells.append(_BLOCKS[0])
    return "".join(cells[:width])


def axis(total_s: float, width: int) -> str:
    """The scale over the bars: where it begins and what it ends with, such as `0         41.5 s`."""
    from maos_bot.reporting.words import duration

    end = duration(total_s)
    return "0" + end.rjust(width - 1) if width > len(end) + 1 else end[:width]


def timeline(rows: Sequence[tuple[str, Span]], *, width: int, ascii_only: bool = False) -> list[str]:
    """Whole lines, label and bar, for `width` columns; labels that are too long are cut."""
    if not rows:
        return []
    total_s = max(span.finish_s for _, span in rows)
    longest = min(max(len(label) for label, _ in rows), max(width - NARROWEST - 1, 1))
    room = max(width - longest - 1, 1)
    lines = [" " * (longest + 1) + axis(total_s, room)]
    for label, span in rows:
        name = label if len(label) <= longest else label[: max(longest - 1, 0)] + ("~" if ascii_only else "…")
        lines.append(f"{name:<{longest}} {draw((span,), total_s, room, ascii_only=ascii_only)}".rstrip())
    return lines


@dataclass(frozen=True, kw_only=True, slots=True)
class BarCell:
    """The bars of a task in a rich table, drawn to the width its column gets. Without spans it is the axis."""

    spans: tuple[Span, ...]
    total_s: float
    style: str = ""

    def __rich_console__(self, console: Any, options: Any) -> Any:
        from rich.text import Text

        width = options.max_width
        if not self.spans:
            yield Text(axis(self.total_s, width), style="dim", no_wrap=True, end="")
        else:
            bar = draw(self.spans, self.total_s, width, ascii_only=options.ascii_only)
            yield Text(bar, style=self.style, no_wrap=True, end="")

    def __rich_measure__(self, console: Any, options: Any) -> Any:
        from rich.measure import Measurement

        return Measurement(NARROWEST, min(options.max_width, 80))
