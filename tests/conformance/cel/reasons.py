"""Why a case of CEL is none of our language: a short list of what is left out, each by what cel-go sees in the case."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.cel.cases import Case

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_WRITTEN = re.compile(r"""'''.*?'''|\"{3}.*?\"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""", re.DOTALL)
_CALLED = re.compile(r"\)~[^^\n]+\^([\w@|]+)")
_TYPED = re.compile(r"~(?!test-only)([\w.]+)")
_REFUSED = re.compile(r"undeclared reference|no matching overload|expected type")
_NUMBERS = re.compile(r"applied to '\((?:int, double|double, int)\)'")


@dataclass(frozen=True, slots=True)
class Sight:
    """What cel-go sees in a case: its text and its tree with types, both without the contents of strings.

    `types` and `calls`, the names of overloads, are empty where cel-go's checker refused the expression.
    """

    case: Case
    text: str
    checked: str
    types: frozenset[str]
    calls: frozenset[str]

    def writes(self, pattern: str) -> bool:
        """Whether the text has a pattern."""
        return re.search(pattern, self.text) is not None

    def uses(self, pattern: str) -> bool:
        """Whether an overload that is called has a name of a pattern."""
        return any(re.fullmatch(pattern, name) for name in self.calls)

    def declares(self, word: str) -> bool:
        """Whether a variable has a type that the language lacks and that is described with a word."""
        return word in self.case.declared and any(variable.type is None for variable in self.case.variables)


def sight(case: Case) -> Sight:
    """Return what cel-go sees in a case."""
    checked = _QUOTED.sub('""', case.checked)
    calls = frozenset(name for names in _CALLED.findall(checked) for name in names.split("|"))
    return Sight(case, _WRITTEN.sub('""', case.text), checked, frozenset(_TYPED.findall(checked)), calls)


@dataclass(frozen=True, slots=True)
class Reason:
    """Something of CEL that the language leaves out, and why; `applies` tells whether a case needs it."""

    what: str
    why: str
    applies: Callable[[Sight], bool]


def _messages(seen: Sight) -> bool:
    named = seen.case.container.startswith("cel.expr.conformance") or seen.declares("messageType")
    return named or seen.writes(r"google\.protobuf|\w\s*\{")


def _optional(seen: Sight) -> bool:
    return seen.writes(r"`|\boptional\b|\[\?|\{\?|\.\?|, *\?")


def _unsigned(seen: Sight) -> bool:
    return "uint" in seen.types or seen.writes(r"\buint\b|\b\d\w*[uU]\b") or seen.declares("UINT64")


def _bytes(seen: Sight) -> bool:
    return "bytes" in seen.types or seen.writes(r"\bbytes\b|\b(?:[bB][rR]?|[rR][bB])\"") or seen.declares("BYTES")


def _maps(seen: Sight) -> bool:
    return seen.writes(r"\{") or seen.declares("mapType")


def _extensions(seen: Sight) -> bool:
    known = seen.uses(r"math_.*|strings?_(?!to_|lower_ascii).*|base64_.*|list_join.*")
    two_variables = r"\.(?!map\()\w+\((?:\w+, *\w+|cel\.iterVar\(.*?\)),"
    return known or seen.writes(rf"\bcel\.\w+\(|\bmath\.|{two_variables}|\.(?:format|existsOne|transform\w+)\(")


def _conversions(seen: Sight) -> bool:
    ours = r"int64_to_double|string_to_(timestamp|duration)|to_dyn|timestamp_to_(?!int64|string|timestamp)\w+"
    parts = r"duration_to_(hours|minutes|seconds|milliseconds)"
    return any("_to_" in name and not re.fullmatch(rf"{ours}|{parts}", name) for name in seen.calls)


def _lists(seen: Sight) -> bool:
    compared = r"_[!=]=_\(\s*\[|\]\S*\s*\)~bool\^(not_)?equals"
    return seen.uses("index_list") or re.search(rf"{compared}|list\(list|(?<!\[)\]~list\(dyn", seen.checked) is not None


def _dynamic(seen: Sight) -> bool:
    if seen.case.expected.error:  # found when it is loaded, which is as good
        return False
    if seen.types:  # numbers are compared with numbers whatever their types
        return "to_dyn" in seen.calls and not seen.types <= {"int", "double", "bool", "list", "dyn"}
    return bool(_REFUSED.search(seen.case.error)) and not _NUMBERS.search(seen.case.error)


UNCHECKED = Reason(
    "names and types that only evaluation shows, `dyn`",
    "a condition is checked when its bundle is loaded, so that no event meets a fault in it",
    _dynamic,
)
REASONS: tuple[Reason, ...] = (
    Reason(
        "protobuf messages and enums", "an event is no protobuf message, and a condition makes no objects", _messages
    ),
    Reason(
        "optional values, quoted field names",
        "a missing field is unknown, which says the same without another type; no field of an event needs quotes",
        _optional,
    ),
    Reason("unsigned integers", "an event has none: counts are signed 64-bit integers", _unsigned),
    Reason("bytes", "an event holds text and digests of content, no bytes", _bytes),
    Reason("maps", "the one map of an event is `labels`, of strings; constants belong into `lists.yaml`", _maps),
    Reason(
        "extension libraries, macros with two variables",
        "of CEL's extensions only `lowerAscii` is there; each function has to mean the same on the stream and in SQL",
        _extensions,
    ),
    Reason(
        "functions of one's own",
        "whoever reads a policy finds all of it in the bundle: `let` names parts of conditions",
        lambda seen: "'function'" in seen.case.declared,
    ),
    Reason(
        "`map` and `filter`",
        "a condition tests lists and makes none: with `exists`, `all` and `exists_one`",
        lambda seen: seen.writes(r"\.(map|filter)\("),
    ),
    Reason("`null`", "null is as unknown as a missing field: `has()` tests", lambda seen: seen.writes(r"\bnull\b")),
    Reason("types as values", "the types of fields are known before an event comes", lambda seen: "type" in seen.types),
    Reason("conversions", "but for `double(int)`: values are compared in their own types", _conversions),
    Reason(
        "concatenation of strings and of lists",
        "a condition makes no texts and no lists: `startsWith`, `contains` and `in` test parts",
        lambda seen: seen.uses("add_string|add_list"),
    ),
    Reason(
        "lists as values: compared as a whole, entries by number, lists of lists or of several types",
        "the order of an event's lists says nothing: `in`, `exists` and `all` test the elements",
        _lists,
    ),
    Reason(
        "order of truths", "`a < b` of two truths is seldom meant", lambda seen: seen.uses(r"(less|greater)\w*_bool")
    ),
    Reason(
        "sums and parts of durations",
        'a duration is compared with another: `event.time - record.time > duration("36h")`',
        lambda seen: seen.uses(r"(add|subtract)_duration_duration|duration_to_\w+"),
    ),
    UNCHECKED,
)


def reasons(case: Case) -> list[Reason]:
    """Return the reasons why a case is left out, none where there is none."""
    seen = sight(case)
    return [reason for reason in REASONS if reason.applies(seen)]
