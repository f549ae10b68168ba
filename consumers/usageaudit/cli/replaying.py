"""Publishes rejected records again, from the bytes and headers that were kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usageaudit.cloudevents import STRUCTURED_HEADERS, decode, key_of, partition_key
from usageaudit.dropped import read_dropped
from usageaudit.embedded_log import NewRecord
from usageaudit.errors import InvalidEvent, StreamUnavailable
from usageaudit.publisher import RecordPublisher

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from usageaudit.cloudevents import DecodedEvent

REPLAY_HEADER = "usageaudit-replay-of"
ACKNOWLEDGED_SECONDS = 60.0


def publish_again(stream_url: str, rejected: Iterable[Sequence[Any]]) -> tuple[int, int]:
    """Publish records; return how many were and how many still can't be decoded. Reports of drops are passed over.

    Each is given by its old place, its bytes in hex, and names of its headers with their values in hex.
    Raises StreamUnavailable where the stream does not acknowledge them.
    """
    refused = 0
    with RecordPublisher(stream_url) as publisher:
        for place, payload, names, values in rejected:
            if read_dropped(bytes.fromhex(payload)) is not None:
                continue  # it is a finding already, and was never an event
            headers = [(str(name), bytes.fromhex(value)) for name, value in zip(names, values, strict=True)]
            record = _record(place, bytes.fromhex(payload), headers)
            if record is None:
                refused += 1
            else:
                publisher.put(record, wait=ACKNOWLEDGED_SECONDS)
        left = publisher.flush(ACKNOWLEDGED_SECONDS)
        counts = publisher.counts
        if left or counts.failed:
            raise StreamUnavailable(
                f"{left + counts.failed:,} records were not acknowledged: {publisher.last_error}; run it again, since "
                "what arrived already becomes a duplicate"
            )
    return counts.acknowledged, refused


def _record(place: str, payload: bytes, headers: Sequence[tuple[str, bytes]]) -> NewRecord | None:
    """Return the new record, None where the old one is still no event.

    A structured event under headers that say otherwise is one, too: a wrong content type is all that was wrong with it.
    """
    kept = [(name, value) for name, value in headers if name != REPLAY_HEADER]
    for tried in (kept, STRUCTURED_HEADERS):
        try:
            event = decode(payload, tried)
        except InvalidEvent:
            continue
        return NewRecord(_key(event, payload, tried), payload, [*tried, (REPLAY_HEADER, place.encode())])
    return None


def _key(event: DecodedEvent, payload: bytes, headers: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the key that the envelope asks for, so that the copy meets the other copies of the event."""
    if event.mode == "structured":
        return key_of(payload) or partition_key(event.source, event.id)
    named = next((value for name, value in headers if name.lower() == "ce_partitionkey"), b"")
    return named or partition_key(event.source, event.id)
