"""What each tool of a worker is called with, as pydantic models: the schema a model is told, and the check of calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maos_bot.agents.findings import SCHEMA as FINDINGS
from maos_bot.models.protocol import Tool

_LONGEST_TEXT: Final = 2_000_000  # characters
_MOST_PROBLEMS: Final = 6

Path = Annotated[str, Field(min_length=1, max_length=4000, description="Relative to the repository's root.")]
Folder = Annotated[str, Field(max_length=4000, description="Relative to the repository's root, which is the default.")]


class Arguments(BaseModel):
    """What all share: nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Read(Arguments):
    """Read a text file, with line numbers."""

    path: Path
    start: int = Field(1, ge=1, description="First line.")
    lines: int = Field(400, ge=1, le=2000, description="How many lines.")


class List(Arguments):
    """List a folder."""

    path: Folder = "."


class Search(Arguments):
    """Search files line by line; the answer is path:line: text."""

    pattern: str = Field(description="A regular expression.")
    path: Folder = "."
    glob: str = Field("", max_length=500, description="Only files that fit this, as in .gitignore: *.py, src/**")
    literal: bool = Field(False, description="The pattern is plain text.")
    ignore_case: bool = False


class Edit(Arguments):
    """Replace text in a file. `old` must be there exactly once, to the letter, unless `everywhere`."""

    path: Path
    old: str = Field(min_length=1, max_length=_LONGEST_TEXT)
    new: str = Field(max_length=_LONGEST_TEXT)
    everywhere: bool = False


class Write(Arguments):
    """Write a whole file, new or in place of the old one; or remove it."""

    path: Path
    text: str | None = Field(None, max_length=_LONGEST_TEXT)
    remove: bool = False


class Run(Arguments):
    """Run a bash command in the repository's root. There is no network and no git; what it starts ends with it."""

    command: str = Field(min_length=1, max_length=20_000)
    seconds: float | None = Field(None, gt=0, le=600, description="Ended after so long; 120 by default.")


class Finish(Arguments):
    """Say that you are done. Nothing can be done after it."""

    summary: str = Field(min_length=1, max_length=20_000, description="One or two sentences.")
    findings: list[Any] = Field([], max_length=1000)


def described(name: str, model: type[BaseModel], *, findings: bool) -> Tool:
    """A tool as models are told of it; `finish` takes findings only where the task reports them."""
    schema = _tidy(model.model_json_schema())
    if model is Finish:
        properties = {key: value for key, value in schema["properties"].items() if key != "findings"}
        schema = {**schema, "properties": {**properties, **({"findings": FINDINGS} if findings else {})}}
    return Tool(name=name, description=" ".join((model.__doc__ or "").split()), schema=schema)


def problems(error: ValidationError) -> str:
    """What is wrong with arguments, in words."""
    found = []
    for each in error.errors(include_url=False)[:_MOST_PROBLEMS]:
        where = ".".join(map(str, each["loc"])) or "the arguments"
        found.append(f"`{where}`: {each['msg'][:200].lower()}")
    more = error.error_count() - len(found)
    return "; ".join(found) + (f"; and {more} more" if more > 0 else "")


def _tidy(schema: Any) -> Any:
    """Without generated titles and without `null`, which nobody need send."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    tidy = {
        key: ({name: _tidy(each) for name, each in value.items()} if key == "properties" else _tidy(value))
        for key, value in schema.items()
        if key != "title" and not (key == "description" and schema.get("type") == "object") and value is not None
    }
    choices = [each for each in tidy.pop("anyOf", []) if each != {"type": "null"}]
    return {**choices[0], **tidy} if choices else tidy
