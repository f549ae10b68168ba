"""What the names of a condition are in SQL: the ledger's columns, and the registry's entries as constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.ledger.columns import LISTS, PRESENCE
from usageaudit.policy.schema import EVENT_ID, EVENT_TIME, RECORD_TIME, SOURCE
from usageaudit.policy.sql.text import literal

if TYPE_CHECKING:
    from usageaudit.events.fields import EventField
    from usageaudit.policy.language import Path
    from usageaudit.policy.model import RegistryEntry

_NOTHING: Mapping[str, Stored] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stored:
    """The SQL of a leaf of the schema.

    `value` is an expression, NULL or never so for a scalar, an Int64 of microseconds for a time, and an array without
    NULLs for a list. `present` tells whether a list is there at all; it is empty where it always is. The `members` of
    a list of objects are arrays beside one another, of values that may be NULL; their `present` is such an array, too.
    """

    value: str
    present: str = ""
    members: Mapping[str, Stored] = field(default_factory=lambda: _NOTHING)


Columns = Mapping["Path", Stored]

_ENVELOPE: Mapping[Path, Stored] = {
    EVENT_TIME: Stored("toUnixTimestamp64Micro(event_time)"),
    RECORD_TIME: Stored("toUnixTimestamp64Milli(record_time) * 1000"),
    SOURCE: Stored("event_source"),
    EVENT_ID: Stored("event_id"),
}
_REGISTRY = ("owner", "team", "sector", "jurisdiction", "approved_use_cases", "data_classes")


def ledger_columns(registry: Mapping[str, RegistryEntry]) -> Columns:
    """Return the SQL of every leaf that policies may name, over the columns of the table `ledger`."""
    fields = {field.path: _field(field) for field in EVENT_FIELDS}
    return {**fields, **_ENVELOPE, **{("registry", name): _registered(name, registry) for name in _REGISTRY}}


def _field(field: EventField) -> Stored:
    match field.kind:
        case "int":
            return Stored(f"toInt64({field.column})")
        case "decimal":
            return Stored(_nearest_double(field.column))
        case "strings":
            return Stored(field.column, _bit(field))
        case "objects":
            members = {".".join(member.path): _member(field, member) for member in field.members}
            return Stored(next(iter(members.values())).value, _bit(field), members)
        case _:
            return Stored(field.column)


def _nearest_double(column: str) -> str:
    """Return the double of a Decimal(18, 9), rounded once.

    The engine divides the double of its digits by 10**9, which is exact for digits up to 2**53. A text it reads
    right where that has as many digits as the others, but ClickHouse 25.8 not always where it has fewer.
    """
    return f"if(abs({column}) < {2**53 // 10**9}, toFloat64({column}), toFloat64(toString({column})))"


def _member(field: EventField, member: EventField) -> Stored:
    column = f"{field.column}_{member.column}"
    return Stored(column, f"{column}_present" if member.kind == "strings" else "")


def _bit(field: EventField) -> str:
    return f"bitTest({PRESENCE.name}, {LISTS.index(field)})"


def _registered(name: str, registry: Mapping[str, RegistryEntry]) -> Stored:
    """Return what the registry says of the row's application; an array's element 0 is its type's NULL or empty."""
    entries = {app: value for app, entry in registry.items() if (value := getattr(entry, name)) is not None}
    several = name in ("approved_use_cases", "data_classes")
    if not entries:
        return Stored("emptyArrayString()", "0") if several else Stored("CAST(NULL, 'Nullable(String)')")
    apps = ", ".join(map(literal, entries))
    place = f"transform(toString(application_name), [{apps}], range(1, {len(entries) + 1}), 0)"
    if several:
        values = ", ".join(f"[{', '.join(map(literal, value))}]" for value in entries.values())
        return Stored(f"CAST([{values}], 'Array(Array(String))')[{place}]", f"{place} > 0")
    return Stored(f"[{', '.join(map(literal, entries.values()))}, NULL][{place}]")
