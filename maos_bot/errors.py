"""Every error a user can cause or meet, each with its exit code and what to do about it.

A failing *task* is not an error but a value (`maos_bot.model.Outcome`); these are for what keeps a run from being
started, stored or published. `maos_bot.cli` prints `str(error)` and exits with `error.exit_code`; a traceback is
shown for bugs of ours alone (exit 70).
"""

from __future__ import annotations

from collections.abc import Sequence

from maos_bot.frozen import dataclass


class ExitCode:
    """The exit codes of every `maos` command (DESIGN section 6)."""

    OK = 0
    TASK_FAILED = 1
    CONFIG = 2
    NOTHING_TO_DO = 3
    OVER_LIMIT = 4
    GITHUB = 5
    BUG = 70
    INTERRUPTED = 130


class MaosError(Exception):
    """An expected error: `message` says what and where, `hint` what to do."""

    exit_code = ExitCode.CONFIG

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ConfigError(MaosError):
    """A flag, an input or an environment variable that can't be used."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class SpecProblem:
    """One thing wrong in a task spec; `line` and `column` count from 1."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.path}:{self.line}:{self.column}: {self.message}"
        return f"{text}; {self.hint}" if self.hint else text


class SpecError(MaosError):
    """A task spec that can't be run; carries every problem found, in file order."""

    def __init__(self, problems: Sequence[SpecProblem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StoreError(MaosError):
    """A database that is missing, locked, damaged or from a newer version."""


class NothingToDoError(MaosError):
    """No task was left to run."""

    exit_code = ExitCode.NOTHING_TO_DO


class OverLimitError(MaosError):
    """A budget or limit was exceeded."""

    exit_code = ExitCode.OVER_LIMIT


class GitHubError(MaosError):
    """The GitHub API refused or could not be reached.

    `status` is the HTTP status, None where no answer came; `unsure` says that a write may have happened all the same.
    """

    exit_code = ExitCode.GITHUB

    def __init__(self, message: str, *, hint: str = "", status: int | None = None, unsure: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.unsure = unsure


class InterruptedRunError(MaosError):
    """The user or the runner asked us to stop."""

    exit_code = ExitCode.INTERRUPTED
