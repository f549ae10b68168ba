"""Gives a condition its meaning: finds its names, its types and its operators, or says everything that is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from usageaudit.policy.language.diagnostics import MAX_PROBLEMS, InvalidCondition, at
from usageaudit.policy.language.lint import doubts
from usageaudit.policy.language.names import Names, ObjectAt, Unknown, entry
from usageaudit.policy.language.operators import overloads
from usageaudit.policy.language.parser import MAX_DEPTH
from usageaudit.policy.language.patterns import Pattern, PatternError
from usageaudit.policy.language.possible import Possibilities
from usageaudit.policy.language.signatures import Operator, Sort, takes
from usageaudit.policy.language.suggestions import for_call, for_operands
from usageaudit.policy.language.syntax import Call as CallSyntax
from usageaudit.policy.language.syntax import Has as HasSyntax
from usageaudit.policy.language.syntax import Ident, Index, ListLiteral, Literal, Macro, Select
from usageaudit.policy.language.times import duration, timestamp, zone
from usageaudit.policy.language.tree import (
    Call,
    Condition,
    Const,
    Element,
    Field,
    Has,
    ListOf,
    Node,
    Quantified,
    children,
)
from usageaudit.policy.language.types import BOOL, DURATION, MAP, OBJECT, STRING, TIMESTAMP, Type, list_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.policy.language.diagnostics import Diagnostic
    from usageaudit.policy.language.schema import Schema
    from usageaudit.policy.language.source import Span
    from usageaudit.policy.language.syntax import Expr, Syntax
    from usageaudit.policy.language.tree import Scalar

MAX_NODES = 20_000
"""The largest condition once its sub-conditions are put in, in nodes of its tree."""
MAX_INSTRUCTIONS = 100_000
"""The largest regular expressions of one condition, together, in RE2's instructions."""


def check(
    expr: Expr,
    schema: Schema,
    *,
    lists: Mapping[str, Sequence[Scalar]],
    lets: Mapping[str, Condition],
    expected: Type | None = BOOL,
) -> Condition:
    """Return a condition with its types, and with warnings about what is doubtful in it.

    `lists` are the bundle's constants, `lets` the sub-conditions that may be named; a condition must be of the type
    `expected`, of any where that is None. Raises InvalidCondition with all errors, and the warnings beside them.
    """
    checker = _Checker(Names(schema, lists, lets))
    root = checker.whole(expr.tree, expected)
    if root is None or checker.problems:
        raise InvalidCondition(sorted(checker.problems, key=lambda d: (d.line, d.column)))
    possibilities = Possibilities()
    warnings = doubts(root, possibilities)
    return Condition(root, expr.source, warnings, checker.size, possibilities.of(root))


class _TooMany(Exception):
    """So many errors were found that looking for more is of no use."""


