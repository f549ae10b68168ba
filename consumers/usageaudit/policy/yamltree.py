"""Reads YAML into a tree that knows where everything stands, so that an error can name line and column.

Read is what JSON can hold: mappings, lists and scalars. Anchors, aliases, tags, directives and several documents in one
file are refused: they make a file say something else than it shows, and aliases let a small file grow without limit.
Depth, and with it the time that PyYAML takes, is bounded, and so is how many values a bundle has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from usageaudit.policy.language.diagnostics import Diagnostic
from usageaudit.policy.language.source import Origin
from usageaudit.policy.report import VALUES
from usageaudit.policy.scalars import pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.report import Report

MAX_DEPTH = 24
"""How deep lists and mappings may be nested."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_RESOLVER: Any = yaml.resolver.Resolver()
_DIRECTIVE = re.compile("^%[A-Z]", re.MULTILINE)
_MAX_DIRECTIVES = 10
"""The parser compares each directive with all before it, and is not given more of them."""
_COUNTED = 1_000
"""After how many values they are counted."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of a bundle: the name that errors show, and its text with its lines."""

    name: str
    text: str = field(repr=False)
    starts: tuple[int, ...] = field(repr=False)
    lines: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, name: str, text: str) -> TextFile:
        """Split the text at what YAML takes for the end of a line."""
        starts = (0, *(found.end() for found in _BREAK.finditer(text)))
        return cls(name, text, starts, tuple(_BREAK.split(text)))


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: line and column count from 1, `width` is how much of the line it takes."""

    file: TextFile
    line: int = 1
    column: int = 1
    width: int = 1

    def diagnostic(self, message: str, hint: str = "", *, warning: bool = False) -> Diagnostic:
        """Return an error, or a warning, at this place."""
        line = self.file.lines[self.line - 1] if 0 < self.line <= len(self.file.lines) else ""
        return Diagnostic(
            "warning" if warning else "error", message, self.file.name, self.line, self.column, line, self.width, hint
        )


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar; `tag` is what YAML 1.1 makes of it: str, int, float, bool, null, timestamp and so on."""

    place: Place
    text: str
    tag: str
    start: int
    end: int
    style: str

    def origin(self) -> Origin:
        """Return the origin of the text, whose positions are those of the file."""
        file, place = self.place.file, self.place
        pieces = pieces_of(self.text, file.text, file.starts, self.start, self.end, self.style)
        return Origin(file.name, place.line, place.column, tuple(pieces), file.lines)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping; its keys are scalars, each there once."""

    place: Place
    entries: tuple[tuple[Scalar, Node], ...]


Node = Scalar | Sequence | Mapping


class _Refused(Exception):
    """Something that can't be read on from; carries what to report."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        self.diagnostic = diagnostic
        super().__init__(diagnostic.message)


def read_yaml(file: TextFile, report: Report) -> Node | None:
    """Return the one document of a file, or None where there is none or it is broken, which is reported."""
    try:
        return _Composer(file, report).document()
    except _Refused as refused:
        report.add(refused.diagnostic)
    except yaml.YAMLError as error:
        report.add(_syntax_error(file, error))
    return None


_NO_DIRECTIVES = ("directives (%YAML, %TAG) are not read", "leave them out")


