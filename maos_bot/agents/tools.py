"""The tools of one worker: what a model may do in its folder, each call checked, bounded and confined.

A task has the tools that its spec names (`read`, `search`, `edit`, `run`); by default it reads and searches, and edits
where it has `writes`. What fails is a result that says what is wrong and what would be right. What comes from files or
commands is marked as data, and holds no known secret: it goes to a provider, and into a transcript.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import BaseModel, ValidationError

from maos_bot.agents import editing, search
from maos_bot.agents import findings as reports
from maos_bot.agents.arguments import Edit, Finish, List, Read, Run, Search, Write, described, problems
from maos_bot.agents.confine import Confined, ConfinedError, parts_of
from maos_bot.agents.prompts import as_data
from maos_bot.frozen import dataclass
from maos_bot.model import MEMORY, Task
from maos_bot.models.protocol import Tool, ToolCall, ToolResult
from maos_bot.planning.writes import may_write
from maos_bot.redact import Redactor

SEARCH_S: Final = 20.0
RUN_S: Final = 120.0  # where the model doesn't say
MOST_RUN_S: Final = 600.0
_MOST_SHOWN: Final = 30_000  # characters of one result
_MOST_LISTED: Final = 500
_LONGEST_LINE: Final = 1_000
_LONGEST_SECRET: Final = 300  # lines: a private key of 16,384 bits has about 200
_HEAD: Final = 0.4  # of a command's output, where it is cut in the middle; its end says more


class Ran(Protocol):
    """What a command came to; `code` is None where it didn't end by itself, for `reason`."""

    @property
    def text(self) -> str: ...

    @property
    def code(self) -> int | None: ...

    @property
    def reason(self) -> str: ...


class Commands(Protocol):
    """Runs programs for agents, confined to a folder. Its output has no secrets in it."""

    @property
    def holds(self) -> bool:
        """Whether what runs is kept from files that aren't its own."""

    @property
    def refusal(self) -> str:
        """Why no command of an agent's own may run here; empty where it may."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        changes: bool = True,
        memory_mb: float | None = None,
        held: bool = True,
    ) -> Ran:
        """Run `argv` in `folder`, and leave nothing of it running; `held` but for programs of our own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What the worker said when it was done."""

    summary: str
    findings: tuple[Any, ...] = ()


class _RefusedError(Exception):
    """A call that can't be done as it is; the message says why."""


def granted(task: Task) -> tuple[str, ...]:
    """The kinds of tools `task` has: those it names, else what reading takes, and editing where it `writes`."""
    if task.tools:
        return task.tools
    return ("read", "search", "edit") if task.writes is not None else ("read", "search")


