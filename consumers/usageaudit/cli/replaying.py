"""Publishes the kept bytes of rejected records again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.cloudevents import STRUCTURED_HEADERS, decode, key_of, partition_key
from usageaudit.embedded_log import NewRecord
from usageaudit.errors import InvalidEvent, StreamUnavailable
from usageaudit.publisher import RecordPublisher

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REPLAY_HEADER = "usageaudit-replay-of"
ACKNOWLEDGED_SECONDS = 60.0


def publish_again(stream_url: str, rejected: Iterable[Sequence[str]]) -> tuple[int, int]:
    """Publish records, given by their old place and their bytes in hex; return how many were and how many still can't.

    Raises StreamUnavailable where the stream does not acknowledge them.
    """
    refused = 0
    with RecordPublisher(stream_url) as publisher:
        for place, payload in rejected:
            record = _record(place, bytes.fromhex(payload))
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


def _record(place: str, payload: bytes) -> NewRecord | None:
    """Return the new record, None where the bytes are still no event."""
    try:
        event = decode(payload, STRUCTURED_HEADERS)
    except InvalidEvent:
        return None
    headers = [*STRUCTURED_HEADERS, (REPLAY_HEADER, place.encode())]
    return NewRecord(key_of(payload) or partition_key(event.source, event.id), payload, headers)
