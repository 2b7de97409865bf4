"""Writes bytecode into the image, the same bytes for the same sources.

`bytecode.py tree FOLDER` compiles all modules below a folder; `bytecode.py imported` those of Python's own library that
the commands import, which the official base image ships without. Each file names its source by hash and is not checked
again: an image's files don't change.
"""

from __future__ import annotations

import importlib
import py_compile
import sys
import sysconfig
from pathlib import Path

# What a run in Actions comes to import, the heavy parts at the time they are needed.
COMMANDS = (
    "maos_bot.cli",
    "maos_bot.app",
    "maos_bot.action",
    "maos_bot.store.writer",
    "maos_bot.store.baselines",
    "maos_bot.execution.cache",
    "maos_bot.agents.worker",
    "maos_bot.reporting.mermaid",
    "web",
    "anthropic",
    "github",
    "networkx",
    "waitress",
)


def main(arguments: list[str]) -> None:
    """Compile what the arguments say."""
    if arguments[0] == "tree":
        sources = sorted(Path(arguments[1]).rglob("*.py"))
    else:
        for name in COMMANDS:
            importlib.import_module(name)
        library = sysconfig.get_path("stdlib")
        named = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
        sources = [Path(name) for name in sorted(named) if name.startswith(f"{library}/") and name.endswith(".py")]
    for source in sources:
        py_compile.compile(str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    sys.stdout.write(f"{len(sources)} modules compiled\n")


if __name__ == "__main__":
    main(sys.argv[1:])
