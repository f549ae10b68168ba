"""The condition language: a subset of CEL, parsed, checked against the event's schema, and typed.

    Condition text ─▶ parse ─▶ Expr ─▶ check ─▶ Condition (a typed tree) ─▶ a back end

`types` and `schema` say what there is to name, `operators` what can be done with it, `diagnostics` shows faults.
"""

from usageaudit.policy.language.checker import MAX_NODES, check, path_of
from usageaudit.policy.language.diagnostics import Diagnostic, InvalidCondition
from usageaudit.policy.language.operators import OPERATORS
from usageaudit.policy.language.parser import MAX_DEPTH, MAX_LENGTH, parse
from usageaudit.policy.language.patterns import Pattern, PatternError
from usageaudit.policy.language.schema import Leaf, Path, Schema
from usageaudit.policy.language.signatures import Logic, Operator, Sort, Strict
from usageaudit.policy.language.source import Origin, Source, Span
from usageaudit.policy.language.syntax import Expr
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
    Scalar,
    children,
    equalities,
    equality,
    fields_read,
    lists_read,
    terms,
    walk,
)
from usageaudit.policy.language.types import (
    BOOL,
    DOUBLE,
    DURATION,
    INT,
    MAP,
    OBJECT,
    OBJECTS,
    STRING,
    STRINGS,
    TIMESTAMP,
    Kind,
    Type,
    list_of,
)
from usageaudit.policy.language.unparse import quote, unparse

__all__ = [
    "BOOL",
    "DOUBLE",
    "DURATION",
    "INT",
    "MAP",
    "MAX_DEPTH",
    "MAX_LENGTH",
    "MAX_NODES",
    "OBJECT",
    "OBJECTS",
    "OPERATORS",
    "STRING",
    "STRINGS",
    "TIMESTAMP",
    "Call",
    "Condition",
    "Const",
    "Diagnostic",
    "Element",
    "Expr",
    "Field",
    "Has",
    "InvalidCondition",
    "Kind",
    "Leaf",
    "ListOf",
    "Logic",
    "Member",
    "Named",
    "Node",
    "Operator",
    "Origin",
    "Path",
    "Pattern",
    "PatternError",
    "Quantified",
    "Scalar",
    "Schema",
    "Sort",
    "Source",
    "Span",
    "Strict",
    "Type",
    "check",
    "children",
    "equalities",
    "equality",
    "fields_read",
    "list_of",
    "lists_read",
    "parse",
    "path_of",
    "quote",
    "terms",
    "unparse",
    "walk",
]