class _Composer:
    """Makes the tree from the parser's events."""

    def __init__(self, file: TextFile, report: Report) -> None:
        self._file, self._report = file, report
        self._events: Iterator[Any] = yaml.parse(file.text, Loader=_LOADER)
        self._values = 0

    def document(self) -> Node | None:
        """Read all of the file."""
        if len(list(islice(_DIRECTIVE.finditer(self._file.text), _MAX_DIRECTIVES + 1))) > _MAX_DIRECTIVES:
            raise _Refused(Place(self._file).diagnostic(*_NO_DIRECTIVES))
        next(self._events)  # the start of the stream
        start = next(self._events)
        if isinstance(start, yaml.StreamEndEvent):
            self._report.error(Place(self._file), "the file is empty")
            return None
        if start.version or start.tags:
            self._refuse(start, *_NO_DIRECTIVES)
        root = self._node(next(self._events), 1)
        self._report.spend(VALUES, self._values % _COUNTED, lambda: root.place)
        next(self._events)  # the end of the document
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            self._refuse(following, "a second document in one file", "one policy is one file")
        return root

    def _node(self, event: Any, depth: int) -> Node:
        self._values += 1
        if self._values % _COUNTED == 0:
            self._report.spend(VALUES, _COUNTED, lambda: self._place(event))
        if isinstance(event, yaml.AliasEvent):
            self._refuse(event, "aliases (*name) are not read", "write the value out")
        if event.anchor is not None:
            self._refuse(event, "anchors (&name) are not read", "write the value out where it is needed")
        if event.tag is not None:
            hint = "put a condition that begins with ! in quotes" if event.tag[1:] else "leave it out"
            self._refuse(event, f"tags such as {event.tag[:40]} are not read", hint)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if depth > MAX_DEPTH:
            self._refuse(event, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(event, depth)
        return self._mapping(event, depth)

    def _scalar(self, event: Any) -> Scalar:
        style = event.style or ""
        start, end = event.start_mark.index, event.end_mark.index
        return Scalar(self._place(event), event.value, "str" if style else _plain(event.value), start, end, style)

    def _sequence(self, start: Any, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Sequence(self._place(start), tuple(items))

    def _mapping(self, start: Any, depth: int) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self._report.error(key.place, "the key of a mapping must be a word")
            elif key.text in entries:
                first = entries[key.text][0].place.line
                self._report.error(key.place, f"{key.text} is here twice", f"the first is in line {first}")
            else:
                entries[key.text] = (key, value)
        return Mapping(self._place(start), tuple(entries.values()))

    def _place(self, event: Any) -> Place:
        start, end = event.start_mark, event.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return Place(self._file, start.line + 1, start.column + 1, max(1, width))

    def _refuse(self, event: Any, message: str, hint: str = "") -> NoReturn:
        raise _Refused(self._place(event).diagnostic(message, hint))


def _plain(text: str) -> str:
    """Return what YAML 1.1 makes of a text without quotes."""
    return _short(text) if len(text) <= _MAX_SHORT else _resolved(text)


def _resolved(text: str) -> str:
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    return tag.rsplit(":", 1)[-1]


_MAX_SHORT = 32
_short = lru_cache(maxsize=4096)(_resolved)
"""Policies say the same words again and again."""


_HINTS = (
    ("mapping values are not allowed", 'a text with ": " in it is put in quotes'),
    ("could not find expected ':'", "a key ends in a colon and a space"),
    (
        "did not find expected key",
        "is a quote within quotes, or the indentation wrong? A condition may stand below `when: |`",
    ),
    ("found a tab", "indent with spaces"),
    ("document start", "keys of one mapping begin in the same column"),
    ("special characters are not allowed", "leave control characters out"),
)
"""What is likely to have been meant, by what the parser says."""


def _syntax_error(file: TextFile, error: yaml.YAMLError) -> Diagnostic:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    message = getattr(error, "problem", None) or getattr(error, "reason", None) or "it can't be read"
    context = getattr(error, "context", None)
    text = f"not YAML: {context}: {message}" if context else f"not YAML: {message}"
    hint = next((hint for part, hint in _HINTS if part in text), "")
    if "simple key" in text and getattr(error, "context_mark", None) is not None:
        mark = error.context_mark  # type: ignore[attr-defined]  # the key itself, not what comes after it
    if mark is not None:
        place = Place(file, mark.line + 1, mark.column + 1)
    else:
        before = file.text[: getattr(error, "position", 0)]
        lines = _BREAK.split(before)
        place = Place(file, len(lines), len(lines[-1]) + 1)
    return place.diagnostic(text, hint)
