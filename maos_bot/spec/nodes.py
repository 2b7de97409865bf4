"""YAML text as plain data that remembers where everything stood (no recursion, bounded in size).

The parser's events (libyaml through `ruamel.yaml.clib`; ruamel.yaml's own parser where that can't be imported) are
composed here, not by the library: this keeps line and column of keys and values, reports every duplicate key instead
of the first, counts what aliases would expand to *before* anything is expanded, and leaves the meaning of unquoted
words to the schema: `3.10` stays `3.10` where text is wanted, and `on`, `yes` and `no` are never booleans (YAML 1.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from maos_bot.errors import SpecProblem

MAX_BYTES: Final = 2 * 1024 * 1024
MAX_NODES: Final = 250_000  # with aliases expanded: 20,000 tasks of 12 values each
MAX_TEXT: Final = 8 * 1024 * 1024  # characters, with aliases expanded
MAX_DEPTH: Final = 64
MAX_PROBLEMS: Final = 500

# The compiled parser is older than YAML 1.2 in one thing: it refuses `[http://host]`. The one in Python, ten times
# slower, reads it, and gets the text where that is a matter of at most some seconds.
_COLON_IN_FLOW: Final = "found unexpected ':'"
_MAX_SLOW: Final = 256 * 1024

# By words of the parser's message.
_SYNTAX_HINTS: Final = {
    _COLON_IN_FLOW: "put the value in quotes",
    "cannot start any token": "put the value in quotes: it starts with a character that means something to YAML",
    "mapping values are not allowed": "put the value in quotes if it holds `: `, or check the indentation",
    "quoted scalar": "close the quote",
    "end of stream": "close the quote",
    "',' or": "close the bracket, or put a comma between the values",
}

Path = tuple[str | int, ...]

# What YAML can't hold; named one by one, for the complement of what it can takes ten times as long to compile.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_CORE_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_CORE_TAG + name for name in ("int", "float", "bool", "null"))


class Plain(str):
    """An unquoted scalar: text whose type the schema decides."""

    __slots__ = ()


class Node:
    """One YAML value and where it starts (line and column from 1).

    A scalar has `data`: text, `Plain` text, or None for an empty value. A mapping has `parts`, a dict of key to (key
    node, value node); a sequence has `parts`, a list of nodes. `size` and `chars` count the values and characters
    with aliases expanded.
    """

    __slots__ = ("chars", "column", "data", "line", "parts", "size")

    def __init__(self, data: Any, line: int, column: int, parts: Any = None) -> None:
        self.data = data
        self.line = line
        self.column = column
        self.parts = parts
        self.size = 1
        self.chars = len(data) if isinstance(data, str) else 0

    @property
    def is_empty(self) -> bool:
        """Whether a key was given no value at all (or `null`)."""
        return self.parts is None and self.data is None


class Stop(Exception):  # noqa: N818 - ends the reading of one file, never leaves this package
    """The text can't be read any further; the reason is in the problems."""


class Document:
    """A composed file: its root node (None if it is empty or unreadable) and every problem found so far."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.root: Node | None = None
        self.problems: list[SpecProblem] = []
        self.dropped = 0

    def add(self, line: int, column: int, message: str, hint: str = "") -> None:
        """Note a problem at a line and column counted from 1; past `MAX_PROBLEMS` they are counted only."""
        if len(self.problems) >= MAX_PROBLEMS:
            self.dropped += 1
            return
        self.problems.append(
            SpecProblem(path=self.path, line=max(line, 1), column=max(column, 1), message=message, hint=hint)
        )

    def at(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        """Note a problem at the value (or its key) that a path of keys and indices leads to."""
        line, column = self.locate(path, key=key)
        self.add(line, column, message, hint)

    def locate(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column of a value, or of its key; the nearest enclosing value where the path ends early."""
        node = self.root
        if node is None:
            return 1, 1
        spot = node
        for step in path:
            if isinstance(node.parts, dict):
                pair = node.parts.get(str(step))
                if pair is None:
                    break
                # A mapping's own mark is its first key, one line below: its name is the better place to point at.
                key_node, node = pair
                spot = key_node if key or isinstance(node.parts, dict) or node.is_empty else node
            elif isinstance(node.parts, list) and isinstance(step, int) and step < len(node.parts):
                node = spot = node.parts[step]
            else:
                break
        return spot.line, spot.column