class AgentTools:
    """The tools of `task` in `folder`, its own copy of the repository. `commands` runs what they need run."""

    def __init__(self, folder: Path, task: Task, *, commands: Commands, redactor: Redactor | None = None) -> None:
        self.finished: Finished | None = None
        self._folder = folder
        self._task = task
        self._commands = commands
        self._redactor = redactor or Redactor()
        self._may = may_write(task.writes)
        kinds = granted(task)
        changes = "edit" in kinds and task.writes != ()
        self._files = Confined(folder, may_write=self._may if changes else None)
        self._doing: dict[str, tuple[type[BaseModel], Callable[[Any], Any]]] = {}
        if "read" in kinds or changes:
            self._doing |= {"read": (Read, self._read), "list": (List, self._list)}
        if "search" in kinds:
            self._doing |= {"search": (Search, self._search)}
        if changes:
            self._doing |= {"edit": (Edit, self._edit), "write": (Write, self._write)}
        if "run" in kinds:
            self._doing |= {"run": (Run, self._run)}
        self._doing |= {"finish": (Finish, self._finish)}
        self.tools: tuple[Tool, ...] = tuple(
            described(name, model, findings=task.report == "findings") for name, (model, _) in self._doing.items()
        )

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one call. What fails is a result that says so, never an exception."""
        model, do = self._doing.get(call.name, (None, None))
        if model is None or do is None:
            return self._result(
                call, f"there is no tool {call.name!r}; there are {', '.join(self._doing)}", failed=True
            )
        try:
            arguments = model.model_validate(call.arguments)
            said = await do(arguments)
        except ValidationError as error:
            return self._result(call, f"{call.name} can't be called so: {problems(error)}", failed=True)
        except (ConfinedError, _RefusedError) as error:
            return self._result(call, str(error), failed=True)
        except (OSError, UnicodeError) as error:  # a full disk, a folder that is gone: the model can go on or finish
            return self._result(call, f"{call.name} failed: {error}", failed=True)
        return self._result(call, said)

    def _result(self, call: ToolCall, text: str, *, failed: bool = False) -> ToolResult:
        return ToolResult(call_id=call.id, text=self._redactor.text(text), failed=failed)

    # Reading

    async def _read(self, asked: Read) -> str:
        count, lines = await asyncio.to_thread(self._lines, asked)
        shown: list[str] = []
        size = 0
        for number, line in enumerate(lines, start=asked.start):
            text = f"{number}\t{_cut(line)}"
            size += len(text) + 1
            if size > _MOST_SHOWN:
                break
            shown.append(text)
        last = asked.start + len(shown) - 1
        more = f"\n({count} lines in all; go on from line {last + 1})" if last < count else ""
        return (as_data("\n".join(shown), asked.path) if count else f"{asked.path} is empty") + more

    def _lines(self, asked: Read) -> tuple[int, list[str]]:
        """How many lines a file has, and those asked for, without secrets: also of one that begins before them."""
        data = self._files.read(asked.path)
        if b"\0" in data:
            raise _RefusedError(f"{asked.path} is a binary file of {len(data):,} bytes")
        lines = search.lines_of(data.decode("utf-8", "replace"))
        if asked.start > max(1, len(lines)):
            raise _RefusedError(f"{asked.path} has {len(lines)} lines; line {asked.start} is beyond its end")
        first = max(0, asked.start - 1 - _LONGEST_SECRET)
        part = self._shown("\n".join(lines[first : asked.start - 1 + asked.lines + _LONGEST_SECRET]))
        begin = asked.start - 1 - first
        return len(lines), part.split("\n")[begin : begin + min(asked.lines, len(lines) - asked.start + 1)]

    def _shown(self, text: str) -> str:
        """A file's text without secrets, each line where it was."""
        return self._redactor.text(text, keep_lines=True)

    async def _list(self, asked: List) -> str:
        entries = await asyncio.to_thread(self._files.entries, asked.path)
        marks = {"folder": "/", "link": " (a link)", "other": " (no plain file)"}
        lines = [f"{entry.name}{marks.get(entry.kind) or f' ({entry.size:,} bytes)'}" for entry in entries]
        more = f"\n({len(lines) - _MOST_LISTED:,} more)" if len(lines) > _MOST_LISTED else ""
        text = "\n".join(line.encode("utf-8", "replace").decode() for line in lines[:_MOST_LISTED])
        return as_data(text, asked.path) + more if lines else f"{asked.path} is an empty folder"

    async def _search(self, asked: Search) -> str:
        query = search.Query(
            pattern=asked.pattern,
            path=self._place(asked.path),
            glob=asked.glob,
            literal=asked.literal,
            ignore_case=asked.ignore_case,
        )
        if wrong := search.check(query):
            raise _RefusedError(wrong)
        found = search.places(await self._search_by_program(query))
        hits = await asyncio.to_thread(search.hits, found[: search.MOST_LINES], self._files, self._shown)
        if not hits:
            return "nothing fits"
        lines: list[str] = []
        size = 0
        for hit in hits:
            line = f"{hit.path}:{hit.line}: {_cut(hit.text)}"
            size += len(line) + 1
            if size > _MOST_SHOWN:
                break
            lines.append(line)
        more = "\n(there is more: narrow the pattern, the path or the glob)" if len(lines) < len(found) else ""
        return as_data("\n".join(lines), "search") + more

    def _place(self, path: str) -> str:
        """A path as the programs that search are given it, once it is known to be a file or a folder of ours."""
        if self._files.kind(path) == "other":
            raise _RefusedError(f"{path} is neither a file nor a folder")
        return "/".join(parts_of(path, root=True)) or "."

    async def _search_by_program(self, query: search.Query) -> str:
        said = ""
        for program in search.programs(query, holds=self._commands.holds):
            ran = await self._commands.run(
                program.argv, folder=self._folder, timeout_s=SEARCH_S, changes=False, held=program.held
            )
            said = ran.text
            if ran.code in program.answers:
                return said
            if ran.code is None:
                raise _RefusedError(f"the search was ended ({ran.reason}): give a simpler pattern or a narrower path")
        raise _RefusedError(f"the search failed: {said.strip()[-500:] or 'without a word'}")

    # Changing

    async def _edit(self, asked: Edit) -> str:
        data = await asyncio.to_thread(self._files.read, asked.path)
        change = editing.replaced(data, asked.old, asked.new, everywhere=asked.everywhere)
        if isinstance(change, str):
            raise _RefusedError(f"{asked.path}: {change}")
        await asyncio.to_thread(self._files.write, asked.path, change.data)
        lines = ", ".join(map(str, change.lines[:10])) + (", ..." if len(change.lines) > 10 else "")
        return f"{asked.path} was changed at line {lines}"

    async def _write(self, asked: Write) -> str:
        if asked.remove:
            if asked.text is not None:
                raise _RefusedError("give `text` or `remove`, not both")
            await asyncio.to_thread(self._files.remove, asked.path)
            return f"{asked.path} was removed"
        if asked.text is None:
            raise _RefusedError("`text` is missing: the whole of the file as it is to be")
        new = await asyncio.to_thread(self._files.write, asked.path, asked.text.encode("utf-8"))
        return f"{asked.path} was {'made' if new else 'replaced'}: {len(search.lines_of(asked.text))} lines"

    # Running

    async def _run(self, asked: Run) -> str:
        if self._commands.refusal:
            raise _RefusedError(self._commands.refusal)
        git = await asyncio.to_thread(self._files.git_link)
        if git is None and await asyncio.to_thread((self._folder / ".git").exists):
            raise _RefusedError("commands run in worktrees alone, and this folder is a repository of its own")
        try:
            ran = await self._commands.run(
                ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", asked.command),
                folder=self._folder,
                timeout_s=min(asked.seconds or RUN_S, MOST_RUN_S, self._task.timeout_s),
                env={name: value for name, value in self._task.env.items() if "${" not in value},
                memory_mb=self._task.demand.get(MEMORY),
            )
        finally:
            restored = git is not None and await asyncio.to_thread(self._files.restore_git_link, git)
        text = _middle_out(ran.text)
        said = f"exit code {ran.code}" if ran.code is not None else ran.reason
        words = f"{said}\n{as_data(text, 'output')}" if text.strip() else f"{said}, and it printed nothing"
        if restored:
            words += "\n`.git` was changed, which is out of bounds, and was put back"
        if ran.code != 0 or restored:
            raise _RefusedError(words)
        return words

    # The end

    async def _finish(self, asked: Finish) -> str:
        if self._task.report == "findings":
            _, wrong = reports.check(asked.findings)
            if wrong:
                raise _RefusedError("not finished yet: " + "; ".join(wrong[:20]))
        elif asked.findings:
            raise _RefusedError("this task reports no findings: say what there is to say in `summary`")
        self.finished = Finished(summary=asked.summary.strip(), findings=tuple(asked.findings))
        return "finished"


def _cut(line: str) -> str:
    line = line.rstrip("\r")
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}... ({len(line):,} characters)"


def _middle_out(text: str) -> str:
    """What a command printed, as much as may be shown: its beginning and its end."""
    if len(text) <= _MOST_SHOWN:
        return text
    head = int(_MOST_SHOWN * _HEAD)
    tail = _MOST_SHOWN - head
    return f"{text[:head]}\n[{len(text) - _MOST_SHOWN:,} characters left out]\n{text[-tail:]}"
