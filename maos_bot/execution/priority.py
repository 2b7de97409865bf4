"""Who gets the CPU first, where there is a crowd: whoever is to end a fork bomb can't wait in line behind it.

Tasks are a little nicer than we are (`maos_bot.execution.launch.NICE`), which any user may set. That doesn't help
against processes in sessions of their own where the kernel shares the CPU among sessions (autogroups): there real-time
priority does, where we may have it, and only for as long as it is needed. No task inherits it.
"""

from __future__ import annotations

import contextlib
import os


def come_first() -> bool:
    """Let our threads run before all ordinary ones from now on; whether the system allows that.

    All of them: one that holds the interpreter and isn't let on holds up the one that is.
    """
    if not hasattr(os, "sched_setscheduler"):
        return False
    try:
        for thread in _threads():
            os.sched_setscheduler(thread, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:  # not without a privilege
        return False
    return True


def come_as_all() -> None:
    """End `come_first`."""
    for thread in _threads():
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _threads() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]  # noqa: PTH208 - names alone
    except OSError:
        return [0]  # the one that asks