def compose(text: str, *, path: str, pure: bool = False) -> Document:
    """Compose YAML text; what is wrong is in the document's `problems`, never raised.

    `pure` takes the parser written in Python, as happens by itself where the compiled one is missing.
    """
    document = Document(path)
    text = text.removeprefix("\ufeff")
    if _too_big(document, text) or _forbidden(document, text):
        return document
    composer = _Composer(document)
    try:
        for event in _events(text, pure=pure):
            composer.feed(event)
    except Stop:
        pass
    except Exception as error:  # noqa: BLE001 - sorted out just below
        if getattr(error, "problem", None) == _COLON_IN_FLOW and not pure and len(text) <= _MAX_SLOW:
            return compose(text, path=path, pure=True)
        _syntax(document, text, error)
    else:
        document.root = composer.root
        if composer.root is None and not document.problems:
            document.add(1, 1, "the file is empty", "a spec needs at least `tasks`; `maos init` writes one")
    return document


def shorten(value: object, limit: int = 60) -> str:
    """A value for use inside a message: one line, at most `limit` characters."""
    text = str(value)
    text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def _too_big(document: Document, text: str) -> bool:
    if len(text) <= MAX_BYTES:
        return False
    document.add(1, 1, f"the file is larger than {MAX_BYTES // 1024} KiB", "split it, or generate fewer tasks")
    return True


def _forbidden(document: Document, text: str) -> bool:
    for count, match in enumerate(_FORBIDDEN.finditer(text)):
        if count >= 20:
            break
        start = match.start()
        line = text.count("\n", 0, start) + 1
        column = start - (text.rfind("\n", 0, start) + 1) + 1
        code = ord(match.group())
        name = "a NUL byte" if code == 0 else f"the control character U+{code:04X}"
        document.add(line, column, f"{name} can't stand in YAML", "remove it; the file may be damaged or not text")
    return bool(document.problems)


def _events(text: str, *, pure: bool) -> Iterator[Any]:
    if not pure:
        try:
            from _ruamel_yaml import CParser  # type: ignore[import-not-found]
        except ImportError:
            pass
        else:
            parser = CParser(text)
            check, get = parser.check_event, parser.get_event
            while check():
                yield get()
            return
    from ruamel.yaml import YAML

    yield from YAML(typ="safe", pure=True).parse(text)


def _syntax(document: Document, text: str, error: Exception) -> None:
    from ruamel.yaml.error import YAMLError

    if not isinstance(error, YAMLError):
        raise error
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    context = getattr(error, "context_mark", None)
    line = mark.line if mark is not None else 0
    column = mark.column if mark is not None else 0
    what = str(getattr(error, "problem", None) or getattr(error, "context", None) or error).split("\n", 1)[0]
    lines = text.split("\n")
    source = lines[line] if line < len(lines) else ""
    if line >= len(lines):  # the end of the file: point at its last character
        line, column = len(lines) - 1, len(lines[-1])
    hint = _syntax_hint(what, source)
    if context is not None and context.line != line:
        hint = f"{hint} (it began in line {context.line + 1})"
    document.add(line + 1, column + 1, f"not valid YAML: {shorten(what, 100)}", hint)


def _syntax_hint(what: str, source: str) -> str:
    indent = source[: len(source) - len(source.lstrip())]
    if "\t" in indent or "\\t" in what or "tab character" in what:
        return "YAML is indented with spaces: replace the tab"
    for words, hint in _SYNTAX_HINTS.items():
        if words in what:
            return hint
    return "check the indentation, quotes and brackets near here"


class _Frame:
    """A mapping or sequence under construction."""

    __slots__ = ("anchor", "key", "merges", "node")

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: Node | None = None
        self.merges: list[tuple[Node, Node]] = []


