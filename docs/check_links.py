"""Check that every relative link and picture in the project's Markdown leads to a file that is there.

`python docs/check_links.py SITE` checks a built site instead: every link and its anchor, and that no page fetches
anything from elsewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

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


class _Page(HTMLParser):
    """What one page links to, what it loads, and the anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {"", "__top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in {"script", "img", "iframe"} and "src" in found:
            self.loads.append(found["src"])
        elif tag == "link" and found.get("rel") in {"stylesheet", "icon", "preload", "preconnect"}:
            self.loads.append(found.get("href", ""))


def broken(site: Path) -> list[str]:
    """What is wrong with the links of a built site."""
    # The page for addresses that don't exist has absolute links: it is shown at any depth.
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    faults = []
    for path, page in sorted(pages.items()):
        shown = path.relative_to(site)
        faults += [f"{shown}: loads {load} from elsewhere" for load in page.loads if urlsplit(load).netloc]
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                faults.append(f"{shown}: {link} is not there")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                faults.append(f"{shown}: {link} has no such anchor")
    return faults


def main() -> int:
    if len(sys.argv) > 1:
        faults = broken(Path(sys.argv[1]).resolve())
        print("\n".join(faults) or "the site: every link leads somewhere, and nothing is fetched from elsewhere")
        return 1 if faults else 0
    names = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout.split()
    faults = [fault for name in names for fault in missing(Path(name))]
    print("\n".join(faults) or f"{len(names)} documents, every link leads somewhere")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
