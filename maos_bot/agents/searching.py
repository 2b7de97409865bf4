"""The program that searches where there is no ripgrep: `python -I -m maos_bot.agents.searching PATTERN PATH GLOB 0 0`.

It prints `path NUL line :` for each line that fits, as ripgrep is told to. Text is UTF-8; a file with a NUL byte in it
is binary and left out, and so are files over 8 MiB, links, and all that `Confined` doesn't open. The exit code is 2
for a pattern that isn't one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from maos_bot.agents.confine import Confined, ConfinedError
from maos_bot.agents.search import MOST_OF_A_FILE, lines_of


def main(arguments: Sequence[str]) -> int:
    """Search the working directory."""
    pattern, path, glob, literal, ignore_case = arguments
    try:
        fits = _compiled(re.escape(pattern) if literal == "1" else pattern, ignore_case=ignore_case == "1")
    except (re.error, OverflowError, RecursionError) as error:
        sys.stderr.write(f"the pattern is no regular expression: {error}\n")
        return 2
    wanted = _named(glob)
    files = Confined(Path())
    try:
        for name in files.files(path):
            if wanted(name):
                _search(files, name, fits)
    except ConfinedError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _compiled(pattern: str, *, ignore_case: bool) -> Callable[[str], object]:
    return re.compile(pattern, re.IGNORECASE if ignore_case else 0).search


def _named(glob: str) -> Callable[[str], bool]:
    """Whether a path fits `glob`; one without a slash counts in every folder."""
    if not glob:
        return lambda _: True
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines([glob]).match_file


def _search(files: Confined, name: str, fits: Callable[[str], object]) -> None:
    try:
        data = files.read(name)
    except ConfinedError:
        return
    if b"\0" in data:
        return
    found = 0
    for number, line in enumerate(lines_of(data.decode("utf-8", "replace")), start=1):
        if fits(line):
            sys.stdout.write(f"{name}\0{number}:\n")
            found += 1
            if found == MOST_OF_A_FILE:
                return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
