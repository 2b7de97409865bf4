"""Running a task's `verify` in its folder: bounded in time and output, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_KEPT: Final = 64 * 1024  # bytes of output: its end says what failed
_READ: Final = 64 * 1024
_DRAIN_S: Final = 2.0  # for a pipe that somebody still holds when the command is over


async def run_verify(command: str, folder: Path, environ: Mapping[str, str], timeout_s: float) -> str:
    """What `command` said where it failed or took longer than `timeout_s`; empty where it succeeded."""
    shell = ("bash", "-e", "-c") if shutil.which("bash", path=environ.get("PATH")) else ("sh", "-e", "-c")
    env = {name: value for name, value in environ.items() if not name.startswith("GIT_")} | {"PWD": str(folder)}
    process = await asyncio.create_subprocess_exec(
        *shell,
        command,
        cwd=folder,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    kept = bytearray()
    reading = asyncio.ensure_future(_read(process, kept))
    late = False
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
    except TimeoutError:
        late = True
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it, and what it left running
        await asyncio.wait([reading], timeout=_DRAIN_S)
        reading.cancel()
        await process.wait()
    said = kept.decode("utf-8", "replace").strip()
    if late:
        return f"{said}\nit was ended after {timeout_s:g} s".strip()
    if process.returncode == 0:
        return ""
    return said or f"exit code {process.returncode}"


async def _read(process: asyncio.subprocess.Process, kept: bytearray) -> None:
    while process.stdout and (data := await process.stdout.read(_READ)):
        kept += data
        del kept[:-_KEPT]
