"""A map of a repository for agents: its folders and what is in them, as much as fits; same files, same map (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

MOST_CHARACTERS: Final = 12_000
_NAMED: Final = 30  # files of a folder that are named before the rest is counted


def repository_map(paths: Iterable[str], *, most: int = MOST_CHARACTERS) -> str:
    """A line for each folder: its files by name, or by kind where they are many; deep folders are left out first."""
    folders: dict[str, list[str]] = {}
    for path in sorted(set(paths)):
        plain = PurePosixPath(path)
        folders.setdefault(str(plain.parent), []).append(plain.name)
    by_depth = sorted(folders, key=lambda folder: (len(PurePosixPath(folder).parts), folder))
    lines: dict[str, str] = {}
    size = 0
    for folder in by_depth:
        line = f"{folder}/: {_contents(folders[folder])}"
        if size + len(line) + 1 > most:
            break
        lines[folder] = line
        size += len(line) + 1
    text = "\n".join(lines[folder] for folder in sorted(lines))
    left = len(folders) - len(lines)
    return f"{text}\n({left} more folders)" if left else text


def _contents(names: list[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    kinds = Counter(PurePosixPath(name).suffix or name for name in names)
    return f"{len(names)} files: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