class _Composer:
    """Turns parser events into nodes; keeps an explicit stack, so nesting costs no recursion."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.root: Node | None = None
        self.stack: list[_Frame] = []
        self.anchors: dict[str, Node] = {}
        self.size = 0
        self.chars = 0
        self.documents = 0
        self.handlers = {
            "ScalarEvent": self._scalar,
            "MappingStartEvent": self._start,
            "SequenceStartEvent": self._start,
            "MappingEndEvent": self._end,
            "SequenceEndEvent": self._end,
            "AliasEvent": self._alias,
            "DocumentStartEvent": self._document,
        }

    def feed(self, event: Any) -> None:
        handler = self.handlers.get(type(event).__name__)
        if handler is not None:
            handler(event)

    def _document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            mark = event.start_mark
            self._stop(mark, "a second YAML document starts here", "a spec is one document: remove the `---`")

    def _scalar(self, event: Any) -> None:
        mark = event.start_mark
        text: str = event.value
        tag: str | None = event.tag
        data: str | None
        if tag is not None and tag != "!":
            data = self._tagged(tag, text, mark)
        elif event.style or tag == "!":
            data = text
            if event.style == '"' and _UNUSABLE.search(text):
                self._note(mark, "the text holds a NUL or half a character", "remove the escape")
        else:
            data = None if text in _NULLS else Plain(text)
        node = Node(data, mark.line + 1, mark.column + 1)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self._count(node)
        self._place(node)

    def _tagged(self, tag: str, text: str, mark: Any) -> str | None:
        if tag == _CORE_TAG + "str":
            return text
        if tag in _SCALAR_TAGS:
            return None if text in _NULLS else Plain(text)
        self._refuse_tag(tag, mark)
        return text

    def _refuse_tag(self, tag: str, mark: Any) -> None:
        shown = "!!" + tag.removeprefix(_CORE_TAG) if tag.startswith(_CORE_TAG) else tag
        self._note(mark, f"the tag `{shorten(shown)}` has no meaning here", "a spec is plain data: remove the tag")

    def _start(self, event: Any) -> None:
        mark = event.start_mark
        is_map = type(event).__name__ == "MappingStartEvent"
        if len(self.stack) >= MAX_DEPTH:
            self._stop(mark, f"nested deeper than {MAX_DEPTH} levels", "a spec needs no more than six")
        if event.tag not in {None, "!", _CORE_TAG + ("map" if is_map else "seq")}:
            self._refuse_tag(event.tag, mark)
        node = Node(None, mark.line + 1, mark.column + 1, {} if is_map else [])
        self.stack.append(_Frame(node, event.anchor))
        if event.anchor is not None:
            self.anchors.pop(event.anchor, None)  # an alias inside this value would be recursive

    def _end(self, _event: Any) -> None:
        frame = self.stack.pop()
        for key, value in frame.merges:
            self._merge(frame.node, key, value)
        if frame.anchor is not None:
            self.anchors[frame.anchor] = frame.node
        self.size += 1
        self._place(frame.node)

    def _alias(self, event: Any) -> None:
        mark = event.start_mark
        node = self.anchors.get(event.anchor)
        name = shorten(event.anchor)
        if node is None:
            if any(frame.anchor == event.anchor for frame in self.stack):
                self._stop(mark, f"the alias `*{name}` stands inside its own value", "remove the alias")
            self._stop(mark, f"unknown alias `*{name}`", f"define it before with `&{name}`")
        else:
            self._count(node, mark)
            self._place(node)

    def _count(self, node: Node, mark: Any = None) -> None:
        self.size += node.size
        self.chars += node.chars
        if self.size > MAX_NODES or self.chars > MAX_TEXT:
            line, column = (mark.line + 1, mark.column + 1) if mark is not None else (node.line, node.column)
            what = f"{MAX_NODES:,} values" if self.size > MAX_NODES else f"{MAX_TEXT:,} characters"
            hint = "aliases are counted each time they are used" if self.anchors else "split the file"
            self.document.add(line, column, f"the file holds more than {what}", hint)
            raise Stop

    def _place(self, node: Node) -> None:
        """Put a finished value where it belongs: into its sequence, or as key or value of its mapping."""
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        parent = frame.node
        if isinstance(parent.parts, list):
            parent.parts.append(node)
        elif frame.key is None:
            frame.key = node
            return
        else:
            key, frame.key = frame.key, None
            self._pair(frame, key, node)
        parent.size += node.size
        parent.chars += node.chars

    def _pair(self, frame: _Frame, key: Node, value: Node) -> None:
        if key.parts is not None or key.data is None or not key.data.strip():
            self.document.add(key.line, key.column, "a key must be a word", "put a name before the colon")
            return
        name: str = key.data
        if name == "<<" and type(name) is Plain:
            frame.merges.append((key, value))
            return
        pairs = frame.node.parts
        if name in pairs:
            first = pairs[name][0]
            what = "task id" if self._path() == ["tasks"] else "key"
            self.document.add(
                key.line,
                key.column,
                f"duplicate {what} `{shorten(name)}`",
                f"the first one is at {first.line}:{first.column}; remove or rename one",
            )
            return
        pairs[str(name)] = (key, value)

    def _path(self) -> list[str]:
        """The keys that lead to the innermost open mapping."""
        return [str(frame.key.data) for frame in self.stack if frame.key is not None]

    def _merge(self, node: Node, key: Node, value: Node) -> None:
        """Take over what a `<<` names: keys of the mapping itself win, then the earlier source."""
        for source in value.parts if isinstance(value.parts, list) else [value]:
            if not isinstance(source.parts, dict):
                self.document.add(key.line, key.column, "`<<` merges mappings only", "name one with an alias: `<<: *x`")
                continue
            self._count(source)
            node.size += source.size
            for name, pair in source.parts.items():
                if name not in node.parts:
                    node.parts[name] = pair

    def _note(self, mark: Any, message: str, hint: str) -> None:
        self.document.add(mark.line + 1, mark.column + 1, message, hint)

    def _stop(self, mark: Any, message: str, hint: str) -> NoReturn:
        self._note(mark, message, hint)
        raise Stop
