"""Makes other trees of a parsed expression, which mean the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from usageaudit.policy.language.syntax import Call, Has, Ident, Index, ListLiteral, Literal, Macro, Select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from usageaudit.policy.language.syntax import Syntax

FIELDS = "given"
"""The object whose fields stand for literals."""


def without_dyn(tree: Syntax) -> Syntax:
    """Return a tree without calls of `dyn`, which tells CEL's checker to leave a type open and gives what it takes."""
    match tree:
        case Call("dyn", (operand,)):
            return without_dyn(operand)
        case _:
            return _rebuilt(tree, without_dyn)


def literals_as_fields(tree: Syntax) -> tuple[Syntax, tuple[Literal, ...]]:
    """Return a tree with fields `given.v0`, `given.v1`, … for its literals, and the literals.

    What the language wants written out stays so: regular expressions, time zones and keys.
    """
    found: list[Literal] = []

    def changed(tree: Syntax) -> Syntax:
        match tree:
            case Literal(value) if value is not None:
                found.append(tree)
                return Select(Ident(FIELDS, span=tree.span), f"v{len(found) - 1}", span=tree.span)
            case Call(name, (operand, written)) if name == "matches" or name.startswith("get"):
                return replace(tree, arguments=(changed(operand), written))
            case Index(operand):
                return replace(tree, operand=changed(operand))
            case _:
                return _rebuilt(tree, changed)

    return changed(tree), tuple(found)


def _rebuilt(tree: Syntax, change: Callable[[Syntax], Syntax]) -> Syntax:
    """Return a tree with the trees directly below it changed."""

    def each(trees: Sequence[Syntax]) -> tuple[Syntax, ...]:
        return tuple(map(change, trees))

    match tree:
        case Select(operand) | Has(operand):
            return replace(tree, operand=change(operand))
        case Index(operand, key):
            return replace(tree, operand=change(operand), key=change(key))
        case ListLiteral(items):
            return replace(tree, items=each(items))
        case Call(_, arguments):
            return replace(tree, arguments=each(arguments))
        case Macro(_, operand, _, predicate):
            return replace(tree, operand=change(operand), predicate=change(predicate))
        case Literal() | Ident():
            return tree
