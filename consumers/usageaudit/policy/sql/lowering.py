"""Turns a checked condition into one ClickHouse expression with three values: true, false, and NULL for unknown.

AND, OR and NOT of the engine know the three values themselves. Arrays can't be NULL, so a list goes with an expression
that tells whether it is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usageaudit.policy.language import (
    BOOL,
    DOUBLE,
    DURATION,
    INT,
    MAP,
    STRING,
    TIMESTAMP,
    Call,
    Condition,
    Const,
    Element,
    Field,
    Has,
    ListOf,
    Member,
    Named,
    Node,
    Quantified,
    Sort,
    Type,
    walk,
)
from usageaudit.policy.language.patterns import anchored_dot
from usageaudit.policy.language.times import zone
from usageaudit.policy.sql.functions import COMPOSED, local
from usageaudit.policy.sql.text import literal, once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import tzinfo

    from usageaudit.policy.language import Scalar
    from usageaudit.policy.language.signatures import Sql
    from usageaudit.policy.sql.columns import Columns


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL, and whether it may be NULL; of a list or a map, `present` tells whether it is there, empty: always."""

    value: str
    nullable: bool = False
    present: str = ""


def lower(condition: Condition | Node, columns: Columns) -> str:
    """Return the expression of a condition over columns. Raises KeyError for a field that has none."""
    root = condition.root if isinstance(condition, Condition) else condition
    return _Lowering(columns).node(root).value


class _Lowering:
    """Lowers the nodes of one tree over the columns of one table."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def node(self, node: Node) -> Expression:
        """Return the expression of a node."""
        match node:
            case Const():
                return _constant(node)
            case ListOf(items=items, type=kind):
                return _list([self.node(item) for item in items], kind)
            case Field() | Element() | Member():
                return self._named(node)
            case Has():
                return self._has(node)
            case Named(body=body):
                return self.node(body)
            case Quantified():
                return self._quantified(node)
            case Call():
                return self._call(node)

    def _named(self, node: Field | Element | Member) -> Expression:
        match node:
            case Field():
                return self._field(node)
            case Element(number=number):
                return Expression(f"e{number}")
            case Member():
                return self._member(node)

    def _field(self, node: Field) -> Expression:
        stored = self._columns[node.path]
        if node.type == MAP:
            return Expression(stored.value, present=f"notEmpty({stored.value})")
        return Expression(stored.value, node.type.scalar and not node.required, stored.present)

    def _member(self, node: Member) -> Expression:
        stored = self._columns[node.element.path].members[node.name]
        name = _variable(node.element, node.name)
        return Expression(name, node.type.scalar and not node.required, f"{name}_present" if stored.present else "")

    def _has(self, node: Has) -> Expression:
        leaves = [self.node(leaf) for leaf in node.leaves]
        tests = [_there(leaf, node.operator.sql) for leaf in leaves]
        return Expression(f"({' OR '.join(tests)})")

    def _call(self, node: Call) -> Expression:
        row, arguments = node.operator, node.arguments
        operands = [self.node(argument) for argument in arguments]
        if row.name == "in" and isinstance(arguments[1], Const):
            return _in_constants(operands[0], arguments[0].type, arguments[1])
        if row.name == "in" and isinstance(arguments[1], ListOf):
            return _in_values(operands[0], [self.node(item) for item in arguments[1].items])
        if Sort.PATTERN in row.parameters:
            operands[1] = Expression(literal(anchored_dot(_text(arguments[1]))))
        if Sort.ZONE in row.parameters:
            operands = [_at(operands[0], zone(_text(arguments[1])))]
        if row.name in ("in", "[]"):
            operands = [_sought(*pair) for pair in zip(arguments, operands, strict=True)]
        return _applied(row.sql, operands)

    def _quantified(self, node: Quantified) -> Expression:
        operand, predicate = self.node(node.operand), self.node(node.predicate)
        variables, arrays = self._elements(node, operand)
        over = ", ".join(arrays)
        x = variables[0] if len(variables) == 1 else f"({', '.join(variables)})"
        sql = node.operator.sql
        if sql.composed:
            value = COMPOSED[sql.composed](f"arrayMap({x} -> {predicate.value}, {over})")
        else:
            value = sql.template.format(over, predicate.value, x=x)
        return _where_present([operand], Expression(value, nullable=True))

    def _elements(self, node: Quantified, operand: Expression) -> tuple[list[str], list[str]]:
        """Return the parameters of a macro's lambda, and the arrays that they go over."""
        element = node.element
        used = {below.name for below in walk(node.predicate) if isinstance(below, Member) and below.element == element}
        if not used:
            return [f"e{element.number}"], [operand.value]
        variables, arrays = [], []
        for name in sorted(used):
            stored = self._columns[element.path].members[name]
            variables.append(_variable(element, name))
            arrays.append(stored.value)
            if stored.present:
                variables.append(f"{variables[-1]}_present")
                arrays.append(stored.present)
        return variables, arrays


