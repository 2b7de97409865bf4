"""Check that every relative link and picture in the project's Markdown leads to a file that is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\]\(([^)\s]+)\)")


def missing(page: Path) -> list[str]:
    """The links of `page` that lead nowhere; addresses and anchors are left alone."""
    found = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        for target in LINK.findall(line):
            path = target.partition("#")[0]
            if path and "://" not in path and not path.startswith("mailto:") and not (page.parent / path).exists():
                found.append(f"{page}:{number}: {target} is not there")
    return found


def main() -> int:
    names = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split()
    faults = [fault for name in names for fault in missing(Path(name))]
    print("\n".join(faults) or f"{len(names)} documents, every link leads somewhere")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
