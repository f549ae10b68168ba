"""The columns of the ledger: one definition, from which DDL, row builder, encoders, views and documentation follow.

A row is one stream record, whatever it was. The columns come in four runs: where the record came from (one value a
batch or one a record), who the event is, the event's fields (from `usageaudit.events`), and the verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usageaudit.events.fields import EVENT_FIELDS

if TYPE_CHECKING:
    from usageaudit.events.fields import EventField

Origin = Literal["batch", "record", "event", "presence", "verdict"]
"""Where a value comes from: constant in a batch, the stream record, the event's data, presence bits, or judging."""

LABEL = "LowCardinality(String)"
LABELS = "Array(LowCardinality(String))"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, ClickHouse type, where its value comes from, what it means, whether it may identify a person.

    `field` is the event's field that it holds, `member` the member of it where the field is a list of objects.
    """

    name: str
    type: str
    origin: Origin
    doc: str
    personal: bool = False
    field: EventField | None = None
    member: EventField | None = None


_BATCH = (
    Column("ingest_time", "DateTime64(3, 'UTC')", "batch", "when the batch was recorded; one time for all its rows"),
    Column("stream", LABEL, "batch", "identity of the stream: Kafka's topic id or the embedded file's UUID"),
    Column("topic", LABEL, "batch", "topic of the record"),
    Column("partition", "UInt32", "batch", "partition of the record"),
    Column("epoch", "UInt64", "batch", "how often the partition had been taken over when the row was written"),
    Column("batch", "UInt64", "batch", "number of the batch within the epoch"),
    Column("bundle", LABEL, "batch", "hash of the policy bundle that judged the batch"),
)

_RECORD = (
    Column("offset", "UInt64", "record", "offset of the record in its partition"),
    Column("record_time", "Nullable(DateTime64(3, 'UTC'))", "record", "time that the stream gave the record"),
    Column("status", LABEL, "record", "accepted, duplicate or rejected"),
    Column("content_mode", LABEL, "record", "CloudEvents mode: structured or binary; empty for rejected records"),
    Column("payload_bytes", "UInt32", "record", "length of the record's value"),
    Column("error", "String", "record", "everything that is wrong with a rejected record"),
    Column("error_path", "String", "record", "path of the first wrong field, such as data.input.modalities[0]"),
    Column("unknown_fields", "UInt16", "record", "fields below data that the definition does not know"),
    Column("event_source", LABEL, "record", "CloudEvents source: the service that published the event"),
    Column("event_id", "String", "record", "CloudEvents id, unique within its source"),
    Column("event_time", "DateTime64(6, 'UTC')", "record", "when the use began"),
)

_VERDICTS = (
    Column("violated", LABELS, "verdict", "ids of the policies that the event violated"),
    Column("violated_version", "Array(UInt32)", "verdict", "version of each violated policy"),
    Column("violated_severity", LABELS, "verdict", "severity of each violated policy"),
    Column("violated_stage", LABELS, "verdict", "stage of each violated policy: enforce or shadow"),
    Column("violated_message", "Array(String)", "verdict", "message of each violation", personal=True),
    Column("violated_evidence", "Array(String)", "verdict", "evidence of each violation, a JSON object", personal=True),
    Column("violated_missing", "Array(Array(LowCardinality(String)))", "verdict", "fields unknown at each violation"),
    Column("exempted", LABELS, "verdict", "ids of the policies whose violation was exempted"),
    Column("exempted_version", "Array(UInt32)", "verdict", "version of each of them"),
    Column("exempted_severity", LABELS, "verdict", "severity of each of them"),
    Column("exempted_stage", LABELS, "verdict", "stage of each of them"),
    Column("exempted_message", "Array(String)", "verdict", "message of each of them", personal=True),
    Column("exempted_exception", LABELS, "verdict", "id of the exception that exempted each of them"),
    Column("indeterminate", LABELS, "verdict", "ids of the policies that could not be decided"),
    Column("indeterminate_version", "Array(UInt32)", "verdict", "version of each of them"),
    Column(
        "indeterminate_missing",
        "Array(Array(LowCardinality(String)))",
        "verdict",
        "fields that would have decided each of them",
    ),
)

RAW = Column("raw", "String CODEC(ZSTD(1))", "record", "the value of an accepted record as it was", personal=True)

_SCALARS = {"int": "UInt64", "double": "Float64", "bool": "Bool", "decimal": "Decimal(18, 9)"}

_BITS = (
    *("input.modalities", "output.modalities", "output.inferred_attributes", "outcome.finish_reasons"),
    *("outcome.guardrails", "content.signals", "tools"),
)
"""The lists in the order in which they came to be; recorded rows have their bits, so a new one goes to the end."""
_LISTS = {field.name: field for field in EVENT_FIELDS if field.kind in ("strings", "objects")}
LISTS: tuple[EventField, ...] = tuple(_LISTS[name] for name in dict.fromkeys((*_BITS, *_LISTS)))
"""The event's lists. Bit i of `lists_present` is set where list i was there: an empty list is not a missing one."""

PRESENCE = Column(
    "lists_present",
    "UInt16",
    "presence",
    "which lists the event had, as bits: " + ", ".join(f"{1 << bit} {field.name}" for bit, field in enumerate(LISTS)),
)


def _event_columns(field: EventField) -> tuple[Column, ...]:
    if field.kind == "objects":
        return tuple(column for member in field.members for column in _member_columns(field, member))
    return (Column(field.column, _field_type(field), "event", field.doc, field.stored.personal, field),)


def _member_columns(field: EventField, member: EventField) -> tuple[Column, ...]:
    """Return the parallel arrays of one member of a list of objects."""
    name = f"{field.column}_{member.column}"
    doc = f"of each of {field.name}: {member.doc}"
    if member.kind != "strings":
        return (Column(name, f"Array({_field_type(member)})", "event", doc, False, field, member),)
    there = Column(f"{name}_present", "Array(Bool)", "event", f"{doc}; whether it was there", False, field, member)
    return (Column(name, f"Array({LABELS})", "event", doc, False, field, member), there)


def _field_type(field: EventField) -> str:
    if field.kind == "map":
        return "Map(LowCardinality(String), String)"
    if field.kind == "strings":
        return LABELS
    if field.kind == "string":
        inner = "String" if field.required else "Nullable(String)"
        return f"LowCardinality({inner})" if field.stored.low_cardinality else inner
    inner = _SCALARS[field.kind]
    return inner if field.required else f"Nullable({inner})"


EVENT_COLUMNS: tuple[Column, ...] = tuple(column for field in EVENT_FIELDS for column in _event_columns(field))
COLUMNS: tuple[Column, ...] = (*_BATCH, *_RECORD, *EVENT_COLUMNS, PRESENCE, *_VERDICTS, RAW)
"""Every column of the ledger in its order."""
ROW_COLUMNS: tuple[Column, ...] = COLUMNS[len(_BATCH) :]
"""The columns that differ from row to row; those before are one value a batch."""
BATCH_COLUMNS: tuple[Column, ...] = _BATCH
