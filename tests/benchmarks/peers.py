"""What the two peers have in common: the table that they write, and which of the ledger's columns they fill.

It has all columns of the ledger, in its order and as compact parts, too; neither its projections nor its fence. What
they leave to defaults is what they do not know: epochs, presence of lists, and every verdict but `violated`.
"""

from __future__ import annotations

from usageaudit.ledger.columns import COLUMNS, EVENT_COLUMNS

TABLE = "ledger"
STREAM_COLUMNS = ("ingest_time", "topic", "partition", "offset", "record_time", "status", "payload_bytes")
ENVELOPE_COLUMNS = ("event_source", "event_id", "event_time")
EVENT_NAMES = tuple(column.name for column in EVENT_COLUMNS if not column.name.endswith("_present"))
FILLED = (*STREAM_COLUMNS, *ENVELOPE_COLUMNS, *EVENT_NAMES, "violated", "raw")
"""The names of the columns that a peer fills, in the order in which it does."""
COMPARED = tuple(name for name in FILLED if name != "ingest_time")
"""Those of them that must hold the same in every ledger."""


def create_table(database: str) -> str:
    """Return the statement that creates a peer's table."""
    columns = ", ".join(f"`{column.name}` {column.type}" for column in COLUMNS)
    return (
        f"CREATE TABLE {database}.{TABLE} ({columns}) ENGINE = MergeTree PARTITION BY toYYYYMM(ingest_time) "
        "ORDER BY (event_time, event_source, event_id) SETTINGS min_bytes_for_wide_part = 536870912"
    )
