"""Standard output as a page for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPED_WIDTH: Final = 200  # nothing is cut where no one looks at lines as they are


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
