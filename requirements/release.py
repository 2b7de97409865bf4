"""What a release needs to know, for .github/workflows/release.yml: is the tag right, what is new, what the action runs.

    python requirements/release.py check TAG     the tag is the version's, and the changelog has a dated section for it
    python requirements/release.py notes TAG     that section, for the release's page
    python requirements/release.py tree BASE IMAGE
                                                 the body that makes a git tree of BASE's with an action.yml that runs
                                                 IMAGE (NAME@sha256:...) instead of building it

The tag itself holds the sources. The moving tags (v1, v1.2) point at a commit after it, whose action starts without
a build.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
_BUILT: Final = "  image: Dockerfile\n"
_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9./_-]*@sha256:[0-9a-f]{64}")


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Do one of the three; the exit code. Raises `SystemExit` with words for what is wrong."""
    match arguments:
        case ["check", tag]:
            version = _version(root)
            if tag != f"v{version}":
                raise SystemExit(f"the tag is {tag}, and maos_bot/_version.py says {version}")
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", _section(root, version)[0]):
                raise SystemExit(f"CHANGELOG.md gives {version} no date: `## {version} (YYYY-MM-DD)`")
        case ["notes", tag]:
            sys.stdout.write(_section(root, tag.removeprefix("v"))[1])
        case ["tree", base, image]:
            sys.stdout.write(json.dumps(_tree(root, base, image)))
        case _:
            raise SystemExit(__doc__)
    return 0


def _version(root: Path) -> str:
    text = (root / "maos_bot" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "(.+)"', text)
    if not found:
        raise SystemExit("maos_bot/_version.py has no __version__")
    return found[1]


def _section(root: Path, version: str) -> tuple[str, str]:
    """What stands in the brackets behind the version in the changelog, and the lines below it."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        found = re.fullmatch(rf"{re.escape(version)} \((.+)\)", title.strip())
        if found:
            return found[1], body.strip() + "\n"
    raise SystemExit(f"CHANGELOG.md has no section `## {version} (...)`")


def _tree(root: Path, base: str, image: str) -> dict[str, object]:
    if not _IMAGE.fullmatch(image):
        raise SystemExit(f"{image} is no image with a digest")
    text = (root / "action.yml").read_text(encoding="utf-8")
    if text.count(_BUILT) != 1:
        raise SystemExit(f"action.yml has no line {_BUILT.strip()!r}")
    content = text.replace(_BUILT, f"  image: docker://{image}\n")
    return {"base_tree": base, "tree": [{"path": "action.yml", "mode": "100644", "type": "blob", "content": content}]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
