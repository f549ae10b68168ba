"""Queries that are shipped by name: each a .sql file here, with its meaning and parameters in its first lines.

    -- What each team spent in each month.
    -- since Date = 1970-01-01: first day that counts
    -- team String: the team
    SELECT …

The first line is what the query answers; each further one a parameter with its type, its default, if it has one, and
its meaning. The file's name is the query's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NamedQuery", "Parameter", "named_queries", "parse"]

_HEADER = re.compile(r"(?:--[^\n]*\n)+")
_PARAMETER = re.compile(r"(?P<name>\w+) (?P<type>\w+)(?: = (?P<default>\S*))?: (?P<sentence>.+)")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A `{name:Type}` placeholder; `default` is its value as text, None where one must be given."""

    name: str
    type: str
    default: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A query, what it answers in one sentence, and its parameters."""

    name: str
    sentence: str
    parameters: tuple[Parameter, ...]
    sql: str

    @property
    def defaults(self) -> Mapping[str, str]:
        """The values of the parameters that need not be given."""
        return {one.name: one.default for one in self.parameters if one.default is not None}


@cache
def named_queries() -> Mapping[str, NamedQuery]:
    """Return every shipped query by its name, in the order of the names."""
    found = (file for file in files("usageaudit.stores.queries").iterdir() if file.name.endswith(".sql"))
    queries = (parse(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")) for file in found)
    return MappingProxyType({query.name: query for query in sorted(queries, key=lambda query: query.name)})


def parse(name: str, text: str) -> NamedQuery:
    """Return the query of a file's text. Raises ValueError where its first lines are not of the form above."""
    header = _HEADER.match(text)
    if header is None:
        raise ValueError(f"{name}: a query begins with a comment that says what it answers")
    sentence, *lines = (line.removeprefix("--").strip() for line in header[0].splitlines())
    return NamedQuery(name, sentence, tuple(_parameter(name, line) for line in lines), text[header.end() :].strip())


def _parameter(name: str, line: str) -> Parameter:
    found = _PARAMETER.fullmatch(line)
    if found is None:
        raise ValueError(f"{name}: {line!r} is not of the form 'name Type = default: meaning'")
    return Parameter(found["name"], found["type"], found["default"], found["sentence"])
