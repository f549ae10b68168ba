"""The report of a publisher that it dropped events: a CloudEvent of a type of its own, beside the usage events.

Its data names the publisher's instance, how many events were dropped since its last report, and when the first and the
last of them were: {"instance": "…", "dropped": 3, "first": "2026-05-01T09:30:00Z", "last": "2026-05-01T09:30:02Z"}.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from usageaudit.cloudevents import MAX_RECORD_BYTES, encode_structured
from usageaudit.events.marks import Name  # noqa: TC001  msgspec reads the annotations
from usageaudit.events.times import format_time, parse_time

EVENTS_DROPPED = "io.usageaudit.events_dropped.v1"
MAX_TEXT = 500
MAX_COUNT = 2**53

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]


@dataclass(frozen=True, slots=True)
class DroppedEvents:
    """How many events an instance of a publisher dropped, between two times in microseconds since 1970."""

    source: str
    instance: str
    dropped: int
    first: int
    last: int


class _Data(msgspec.Struct):
    instance: _Text
    dropped: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
    first: str
    last: str


class _Report(msgspec.Struct):
    specversion: Literal["1.0"]
    type: Literal["io.usageaudit.events_dropped.v1"]
    source: Name
    data: _Data


_decode = msgspec.json.Decoder(_Report).decode
_MARK = EVENTS_DROPPED.encode()


def encode_dropped(event_id: str, time: int, report: DroppedEvents) -> bytes:
    """Return the report as a structured CloudEvent, written at a time in microseconds."""
    data = _Data(report.instance, report.dropped, format_time(report.first), format_time(report.last))
    return encode_structured(
        event_id=event_id, source=report.source, time=time, data=msgspec.json.encode(data), event_type=EVENTS_DROPPED
    )


def read_dropped(value: bytes | None) -> DroppedEvents | None:
    """Return the report that a record holds; None for any other record."""
    if value is None or len(value) > MAX_RECORD_BYTES or _MARK not in value:
        return None
    try:
        found = _decode(value)
        first, last = parse_time(found.data.first), parse_time(found.data.last)
    except (ValueError, RecursionError):
        return None
    if not 0 <= first <= last:
        return None
    return DroppedEvents(found.source, found.data.instance, found.data.dropped, first, last)
