"""The flat table of the event's fields, and the ledger columns made from it."""

from __future__ import annotations

from usageaudit.events import UsageEvent
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.validation import adapter
from usageaudit.ledger.columns import COLUMNS, EVENT_COLUMNS


def _leaves(schema: dict[str, object], part: dict[str, object], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the leaves of a JSON schema with references, as an oracle apart from our own introspection."""
    found: set[tuple[str, ...]] = set()
    for choice in part.get("anyOf", [part]):  # type: ignore[attr-defined]
        definition = schema["$defs"][choice["$ref"].rsplit("/", 1)[1]] if "$ref" in choice else choice  # type: ignore[index]
        if "properties" in definition:
            for name, child in definition["properties"].items():
                found |= _leaves(schema, child, (*path, name))
        elif definition.get("type") != "null":
            found.add(path)
    return found


def test_the_table_has_every_leaf_of_the_definition() -> None:
    """The flat table has exactly the leaves that pydantic's JSON Schema of the event has."""
    schema = adapter(UsageEvent).json_schema()
    assert {field.path for field in EVENT_FIELDS} == _leaves(schema, schema)


def test_every_field_and_column_is_described() -> None:
    """Nothing is stored that is not explained."""
    assert [field.name for field in EVENT_FIELDS if not field.doc] == []
    assert [column.name for column in COLUMNS if not column.doc] == []


def test_columns_are_named_after_fields() -> None:
    """Every field has its columns, and no two columns share a name."""
    assert {column.field for column in EVENT_COLUMNS} == set(EVENT_FIELDS)
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_what_may_identify_a_person_is_flagged() -> None:
    """The actor's id, the reviewer, the conversation and the raw bytes are marked as personal."""
    personal = {column.name for column in COLUMNS if column.personal}
    assert {"actor_id", "oversight_reviewer", "conversation_id", "raw"} <= personal
