"""Which files an agent's task may change: its `writes`, patterns of .gitignore taken from the repository's root.

A name without a slash means the one at the root, as with `outputs`: what fits one too many there would be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def anchored(patterns: Sequence[str]) -> tuple[str, ...]:
    """`patterns` so that a name without a slash means the one at the root."""
    found = []
    for pattern in patterns:
        no, rest = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
        found.append(f"{no}{rest}" if rest.startswith(("/", "**/")) else f"{no}/{rest}")
    return tuple(found)


def may_write(writes: Sequence[str] | None) -> Callable[[str], bool]:
    """Whether a path (with `/`, from the root) may be changed by a task with these `writes`; None is any path."""
    if writes is None:
        return lambda _: True
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(anchored(writes)).match_file
