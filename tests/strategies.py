"""Hypothesis strategies of usage events, derived from the definition of the event and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from usageaudit.events import EVENT_TYPE
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.marks import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.events.fields import EventField

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
measures = st.floats(0, 1e300, allow_nan=False, allow_infinity=False)


def _value(field: EventField) -> st.SearchStrategy[Any]:
    match field.kind:
        case "string":
            return names if field.required else texts
        case "int":
            return st.integers(0, MAX_COUNT)
        case "double":
            return st.floats(0, 1) if field.required else measures
        case "bool":
            return st.booleans()
        case "decimal":
            return st.decimals(0, 999_999_999, places=9).map(lambda amount: f"{amount:f}")
        case "strings":
            return st.lists(texts, max_size=3)
        case "map":
            return st.dictionaries(texts, texts, max_size=3)
        case "objects":
            return st.lists(objects(field.members), max_size=3)


def objects(fields: Iterable[EventField]) -> st.SearchStrategy[dict[str, Any]]:
    """Return JSON objects with every required field, and the optional ones there, null or absent."""
    required = {field.path: _value(field) for field in fields if field.required}
    optional = {field.path: st.none() | _value(field) for field in fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(_nest)


def _nest(flat: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        owner = nested
        for step in path[:-1]:
            owner = owner.setdefault(step, {})
        owner[path[-1]] = value
    return nested


event_data = objects(EVENT_FIELDS)
"""The `data` of a valid usage event as a JSON object."""

times = st.integers(0, 4_000_000_000_000_000)
"""Microseconds since 1970, to the year 2096."""


def envelope(data: dict[str, Any], **attributes: object) -> dict[str, Any]:
    """Return a structured CloudEvent around data; attributes replace those of the envelope."""
    return {
        "specversion": "1.0",
        "id": "e-1",
        "source": "//tests",
        "type": EVENT_TYPE,
        "time": "2024-05-02T09:30:00Z",
        "datacontenttype": "application/json",
        "data": data,
        **attributes,
    }


MINIMAL: dict[str, Any] = {
    "operation": "chat",
    "model": {"provider": "azure.ai.openai", "name": "gpt-4-turbo"},
    "actor": {"id": "u-1"},
    "application": {"name": "claims-triage"},
}
"""The smallest valid data."""
