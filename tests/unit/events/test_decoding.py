"""Reading a stream record: the fast reader and pydantic accept the same events, and whatever is refused says why."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import MINIMAL, envelope, event_data, names
from usageaudit.cloudevents import STRUCTURED_HEADERS, decode, encode_structured
from usageaudit.errors import InvalidEvent
from usageaudit.events import EVENT_TYPE, UsageEvent
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.structs import struct_of
from usageaudit.events.validation import problems_in

FAST = msgspec.json.Decoder(struct_of(UsageEvent, strict=True))
LENIENT = msgspec.json.Decoder(struct_of(UsageEvent, strict=False))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
leaf_paths = st.sampled_from([field.path for field in EVENT_FIELDS])


def replaced(data: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    """Return a copy of the data with a value of any kind at a field of the event, or at one of its parents."""
    changed = copy.deepcopy(data)
    owner = changed
    for step in path[:-1]:
        if not isinstance(owner.get(step), dict):
            owner[step] = {}
        owner = owner[step]
    owner[path[-1]] = value
    return changed


def accepts(decoder: msgspec.json.Decoder[Any], raw: bytes) -> bool:
    """Tell whether msgspec reads the text."""
    try:
        decoder.decode(raw)
    except (ValueError, RecursionError):
        return False
    return True


@given(event_data)
def test_every_event_of_the_definition_is_accepted(data: dict[str, Any]) -> None:
    """Whatever follows the definition is accepted by the fast reader and by pydantic, without unknown fields."""
    raw = orjson.dumps(data)
    assert accepts(FAST, raw)
    assert problems_in(UsageEvent, raw) == ()
    assert decode(orjson.dumps(envelope(data)), STRUCTURED_HEADERS).unknown_fields == 0


@given(event_data, leaf_paths, st.integers(1, 4), json_values)
@settings(max_examples=600)
def test_both_readers_accept_the_same_events(
    data: dict[str, Any], path: tuple[str, ...], depth: int, value: object
) -> None:
    """An event with any value at any place is valid for msgspec exactly when it is valid for pydantic."""
    raw = json.dumps(replaced(data, path[:depth], value)).encode()
    assert accepts(LENIENT, raw) == (problems_in(UsageEvent, raw) == ())


@given(event_data, leaf_paths, json_values)
@settings(max_examples=300)
def test_a_refused_event_names_the_path(data: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Where a changed field makes an event invalid, the first problem lies at that field or below it."""
    changed = replaced(data, path, value)
    if accepts(LENIENT, json.dumps(changed).encode()):
        return
    with pytest.raises(InvalidEvent) as refused:
        decode(json.dumps(envelope(changed)).encode())
    assert refused.value.problems[0].path.startswith("data." + ".".join(path))


@given(event_data, st.dictionaries(st.text(min_size=1, max_size=5), json_values, min_size=1, max_size=3))
def test_unknown_fields_are_counted_and_change_nothing(data: dict[str, Any], extra: dict[str, Any]) -> None:
    """Fields that the definition does not know are counted and leave what it knows as it was."""
    extra = {f"x-{name}": value for name, value in extra.items()}
    plain = decode(orjson.dumps(envelope(data)))
    extended = decode(json.dumps(envelope({**data, **extra})).encode())
    assert extended.unknown_fields == len(extra)
    assert msgspec.to_builtins(extended.data) == msgspec.to_builtins(plain.data)


@given(event_data)
def test_binary_and_structured_mode_read_the_same(data: dict[str, Any]) -> None:
    """An event in Kafka's binary mode reads as the same event in structured mode, but for the mode."""
    wrapped = envelope(data)
    headers = [(f"ce_{name}", str(wrapped[name]).encode()) for name in ("specversion", "id", "source", "type", "time")]
    binary = decode(orjson.dumps(data), [*headers, ("content-type", b"application/json")])
    structured = decode(orjson.dumps(wrapped), STRUCTURED_HEADERS)
    assert binary.mode == "binary"
    assert (binary.id, binary.source, binary.time) == (structured.id, structured.source, structured.time)
    assert msgspec.to_builtins(binary.data) == msgspec.to_builtins(structured.data)