class _Checker:
    """Makes typed nodes of syntax; None stands for a part with an error, so that the others are still checked."""

    def __init__(self, names: Names) -> None:
        self.problems: list[Diagnostic] = []
        self._names = names
        self._instructions = 0
        self.size = 0
        """How large the condition is: the nodes of its tree, and a tenth of its patterns' instructions."""

    def _error(self, span: Span, message: str, hint: str = "") -> None:
        self.problems.append(at(span, "error", message, hint))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _TooMany

    def whole(self, tree: Syntax, expected: Type | None) -> Node | None:
        """Return the typed tree of a condition, None where there are errors, which are then in `problems`."""
        try:
            root = self.node(tree)
            if root is not None:
                self._check_whole(root, expected)
        except _TooMany:
            return None
        return root

    def _check_whole(self, root: Node, expected: Type | None) -> None:
        if expected is not None and root.type != expected:
            wanted = "true or false" if expected == BOOL else f"a {expected}"
            self._error(root.span, f"a condition must be {wanted}, this is a {root.type}")
        size, depth = _measure(root, {})
        self.size = size + self._instructions // 10
        if size > MAX_NODES or depth > MAX_DEPTH:
            limit = f"{MAX_NODES} operands" if size > MAX_NODES else f"{MAX_DEPTH} levels"
            self._error(root.span, f"with its sub-conditions put in, the condition has more than {limit}")

    def node(self, tree: Syntax) -> Node | None:
        """Return the typed node of a part, None where it has an error, which is then reported."""
        match tree:
            case Literal():
                return self._literal(tree)
            case Ident() | Select():
                return self._name(tree)
            case Index():
                return self._entry(tree)
            case ListLiteral():
                return self._list(tree)
            case HasSyntax():
                return self._has(tree)
            case Macro():
                return self._macro(tree)
            case CallSyntax():
                return self._call(tree)

    def _literal(self, tree: Literal) -> Node | None:
        if tree.value is None or tree.type is None:
            self._error(tree.span, "null is unknown, so no test of it is ever true", "test with has() or !has()")
            return None
        return Const(tree.value, type=tree.type, span=tree.span)

    def _name(self, tree: Ident | Select) -> Node | None:
        found = self._names.find(tree)
        match found:
            case None if isinstance(tree, Select):
                return self._select(tree)
            case Unknown(message, hint):
                self._error(tree.span, message, hint)
            case ObjectAt(path):
                example = ".".join(self._names.schema.leaves_below(path)[0])
                self._error(tree.span, f"{'.'.join(path)} is an object", f"name a field of it, such as {example}")
            case Element(type=kind) if kind == OBJECT:
                example = next(iter(sorted(found.members)), "")
                self._error(tree.span, f"{found.name} is an object", f"name a field of it: {found.name}.{example}")
            case _:
                return found
        return None

    def _select(self, tree: Select) -> Node | None:
        operand = self.node(tree.operand)
        if operand is None:
            return None
        if operand.type == MAP:
            return entry(operand, Const(tree.field, type=STRING, span=tree.span), tree.span)
        self._error(tree.span, f"a {operand.type} has no field {tree.field}")
        return None

    def _entry(self, tree: Index) -> Node | None:
        operand, key = self.node(tree.operand), self.node(tree.key)
        if operand is None or key is None:
            return None
        if operand.type != MAP:
            listed = operand.type.element is not None
            hint = "test the elements: exists or all" if listed else 'maps have: labels["key"]'
            self._error(tree.span, f"a {operand.type} has no entries by key", hint)
        elif key.type != STRING or not isinstance(key, Const):
            self._error(key.span, "a key is written as a string", 'such as labels["team"]')
        else:
            return entry(operand, key, tree.span)
        return None

    def _list(self, tree: ListLiteral) -> Node | None:
        items = [self.node(item) for item in tree.items]
        known = [item for item in items if item is not None]
        if len(known) < len(items):
            return None
        types = dict.fromkeys(item.type for item in known)
        if len(types) > 1 or not all(kind.scalar for kind in types):
            found = ", ".join(map(str, types))
            self._error(tree.span, f"the elements of a list are scalars of one type, not {found}")
            return None
        kind = list_of(next(iter(types), STRING))
        values = [item.value for item in known if isinstance(item, Const) and not isinstance(item.value, tuple)]
        if len(values) == len(known):
            return Const(tuple(values), type=kind, span=tree.span)
        return ListOf(tuple(known), type=kind, span=tree.span)

    def _has(self, tree: HasSyntax) -> Node | None:
        operand = tree.operand
        found = self._names.find(operand) if isinstance(operand, Ident | Select) else None
        if isinstance(found, ObjectAt):
            schema = self._names.schema
            leaves = [
                Field(path, schema.leaves[path].required, type=schema.leaves[path].type, span=operand.span)
                for path in schema.leaves_below(found.path)
            ]
            return Has(_has_row(STRING), found.path, tuple(leaves), type=BOOL, span=tree.span)
        node = self.node(operand)
        if node is None:
            return None
        path = path_of(node)
        if not path:
            self._error(operand.span, "has takes a field", "such as has(actor.sector)")
            return None
        return Has(_has_row(node.type), path, (node,), type=BOOL, span=tree.span)

    def _macro(self, tree: Macro) -> Node | None:
        operand = self.node(tree.operand)
        if operand is None:
            return None
        if operand.type.element is None:
            self._error(tree.operand.span, f"{tree.name} goes over a list, this is a {operand.type}")
            return None
        names = self._names
        members = names.members(operand)
        element = Element(
            tree.variable,
            len(names.elements),
            path_of(operand),
            members,
            type=operand.type.element,
            span=tree.span,
        )
        names.elements.append(element)
        predicate = self.node(tree.predicate)
        names.elements.pop()
        if predicate is None:
            return None
        if predicate.type != BOOL:
            self._error(predicate.span, f"the condition of {tree.name} must be true or false, not a {predicate.type}")
            return None
        (row,) = overloads(tree.name)
        return Quantified(row, operand, element, predicate, type=BOOL, span=tree.span)

    def _call(self, tree: CallSyntax) -> Node | None:
        rows = _rows(tree)
        if not rows:
            self._error(tree.span, *for_call(tree))
            return None
        arguments = [self.node(argument) for argument in tree.arguments]
        known = tuple(argument for argument in arguments if argument is not None)
        if len(known) < len(arguments):
            return None
        if tree.name == "in":
            known = _with_list_typed(*known)
        types = tuple(argument.type for argument in known)
        row = next((row for row in rows if _accepts(row, types)), None)
        if row is None:
            self._error(tree.span, *for_operands(tree, rows, known))
            return None
        if not self._constants(row, known):
            return None
        result = row.result if isinstance(row.result, Type) else types[-1]
        return self._folded(Call(row, known, type=result, span=tree.span))

    def _constants(self, row: Operator, arguments: tuple[Node, ...]) -> bool:
        """Check the operands that must be constants: regular expressions and time zones."""
        for parameter, argument in zip(row.parameters, arguments, strict=False):
            if parameter not in (Sort.PATTERN, Sort.ZONE):
                continue
            if not isinstance(argument, Const) or not isinstance(argument.value, str):
                self._error(argument.span, f"the {parameter.value} must be written as a string")
                return False
            if parameter is Sort.ZONE and zone(argument.value) is None:
                self._error(argument.span, "unknown time zone", 'such as "Europe/Paris", "UTC" or "+02:00"')
                return False
            if parameter is Sort.PATTERN and not self._pattern(argument.span, argument.value):
                return False
        return True

    def _pattern(self, span: Span, text: str) -> bool:
        try:
            self._instructions += Pattern(text).size
        except PatternError as refused:
            self._error(span, f"bad regular expression: {refused}", "the dialect is RE2's")
            return False
        if self._instructions > MAX_INSTRUCTIONS:
            self._error(span, "the regular expressions of the condition are too large together", "let each say less")
            raise _TooMany
        return True

    def _folded(self, call: Call) -> Node | None:
        """Return the constant of `timestamp("...")` and `duration("...")`, other calls as they are."""
        readers = {"timestamp": (timestamp, TIMESTAMP), "duration": (duration, DURATION)}
        reader = readers.get(call.operator.name)
        text = call.arguments[0]
        if reader is None or not isinstance(text, Const) or not isinstance(text.value, str):
            return call
        read, kind = reader
        value = read(text.value)
        if value is None:
            example = "2024-05-01T00:00:00Z" if kind == TIMESTAMP else "36h, 90s or 1h30m"
            self._error(text.span, f"this is no {kind}", f"such as {example}")
            return None
        return Const(value, type=kind, span=call.span)


