"""What a row of the operator table holds: signature, meaning, and how back ends evaluate it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from usageaudit.policy.language.types import BOOL, DOUBLE, INT, STRING, Kind, Type


class Sort(Enum):
    """What a parameter takes that is more, or less, than one type."""

    NUMBER = "number"
    """An int or a double."""
    SAME = "T"
    """Any scalar; all operands of this sort are of one type, and so is the result."""
    FIELD = "field"
    """A field, present or not."""
    LIST = "list"
    """A list of anything."""
    PREDICATE = "condition"
    """A condition on the element that a macro names."""
    PATTERN = "pattern"
    """A regular expression, written as a string."""
    ZONE = "zone"
    """A time zone, written as a string: "Europe/Paris" or "+02:00"."""
    KEY = "key"
    """A key of a map, written as a string."""


Parameter = Type | Sort
Style = Literal["infix", "prefix", "method", "function", "either", "ternary", "macro", "index"]


@dataclass(frozen=True, slots=True)
class Strict:
    """Python for an operator that is unknown as soon as one operand is.

    `known` is a template over operands that are known. It may still give None where `partial`. `on_none` is what it
    gives when one scalar operand is None after all and the other one is a constant (None: it must not be evaluated
    then), which can save a test for None. {t} is a temporary name.
    """

    known: str
    partial: bool = False
    on_none: bool | None = None


@dataclass(frozen=True, slots=True)
class Logic:
    """Python for an operator that can be known although an operand is unknown.

    `may_be_true` and `may_be_false` are templates for "is true or unknown" and "is false or unknown"; `value` gives
    True, False or None and evaluates each operand once at most. They read {0.may_be_true}, {0.may_be_false} and
    {0.value} of operands, {values} for all of them, {t} for a temporary name, and {x} for the element of a macro,
    whose list {0} is then known. A template with two operands is repeated from the left for more of them.
    """

    may_be_true: str
    may_be_false: str
    value: str


@dataclass(frozen=True, slots=True)
class Sql:
    """ClickHouse SQL for an operator: an expression that is NULL where the result is unknown.

    `template` reads {0}, {1} for operands, {values} for all of them, and {x} for the element of a macro. Operands that
    may be NULL are tested before where `guarded`: the engine's functions give an answer for NULL there. `composed` is
    the name of a function of `usageaudit.policy.sql.functions` that writes the expression, in place of a template.
    """

    template: str = ""
    guarded: bool = False
    composed: str = ""


@dataclass(frozen=True, slots=True)
class Operator:
    """A row: name, signature, evaluation and meaning; `bounds` are the least and greatest result, where it has any."""

    name: str
    parameters: tuple[Parameter, ...]
    result: Type | Sort
    style: Style
    python: Strict | Logic
    sql: Sql
    doc: str
    bounds: tuple[int, int] | None = None

    @property
    def signature(self) -> str:
        """The row as an author would write it, with types for operands."""
        names = [_shown(parameter) for parameter in self.parameters]
        match self.style:
            case "infix":
                call = f"{names[0]} {self.name} {names[1]}"
            case "prefix":
                call = f"{self.name}{names[0]}"
            case "ternary":
                call = f"{names[0]} ? {names[1]} : {names[2]}"
            case "index":
                call = f"{names[0]}[{names[1]}]"
            case "function":
                call = f"{self.name}({', '.join(names)})"
            case "macro":
                call = f"{names[0]}.{self.name}(x, {names[1]})"
            case _:
                call = f"{names[0]}.{self.name}({', '.join(names[1:])})"
        return f"{call} -> {_shown(self.result)}"


def _shown(parameter: Parameter) -> str:
    return parameter.value if isinstance(parameter, Sort) else str(parameter)


def takes(parameter: Parameter, given: Type) -> bool:
    """Whether a parameter takes an operand of a type, apart from wanting a constant or the type of another one."""
    match parameter:
        case Sort.NUMBER:
            return given in (INT, DOUBLE)
        case Sort.LIST:
            return given.kind is Kind.LIST
        case Sort.PREDICATE:
            return given == BOOL
        case Sort.PATTERN | Sort.ZONE | Sort.KEY:
            return given == STRING
        case Sort.SAME:
            return given.scalar
        case Sort.FIELD:
            return True
        case _:
            return parameter == given
