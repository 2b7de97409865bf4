"""What a runner would take for a workflow command in a log, and read from a file of outputs."""

from __future__ import annotations

import re


def commands_of(log: str) -> list[str]:
    """The workflow commands a runner would carry out, read as it reads them (runner `ActionCommand.cs`)."""
    found: list[str] = []
    stopped = ""
    for line in re.split(r"\r\n|\r|\n", log):
        command = re.match(r"\s*::([\w-]+)(?: [^:]*)?::(.*)", line)
        if stopped:
            if line.strip() == f"::{stopped}::":
                stopped = ""
        elif command and command[1] == "stop-commands":
            stopped = command[2]
        elif command:
            found.append(command[1])
        if not stopped and (inside := re.search(r"##\[([\w-]+)", line)):
            found.append(inside[1])
    return [*found, "stop-commands"] if stopped else found


def outputs_of(text: str) -> dict[str, str]:
    """The outputs in a file of the form `NAME<<DELIMITER`, as a runner reads it (runner `FileCommandManager.cs`)."""
    found: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, _, delimiter = line.partition("<<")
        assert name
        assert delimiter, line
        value = []
        for each in lines:
            if each == delimiter:
                break
            value.append(each)
        else:
            raise AssertionError(f"{name} has no end")
        found[name] = "\n".join(value)
    return found
