"""What to do instead, for calls and operands that the language does not have."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from usageaudit.policy.language.operators import names, overloads
from usageaudit.policy.language.tree import Const
from usageaudit.policy.language.types import BOOL, DOUBLE, DURATION, INT, OBJECT, STRING, TIMESTAMP, Kind

if TYPE_CHECKING:
    from usageaudit.policy.language.signatures import Operator
    from usageaudit.policy.language.syntax import Call
    from usageaudit.policy.language.tree import Node
    from usageaudit.policy.language.types import Type

_FREE = re.compile(r"true|false|[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
"""What is a value of its own without quotes."""
_LEFT_OUT = {
    "now": "a condition judges by event.time, so that judging again gives the same verdict",
    "int": "compare doubles with doubles: 1.0",
    "uint": "integers are signed: 1",
    "string": "values are compared in their own types",
    "bool": "a truth value is tested as it is",
    "bytes": "values are compared as strings",
    "type": "the types of fields are known before an event comes",
    "dyn": "the types of fields are known before an event comes",
    "map": "exists, all and exists_one test the elements of a list",
    "filter": "exists, all and exists_one test the elements of a list",
}


_SYNONYMS = {
    **dict.fromkeys(("any", "some"), "exists"),
    **dict.fromkeys(("every",), "all"),
    **dict.fromkeys(("len", "length", "count"), "size"),
    **dict.fromkeys(("lower", "toLower", "lowercase", "casefold"), "lowerAscii"),
    **dict.fromkeys(("includes", "like", "indexOf"), "contains"),
    **dict.fromkeys(("regex", "match", "search", "test"), "matches"),
    **dict.fromkeys(("date", "datetime", "toTimestamp"), "timestamp"),
}


def for_call(tree: Call) -> tuple[str, str]:
    """Return message and hint for a call that no operator answers to by name, form and number of operands."""
    name = tree.name[:60]
    rows = overloads(name)
    if not rows:
        near = [_SYNONYMS[name]] if name in _SYNONYMS else difflib.get_close_matches(name, sorted(names()), n=1)
        hint = _LEFT_OUT.get(name, f"did you mean {near[0]}?" if near else "")
        return (f"{name}() is no part of the language" if name in _LEFT_OUT else f"unknown function {name}"), hint
    if rows[0].style == "macro":
        return f"{name} goes over a list", f"write list.{name}(x, condition)"
    forms = " or ".join(dict.fromkeys(row.signature for row in rows))
    return f"{name} is not called like this", f"it is {forms}"


def for_operands(tree: Call, rows: tuple[Operator, ...], arguments: tuple[Node, ...]) -> tuple[str, str]:
    """Return message and hint for operands that no row of an operator takes."""
    types = [argument.type for argument in arguments]
    if (tree.name in ("&&", "||", "!", "?:") and types[0] != BOOL) or tree.name in ("&&", "||"):
        wrong = next((kind for kind in types if kind != BOOL), types[0])
        what = "the condition before ?" if tree.name == "?:" else f"an operand of {tree.name}"
        whole = "; to negate a comparison, write !(a == b)" if tree.name == "!" and wrong.scalar else ""
        return f"{what} must be true or false, this is a {wrong}", _truth(wrong) + whole
    if tree.name == "?:" and not types[1].scalar:
        return f"the results of ? : are single values, this is a {types[1]}", "put ? : around the tests of them"
    if tree.name == "?:":
        return f"both results of ? : must be of one type, not {types[1]} and {types[2]}", _numbers(arguments[1:])
    kinds = " and ".join(map(str, types))
    return f"no operator {tree.name} for {kinds}", _hint(tree.name, rows, arguments)


def _hint(name: str, rows: tuple[Operator, ...], arguments: tuple[Node, ...]) -> str:
    types = [argument.type for argument in arguments]
    if numbers := _numbers(arguments):
        return numbers
    if name in ("==", "!=") and types[0].kind is Kind.LIST:
        return "test the elements: with in, exists or all"
    if name in ("==", "!=") and types[1].kind is Kind.LIST:
        return "one of several values: x in [..]"
    if name == "in" and types[1].element == OBJECT:
        return "test the elements' fields: exists(x, x.field == ..)"
    if name == "in" and types[1] == STRING:
        return "a part of a string: x.contains(..)"
    if name == "contains" and types[0].kind is Kind.LIST:
        return "an element of a list: x in list"
    if name == "+" and STRING in types:
        return "texts are not put together; compare each by itself"
    if name in ("==", "!=", "<", "<=", ">", ">="):
        return _quoted(arguments) if STRING in types and len(set(types)) == 2 else _written(types)
    return "there is " + ", ".join(dict.fromkeys(row.signature for row in rows))


def _truth(kind: Type) -> str:
    return "compare it with something" if kind.scalar else "use has() or size()"


def _quoted(arguments: tuple[Node, ...]) -> str:
    for argument in arguments:
        if isinstance(argument, Const) and argument.type == STRING and _FREE.fullmatch(str(argument.value)):
            return f"without quotes: {argument.value}"
        if isinstance(argument, Const) and argument.type in (INT, DOUBLE, BOOL):
            return f'a string is written in quotes: "{argument.span.text[:40]}"'
    return _written([argument.type for argument in arguments])


def _written(types: list[Type]) -> str:
    """Return how a value is written that can be compared with another one."""
    forms = {
        TIMESTAMP: 'a timestamp is written as timestamp("2024-05-01T00:00:00Z")',
        DURATION: 'a duration is written as duration("36h")',
        BOOL: "write true or false",
    }
    return next((forms[kind] for kind in types if kind in forms), "both sides must be of one type")


def _numbers(arguments: tuple[Node, ...]) -> str:
    """Return what to do where an int meets a double, which only comparisons allow."""
    types = {argument.type for argument in arguments}
    if types != {INT, DOUBLE}:
        return ""
    for argument in arguments:
        if argument.type == INT and isinstance(argument, Const):
            return f"write {argument.value}.0"
    return "convert the integer: double(..)"
