"""Whether a change may be taken: it keeps to the task's `writes`, and holds nothing that could do harm later.

Held against what was really changed, not against what tools allowed: a rename is a deletion and a new file, and both
must be allowed; so must a change of mode.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import Final

from maos_bot.agents.objects import FILE, LINK, PROGRAM, TREE, Edit, Edits, Objects
from maos_bot.model import Task
from maos_bot.planning.writes import may_write

_SHOWN: Final = 20  # paths in a message
_INVISIBLE: Final = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")  # what HFS+ leaves out of names
_MARKS: Final = re.compile(rb"^(?:<{7} |={7}$|>{7} )", re.MULTILINE)
_LFS: Final = b"version https://git-lfs.github.com/spec/"
_LFS_LONGEST: Final = 1024
# What makes git, CI or us do things; `**` doesn't mean it, only a pattern that says its name.
_CAREFUL: Final = (".gitattributes", ".gitmodules", ".github/workflows", ".github/actions", ".maos.yml", ".maos.yaml")


def refusals(task: Task, edits: Edits, objects: Objects, tree: str) -> list[str]:
    """Why `edits`, which lead to `tree`, may not be taken: one line for each reason, with its paths; else nothing."""
    allowed = may_write(task.writes)
    outside = [path for path in edits if not allowed(path)]
    careful = [path for path in edits if path not in outside and not _named(path, task.writes or ())]
    ours = [path for path in edits if _is_git(path) or path.split("/", 1)[0].casefold() == ".maos"]
    kinds = [path for path, (_, after) in edits.items() if after and after.mode not in (FILE, PROGRAM, LINK)]
    kinds += [path for path, (before, _) in edits.items() if before and before.mode not in (FILE, PROGRAM, LINK, TREE)]
    links = [path for path in edits if _leads_out(path, edits[path], objects, tree)]
    pointers = [path for path in edits if _is_pointer(edits[path], objects)]
    limit = f"outside `writes` ({', '.join(task.writes or ()) or 'nothing'})"
    reasons = (
        (outside, f"changed {limit}; undo it"),
        (careful, "changed, though `writes` doesn't name it in so many words; undo it"),
        (ours, "can't be changed: it is git's or MAOS bot's own; undo it"),
        (kinds, "is a submodule, which can't be changed from here; undo it"),
        (links, "is a link that leads out of the repository; remove it"),
        (pointers, "is kept in Git LFS, and its content can't be replaced from here; undo it"),
    )
    return [f"{_listed(paths, edits)}: {why}" for paths, why in reasons if paths]


def marked(paths: Sequence[str], objects: Objects, tree: str) -> list[str]:
    """Those of `paths` in which conflict marks are left."""
    found = []
    for path in paths:
        entry = objects.entry(tree, path)
        if entry and entry.mode in (FILE, PROGRAM):
            signs = {match[:1] for match in _MARKS.findall(objects.read(entry.oid))}
            if {b"<", b">"} <= signs:
                found.append(path)
    return found


def _listed(paths: Sequence[str], edits: Edits) -> str:
    words = [f"{path} ({_what(edits[path])})" for path in sorted(set(paths))]
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _what(edit: Edit) -> str:
    before, after = edit
    if before is None or after is None:
        return "added" if after else "deleted"
    if before.oid == after.oid:
        return f"mode {before.mode} to {after.mode}"
    return "changed"


def _named(path: str, patterns: Sequence[str]) -> bool:
    """Whether `path` needs no naming, or a pattern names it."""
    parts = path.casefold().split("/")
    careful = next(
        (name for name in _CAREFUL if parts[: name.count("/") + 1] == name.split("/") or parts[-1] == name), ""
    )
    return not careful or any(careful in pattern.casefold() for pattern in patterns if not pattern.startswith("!"))


def _is_git(path: str) -> bool:
    """Whether part of `path` is `.git` to any file system."""
    for part in path.split("/"):
        name = _INVISIBLE.sub("", part).casefold().split(":", 1)[0].rstrip(" .")
        if name in (".git", "git~1"):
            return True
    return False


def _leads_out(path: str, edit: Edit, objects: Objects, tree: str) -> bool:
    after = edit[1]
    if after is None or after.mode != LINK:
        return False
    to = objects.read(after.oid).decode("utf-8", "surrogateescape")
    if to.startswith("/") or "\0" in to or not to:
        return True
    here = posixpath.dirname(path).split("/") if "/" in path else []
    for part in to.split("/"):
        if part == "..":
            if not here:
                return True
            here.pop()
        elif part not in ("", "."):
            here.append(part)
            found = objects.entry(tree, "/".join(here))
            if _is_git(part) or (found and found.mode == LINK and "/".join(here) != path):
                return True  # by way of another link it could lead anywhere
    return False


def _is_pointer(edit: Edit, objects: Objects) -> bool:
    """Whether a file that is in Git LFS would hold something else than a pointer."""
    before, after = edit
    if before is None or after is None or before.oid == after.oid or before.mode == TREE:
        return False
    return _points(objects.read(before.oid)) and not _points(objects.read(after.oid))


def _points(data: bytes) -> bool:
    return len(data) <= _LFS_LONGEST and data.startswith(_LFS)
