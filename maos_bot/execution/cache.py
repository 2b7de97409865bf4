"""Whether a task need not run because nothing its result depends on has changed, and what it left when it did.

The key of a task is a digest of its id, command, shell, folder, `env` (the spec's and its own), patterns, the programs
its command names (`maos_bot.execution.tools`), the files that fit its `inputs`, and what its needs came to. It is
made when the task is about to start, after its needs ended; after a success the inputs are read again, and only where
they are what they were, and every output is there, the result is kept. Whatever stands in the way of that makes the
task run, or not be kept: it never fails a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from maos_bot.execution.cache_store import CacheStore, CorruptError, Entry, Output
from maos_bot.execution.digests import Digests
from maos_bot.execution.filetree import FileTree, Item, Memo, anchored
from maos_bot.execution.tools import Tools
from maos_bot.frozen import dataclass
from maos_bot.model import Outcome, Task, TaskKind

FOLDER: Final = ".maos/cache"  # below the repository's root
KEY_FORMAT: Final = 1
_MEMO_S: Final = 1.0  # so long a listing counts while nothing of ours runs

Log = Sequence[tuple[str, int, int]]
_Row = tuple[str, str, bool, str, str]  # of an input: path, kind, executable, a link's target, content


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What looking for a task came to: its key (empty where it can't be cached, with the `reason`), and a hit."""

    key: str = ""
    inputs: str = ""  # digest of the files
    reason: str = ""
    hit: Entry | None = None
    result: str = ""  # of a hit: what its needs' keys are made of


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What keeping came to: the task's `result`, empty where it isn't known, and why it wasn't kept, if so."""

    result: str = ""
    reason: str = ""


class NotCachedError(Exception):
    """Why a task can't be taken from the cache, or not be kept; the message says it in the user's words."""


def is_cached(task: Task) -> bool:
    """Whether the cache has to do with `task`: a command with `inputs`, or one that says `cache: true`."""
    if task.kind is not TaskKind.COMMAND or task.cache is False:
        return False
    return bool(task.inputs) or task.cache is True


