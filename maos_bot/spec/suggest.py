"""The nearest known word for a slip, with a bound on the time that goes into guessing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_MOST_GUESSES: Final = 40  # each compares with every candidate; a file with more slips needs no more hints
_MOST_CANDIDATES: Final = 3_000
_LONGEST: Final = 100


class Suggester:
    """Finds the nearest word, for the first slips of a file."""

    def __init__(self) -> None:
        self.guesses = 0

    def word(self, slip: str, candidates: Collection[str], *, cutoff: float = 0.6) -> str:
        """The candidate most like `slip`, or "" where none is alike enough (0 to 1) or enough was guessed."""
        if self.guesses >= _MOST_GUESSES or len(slip) > _LONGEST or len(candidates) > _MOST_CANDIDATES:
            return ""
        # No word of another length class can be alike enough (difflib's own upper bound, without importing it).
        candidates = [word for word in candidates if 2 * min(len(word), len(slip)) >= cutoff * (len(word) + len(slip))]
        if not candidates:
            return ""
        self.guesses += 1
        from difflib import get_close_matches

        folded = {word.casefold().replace("_", "-"): word for word in reversed(candidates)}
        found = get_close_matches(slip.casefold().replace("_", "-"), folded, n=1, cutoff=cutoff)
        return folded[found[0]] if found else ""

    def nearest(self, slip: str, candidates: Collection[str]) -> str:
        """The same as a question to the user."""
        found = self.word(slip, candidates)
        return f"did you mean `{found}`?" if found else ""
