"""Writes what follows from the repository's `action.yml`: `composite/action.yml`, and the tables of docs/container.md.

`python composite/make.py`, after a change there; a test holds them together.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEAD = """\
# Made by composite/make.py from the action.yml above it: the same engine without a container, on the runner itself.
# docs/container.md says when to use which.
name: MAOS bot on the runner
description: Run a repository's task spec on the runner itself, as parallel as graph and machine allow.
author: MAOS bot
branding: {icon: fast-forward, color: blue}
"""
MARK = "<!-- inputs and outputs: made by composite/make.py -->"
END = "<!-- end -->"
RUNS = """\
runs:
  using: composite
  steps:
    - id: maos
      shell: bash
      env:
        MAOS_INPUTS: ${{ toJSON(inputs) }}
      run: exec python3 -I "$GITHUB_ACTION_PATH/maos.py"
"""


def composite(action: str) -> str:
    """The composite action's metadata for the text of a container action's."""
    inputs = action.partition("inputs:\n")[2].partition("outputs:\n")[0]
    outputs = action.partition("outputs:\n")[2].partition("runs:\n")[0]
    lines = []
    for line in outputs.splitlines():
        lines.append(line)
        if found := re.match(r"  ([a-z-]+):$", line):
            name = found[1]
        elif line.startswith("    description:"):
            lines.append(f"    value: ${{{{ steps.maos.outputs.{name} }}}}")
    return f"{HEAD}inputs:\n{inputs}outputs:\n{chr(10).join(lines)}\n{RUNS}"


def with_tables(document: str, action: str) -> str:
    """The document with the tables of inputs and outputs between its marks made anew."""
    before, mark, rest = document.partition(MARK)
    after = rest.partition(END)[2]
    return f"{before}{mark}\n{tables(action)}{END}{after}"


def tables(action: str) -> str:
    """Inputs and outputs, each with what it is."""
    lines = []
    for part, following in (("inputs", "outputs"), ("outputs", "runs")):
        text = action.partition(f"{part}:\n")[2].partition(f"{following}:\n")[0]
        rows = re.findall(r"^  ([a-z-]+):\n    description: (.+)$", text, re.MULTILINE)
        lines += ["", f"| {part[:-1]} | |", "|---|---|", *(f"| `{name}` | {said} |" for name, said in rows)]
    return "\n".join((*lines, "", ""))


def main() -> None:
    """Write the files."""
    action = (HERE.parent / "action.yml").read_text(encoding="utf-8")
    (HERE / "action.yml").write_text(composite(action), encoding="utf-8")
    document = HERE.parent / "docs" / "container.md"
    document.write_text(with_tables(document.read_text(encoding="utf-8"), action), encoding="utf-8")


if __name__ == "__main__":
    main()