class TaskCache:
    """The cache of one run below `root`. Its methods may be called from several threads."""

    def __init__(self, root: Path, *, run_id: str, max_bytes: int) -> None:
        self._root = str(root)
        self._run_id = run_id
        self._max_bytes = max_bytes
        self.store = CacheStore(root / FOLDER)
        self._digests = Digests(self.store.folder / "digests")
        self._tree = FileTree(root)
        self._tools = Tools(self._digests)
        self._memo: Memo = {}
        self._memo_at = 0.0
        self._lock = threading.Lock()
        self._kept_any = False

    def forget(self) -> None:
        """Files may have changed: what was listed no longer counts."""
        with self._lock:
            self._memo = {}
            self._memo_at = 0.0

    def look(
        self,
        task: Task,
        *,
        folder: Path,
        env: Mapping[str, str],
        own_env: Mapping[str, str],
        needs: Mapping[str, str],
        quiet: bool,
    ) -> Look:
        """Look `task` up and, where it is there, put its outputs in place.

        `env` is all its processes would see, `own_env` what the spec names of it, `needs` the result of each need
        (empty where unknown), `quiet` whether nothing of ours runs, so that listings may serve twice.
        """
        memo = self._listings(quiet=quiet)
        try:
            inputs = self._inputs(task, memo)
            key = self._key(task, inputs, folder=folder, env=env, own_env=own_env, needs=needs, memo=memo)
        except NotCachedError as error:
            return Look(reason=str(error))
        except OSError as error:
            return Look(reason=f"its inputs can't be read: {_words(error)}")
        try:
            entry = self.store.entry(task.id, key)
            if entry is not None:
                self._restore(task, entry, memo)
                self.store.touch(entry)
        except (CorruptError, NotCachedError, OSError) as error:
            words = _words(error) if isinstance(error, OSError) else str(error)
            return Look(key=key, inputs=inputs, reason=f"kept before, but {words}")
        if entry is None:
            return Look(key=key, inputs=inputs)
        return Look(key=key, inputs=inputs, hit=entry, result=_result(key, entry.outputs))

    def keep(self, task: Task, look: Look, outcome: Outcome, log: Log) -> Kept:
        """After a success: keep what `task` left, under the key of `look`; without one only say its result."""
        try:
            outputs = tuple(self._outputs(task, {}))
        except (NotCachedError, OSError) as error:
            return Kept(reason=_words(error) if isinstance(error, OSError) else str(error))
        result = _result(look.key, outputs)
        if not look.key:
            return Kept(result=result, reason=look.reason if is_cached(task) else "")
        try:
            if self._inputs(task, {}) != look.inputs:
                # Its outputs, where it has some, are what they are; a key of other inputs says nothing.
                return Kept(result=result if outputs else "", reason="its inputs changed while it ran")
            entry = Entry(
                key=look.key,
                task=task.id,
                run_id=self._run_id,
                made_at=time.time(),
                duration_s=outcome.duration_s,
                outputs=outputs,
                log=tuple(log),
                output_bytes=outcome.output_bytes,
                omitted_bytes=outcome.omitted_bytes,
            )
            if entry.size > self._max_bytes:
                return Kept(result=result, reason="its outputs are larger than the cache may be")
            for output in outputs:
                if output.kind == "file":
                    self.store.put(f"{self._root}/{output.path}", output.content, output.size)
            self.store.add(entry)
            self._kept_any = True
        except OSError as error:
            return Kept(result=result, reason=_words(error))
        return Kept(result=result)

    def close(self) -> str:
        """Save what was learnt of files, and keep to the size. What went wrong, in words; it only costs time."""
        try:
            self._digests.save()
            if self._kept_any:
                self.store.prune(self._max_bytes)
        except OSError as error:
            return _words(error)
        return ""

    def _listings(self, *, quiet: bool) -> Memo:
        if not quiet:
            return {}
        with self._lock:
            now = time.monotonic()
            if now - self._memo_at > _MEMO_S:
                self._memo, self._memo_at = {}, now
            return self._memo

    def _key(
        self,
        task: Task,
        inputs: str,
        *,
        folder: Path,
        env: Mapping[str, str],
        own_env: Mapping[str, str],
        needs: Mapping[str, str],
        memo: Memo,
    ) -> str:
        unknown = [need for need, result in needs.items() if not result]
        if unknown:
            raise NotCachedError(f"what its need {unknown[0]} came to isn't known: that has neither inputs nor outputs")
        fits = self._tree.fits(anchored(task.outputs)) if task.outputs else None
        root = f"{self._root}/"

        def own(program: str) -> bool:
            return fits is not None and program.startswith(root) and fits(program.removeprefix(root))

        parts: dict[str, Any] = {
            "format": KEY_FORMAT,
            "task": task.id,
            "run": task.run,
            "shell": task.shell,
            "folder": task.working_directory,
            "env": dict(own_env),
            "patterns": [task.inputs, task.outputs],
            "inputs": inputs,
            "needs": dict(needs),
            "tools": self._tools.identity(task.run or "", task.shell, folder=folder, env=env, own=own, memo=memo),
            "machine": [platform.system(), platform.machine()],
        }
        return _digest(parts)

    def _inputs(self, task: Task, memo: Memo) -> str:
        known = memo.get(("inputs", task.inputs))
        if known is not None:
            return str(known)
        # Without exclusions each pattern stands for itself, and tasks that share one share its rows.
        alone = not any(pattern.startswith("!") for pattern in task.inputs)
        groups = [(pattern,) for pattern in task.inputs] if alone else [task.inputs]
        digest = _digest(sorted({row for group in groups for row in self._rows(group, memo)}))
        memo["inputs", task.inputs] = digest
        return digest

    def _rows(self, patterns: tuple[str, ...], memo: Memo) -> list[_Row]:
        known = memo.get(("rows", patterns))
        if known is None:
            items = self._tree.matching(patterns, follow=True, memo=memo) if patterns else []
            known = memo["rows", patterns] = [self._row(item) for item in items]
        return known  # type: ignore[return-value]

    def _row(self, item: Item) -> _Row:
        content = ""
        if item.kind == "file":
            content = self._digests.of(f"{self._root}/{item.path}", item.found)
        elif item.kind == "link":
            where = f"{self._root}/{item.path}"
            if os.path.isfile(where):  # noqa: PTH113 - else it points at nothing, and may
                content = self._digests.of(where)
        else:
            raise NotCachedError(f"its input {item.path} is not a file")
        return item.path, item.kind, bool(item.mode & 0o100), item.target, content

    def _outputs(self, task: Task, memo: Memo) -> Iterator[Output]:
        if not task.outputs:
            return
        patterns = anchored(task.outputs)
        items = self._tree.matching(patterns, follow=False, memo=memo)
        for written, pattern in zip(task.outputs, patterns, strict=True):
            if not pattern.startswith("!") and not any(map(self._tree.fits((pattern,)), map(_name, items))):
                raise NotCachedError(f"its output {written} was not made")
        for item in items:
            yield self._output(item)

    def _output(self, item: Item) -> Output:
        if item.kind == "link":
            return Output(item.path, "link", content=item.target)
        if item.kind == "dir":
            return Output(item.path, "dir", mode=item.mode)
        if item.kind != "file":
            raise NotCachedError(f"its output {item.path} is not a file")
        content = self._digests.of(f"{self._root}/{item.path}", item.found)
        return Output(item.path, "file", mode=item.mode, size=item.found.st_size, content=content)

    # Putting outputs in place

    def _restore(self, task: Task, entry: Entry, memo: Memo) -> None:
        """Make the task's outputs what `entry` says, to the byte; files that are so already aren't touched.

        Raises `CorruptError`, `NotCachedError` or `OSError` where that can't be; the task then has to run.
        """
        wrong = [output for output in entry.outputs if not self._is_there(output)]
        stale = self._stale(task, entry, memo)
        if not wrong and not stale:
            return
        copies: dict[str, str] = {}
        try:
            for output in wrong:
                self._check_way(output)
                if output.kind == "file":
                    try:
                        copies[output.path] = self.store.take(output.content, output.mode)
                    except CorruptError:
                        self.store.drop(entry)
                        raise
            for item in stale:
                _remove(f"{self._root}/{item.path}", item.kind)
            for output in wrong:
                self._place(output, copies)
        finally:
            self.forget()
            for name in copies.values():
                with contextlib.suppress(OSError):
                    os.unlink(name)  # noqa: PTH108

    def _is_there(self, output: Output) -> bool:
        item = self._tree.item(output.path)
        if item is None or item.kind != output.kind or self._through_link(output.path):
            return False
        if output.kind == "link":
            return item.target == output.content
        if item.mode != output.mode:
            return False
        if output.kind == "dir":
            return True
        same_size = item.found.st_size == output.size
        return same_size and self._digests.of(f"{self._root}/{output.path}", item.found) == output.content

    def _through_link(self, path: str) -> bool:
        parts = path.split("/")
        return any(os.path.islink(f"{self._root}/{'/'.join(parts[:n])}") for n in range(1, len(parts)))  # noqa: PTH114

    def _check_way(self, output: Output) -> None:
        """Never write through a link, nor a file over a folder: the command knows what to do about such, we don't."""
        if self._through_link(output.path):
            raise NotCachedError(f"{output.path} lies behind a symbolic link now")
        item = self._tree.item(output.path)
        if item is not None and item.kind != output.kind and "dir" in (item.kind, output.kind):
            raise NotCachedError(f"{output.path} is {'a folder' if item.kind == 'dir' else 'no folder'} now")

    def _stale(self, task: Task, entry: Entry, memo: Memo) -> list[Item]:
        """What fits the task's outputs, isn't among the entry's, and was made by an earlier run; deepest first."""
        if not task.outputs:
            return []
        known = {output.path for output in entry.outputs}
        extra = [
            item
            for item in self._tree.matching(anchored(task.outputs), follow=False, memo=memo)
            if item.path not in known
        ]
        if not extra:
            return []
        made = {output.path for other in self.store.of_task(task.id) for output in other.outputs}
        return [item for item in reversed(extra) if item.path in made]

    def _place(self, output: Output, copies: dict[str, str]) -> None:
        where = f"{self._root}/{output.path}"
        os.makedirs(where if output.kind == "dir" else os.path.dirname(where), exist_ok=True)  # noqa: PTH103, PTH120
        if output.kind == "dir":
            os.chmod(where, output.mode)  # noqa: PTH101
        elif output.kind == "file":
            os.replace(copies.pop(output.path), where)  # noqa: PTH105
        else:
            new = self.store.new_name()
            os.symlink(output.content, new)  # noqa: PTH211
            os.replace(new, where)  # noqa: PTH105


def _remove(path: str, kind: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if kind == "dir":
            with contextlib.suppress(OSError):  # somebody else's file is in it
                os.rmdir(path)  # noqa: PTH106
        else:
            os.unlink(path)  # noqa: PTH108


def _name(item: Item) -> str:
    return f"{item.path}/" if item.kind == "dir" else item.path


def _result(key: str, outputs: Sequence[Output]) -> str:
    """What a task came to, for the keys of those that need it: its outputs, or without any its own key."""
    if not outputs:
        return key
    return _digest([(each.path, each.kind, each.mode, each.content) for each in outputs])


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
