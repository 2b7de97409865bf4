"""`maos cache`: what the cache of this repository holds, whether it is whole, and making room."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import click

from maos_bot.config import CACHE_BYTES, find_root, parse_size
from maos_bot.errors import ConfigError, ExitCode
from maos_bot.execution.cache import FOLDER
from maos_bot.execution.cache_store import CacheStore, Found, Removed
from maos_bot.reporting import words
from maos_bot.reporting.escape import one_line

_MB = 2**20


def see_to(cwd: Path, action: str, *, max_size: str | None, as_json: bool) -> int:
    """Do `action` (list, verify, prune, clear) to the cache of the repository around `cwd`; the exit code.

    `verify` gives 1 where something was damaged (and is now removed: its task will run again).
    """
    if max_size is not None and action != "prune":
        raise ConfigError(f"--max-size goes with `maos cache prune`, not {action}")
    store = CacheStore(find_root(cwd) / FOLDER)
    try:
        return _ACTIONS[action](store, max_size, as_json)
    except OSError as error:
        raise ConfigError(f"{store.folder}: {error.strerror or error}") from error


def _list(store: CacheStore, _: str | None, as_json: bool) -> int:
    found = store.all()
    if as_json:
        _print({"folder": str(store.folder), "bytes": store.size(), "entries": [_row(each) for each in found]})
        return ExitCode.OK
    for each in found:
        entry = each.entry
        used = time.strftime("%Y-%m-%d %H:%M", time.gmtime(each.used_at))
        files = words.number(len(entry.outputs), "output")
        click.echo(
            f"{entry.key[:12]}  {used}  {words.duration(entry.duration_s):>9}  {entry.size / _MB:8.1f} MiB"
            f"  {files:>11}  {one_line(entry.task)}"
        )
    click.echo(f"{words.number(len(found), 'result')}, {store.size() / _MB:,.1f} MiB in {store.folder}", err=True)
    return ExitCode.OK


def _verify(store: CacheStore, _: str | None, as_json: bool) -> int:
    wrong = store.verify()
    if as_json:
        _print({"damaged": wrong, "entries": len(store.all()), "bytes": store.size()})
    else:
        for line in wrong:
            click.echo(line)
        click.echo(f"{words.number(len(store.all()), 'result')} whole, {len(wrong):,} damaged", err=True)
    return ExitCode.TASK_FAILED if wrong else ExitCode.OK


def _prune(store: CacheStore, max_size: str | None, as_json: bool) -> int:
    limit = CACHE_BYTES if max_size is None else parse_size(max_size, "--max-size")
    removed = store.prune(limit)
    if removed is None:
        raise ConfigError("another process is pruning the cache", hint="let it end")
    return _tell(removed, as_json)


def _clear(store: CacheStore, _: str | None, as_json: bool) -> int:
    entries, size = len(store.all()), store.size()
    if store.folder.exists():
        shutil.rmtree(store.folder)
    return _tell(Removed(entries=entries, freed_bytes=size), as_json)


def _tell(removed: Removed, as_json: bool) -> int:
    if as_json:
        names = ("entries", "blobs", "freed_bytes", "left_entries", "left_bytes")
        _print({name: getattr(removed, name) for name in names})
    else:
        click.echo(
            f"{words.number(removed.entries, 'result')} removed, {removed.freed_bytes / _MB:,.1f} MiB freed;"
            f" {removed.left_entries:,} left, {removed.left_bytes / _MB:,.1f} MiB",
            err=True,
        )
    return ExitCode.OK


def _row(found: Found) -> dict[str, Any]:
    entry = found.entry
    return {
        "key": entry.key,
        "task": entry.task,
        "run_id": entry.run_id,
        "made_at": entry.made_at,
        "used_at": found.used_at,
        "duration_s": entry.duration_s,
        "bytes": entry.size,
        "outputs": [output.path for output in entry.outputs],
    }


def _print(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


_ACTIONS = {"list": _list, "verify": _verify, "prune": _prune, "clear": _clear}
