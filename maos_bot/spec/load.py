"""Reads a task spec: from a file or a text to a `Spec`, or to every problem it has at once."""

from __future__ import annotations

from pathlib import Path

from maos_bot.errors import ConfigError, SpecError, SpecProblem
from maos_bot.model import Spec
from maos_bot.spec.checks import check
from maos_bot.spec.expand import expand_tasks, make_spec
from maos_bot.spec.matrix import variants_of
from maos_bot.spec.nodes import MAX_BYTES, Document, compose
from maos_bot.spec.setup import place_setup
from maos_bot.spec.suggest import Suggester
from maos_bot.spec.validate import validate


def load_spec(path: Path) -> Spec:
    """Read and check the spec in a file of UTF-8. Raises ConfigError if it can't be read, SpecError if it is bad."""
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        usual = path.name.startswith(".maos.")
        hint = "`maos init` writes one" if usual else "check the name, or leave it out to take .maos.yml"
        raise ConfigError(f"there is no task spec at {name}", hint=hint) from None
    except IsADirectoryError:
        raise ConfigError(f"{name} is a directory", hint="name the spec file in it") from None
    except OSError as error:
        raise ConfigError(f"{name} can't be read: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise _one_problem(name, f"the file is larger than {MAX_BYTES // 1024} KiB", "split it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise _one_problem(name, "the file is not UTF-8", "save it as UTF-8", line=line, column=column) from None
    return parse_spec(text, path=name)


def parse_spec(text: str, *, path: str) -> Spec:
    """Check a spec given as text; `path` is what problems and the result name it by. Raises SpecError."""
    document = compose(text, path=path)
    if document.root is None:
        raise _error(document)
    suggester = Suggester()
    data = validate(document, suggester)
    setup = place_setup(document, data)
    variants = {
        task_id: variants_of(document, task_id, task.get("matrix")) for task_id, task in data.get("tasks", {}).items()
    }
    check(document, data, variants, suggester, setup=setup)
    tasks = expand_tasks(document, data, variants, suggester)
    if document.problems:
        raise _error(document)
    return make_spec(data, tasks, setup=setup, path=path, text=text)


def _error(document: Document) -> SpecError:
    problems = list(dict.fromkeys(document.problems))
    if document.dropped:
        last = max(problems)
        more = f"\u2026 and {document.dropped} more problems"
        problems.append(SpecProblem(path=last.path, line=last.line, column=last.column, message=more))
    return SpecError(problems)


def _one_problem(path: str, message: str, hint: str, *, line: int = 1, column: int = 1) -> SpecError:
    return SpecError([SpecProblem(path=path, line=line, column=column, message=message, hint=hint)])