def _constant(node: Const) -> Expression:
    if isinstance(node.value, tuple):
        return Expression(_array(map(literal, node.value), node.type))
    if node.type in _WHOLE:
        return Expression(f"toInt64({node.value})")
    return Expression(literal(node.value))


def _sought(node: Node, operand: Expression) -> Expression:
    """Return an operand as it is looked for in an array or a map, or the array or map itself.

    ClickHouse 25.8 finds no '' in theirs where it is a constant, written or computed.
    """
    if node.type != STRING or isinstance(node, Field) or (isinstance(node, Const) and node.value):
        return operand
    return replace(operand, value=f"materialize({operand.value})")


def _variable(element: Element, member: str) -> str:
    return f"e{element.number}_{member.replace('.', '_')}"


_EMPTY = {STRING: "emptyArrayString()", DOUBLE: "emptyArrayFloat64()", BOOL: "emptyArrayUInt8()"}


_WHOLE = (INT, TIMESTAMP, DURATION)
"""Types whose values are Int64: a shorter constant would be of another type, and so would what is computed with it."""


def _array(values: Iterable[str], kind: Type) -> str:
    listed = ", ".join(values)
    if listed and kind.element in _WHOLE:
        return f"CAST([{listed}], 'Array(Int64)')"
    return f"[{listed}]" if listed else _EMPTY.get(kind.element or STRING, "emptyArrayInt64()")


def _list(items: list[Expression], kind: Type) -> Expression:
    values = (f"assumeNotNull({item.value})" if item.nullable else item.value for item in items)
    known = (f"isNotNull({item.value})" for item in items if item.nullable)
    return Expression(_array(values, kind), present=" AND ".join(known))


def _there(leaf: Expression, sql: Sql) -> str:
    if leaf.nullable:
        return sql.template.format(leaf.value)
    return leaf.present or "1"


def _text(node: Node) -> str:
    return str(node.value) if isinstance(node, Const) else ""


def _at(operand: Expression, there: tzinfo | None) -> Expression:
    """Return the local time of a zone, which the checker has looked up before."""
    value = once(operand.value, lambda micros: local(micros, there)) if there else "NULL"
    return Expression(value, nullable=True)


def _applied(sql: Sql, operands: Sequence[Expression]) -> Expression:
    """Return an operator's SQL over operands."""
    if sql.composed:
        return _where_present(operands, _known(operands, COMPOSED[sql.composed]))
    if sql.guarded:
        return _where_present(operands, _known(operands, sql.template.format))
    values = ", ".join(operand.value for operand in operands)
    if sql.template.count("{0}") > 1:
        others = [operand.value for operand in operands[1:]]
        value = once(operands[0].value, lambda first: sql.template.format(first, *others))
    else:
        value = sql.template.format(*(operand.value for operand in operands), values=values)
    return _where_present(operands, Expression(value, nullable=True))


def _known(operands: Sequence[Expression], body: Callable[..., str]) -> Expression:
    """Return `body` of operands that are known, NULL where one is not."""

    def bound(names: list[str], rest: Sequence[Expression]) -> str:
        if rest:
            return once(rest[0].value, lambda name: bound([*names, name], rest[1:]))
        pairs = tuple(zip(names, operands, strict=True))
        known = [f"assumeNotNull({name})" if operand.nullable else name for name, operand in pairs]
        unknown = [f"isNull({name})" for name, operand in pairs if operand.nullable]
        return f"if({' OR '.join(unknown)}, NULL, {body(*known)})" if unknown else body(*known)

    return Expression(bound([], operands), nullable=True)


def _where_present(operands: Sequence[Expression], expression: Expression) -> Expression:
    """Return an expression that is NULL where a list or a map is not there."""
    present = " AND ".join(operand.present for operand in operands if operand.present)
    return Expression(f"if({present}, {expression.value}, NULL)", nullable=True) if present else expression


def _in_values(operand: Expression, items: list[Expression]) -> Expression:
    """Return whether a value is one of several that are computed: unknown as soon as one of them is."""

    def equal(value: str, *others: str) -> str:
        return f"({' OR '.join(f'({value} = {other})' for other in others)})"

    return _known([operand, *items], equal)


def _in_constants(operand: Expression, kind: Type, constants: Const) -> Expression:
    """Return whether a value is one of several constants: by the set that the engine makes of them."""
    values = constants.value if isinstance(constants.value, tuple) else ()
    listed = ", ".join(dict.fromkeys(filter(None, (_as(value, kind) for value in values))))
    if not listed:
        return _known([operand], lambda _: "0")
    if kind in (DOUBLE, BOOL):  # the engine's sets tell -0.0 from 0.0
        return _known([operand], lambda value: f"has([{listed}], {value})")
    return _known([operand], lambda value: f"({value} IN ({listed}))")


def _as(value: Scalar, kind: Type) -> str:
    """Return a constant as a literal of a type, empty where no value of that type is equal to it."""
    if kind == DOUBLE:
        return literal(float(value)) if float(value) == value else ""
    if kind == INT and isinstance(value, float):
        return literal(int(value)) if value.is_integer() and -(2**63) <= value < 2**63 else ""
    return literal(value)