def path_of(node: Node) -> tuple[str, ...]:
    """Return the path of a node that is a field, an element's field or an entry of a map; empty for any other."""
    match node:
        case Call(operator=row, arguments=(operand, Const(value=str() as key))) if row.name == "[]":
            return (*path_of(operand), key)
        case Call() | Const() | ListOf() | Has() | Quantified():
            return ()
        case Element():
            return ()
        case _:
            return getattr(node, "path", ())


def _has_row(kind: Type) -> Operator:
    rows = overloads("has")
    return next((row for row in rows if row.parameters == (kind,)), rows[0])


def _rows(tree: CallSyntax) -> tuple[Operator, ...]:
    """Return the rows that a call may mean by its name, its form and the number of its operands."""
    count = len(tree.arguments)
    if tree.name in ("&&", "||"):
        return overloads(tree.name)
    styles = ("method", "either") if tree.method else ("function", "either", "infix", "prefix", "ternary")
    return tuple(row for row in overloads(tree.name) if row.style in styles and len(row.parameters) == count)


def _with_list_typed(element: Node, container: Node) -> tuple[Node, Node]:
    """Return the operands of `in`; a list without elements is one of whatever is looked for."""
    if isinstance(container, Const) and container.value == () and element.type.scalar:
        return element, replace(container, type=list_of(element.type))
    return element, container


def _accepts(row: Operator, types: tuple[Type, ...]) -> bool:
    """Whether a row takes operands of these types; `&&` and `||` repeat their second operand."""
    parameters = row.parameters + row.parameters[-1:] * (len(types) - len(row.parameters))
    if not all(map(takes, parameters, types)):
        return False
    same = {given for parameter, given in zip(parameters, types, strict=True) if parameter is Sort.SAME}
    return len(same) <= 1


def _measure(node: Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return how many nodes a tree has and how deep it is; a sub-condition counts each time, but is visited once."""
    if id(node) not in known:
        below = [_measure(child, known) for child in children(node)]
        depth = 1 + max((deep for _, deep in below), default=0)
        known[id(node)] = (1 + sum(size for size, _ in below), depth)
    return known[id(node)]
