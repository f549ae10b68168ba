"""Doubts about a condition without errors: it is never true, or never false, or a missing field makes it unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.policy.language.diagnostics import at
from usageaudit.policy.language.signatures import Strict
from usageaudit.policy.language.tree import (
    Call,
    Const,
    Element,
    Field,
    Has,
    Member,
    Named,
    Possible,
    Quantified,
    children,
    walk,
)
from usageaudit.policy.language.types import BOOL
from usageaudit.policy.language.unparse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.policy.language.diagnostics import Diagnostic
    from usageaudit.policy.language.possible import Possibilities
    from usageaudit.policy.language.schema import Path
    from usageaudit.policy.language.source import Span
    from usageaudit.policy.language.tree import Node


def doubts(root: Node, possible: Possibilities) -> tuple[Diagnostic, ...]:
    """Return the warnings about a tree, in the order of its text; `possible` is asked about its nodes.

    What stands in a sub-condition is told where that is defined, not again where it is named.
    """
    settled = [] if isinstance(root, Named) else _settled(root, possible)[1]
    found = [*_constant(root), *settled, *_unguarded(root)]
    return tuple(sorted(dict.fromkeys(found), key=lambda d: (d.line, d.column)))


def _constant(root: Node) -> Iterator[Diagnostic]:
    """Yield a warning for a condition that is nothing but `true` or `false`."""
    if isinstance(root, Const) and root.type == BOOL:
        yield at(root.span, "warning", f"this is {'always' if root.value else 'never'} true", "write a condition")


def _settled(node: Node, possible: Possibilities) -> tuple[bool, list[Diagnostic]]:
    """Return whether a reason for a settled truth was told below a node, or at it, and the warnings.

    A literal `true` or `false` within a condition is what its author wants, and tells nothing.
    """
    if isinstance(node, Const):
        return False, []
    if isinstance(node, Named):
        return possible.of(node) != Possible(), []
    told, warnings = False, []
    for child in children(node):
        below, found = _settled(child, possible)
        told |= below
        warnings.extend(found)
    if node.type != BOOL or told or possible.of(node) == Possible():
        return told, warnings
    return True, [*warnings, at(node.span, "warning", _said(node, possible), _reason(node))]


def _said(node: Node, possible: Possibilities) -> str:
    """Return what is told of a truth that is settled: one that is never false may still be unknown."""
    if not possible.of(node).true:
        return "this is never true"
    return "this is always true" if _known(node, possible) else "this is true wherever it is known"


def _known(node: Node, possible: Possibilities) -> bool:
    """Whether a value is known for every event; False where that is not plain."""
    match node:
        case Const() | Has() | Element():
            return True
        case Field(required=required) | Member(required=required):
            return required
        case Call(operator=row, arguments=arguments) if row.name in ("&&", "||"):
            decided = (_decides(one, row.name, possible) and _known(one, possible) for one in arguments)
            return any(decided) or all(_known(one, possible) for one in arguments)
        case Call(operator=row) if isinstance(row.python, Strict) and row.python.partial:
            return False
        case _:
            return all(_known(one, possible) for one in children(node))


def _decides(operand: Node, name: str, possible: Possibilities) -> bool:
    """Whether an operand, where it is known, settles `&&` or `||` whatever the others are."""
    found = possible.of(operand)
    return not (found.false if name == "||" else found.true)


def _reason(node: Node) -> str:
    """Return what may be the reason for a settled truth, where it is a common one."""
    if isinstance(node, Has):
        return f"{'.'.join(node.path)} is required"
    if isinstance(node, Call):
        for argument in node.arguments:
            if isinstance(argument, Call) and argument.operator.bounds and argument.operator.name != "size":
                low, high = argument.operator.bounds
                return f"{argument.operator.name}() gives {low} to {high}"
        if node.operator.name == "||" and _twice(node, "!="):
            return "whatever the value is, it differs from one of them; did you mean &&?"
        if node.operator.name == "&&" and _twice(node, "=="):
            return "no value is equal to both; did you mean ||?"
        if node.operator.name == "&&" and (absent := [*filter(None, map(_absence, node.arguments))]):
            return f"where {absent[0]} is missing, a test of it is unknown"
    return ""


def _twice(node: Call, name: str) -> bool:
    """Whether two operands compare the same thing by an operator."""
    tested = [term.arguments[0] for term in node.arguments if isinstance(term, Call) and term.operator.name == name]
    return len(set(tested)) < len(tested)


def _absence(node: Node) -> str:
    """Return the field that a term asks to be missing, an empty string for any other term."""
    match node:
        case Call(operator=row, arguments=(Has(leaves=(leaf,)),)) if row.name == "!":
            return shown(leaf)
        case _:
            return ""


def _unguarded(root: Node) -> Iterator[Diagnostic]:
    """Yield a warning for each negative test of a field that may be missing, unless has() tests for that somewhere.

    That an object is there does not say which of its fields are, unless it has only one.
    """
    guarded = {
        path_read(leaf)
        for node in walk(root)
        if isinstance(node, Has) and len(node.leaves) == 1
        for leaf in node.leaves
    }
    for leaf, span in _negative(root, root.span, negated=False):
        for node in _direct(leaf):
            if _optional(node) and path_read(node) not in guarded:
                name = shown(node)
                message = f"{name} may be missing, which makes this unknown, not true"
                yield at(span, "warning", message, f"has({name}) && .. if missing is meant to be false")
                break


def _negative(node: Node, span: Span, *, negated: bool) -> Iterator[tuple[Node, Span]]:
    """Yield the tests that ask for something not to be so, each with the span to show."""
    match node:
        case Named(body=body):
            if negated:
                yield from ((test, span) for test, _ in _negative(body, span, negated=True))
        case Call(operator=row, arguments=(operand,)) if row.name == "!":
            yield from _negative(operand, node.span, negated=not negated)
        case Call(operator=row, arguments=arguments) if row.name in ("&&", "||", "?:"):
            for argument in arguments[row.name == "?:" :]:
                yield from _negative(argument, span if negated else argument.span, negated=negated)
        case Quantified(predicate=predicate, operator=row):
            if negated and row.name == "exists":
                yield node, span
            else:
                yield from _negative(predicate, predicate.span, negated=negated)
        case Call(operator=row) if negated is not (row.name == "!="):
            yield node, span if negated else node.span
        case Field() | Member() if negated:
            yield node, span


def _direct(test: Node) -> Iterator[Node]:
    """Yield the fields whose absence makes a test unknown, without those that its own conditions read."""
    if isinstance(test, Quantified):
        yield from _direct(test.operand)
    elif isinstance(test, Call) and test.operator.name == "[]":
        yield test
    elif isinstance(test, Call) and test.operator.name not in ("&&", "||", "?:"):
        for argument in test.arguments:
            yield from _direct(argument)
    elif isinstance(test, Field | Member):
        yield test


def _optional(node: Node) -> bool:
    return not (isinstance(node, Field | Member) and node.required)


def path_read(node: Node) -> Path:
    """Return the path of a field, of an element's field or of an entry of a map."""
    match node:
        case Call(arguments=(operand, Const(value=str() as key))):
            return (*path_read(operand), key)
        case Field(path=path) | Member(path=path):
            return path
        case _:
            return ()


def shown(node: Node) -> str:
    """Return how an author writes a field, an element's field or an entry of a map."""
    match node:
        case Call(arguments=(operand, Const(value=str() as key))):
            return f"{shown(operand)}[{quote(key)}]"
        case Member(element=element, name=name):
            return f"{element.name}.{name}"
        case _:
            return ".".join(path_read(node))