def test_a_structured_message_may_carry_ce_headers() -> None:
    """The content type alone decides: a structured message with ce_ headers beside it is read as structured."""
    headers = [("content-type", b"application/cloudevents+json; charset=UTF-8"), ("ce_id", b"another")]
    event = decode(orjson.dumps(envelope(MINIMAL)), headers)
    assert (event.mode, event.id) == ("structured", "e-1")


@given(event_data, names, st.integers(0, 4 * 10**15))
def test_what_is_encoded_decodes(data: dict[str, Any], event_id: str, time: int) -> None:
    """Encoding and decoding an event gives the same id, source, time and data."""
    raw = encode_structured(event_id=event_id, source="//s", time=time, data=orjson.dumps(data))
    event = decode(raw, STRUCTURED_HEADERS)
    assert (event.id, event.source, event.time) == (event_id, "//s", time)
    assert msgspec.to_builtins(event.data) == msgspec.to_builtins(LENIENT.decode(orjson.dumps(data)))


@given(st.binary(max_size=300))
def test_nonsense_is_refused_and_nothing_else(value: bytes) -> None:
    """Any bytes at all are either an event or an InvalidEvent that says why."""
    with pytest.raises(InvalidEvent, match=r"."):
        decode(value)


def _with(path: str, value: object) -> bytes:
    return json.dumps(envelope(replaced(MINIMAL, tuple(path.split(".")), value))).encode()


HOSTILE: dict[str, tuple[bytes | None, str, str]] = {
    "no value": (None, "", "no value"),
    "empty": (b"", "", "not JSON"),
    "not JSON": (b"{", "", "not JSON"),
    "not an object": (b"[1]", "", "JSON object"),
    "not a CloudEvent": (b'{"a": 1}', "specversion", "required"),
    "another version": (orjson.dumps(envelope(MINIMAL, specversion="0.3")), "specversion", "1.0"),
    "another type": (orjson.dumps(envelope(MINIMAL, type="io.usageaudit.model_usage.v2")), "type", EVENT_TYPE),
    "no time": (orjson.dumps({k: v for k, v in envelope(MINIMAL).items() if k != "time"}), "time", "required"),
    "time without zone": (orjson.dumps(envelope(MINIMAL, time="2024-05-01T00:00:00")), "time", "RFC 3339"),
    "time that is none": (orjson.dumps(envelope(MINIMAL, time="2024-02-30T00:00:00Z")), "time", "exists"),
    "leap second": (orjson.dumps(envelope(MINIMAL, time="2016-12-31T23:59:60Z")), "time", "leap second"),
    "time out of range": (orjson.dumps(envelope(MINIMAL, time="2200-01-01T00:00:00Z")), "time", "2105"),
    "empty id": (orjson.dumps(envelope(MINIMAL, id="")), "id", "at least 1"),
    "no data": (orjson.dumps({k: v for k, v in envelope(MINIMAL).items() if k != "data"}), "data", "required"),
    "base64 data": (orjson.dumps({**envelope(MINIMAL), "data_base64": "e30="}), "data_base64", "JSON"),
    "XML": (orjson.dumps(envelope(MINIMAL, datacontenttype="text/xml")), "datacontenttype", "application/json"),
    "wrong type in a list": (_with("input.modalities", [1]), "data.input.modalities[0]", "string"),
    "null in a list": (_with("tools", ["a", None]), "data.tools[1]", "string"),
    "missing required": (_with("model", {"name": "m"}), "data.model.provider", "required"),
    "true for a count": (_with("usage.input_tokens", True), "data.usage.input_tokens", "integer"),
    "fraction for a count": (_with("usage.input_tokens", 1.5), "data.usage.input_tokens", "integer"),
    "negative count": (_with("usage.input_tokens", -1), "data.usage.input_tokens", "greater than or equal to 0"),
    "beyond 64 bits": (_with("usage.input_tokens", 2**64), "data.usage.input_tokens", "less than or equal"),
    "number for an amount": (_with("cost.amount", 1.5), "data.cost.amount", "string"),
    "ten digits after the point": (_with("cost.amount", "0.1234567891"), "data.cost.amount", "pattern"),
    "amount and a newline": (_with("cost.amount", "1.5\n"), "data.cost.amount", "pattern"),
    "score above one": (
        _with("content.signals", [{"category": "c", "score": 1.1}]),
        "data.content.signals[0].score",
        "1",
    ),
    "number in labels": (_with("labels", {"a b": 1}), "data.labels[…]", "string"),
    "list for labels": (_with("labels", ["a"]), "data.labels", "object"),
    "NaN": (_with("usage.audio_seconds", float("nan")), "", "not JSON"),
    "Infinity where unknown": (_with("x", float("inf")), "", "not JSON"),
    "1e999": (
        _with("usage.audio_seconds", 0).replace(b'"audio_seconds": 0', b'"audio_seconds": 1e999'),
        "",
        "infinity",
    ),
    "invalid UTF-8": (b'{"specversion": "1.0\xff"}', "", "UTF-8"),
    "lone surrogate": (_with("x", "@").replace(b'"@"', b'"\\ud800"'), "", "not JSON"),
    "10,000 levels": (b"[" * 10_000 + b"]" * 10_000, "", "deeper than 64"),
    "65 levels": (_with("x", 0).replace(b'"x": 0', b'"x": ' + b"[" * 65 + b"]" * 65), "", "deeper than 64"),
    "1,000,001 bytes": (b" " * 1_000_001, "", "1,000,000"),
    "a million bytes of nonsense": (b"x" * 1_000_000, "", "not JSON"),
}


