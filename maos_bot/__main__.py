"""`maos`, and `python -m maos_bot`."""

from __future__ import annotations

import gc

_GC_THRESHOLD = 100_000  # objects: commands keep most of what they make, so there is little to be found


def main() -> None:
    """Run the command line, and exit with its code."""
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])  # before what is imported: all of it stays
    from maos_bot.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
