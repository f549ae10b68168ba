"""The CloudEvents 1.0 envelope of a usage event: structured and binary mode, over Kafka and as lines of JSON.

The fast path reads a structured record straight into structs that know every field. Whatever it refuses is read a
second time, slowly: either the record is valid after all (it has fields that the definition does not know, or is in
binary mode), or InvalidEvent says everything that is wrong with it.

Sources: CloudEvents 1.0.2, its JSON format and its Kafka protocol binding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import orjson

from usageaudit.errors import InvalidEvent, Problem
from usageaudit.events.marks import Name  # noqa: TC001  msgspec resolves it
from usageaudit.events.model import EVENT_TYPE, UsageEvent
from usageaudit.events.structs import struct_of
from usageaudit.events.times import format_time, parse_time
from usageaudit.events.validation import MAX_DEPTH, count_unknown, depth_exceeds, problems_in

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_RECORD_BYTES = 1_000_000
MAX_UNKNOWN_FIELDS = 65_535
"""More unknown fields than this are counted as this many."""
CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"
STRUCTURED_HEADERS = [("content-type", CONTENT_TYPE.encode())]
"""The headers of a structured record, as the publisher writes them."""
ContentMode = Literal["structured", "binary"]

if TYPE_CHECKING:
    STRICT_DATA = Any
else:
    STRICT_DATA = struct_of(UsageEvent, strict=True)
    """The struct of an event that has no field which the definition does not know."""
_LENIENT_DATA: Any = struct_of(UsageEvent, strict=False)


class DecodedEvent(msgspec.Struct, frozen=True, gc=False):
    """A valid usage event with its envelope; `data` has the attributes of UsageEvent, `time` is in microseconds."""

    id: str
    source: str
    time: int
    data: Any
    unknown_fields: int = 0
    mode: ContentMode = "structured"


class _Envelope(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """The envelope of the common case; anything else is read by the slow path."""

    specversion: Literal["1.0"]
    id: Name
    source: Name
    type: Literal["io.usageaudit.model_usage.v1"]
    time: str
    data: STRICT_DATA
    datacontenttype: Literal["application/json"] | None = None
    partitionkey: str | None = None
    subject: str | None = None
    dataschema: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attributes:
    """The required attributes of the envelope, for pydantic to say what is wrong with them."""

    specversion: str
    id: Name
    source: Name
    type: str
    time: str


_fast = msgspec.json.Decoder(_Envelope).decode
_lenient_data = msgspec.json.Decoder(_LENIENT_DATA).decode


def decode(value: bytes | None, headers: Sequence[tuple[str, bytes | None]] = ()) -> DecodedEvent:
    """Return the usage event of a stream record.

    Raises InvalidEvent, naming every problem and its path, for a record that is none.
    """
    if value is not None and len(value) <= MAX_RECORD_BYTES and (not headers or headers == STRUCTURED_HEADERS):
        try:
            event = _fast(value)
            return DecodedEvent(event.id, event.source, parse_time(event.time), event.data)
        except (ValueError, RecursionError):  # msgspec's errors and a wrong time are ValueErrors
            pass
    return _decode_slowly(value, headers)


def decode_recorded(raw: bytes, mode: str, source: str, event_id: str, time: int) -> DecodedEvent:
    """Return the event of a ledger row from its `raw`, which holds the data alone where it came in binary mode.

    Raises InvalidEvent.
    """
    value = encode_structured(event_id=event_id, source=source, time=time, data=raw) if mode == "binary" else raw
    return decode(value, STRUCTURED_HEADERS)


def _decode_slowly(value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> DecodedEvent:
    if value is None:
        raise InvalidEvent([Problem("", "the record has no value")])
    if len(value) > MAX_RECORD_BYTES:
        raise InvalidEvent([Problem("", f"the record has {len(value):,} bytes, more than {MAX_RECORD_BYTES:,}")])
    body = _read_json(value)
    if _mode(headers) == "binary":
        return _event(_binary_attributes(headers), value, body, "binary")
    if not isinstance(body, dict):
        raise InvalidEvent([Problem("", "a CloudEvent is a JSON object")])
    data = body.pop("data", None)
    if "data_base64" in body:
        raise InvalidEvent([Problem("data_base64", "send the event as JSON in `data`")])
    if "specversion" not in body:
        raise InvalidEvent([Problem("specversion", "is required: this is no CloudEvent")])
    # orjson turns integers beyond 64 bits into floats, so the raw text of `data` is what gets judged.
    raw = _raw_data(value) if data is not None else b"null"
    return _event(body, raw, data, "structured")


def _read_json(value: bytes) -> Any:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        if "depth" in error.msg or "recursion" in error.msg.lower():
            raise InvalidEvent([Problem("", f"nested deeper than {MAX_DEPTH} levels")]) from None
        raise InvalidEvent([Problem("", f"not JSON: {error.msg} at byte {error.pos}")]) from None
    if depth_exceeds(body):
        raise InvalidEvent([Problem("", f"nested deeper than {MAX_DEPTH} levels")])
    return body


class _DataOnly(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")


_raw = msgspec.json.Decoder(_DataOnly).decode


def _raw_data(value: bytes) -> bytes:
    return bytes(_raw(value).data)


def _mode(headers: Sequence[tuple[str, bytes | None]]) -> ContentMode:
    """Tell the mode by the content type, as the Kafka binding says; a bare JSON value is taken for structured."""
    names = {name.lower(): text for name, text in headers}
    content_type = (names.get("content-type") or b"").decode("latin-1").lower()
    if content_type.startswith("application/cloudevents"):
        if not content_type.startswith("application/cloudevents+json"):
            raise InvalidEvent([Problem("content-type", "only the JSON format application/cloudevents+json is read")])
        return "structured"
    return "binary" if any(name.startswith("ce_") for name in names) else "structured"


def _binary_attributes(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, text in headers:
        lowered = name.lower()
        if text is None or not (lowered.startswith("ce_") or lowered == "content-type"):
            continue
        attribute = "datacontenttype" if lowered == "content-type" else lowered[3:]
        try:
            attributes[attribute] = text.decode()
        except UnicodeDecodeError:
            shown = lowered if attribute in _Envelope.__struct_fields__ else "ce_…"  # other names are the sender's
            raise InvalidEvent([Problem(f"header {shown}", "is not UTF-8")]) from None
    return attributes


def _event(attributes: dict[str, Any], raw: bytes, data: Any, mode: ContentMode) -> DecodedEvent:
    """Check the envelope first, since data of another type of event would only look full of errors."""
    problems = [*problems_in(_Attributes, orjson.dumps(attributes))]
    if not problems:
        problems = _wrong_kind(attributes)
    if problems:
        raise InvalidEvent(problems)
    micros = 0
    try:
        micros = parse_time(attributes["time"])
    except ValueError as error:
        problems.append(Problem("time", str(error)))
    if data is None:
        problems.append(Problem("data", "is required"))
    else:
        problems.extend(problems_in(UsageEvent, raw, "data"))
    if problems:
        raise InvalidEvent(problems)
    unknown = min(count_unknown(data), MAX_UNKNOWN_FIELDS)
    return DecodedEvent(attributes["id"], attributes["source"], micros, _lenient(raw), unknown, mode)


def _wrong_kind(attributes: dict[str, Any]) -> list[Problem]:
    if attributes["specversion"] != "1.0":
        return [Problem("specversion", "only CloudEvents 1.0 is read")]
    if attributes["type"] != EVENT_TYPE:
        return [Problem("type", f"is not {EVENT_TYPE}")]
    content_type = attributes.get("datacontenttype")
    if content_type in (None, ""):
        return []
    if not isinstance(content_type, str) or not content_type.lower().startswith("application/json"):
        return [Problem("datacontenttype", "only application/json is read")]
    return []


def _lenient(raw: bytes) -> Any:
    try:
        return _lenient_data(raw)
    except ValueError as error:  # both readers accept the same events, which a property test watches over
        raise InvalidEvent([Problem("data", str(error))]) from error


def encode_structured(*, event_id: str, source: str, time: int, data: bytes, event_type: str = EVENT_TYPE) -> bytes:
    """Return a structured CloudEvent as one line of JSON; `data` is the event's JSON, `time` in microseconds."""
    head = orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": event_type,
            "time": format_time(time),
            "datacontenttype": "application/json",
        }
    )
    return head[:-1] + b',"data":' + data + b"}"


def key_of(value: bytes) -> bytes | None:
    """Return the Kafka key that a structured record asks for: its `partitionkey`, else the one of its source and id.

    None where it has none that can be read; the record need not be a valid event.
    """
    try:
        body: Any = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    if isinstance(named := body.get("partitionkey"), str) and named:
        return named.encode()
    source, event_id = body.get("source"), body.get("id")
    return partition_key(source, event_id) if isinstance(source, str) and isinstance(event_id, str) else None


def partition_key(source: str, event_id: str) -> bytes:
    """Return the Kafka key of an event without `partitionkey`: copies of one event meet in one partition."""
    return f"{source}\0{event_id}".encode()
