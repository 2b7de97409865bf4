"""Files that root made in somebody else's folder, given to that folder's owner.

A container action runs as root in a checkout of the runner's user. What it leaves behind as root's, later steps can't
change and the next checkout can't remove.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

_CLOCK_S: Final = 1.0  # the kernel stamps files by a coarser clock than ours


def give_back(root: Path, *, since: float) -> int:
    """Give root's files below `root` that were made or changed after `since` (epoch seconds) to its owner.

    Returns how many; 0 where we aren't root, or the folder is root's too. Symbolic links are never followed. Raises
    `OSError` where the system refuses.
    """
    owner = root.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return 0
    count = 0
    for _, folders, files, here in os.fwalk(root, follow_symlinks=False):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # somebody else's, gone by now
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
                if found.st_uid == 0 and found.st_ctime >= since - _CLOCK_S:
                    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=here, follow_symlinks=False)
                    count += 1
    return count
