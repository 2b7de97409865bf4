"""Running a task's `verify` in its folder: bounded in time and output, and nothing of it left running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from maos_bot.agents.tools import Commands
from maos_bot.model import MEMORY, Task

_KEPT: Final = 64 * 1024  # bytes of output: its end says what failed
_READ: Final = 64 * 1024


def shell_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What a command line is given to."""
    return ("bash" if shutil.which("bash", path=environ.get("PATH")) else "sh", "-e", "-c")


async def run_confined(
    commands: Commands, task: Task, folder: Path, environ: Mapping[str, str], timeout_s: float
) -> str:
    """The same by `commands`: what it tries is an agent's work, and may do no more than its agent might."""
    ran = await commands.run(
        (*shell_of(environ), task.verify), folder=folder, timeout_s=timeout_s, memory_mb=task.demand.get(MEMORY)
    )
    said = "\n".join(part for part in (ran.text.strip()[-_KEPT:], ran.reason) if part)
    return "" if ran.code == 0 else said or f"exit code {ran.code}"


async def run_verify(command: str, folder: Path, environ: Mapping[str, str], timeout_s: float) -> str:
    """What `command` said where it failed or took longer than `timeout_s`; empty where it succeeded."""
    env = {name: value for name, value in environ.items() if not name.startswith("GIT_")} | {"PWD": str(folder)}
    loop = asyncio.get_running_loop()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    kept = bytearray()
    late = False
    try:
        # A pipe of our own: asyncio's would have us wait for whatever the command left running with it.
        process = await asyncio.create_subprocess_exec(
            *shell_of(environ),
            command,
            cwd=folder,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            start_new_session=True,
        )
        os.close(writer)
        writer = -1

        def take() -> None:
            if _read(reader, kept) == 0:
                loop.remove_reader(reader)

        loop.add_reader(reader, take)
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            late = True
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # it, and what it left running
            await process.wait()
            loop.remove_reader(reader)
            while _read(reader, kept):
                continue
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    said = kept.decode("utf-8", "replace").strip()
    if late:
        return f"{said}\nit was ended after {timeout_s:g} s".strip()
    if process.returncode == 0:
        return ""
    return said or f"exit code {process.returncode}"


def _read(reader: int, kept: bytearray) -> int | None:
    """Take what is there: how many bytes, 0 at the end, None where there is nothing now."""
    try:
        data = os.read(reader, _READ)
    except BlockingIOError:
        return None
    kept += data
    del kept[:-_KEPT]
    return len(data)
