"""Writes a syntax tree as text again, with as few brackets as the grammar allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.language.syntax import Call, Has, Ident, Index, ListLiteral, Literal, Macro, Select
from usageaudit.policy.language.types import BOOL

if TYPE_CHECKING:
    from usageaudit.policy.language.syntax import Syntax

_BINDING = {"?:": 0, "||": 1, "&&": 2, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5}
_RELATION, _UNARY, _MEMBER = 3, 6, 7
_SYMBOLS = frozenset({"||", "&&", "==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%", "!", "?:"})
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def unparse(tree: Syntax) -> str:
    """Return a text that parses to the same tree."""
    return _write(tree, 0)


def quote(text: str) -> str:
    """Return a string literal of the language."""
    return '"' + "".join(_ESCAPES.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


def _write(tree: Syntax, binding: int) -> str:
    """Write a tree as an operand of something that binds as strongly as `binding`."""
    text, own = _written(tree)
    return f"({text})" if own < binding else text


def _written(tree: Syntax) -> tuple[str, int]:
    """Return the text of a tree without brackets around it, and how strongly it binds."""
    match tree:
        case Literal():
            return _literal(tree)
        case Ident(name):
            return name, _MEMBER
        case Select(operand, name):
            return f"{_write(operand, _MEMBER)}.{name}", _MEMBER
        case Index(operand, key):
            return f"{_write(operand, _MEMBER)}[{_write(key, 0)}]", _MEMBER
        case ListLiteral(items):
            return f"[{_commas(items)}]", _MEMBER
        case Has(operand):
            return f"has({_write(operand, 0)})", _MEMBER
        case Macro(name, operand, variable, predicate):
            return f"{_write(operand, _MEMBER)}.{name}({variable}, {_write(predicate, 0)})", _MEMBER
        case Call():
            return _call(tree)


def _literal(literal: Literal) -> tuple[str, int]:
    value = literal.value
    if value is None:
        return "null", _MEMBER
    if isinstance(value, str):
        return quote(value), _MEMBER
    if literal.type is BOOL:
        return "true" if value else "false", _MEMBER
    text = repr(value)
    return text, _UNARY if text.startswith("-") else _MEMBER


def _call(call: Call) -> tuple[str, int]:
    name, arguments = call.name, call.arguments
    if name not in _SYMBOLS:
        if call.method:
            return f"{_write(arguments[0], _MEMBER)}.{name}({_commas(arguments[1:])})", _MEMBER
        return f"{name}({_commas(arguments)})", _MEMBER
    if len(arguments) == 1:
        operand = _write(arguments[0], _UNARY)
        # A minus before a digit would be read as a part of the number.
        number = name == "-" and operand[0] in "0123456789."
        return f"{name}({operand})" if number else f"{name}{operand}", _UNARY
    if name == "?:":
        condition, then, otherwise = arguments
        return f"{_write(condition, 1)} ? {_write(then, 1)} : {_write(otherwise, 0)}", 0
    own = _BINDING.get(name, _RELATION)
    if name in ("&&", "||"):
        return f" {name} ".join(_write(argument, own + 1) for argument in arguments), own
    return f"{_write(arguments[0], own)} {name} {_write(arguments[1], own + 1)}", own


def _commas(items: tuple[Syntax, ...]) -> str:
    return ", ".join(_write(item, 0) for item in items)
