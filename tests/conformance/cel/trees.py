"""Writes a syntax tree in the notation of cel-go's debug output, so that two parsers' trees can be compared as text.

The one of cel-go is https://pkg.go.dev/github.com/google/cel-go/common/debug#ToDebugString; line breaks are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usageaudit.policy.language.syntax import Call, Has, Ident, Index, ListLiteral, Literal, Macro, Select
from usageaudit.policy.language.types import BOOL, DOUBLE, INT, STRING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usageaudit.policy.language.syntax import Syntax

_CONSTANTS = {BOOL: "Bool", DOUBLE: "Double", INT: "Int64", STRING: "String"}
_INFIX = {"==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&&", "||"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", **dict(zip("\a\b\f\n\r\t\v", (rf"\{c}" for c in "abfnrtv"), strict=True))}
_RESULT = "@result^#*expr.Expr_IdentExpr#"
_FALSE, _TRUE = "false^#*expr.Constant_BoolValue#", "true^#*expr.Constant_BoolValue#"


def flattened(tree: str) -> str:
    """Return cel-go's output on one line, without its comments; a string in it never has a line break."""
    return re.sub(r"\n *(?://[^\n]*\n *)?", "", tree)


def written(tree: Syntax) -> str:
    """Return a tree as cel-go writes it."""
    match tree:
        case Literal():
            return _literal(tree)
        case Ident(name):
            return f"{name}^#*expr.Expr_IdentExpr#"
        case Select(operand, name):
            return f"{written(operand)}.{name}^#*expr.Expr_SelectExpr#"
        case Has(Select(operand, name)):
            return f"{written(operand)}.{name}~test-only~^#*expr.Expr_SelectExpr#"
        case Index(operand, key):
            return _call("_[_]", operand, key)
        case ListLiteral(items):
            return f"[{_commas(items)}]^#*expr.Expr_ListExpr#"
        case Call():
            return _operation(tree)
        case Macro():
            return _macro(tree)
        case Has():
            return "has()"


def _literal(tree: Literal) -> str:
    if tree.type is None or tree.value is None:
        return "null^#*expr.Constant_NullValue#"
    value = tree.value
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = '"' + "".join(map(_escaped, value)) + '"'
    else:
        text = str(value) if isinstance(value, int) else _double(value)
    return f"{text}^#*expr.Constant_{_CONSTANTS[tree.type]}Value#"


def _escaped(character: str) -> str:
    """Return a character as Go's strconv.Quote writes it."""
    code = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _double(value: float) -> str:
    """Return a number as Go's %g with the shortest digits writes it: exponents from 21 on, and below -4."""
    text = repr(value).removesuffix(".0")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+03d}" if exponent else mantissa


def _operation(tree: Call) -> str:
    name, arguments = tree.name, tree.arguments
    if tree.method:
        return f"{written(arguments[0])}.{name}({_commas(arguments[1:])})^#*expr.Expr_CallExpr#"
    if len(arguments) == 1 and name in "!-":
        operand = arguments[0]
        if isinstance(operand, Call) and (operand.name, len(operand.arguments)) == (name, 1):
            return written(operand.arguments[0])  # cel-go leaves out two of the same sign
        return _call(f"{name}_", operand)
    if name in ("&&", "||"):
        return _balanced(name, arguments)
    if name == "in":
        return _call("@in", *arguments)
    return _call(f"_{name}_" if name in _INFIX else "_?_:_" if name == "?:" else name, *arguments)


def _call(name: str, *arguments: Syntax) -> str:
    return f"{name}({_commas(arguments)})^#*expr.Expr_CallExpr#"


def _balanced(name: str, operands: Sequence[Syntax]) -> str:
    """Return a chain of `&&` or `||` as the tree of least depth that cel-go makes of it."""
    if len(operands) == 1:
        return written(operands[0])
    half = (len(operands) + 1) // 2
    sides = f"{_balanced(name, operands[:half])},{_balanced(name, operands[half:])}"
    return f"_{name}_({sides})^#*expr.Expr_CallExpr#"


def _macro(tree: Macro) -> str:
    """Return the comprehension that cel-go makes of a macro."""
    predicate = written(tree.predicate)
    call = "^#*expr.Expr_CallExpr#"
    if tree.name == "exists":
        goes_on = f"@not_strictly_false(!_({_RESULT}){call}){call}"
        parts = _FALSE, goes_on, f"_||_({_RESULT},{predicate}){call}", _RESULT
    elif tree.name == "all":
        parts = _TRUE, f"@not_strictly_false({_RESULT}){call}", f"_&&_({_RESULT},{predicate}){call}", _RESULT
    else:
        one = "1^#*expr.Constant_Int64Value#"
        step = f"_?_:_({predicate},_+_({_RESULT},{one}){call},{_RESULT}){call}"
        parts = "0^#*expr.Constant_Int64Value#", _TRUE, step, f"_==_({_RESULT},{one}){call}"
    over = ",".join((tree.variable, written(tree.operand), "@result", *parts))
    return f"__comprehension__({over})^#*expr.Expr_ComprehensionExpr#"


def _commas(trees: Sequence[Syntax]) -> str:
    return ",".join(map(written, trees))
