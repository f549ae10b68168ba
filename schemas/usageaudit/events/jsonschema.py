"""The published form of the usage event: JSON Schema of the CloudEvent, made from the definition.

pydantic, which is the authority on validity, makes the schema of `data`; the descriptions come from the fields' `Doc`.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin, get_type_hints

from typing_extensions import Doc

from usageaudit.events import model
from usageaudit.events.validation import adapter

SCHEMA_ID = "urn:usageaudit:schema:model_usage.v1"
"""A name of the schema, not a place to fetch it from."""

_TIME = (
    r"^(19[7-9]\d|20\d\d|210[0-5])-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)
_ENVELOPE: dict[str, Any] = {
    "specversion": {"const": "1.0", "description": "version of CloudEvents"},
    "id": {
        "type": "string",
        "minLength": 1,
        "description": "made by the publisher, unique within `source`; UUIDv7 is advised. Must not identify a person",
    },
    "source": {
        "type": "string",
        "minLength": 1,
        "description": "the service that publishes, such as //services/claims-triage. Must not identify a person",
    },
    "type": {"const": model.EVENT_TYPE, "description": "the kind of event and its version"},
    "time": {
        "type": "string",
        "format": "date-time",
        "pattern": _TIME,
        "description": "when the use began: RFC 3339 with a zone and without leap seconds, from 1970 to 2105; kept in "
        "microseconds of UTC",
    },
    "datacontenttype": {
        "anyOf": [{"type": "string", "pattern": r"^([Aa]pplication/json.*)?$"}, {"type": "null"}],
        "description": "application/json, which is also meant where it is absent",
    },
    "partitionkey": {"description": "a string that replaces `source` and `id` as the key of the stream record"},
    "dataschema": {"description": "a URI of this schema"},
    "subject": {"description": "a string; not read"},
    "data": {"$ref": "#/$defs/UsageEvent"},
}
_REQUIRED = ("specversion", "id", "source", "type", "time", "data")


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a usage event as a structured CloudEvent."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "Usage event",
        "description": (
            "One use of an AI model, as a CloudEvent 1.0 in structured mode. Fields that are not named here are kept. "
            "Beyond what a schema can say: integers are written without fraction and exponent, the record has at most "
            "1,000,000 bytes and 64 levels."
        ),
        "type": "object",
        "properties": _ENVELOPE,
        "required": list(_REQUIRED),
        "not": {"required": ["data_base64"]},
        "$defs": data_definitions(),
    }


def data_definitions(reference: str = "#/$defs/") -> dict[str, Any]:
    """Return the schema of each part of the event by name, UsageEvent among them; references start as `reference`."""
    schema = adapter(model.UsageEvent).json_schema(ref_template=reference + "{model}")
    parts: dict[str, Any] = schema.pop("$defs")
    parts[model.UsageEvent.__name__] = schema
    for name, part in parts.items():
        _describe(part, get_type_hints(getattr(model, name), include_extras=True))
    return dict(sorted(parts.items()))


def _describe(part: dict[str, Any], hints: dict[str, Any]) -> None:
    """Add what the definition says of each field; drop what says nothing: titles that repeat names, null defaults."""
    part.pop("title", None)
    for name, field in part["properties"].items():
        field.pop("title", None)
        field.pop("default", None)
        text = _doc(hints[name])
        part["properties"][name] = {"description": text, **field} if text else field


def _doc(hint: Any) -> str:
    marks = [argument for argument in get_args(hint) if isinstance(argument, Doc)]
    if marks:
        return marks[0].documentation
    return next((text for inner in get_args(hint) if get_origin(inner) is not None and (text := _doc(inner))), "")
