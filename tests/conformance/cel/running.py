"""Puts the cases into our language, in two forms, and tells where a back end disagrees with what is expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.conformance.cel.deviations import HERE, REFUSED
from tests.conformance.cel.reasons import reasons
from tests.conformance.cel.rewriting import FIELDS, literals_as_fields, without_dyn
from usageaudit.policy.language import Condition, Expr, InvalidCondition, Leaf, Origin, Schema, check, parse
from usageaudit.policy.python import compile_condition, local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.conformance.cel.cases import Case, Value
    from tests.conformance.cel.deviations import Refusal
    from usageaudit.policy.language import Path
    from usageaudit.policy.language.syntax import Literal, Syntax


@dataclass(frozen=True, slots=True)
class Form:
    """A case in our language: its condition with the values of the fields that it reads, or None where it is refused.

    It stands as it was written, or with a field in the place of each literal.
    """

    case: Case
    name: str
    condition: Condition | None
    values: Mapping[Path, Value]

    def __str__(self) -> str:
        return f"{self.case.name} ({self.name}): {self.case.text}"


def forms(case: Case) -> tuple[Form, ...]:
    """Return a case as it is written, and with fields; nothing but a refusal where the language has no such syntax.

    `dyn(x)`, which tells CEL's checker to leave a type open, is read as `x`.
    """
    given = {tuple(variable.name.split(".")): variable for variable in case.variables if variable.type}
    leaves = {path: Leaf(variable.type) for path, variable in given.items() if variable.type}
    values: dict[Path, Value] = {path: variable.value for path, variable in given.items()}
    try:
        expr = parse(case.text, origin=Origin(case.name))
    except InvalidCondition:
        return (Form(case, "literals", None, {}),)
    tree = without_dyn(expr.tree)
    replaced, literals = literals_as_fields(tree)
    fields: dict[Path, Literal] = {(FIELDS, f"v{number}"): literal for number, literal in enumerate(literals)}
    leaves_too = {path: Leaf(literal.type) for path, literal in fields.items() if literal.type}
    values_too: dict[Path, Value] = {path: literal.value for path, literal in fields.items()}
    return (
        Form(case, "literals", _checked(expr, tree, leaves), values),
        Form(case, "fields", _checked(expr, replaced, {**leaves, **leaves_too}), {**values, **values_too}),
    )


def _checked(expr: Expr, tree: Syntax, leaves: Mapping[Path, Leaf]) -> Condition | None:
    try:
        return check(Expr(tree, expr.source), Schema(leaves), lists={}, lets={}, expected=None)
    except InvalidCondition:
        return None


def accepted(case: Case) -> bool:
    """Whether the language takes a case as it is written."""
    return forms(case)[0].condition is not None


def applicable(cases: Iterable[Case]) -> tuple[Form, ...]:
    """Return the forms of all cases that are not left out for a reason."""
    return tuple(form for case in cases if not reasons(case) for form in forms(case))


def expected(case: Case) -> Value | Refusal:
    """Return what a case gives here; None is unknown."""
    if case.name in HERE:
        return HERE[case.name]
    return case.expected.value


def in_python(all_forms: Sequence[Form]) -> list[Value | Refusal]:
    """Return what the Python back end makes of forms."""
    return [REFUSED if form.condition is None else _evaluated(form.condition, form.values) for form in all_forms]


def _evaluated(condition: Condition, values: Mapping[Path, Value]) -> Value:
    evaluate: Callable[[Mapping[str, object]], Any] = compile_condition(condition)
    value: Value = evaluate({local(path): value for path, value in values.items()})
    return value


def disagreements(all_forms: Sequence[Form], found: Sequence[Value | Refusal]) -> list[str]:
    """Return a line for each form whose outcome is not the one that is expected.

    Where CEL says that evaluating ends in an error, a refusal when the condition is loaded is as good as unknown.
    """
    return [
        f"{form} is {outcome!r}, not {expected(form.case)!r}"
        for form, outcome in zip(all_forms, found, strict=True)
        if not _same(outcome, expected(form.case)) and not (outcome is REFUSED and form.case.expected.error)
    ]


def _same(outcome: Value | Refusal, wanted: Value | Refusal) -> bool:
    """Whether two values are one, true and 1 not being the same."""
    return type(outcome) is type(wanted) and outcome == wanted
