"""The cases of the conformance data: what is evaluated, with which values, and what CEL says it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conformance.cel.package import suite
from usageaudit.policy.language import (
    BOOL,
    DOUBLE,
    DURATION,
    INT,
    MAP,
    STRING,
    TIMESTAMP,
    Scalar,
    Type,
    list_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Value = Scalar | tuple[Scalar, ...] | dict[str, str] | None
"""A value of a case; None is unknown, as an error of CEL's is."""

_PRIMITIVES = {"BOOL": BOOL, "INT64": INT, "DOUBLE": DOUBLE, "STRING": STRING}
_WELL_KNOWN = {"TIMESTAMP": TIMESTAMP, "DURATION": DURATION}
_STRING_MAP = {"keyType": {"primitive": "STRING"}, "valueType": {"primitive": "STRING"}}


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a case; its type and its value are those of the data, None where the language has no such thing."""

    name: str
    type: Type | None
    value: Value


@dataclass(frozen=True, slots=True)
class Expected:
    """What CEL says: an error, or a value, which is None where the language has no such value."""

    error: bool = False
    value: Value = None


@dataclass(frozen=True, slots=True)
class Case:
    """A case of the data; `text` is its expression.

    `tree`, `checked` and `type` are what cel-go made of it, in cel-go's own notation, and empty where it refused the
    expression: then `error` says why.
    """

    name: str
    text: str
    container: str
    variables: tuple[Variable, ...]
    expected: Expected
    declared: str
    tree: str
    checked: str
    type: str
    error: str


def conformance(package: Path) -> tuple[Case, ...]:
    """Return the cases of cel-spec, named as file/section/name."""
    return tuple(_cases(suite(package, "conformance.js"), ()))


def parser_cases(package: Path) -> tuple[Case, ...]:
    """Return the cases of cel-go's parser, numbered."""
    return tuple(_cases(suite(package, "parsing.js"), ()))


def _cases(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Case]:
    for number, test in enumerate(node.get("tests", ())):
        yield _case(test, (*path, test["original"].get("name", str(number))))
    for below in node.get("suites", ()):
        yield from _cases(below, (*path, below["name"]))


def _case(test: Mapping[str, Any], path: tuple[str, ...]) -> Case:
    original = test["original"]
    bindings = original.get("bindings", {})
    declared = [entry for entry in original.get("typeEnv", ()) if "ident" in entry]
    return Case(
        name="/".join(path),
        text=original["expr"],
        container=original.get("container", ""),
        variables=tuple(
            Variable(entry["name"], _type(entry["ident"]["type"]), _value(bindings.get(entry["name"], {}).get("value")))
            for entry in declared
        ),
        expected=_expected(original),
        declared=str(original.get("typeEnv", "")),
        tree=test.get("ast", ""),
        checked=test.get("checkedAst", ""),
        type=test.get("type", ""),
        error=test.get("error", ""),
    )


def _expected(original: Mapping[str, Any]) -> Expected:
    if "evalError" in original:
        return Expected(error=True)
    typed = original.get("typedResult", {}).get("result")
    # A case that names no result expects true.
    return Expected(value=_value(original.get("value", typed or {"boolValue": True})))


def _type(given: Mapping[str, Any]) -> Type | None:
    match given:
        case {"primitive": name}:
            return _PRIMITIVES.get(name)
        case {"wellKnown": name}:
            return _WELL_KNOWN.get(name)
        case {"listType": {"elemType": element}}:
            kind = _type(element)
            return list_of(kind) if kind and kind.scalar else None
        case {"mapType": types} if types == _STRING_MAP:
            return MAP
        case _:
            return None


def _value(given: Mapping[str, Any] | None) -> Value:
    """Return a value of the language, None where it has no such value."""
    match given:
        case {"boolValue": bool() as value} | {"stringValue": str() as value}:
            return value
        case {"int64Value": value}:
            return int(value)
        case {"doubleValue": value}:
            return float(value)
        case {"listValue": {"values": items}}:
            values = tuple(value for item in items if isinstance(value := _value(item), bool | int | float | str))
            return values if len(values) == len(items) else None
        case {"listValue": _}:
            return ()
        case {"mapValue": {"entries": entries}}:
            return {key: value for key, value in map(_entry, entries) if key}
        case _:
            return None


def _entry(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["key"].get("stringValue", ""), entry["value"].get("stringValue", "")