@pytest.mark.parametrize(("value", "path", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_record_is_refused_with_path_and_reason(value: bytes | None, path: str, message: str) -> None:
    """Every kind of broken record is refused with the path of what is wrong and a reason."""
    with pytest.raises(InvalidEvent) as refused:
        decode(value)
    first = refused.value.problems[0]
    assert first.path.startswith(path)
    assert message in first.message


def test_the_reason_never_repeats_content() -> None:
    """What is wrong is said without the value, which may be a prompt."""
    with pytest.raises(InvalidEvent) as refused:
        decode(_with("operation", {"secret prompt": "secret prompt"}))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("key", ["secret", "secret prompt", "labels", "secret" * 100])
def test_the_reason_never_repeats_a_name_of_the_sender(key: str) -> None:
    """Keys of labels and names of unknown headers are the sender's to choose, and may be a person's."""
    with pytest.raises(InvalidEvent) as refused:
        decode(_with("labels", {key: 1, f"{key}2": 2}))
    assert [problem.path for problem in refused.value.problems] == ["data.labels[…]"]
    for name, shown in ((f"ce_{key}", "header ce_…"), ("CE_Source", "header ce_source")):
        with pytest.raises(InvalidEvent) as refused:
            decode(b"{}", [(name, b"\xff")])
        assert [problem.path for problem in refused.value.problems] == [shown]


def test_all_problems_are_named_at_once() -> None:
    """A record with several wrong fields names them all."""
    data = {**MINIMAL, "usage": {"input_tokens": "1", "output_tokens": -1}, "tools": "search"}
    with pytest.raises(InvalidEvent) as refused:
        decode(orjson.dumps(envelope(data)))
    paths = {problem.path for problem in refused.value.problems}
    assert paths == {"data.usage.input_tokens", "data.usage.output_tokens", "data.tools"}


def test_bare_structured_json_is_read() -> None:
    """A structured event that a tool sent without a content type is read all the same."""
    assert decode(orjson.dumps(envelope(MINIMAL))).id == "e-1"


def test_extension_attributes_are_allowed() -> None:
    """CloudEvents extension attributes are part of the envelope and no unknown fields."""
    event = decode(orjson.dumps(envelope(MINIMAL, partitionkey="k", sampledrate=3)), STRUCTURED_HEADERS)
    assert event.unknown_fields == 0
