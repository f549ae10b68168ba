"""Turns a checked condition into Python expressions with three values.

A value is None where it is unknown. Beside the value itself a truth is lowered as a pair, "is true or unknown" and "is
false or unknown", which a judge can test without ever making a third value: a violation is may_be_true and not
may_be_false. The code never raises, so operands of && and || are put in order of their cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usageaudit.policy.language.patterns import Pattern
from usageaudit.policy.language.signatures import Logic, Sort, Strict
from usageaudit.policy.language.times import zone
from usageaudit.policy.language.tree import (
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
)
from usageaudit.policy.language.types import BOOL, MAP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.policy.language.schema import Path
    from usageaudit.policy.language.signatures import Parameter
    from usageaudit.policy.language.tree import Value
    from usageaudit.policy.language.types import Type
    from usageaudit.policy.python.constants import Constants

_LEVELS = 12
"""How many operators are written into one another before a part becomes a function: Python allows 200 brackets."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """Python expressions over the local names `names`.

    `value` gives the value or None. `unknown` tells whether it is None, empty where it never is; `known` gives the
    value, and may only be evaluated after `unknown` was and gave False. `may_be_true` and `may_be_false` are there for
    truths. `cost` is a rough measure of the time it takes.
    """

    value: str
    unknown: str
    known: str
    may_be_true: str = ""
    may_be_false: str = ""
    names: frozenset[str] = frozenset()
    cost: int = 0
    levels: int = 0


def local(path: Path) -> str:
    """Return the local name of a field in generated code: v_actor_sector."""
    return "v_" + "_".join(path)


TRUE = Lowered("True", "", "True", "True", "False")
"""The lowering of a truth that is known beforehand, for `given`."""


def lower(condition: Condition | Node, constants: Constants, given: Mapping[Node, Lowered] | None = None) -> Lowered:
    """Return the Python expressions of a condition; constants and functions are added to `constants`.

    `given` has the lowering of parts that are computed elsewhere, such as common sub-expressions: parts outside of
    macros, in code without temporary names.
    """
    root = condition.root if isinstance(condition, Condition) else condition
    return _Lowering(constants, given or {}).node(root)


class _Lowering:
    """Lowers the nodes of one tree; temporary names are numbered in its order, so equal trees give equal code."""

    def __init__(self, constants: Constants, given: Mapping[Node, Lowered]) -> None:
        self._constants = constants
        self._given = given
        self._temporaries = 0

    def node(self, node: Node) -> Lowered:
        """Return the code of a node."""
        if self._given and (found := self._given.get(node)) is not None:
            return found
        return self._bounded(self._lowered(node), node.type)

    def _lowered(self, node: Node) -> Lowered:
        match node:
            case Const(value=value, type=kind):
                return self._constant(value, kind)
            case Field(path=path, type=kind):
                return nullable(local(path), kind, frozenset([local(path)]))
            case Element(number=number, type=kind):
                name = f"e_{number}"
                return _total(name, kind, frozenset([name]), 1)
            case Member(element=element, name=name, type=kind):
                variable = f"e_{element.number}"
                return nullable(f"{variable}.{name}", kind, frozenset([variable]))
            case ListOf(items=items):
                return self._list(items, node.type)
            case Has():
                return self._has(node)
            case Named(body=body):
                return self.node(body)
            case Quantified():
                return self._quantified(node)
            case Call(operator=row):
                return self._strict(node, row.python) if isinstance(row.python, Strict) else self._logic(node)

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t_{self._temporaries - 1}"

    def _bounded(self, code: Lowered, kind: Type) -> Lowered:
        """Return the code itself, or calls of functions with it where it is nested too deep for Python."""
        if code.levels <= _LEVELS:
            return code
        value = self._constants.call(code.value, code.names)
        called = self._of_value(value, kind, code)
        if kind != BOOL:
            return called
        return replace(
            called,
            may_be_true=self._constants.call(code.may_be_true, code.names),
            may_be_false=self._constants.call(code.may_be_false, code.names),
        )

    def _of_value(self, value: str, kind: Type, code: Lowered) -> Lowered:
        """Return the lowering of an expression that gives a value or None, with names and cost of other code."""
        name = self._temporary()
        truth = (f"({value} is not False)", f"({value} is not True)") if kind == BOOL else ("", "")
        return Lowered(value, f"({name} := {value}) is None", name, *truth, code.names, code.cost)

    def _constant(self, value: Value, kind: Type) -> Lowered:
        if isinstance(value, tuple):
            return _total(self._constants.name(value), kind, frozenset(), 0)
        code = repr(value)
        return _total(f"({code})" if code.startswith("-") else code, kind, frozenset(), 0)

    def _list(self, items: tuple[Node, ...], kind: Type) -> Lowered:
        operands = [self.node(item) for item in items]
        known = "(" + "".join(f"{operand.known}, " for operand in operands) + ")"
        return _guarded(_any_unknown(operands), known, kind, operands, 1)

    def _has(self, node: Has) -> Lowered:
        operands = [self.node(leaf) for leaf in node.leaves]
        python = node.operator.python
        template = python.known if isinstance(python, Strict) else ""
        present = " or ".join(template.format(operand.value) for operand in operands)
        return _total(f"({present})", BOOL, _names(operands), len(operands))

    def _strict(self, node: Call, python: Strict) -> Lowered:
        operands = [
            self._operand(argument, parameter, node.operator.name)
            for argument, parameter in zip(node.arguments, node.operator.parameters, strict=True)
        ]
        name = self._temporary() if "{t}" in python.known else ""
        known = "(" + python.known.format(*(operand.known for operand in operands), t=name) + ")"
        unknown = _any_unknown(operands)
        cost = 1 + 4 * python.known.count("op_")
        if python.partial:
            value = f"(None if {unknown} else {known})" if unknown else known
            code = _merged(operands, cost)
            return replace(self._of_value(value, node.type, code), levels=code.levels)
        code = _guarded(unknown, known, node.type, operands, cost)
        if python.on_none is not None and _one_may_be_none(node.arguments, operands):
            # The comparison itself answers for None, as the other side is a constant and never None.
            if python.on_none:
                return replace(code, may_be_true=known)
            return replace(code, may_be_false=f"(not {known})")
        return code

    def _operand(self, node: Node, parameter: Parameter, operator: str) -> Lowered:
        """Return the code of an operand; of a pattern, a zone and a list to look into the object that stands for it."""
        if isinstance(node, Const):
            if parameter is Sort.PATTERN and isinstance(node.value, str):
                return _total(self._constants.name(Pattern(node.value)), node.type, frozenset(), 20)
            if parameter is Sort.ZONE and isinstance(node.value, str):
                return _total(self._constants.name(zone(node.value)), node.type, frozenset(), 10)
            if operator == "in" and isinstance(node.value, tuple):
                return _total(self._constants.name(frozenset(node.value)), node.type, frozenset(), 0)
        return self.node(node)

    def _logic(self, node: Call) -> Lowered:
        python = node.operator.python
        operands = [self.node(argument) for argument in node.arguments]
        if not isinstance(python, Logic):
            return operands[0]
        if node.operator.name in ("&&", "||"):
            operands.sort(key=lambda operand: operand.cost)
        code = _merged(operands, 1)
        values = ", ".join(operand.value for operand in operands)
        value = f"({python.value.format(*operands, values=values, t=self._temporary())})"
        if node.type != BOOL:
            whole = self._of_value(value, node.type, code)
            return replace(whole, levels=code.levels)
        truths = [self._folded(template, operands) for template in (python.may_be_true, python.may_be_false)]
        if not any(operand.unknown for operand in operands):
            return replace(code, value=truths[0], known=truths[0], may_be_true=truths[0], may_be_false=truths[1])
        return replace(
            self._of_value(value, BOOL, code), may_be_true=truths[0], may_be_false=truths[1], levels=code.levels
        )

    def _folded(self, template: str, operands: list[Lowered]) -> str:
        """Fill a template of two operands from the left with any number of them; of one or three, once."""
        if "{1" not in template or "{2" in template:
            return f"({template.format(*operands, t=self._temporary())})"
        left = operands[0]
        for right in operands[1:]:
            text = template.format(left, right)
            left = replace(left, may_be_true=text, may_be_false=text)
        return f"({left.may_be_true})"

    def _quantified(self, node: Quantified) -> Lowered:
        if (tested := self._membership(node)) is not None:
            return tested
        python = node.operator.python
        operand, predicate = self.node(node.operand), self.node(node.predicate)
        if not isinstance(python, Logic):
            return operand
        unknown, known = operand.unknown, operand.known
        if ":=" in known:
            # Python allows no assignment in what a comprehension goes over.
            name = self._temporary()
            unknown, known = f"{unknown} or ({name} := {known}) is None".removeprefix(" or "), name
        variable = f"e_{node.element.number}"
        code = _merged([operand, predicate], 30)
        code = replace(code, names=operand.names | predicate.names - {variable})
        over = replace(operand, may_be_true=known)
        forms = [
            template.replace("{0}", "{0.may_be_true}").format(over, predicate, x=variable)
            for template in (python.may_be_true, python.may_be_false, python.value)
        ]
        guard = f"{unknown} or " if unknown else ""
        value = f"(None if {unknown} else {forms[2]})" if unknown else f"({forms[2]})"
        truths = [f"({guard}{form})" for form in forms[:2]]
        whole = self._of_value(value, BOOL, code)
        return replace(whole, may_be_true=truths[0], may_be_false=truths[1], levels=code.levels)

    def _membership(self, node: Quantified) -> Lowered | None:
        """Return the quick form of `list.exists(x, x in constants)` and `list.exists(x, x == constant)`."""
        match node.predicate:
            case Call(arguments=(Element(number=number), Const(value=value))) if number == node.element.number:
                row = node.predicate.operator.name
            case _:
                return None
        if node.operator.name != "exists" or row not in ("in", "=="):
            return None
        operand = self.node(node.operand)
        constants = value if isinstance(value, tuple) else (value,)
        known = f"(not {self._constants.name(frozenset(constants))}.isdisjoint({operand.known}))"
        return _guarded(operand.unknown, known, BOOL, [operand], 4)


def nullable(code: str, kind: Type, names: frozenset[str]) -> Lowered:
    """Return the lowering of a name that is None where it is unknown."""
    if kind == MAP:
        # An empty map is as good as none.
        return Lowered(f"({code} or None)", f"not {code}", code, names=names, cost=1)
    truth = (f"({code} is not False)", f"({code} is not True)") if kind == BOOL else ("", "")
    return Lowered(code, f"{code} is None", code, *truth, names, 1)


def _total(code: str, kind: Type, names: frozenset[str], cost: int) -> Lowered:
    """Return the lowering of code that is never None."""
    truth = (code, f"(not {code})") if kind == BOOL else ("", "")
    return Lowered(code, "", code, *truth, names, cost)


def _guarded(unknown: str, known: str, kind: Type, operands: list[Lowered], cost: int) -> Lowered:
    """Return the lowering of code that is unknown where an operand is, and never else."""
    code = _merged(operands, cost)
    if not unknown:
        return replace(_total(known, kind, code.names, code.cost), levels=code.levels)
    truth = (f"({unknown} or {known})", f"({unknown} or not {known})") if kind == BOOL else ("", "")
    return Lowered(f"(None if {unknown} else {known})", unknown, known, *truth, code.names, code.cost, code.levels)


def _merged(operands: list[Lowered], cost: int) -> Lowered:
    """Return names, cost and depth of code over operands, itself still without code."""
    levels = 1 + max((operand.levels for operand in operands), default=0)
    return Lowered("", "", "", "", "", _names(operands), cost + sum(operand.cost for operand in operands), levels)


def _names(operands: list[Lowered]) -> frozenset[str]:
    return frozenset[str]().union(*(operand.names for operand in operands))


def _any_unknown(operands: list[Lowered]) -> str:
    return " or ".join(operand.unknown for operand in operands if operand.unknown)


def _one_may_be_none(nodes: tuple[Node, ...], operands: list[Lowered]) -> bool:
    """Whether one operand is a plain scalar that may be None, and all others are constants."""
    pairs = tuple(zip(nodes, operands, strict=True))
    may_be_none = [(node, operand) for node, operand in pairs if operand.unknown]
    if len(may_be_none) != 1 or not all(operand.unknown or isinstance(node, Const) for node, operand in pairs):
        return False
    node, operand = may_be_none[0]
    return node.type.scalar and operand.unknown == f"{operand.known} is None"
