"""Puts the site's sources together in build/docs: these documents, the repository's own pages, and the reference.

`python -m docs.site [FOLDER]`. Documents link to each other, and to files of the repository, as they lie; on the site
the README is its first page, and a link to a file that has no page leads to it in the repository, where that is known.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from docs.reference import ROOT, pages, write

_LINK: Final = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_FENCE: Final = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
# Files of the repository that are pages of the site.
_PAGES: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "examples/README.md": "examples.md",
    "action.yml": "reference/action.md",
}


def main(arguments: Sequence[str]) -> int:
    """Write everything anew; the exit code."""
    folder = Path(arguments[0]) if arguments else ROOT / "build" / "docs"
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split():
        source, target = ROOT / name, folder / PurePosixPath(name).relative_to("docs")
        if source.suffix in {".md", ".png", ".svg", ".css"} and source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.suffix == ".md":
                target.write_text(_page(name), encoding="utf-8")
            else:
                shutil.copyfile(source, target)
    for name, target_name in _PAGES.items():
        if name.endswith(".md"):
            (folder / target_name).write_text(_page(name), encoding="utf-8")
    write(folder / "reference", pages().items())
    return 0


def place(name: str) -> str | None:
    """Where a file of the repository stands on the site; None where it has no page."""
    if name in _PAGES:
        return _PAGES[name]
    return name.removeprefix("docs/") if name.startswith("docs/") and not name.endswith(".py") else None


def _page(name: str) -> str:
    """A document's text with its links as they are on the site; code is left alone."""
    text = (ROOT / name).read_text(encoding="utf-8")
    parts = _FENCE.split(text)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda match: _link(name, match[1]), part) for part in parts
    )


def _link(name: str, target: str) -> str:
    path, mark, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return target
    here = place(name) or name
    meant = os.path.normpath(PurePosixPath(name).parent / path)
    there = place(meant)
    if there is None:  # a file without a page
        repository = os.environ.get("GITHUB_REPOSITORY")
        if not repository:
            return os.path.relpath(place("README.md") or "", PurePosixPath(here).parent)
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}/blob/HEAD/{meant}"
    return os.path.relpath(there, PurePosixPath(here).parent) + mark + anchor


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
