"""Standard output as a page for tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPED_WIDTH: Final = 200  # nothing is cut where no one looks at lines as they are
_LABEL: Final = re.compile(r" *\S+(?: \S+)* {2,}")  # what a line begins with that is followed by two spaces or more
_WIDEST_LABEL: Final = 30
_NARROWEST: Final = 20  # columns for the words beside it


def page() -> Console:
    """Standard output: as wide as the terminal, and wide enough to cut nothing where it is a pipe."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def plain_table(console: Console) -> Table:
    """A table without lines; on a terminal it takes the whole width, for the bars in its last column."""
    from rich.table import Table

    return Table(box=None, pad_edge=False, header_style="dim", expand=console.is_terminal)


def say(console: Console, line: Text) -> None:
    """Print one line; where a terminal is too narrow for it, go on below its first words, and break no word.

    In a pipe a line stays one line.
    """
    from rich.text import Text

    hang = _hang(line.plain)
    width = console.width - hang
    if not console.is_terminal or line.cell_len <= console.width or width < _NARROWEST:
        console.print(line, soft_wrap=True)
        return
    head, rest = line[:hang], line[hang:]
    for place, piece in enumerate(rest.wrap(console, width, overflow="fold")):
        console.print(Text.assemble(" " * hang if place else head, piece), soft_wrap=True)


def _hang(line: str) -> int:
    """How far its next lines are set in: to where its label ends, or a little."""
    label = _LABEL.match(line)
    if label and label.end() <= _WIDEST_LABEL:
        return label.end()
    return len(line) - len(line.lstrip()) + 2
