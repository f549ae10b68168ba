"""Evaluates forms of cases by the SQL back end: a few statements, each with many expressions over one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conformance.cel.deviations import REFUSED
from usageaudit.policy.language import BOOL, DOUBLE, MAP, STRING, Field, walk
from usageaudit.policy.sql import Stored, lower

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.conformance.cel.cases import Value
    from tests.conformance.cel.deviations import Refusal
    from tests.conformance.cel.running import Form
    from usageaudit.policy.language import Condition, Path, Type
    from usageaudit.stores.port import Store

LARGEST = 100_000
"""Characters of a statement; ClickHouse refuses one of more than 262,144."""
_NAMES = {BOOL: "Bool", STRING: "String", DOUBLE: "Float64"}


def in_sql(all_forms: Sequence[Form], store: Store) -> list[Value | Refusal]:
    """Return what the SQL back end makes of forms; their fields are columns, whose values the engine can't fold."""
    found: list[Value | Refusal] = []
    for forms in _batches(all_forms):
        conditions = [(number, form) for number, form in enumerate(forms) if form.condition]
        columns = ", ".join(column for number, form in conditions for column in _columns(number, form))
        expressions = ", ".join(_lowered(number, form) for number, form in conditions)
        row = f"SELECT {columns or '0'}"
        ((values),) = store.execute(f"SELECT {expressions} FROM ({row})").rows
        outcomes = iter(values)
        found += [_value(next(outcomes), form.condition) if form.condition else REFUSED for form in forms]
    return found


def _batches(forms: Sequence[Form]) -> Iterator[list[Form]]:
    """Yield forms in groups, each small enough for one statement."""
    batch: list[Form] = []
    size = 0
    for form in forms:
        length = len(_lowered(0, form)) + len("".join(_columns(0, form)))
        if batch and size + length > LARGEST:
            yield batch
            batch, size = [], 0
        batch.append(form)
        size += length
    yield batch


def _lowered(number: int, form: Form) -> str:
    if form.condition is None:
        return ""
    names = {path: _stored(number, path, form.values.get(path)) for path in _fields(form)}
    return lower(form.condition, names)


def _columns(number: int, form: Form) -> list[str]:
    """Return the columns of the fields that a form reads, each with its value."""
    return [
        f"materialize({_literal(form.values.get(path), kind)}) AS {_column(number, path)}"
        for path, kind in _fields(form).items()
    ]


def _fields(form: Form) -> dict[Path, Type]:
    nodes = walk(form.condition.root) if form.condition else ()
    return {node.path: node.type for node in nodes if isinstance(node, Field)}


def _column(number: int, path: Path) -> str:
    return f"c{number}_{'_'.join(path)}"


def _stored(number: int, path: Path, value: Value) -> Stored:
    return Stored(_column(number, path), present="0" if value is None else "")


def _literal(value: Value, kind: Type) -> str:
    """Return a value as a column has it; a text goes by its bytes, so that no rule for escapes is relied on."""
    if kind.element:
        items = value if isinstance(value, tuple) else ()
        return f"CAST([{', '.join(_scalar(item) for item in items)}], 'Array({_NAMES.get(kind.element, 'Int64')})')"
    if kind == MAP:
        entries = value.items() if isinstance(value, dict) else ()
        pairs = (f"{_text(key)}, {_text(text)}" for key, text in entries)
        return f"CAST(map({', '.join(pairs)}), 'Map(String, String)')"
    return f"CAST({_scalar(value)}, 'Nullable({_NAMES.get(kind, 'Int64')})')"


def _scalar(value: object) -> str:
    if value is None:
        return "NULL"
    return _text(value) if isinstance(value, str) else f"'{value!r}'" if type(value) is int else repr(value)


def _text(value: str) -> str:
    return f"unhex('{value.encode().hex()}')"


def _value(found: object, condition: Condition) -> Value:
    """Return a result as the language's value; the engine has no type of its own for truths."""
    if found is None:
        return None
    if condition.type == BOOL:
        return bool(found)
    if isinstance(found, list):
        return tuple(found)
    return found  # type: ignore[return-value]
