from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import MINIMAL, envelope, event_data, names, times
from usageaudit.cloudevents import MAX_RECORD_BYTES, STRUCTURED_HEADERS, DecodedEvent, decode, partition_key
from usageaudit.errors import ConfigurationError, InvalidEvent
from usageaudit.events import Actor, Application, Cost, Model, UsageEvent
from usageaudit.events.times import format_time
from usageaudit.publisher.encoder import EventEncoder

ODD_VALUES: list[Any] = [
    *(True, 0, -1, 1.5, 2**63, 2**63 - 1, 10**30, float("nan"), float("inf"), -0.0, 1e308),
    *("", "x", "\ud800", "12.5", None, [], [None], ["a"], ["a", 1], {}, {"a": "b"}, {"a": 1}, {"category": "x"}),
    [{"category": "x", "score": 2}],
]


class Kind(StrEnum):
    CHAT = "chat"


def _encoded(data: Any, **attributes: Any) -> DecodedEvent:
    encoder = EventEncoder("//tests")
    event_id, record = encoder.encode(data, attributes.get("event_id"), attributes.get("moment"))
    event = decode(record.value, record.headers)
    assert (event.id, event.source) == (event_id, "//tests")
    return event


def _plain(event: DecodedEvent) -> Any:
    """Return the data as a JSON object without nulls and without the publisher's stamp."""
    data = json.loads(msgspec.json.encode(event.data))
    data.pop("publisher", None)
    return data


def _paths(data: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in data.items():
        found.append((*prefix, name))
        if isinstance(value, dict):
            found += _paths(value, (*prefix, name))
    return found


def _with(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(data)
    owner = changed
    for step in path[:-1]:
        owner = owner[step]
    owner[path[-1]] = value
    return changed


@given(event_data)
def test_what_is_emitted_is_what_the_consumer_reads(data: dict[str, Any]) -> None:
    """A mapping comes out of the consumer's decoder as the same event would that was never in a publisher."""
    assert _plain(_encoded(data)) == _plain(decode(json.dumps(envelope(data)).encode()))


@given(event_data)
def test_a_dataclass_means_what_the_mapping_means(data: dict[str, Any]) -> None:
    """A UsageEvent gives the same event as the mapping that it was made from."""
    assert _plain(_encoded(msgspec.convert(data, UsageEvent))) == _plain(_encoded(data))


@given(st.data())
def test_what_the_consumer_refuses_is_not_emitted(draw: st.DataObject) -> None:
    """An event with any one value replaced, or a field that nobody knows, is taken if and only if the consumer does."""
    data = draw.draw(event_data)
    path = draw.draw(st.sampled_from([*_paths(data), ("unknown",), ("usage",), ("labels",), ("model", "new")]))
    changed = _with(data, path, draw.draw(st.sampled_from(ODD_VALUES)))
    stamped = {name: value for name, value in changed.items() if name != "publisher"}
    try:
        expected = decode(json.dumps(envelope(stamped)).encode())
    except InvalidEvent:
        with pytest.raises(InvalidEvent):
            _encoded(changed)
        return
    assert _plain(_encoded(changed)) == _plain(expected)


@given(names, times)
def test_id_and_time_are_kept(event_id: str, micros: int) -> None:
    """An id and a time that are given come out as they are, the time as a datetime of any zone and as text."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=45)))
    for given_time in (moment, elsewhere, format_time(micros)):
        event = _encoded(MINIMAL, event_id=event_id, moment=given_time)
        assert (event.id, event.time) == (event_id, micros)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2024, 5, 1),  # noqa: DTZ001  it is what must be refused
        datetime(1960, 1, 1, tzinfo=UTC),
        "2024-05-01",
        "yesterday",
        1_700_000_000,
    ],
)
def test_a_time_must_be_one(moment: Any) -> None:
    """A time without a zone, before 1970 or of another form is refused at its path."""
    with pytest.raises(InvalidEvent) as caught:
        _encoded(MINIMAL, moment=moment)
    assert [problem.path for problem in caught.value.problems] == ["time"]


@pytest.mark.parametrize("event_id", ["", "\ud800", 7])
def test_an_id_must_be_one(event_id: Any) -> None:
    """An id that is empty or no text of Unicode is refused at its path."""
    with pytest.raises(InvalidEvent) as caught:
        _encoded(MINIMAL, event_id=event_id)
    assert [problem.path for problem in caught.value.problems] == ["id"]


@pytest.mark.parametrize("source", ["", None, "\ud800"])
def test_a_source_must_be_one(source: Any) -> None:
    """A publisher without a source is a mistake of configuration."""
    with pytest.raises(ConfigurationError, match="source must name the service"):
        EventEncoder(source)


def test_every_wrong_field_is_named() -> None:
    """All problems of an event are found at once, each with its path below `data`."""
    with pytest.raises(InvalidEvent) as caught:
        _encoded(
            {**MINIMAL, "operation": "", "usage": {"input_tokens": -1, "output_tokens": 1.5}, "cost": {"amount": 1}}
        )
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"data.operation", "data.usage.input_tokens", "data.usage.output_tokens", "data.cost.amount"}


@dataclass
class NoEvent:
    operation: str = "chat"


@pytest.mark.parametrize("event", [None, 7, "chat", b"{}", [], NoEvent(), object(), {1: 2}, {"operation": object()}])
def test_what_is_no_event_is_refused(event: Any) -> None:
    """Whatever is handed over, InvalidEvent is what comes of it."""
    with pytest.raises(InvalidEvent):
        _encoded(event)


def test_a_mapping_that_holds_itself() -> None:
    """An event that can't be written because it is endless is refused."""
    endless: dict[str, Any] = {**MINIMAL}
    endless["labels"] = endless
    with pytest.raises(InvalidEvent):
        _encoded(endless)
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidEvent):
        _encoded({**MINIMAL, "extra": deep})


class Detached:
    """An object of some library that raises what nobody foresees."""

    @property
    def operation(self) -> str:
        raise RuntimeError("secret")

    def __getattr__(self, name: str) -> str:
        raise RuntimeError("secret")


def test_an_event_whose_own_code_raises() -> None:
    """Whatever reading the event raises becomes InvalidEvent, without the text of the error, which may be content."""
    for event in (Detached(), {**MINIMAL, "model": Detached()}):
        with pytest.raises(InvalidEvent) as caught:
            _encoded(event)
        assert "secret" not in str(caught.value)


def test_values_of_related_types() -> None:
    """Mappings, enumerations, tuples and whole numbers for measures are taken; a Decimal is no text and is refused."""
    event = _encoded(
        MappingProxyType({**MINIMAL, "operation": Kind.CHAT, "tools": ("a", "b"), "usage": {"audio_seconds": 3}})
    )
    assert (event.data.operation, event.data.tools, event.data.usage.audio_seconds) == ("chat", ["a", "b"], 3.0)
    with pytest.raises(InvalidEvent, match="Decimal"):
        _encoded({**MINIMAL, "cost": {"amount": Decimal("0.5")}})


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"cost": {"amount": Decimal("1.5")}}, "data.cost.amount", "decimal number as text"),
        ({"actor": {"id": "\ud800"}}, "data.actor.id", "is not valid Unicode text"),
        ({"invented": ["a", "\ud800"]}, "data.invented[1]", "is not valid Unicode text"),
        ({"labels": {"a name": Decimal(1)}}, "data.labels[…]", "Decimal"),
        ({"tools": {"a", "b"}}, "data.tools", "not a set"),
        ({"input": MappingProxyType({"modalities": frozenset({"text"})})}, "data.input.modalities", "not a set"),
        ({"invented": {"when": datetime(2024, 5, 1, tzinfo=UTC)}}, "data.invented.when", "datetime"),
    ],
)
def test_what_json_can_not_hold_is_named(changes: dict[str, Any], path: str, message: str) -> None:
    """A value that can't be written as JSON, or not in a definite order, is refused at its path."""
    with pytest.raises(InvalidEvent) as caught:
        _encoded({**MINIMAL, **changes})
    (problem,) = caught.value.problems
    assert problem.path == path
    assert message in problem.message


def test_a_set_in_a_dataclass_is_refused() -> None:
    """What holds for mappings holds for a UsageEvent."""
    tools: Any = {"a"}
    event = dataclasses.replace(msgspec.convert(MINIMAL, UsageEvent), tools=tools)
    with pytest.raises(InvalidEvent, match=r"data\.tools: must be a list"):
        _encoded(event)


@pytest.mark.parametrize("event", ["x", 7, None, UsageEvent])
def test_what_can_be_passed_is_said(event: Any) -> None:
    """Whoever passes something else is told what an event is."""
    with pytest.raises(InvalidEvent, match="must be a UsageEvent or a mapping"):
        _encoded(event)


def test_fields_that_nobody_knows_are_kept() -> None:
    """A field of a later version goes to the stream as it is, and is counted by the consumer."""
    record = EventEncoder("//tests").encode({**MINIMAL, "invented": {"a": [1]}}, None, None)[1]
    assert record.value is not None
    assert json.loads(record.value)["data"]["invented"] == {"a": [1]}
    assert decode(record.value, record.headers).unknown_fields == 1


def test_the_stamp() -> None:
    """Events carry the instance, consecutive numbers from 1 and the version; what the service put there is replaced."""
    encoder = EventEncoder("//tests")
    mine = {**MINIMAL, "publisher": {"instance": "mine", "sequence": 99}}
    stamps = [decode(encoder.encode(mine, None, None)[1].value).data.publisher for _ in range(3)]
    assert [stamp.sequence for stamp in stamps] == [1, 2, 3]
    assert {stamp.instance for stamp in stamps} == {encoder.instance}
    assert all(stamp.version for stamp in stamps)
    assert EventEncoder("//tests").instance != encoder.instance


def test_a_refused_event_leaves_no_gap() -> None:
    """Numbers are given to events that are valid only, or a mistake of the service would look like a loss."""
    encoder = EventEncoder("//tests")
    for wrong in ({}, {**MINIMAL, "unknown": "\ud800"}, {**MINIMAL, "labels": {"a": "x" * MAX_RECORD_BYTES}}):
        with pytest.raises(InvalidEvent):
            encoder.encode(wrong, None, None)
    assert decode(encoder.encode(MINIMAL, None, None)[1].value).data.publisher.sequence == 1


def test_the_longest_event() -> None:
    """An event is taken up to the size that the consumer takes, and the size is named beyond."""
    encoder = EventEncoder("//tests")
    with pytest.raises(InvalidEvent, match="more than 1,000,000"):
        encoder.encode({**MINIMAL, "labels": {"a": "x" * MAX_RECORD_BYTES}}, None, None)
    record = encoder.encode({**MINIMAL, "labels": {"a": "x" * (MAX_RECORD_BYTES - 1_000)}}, None, None)[1]
    assert len(record.value or b"") <= MAX_RECORD_BYTES


def test_nothing_empty_is_sent() -> None:
    """Fields that a UsageEvent leaves out are absent from the record, not null."""
    event = UsageEvent(
        operation="chat",
        model=Model(provider="openai", name="gpt-4o"),
        actor=Actor(id="u-1"),
        application=Application(name="claims"),
        cost=Cost(amount="0.1"),
    )
    record = EventEncoder("//tests").encode(event, "e-1", "2024-05-01T00:00:00Z")[1]
    assert record.value is not None
    assert b"null" not in record.value
    assert (record.key, record.headers) == (partition_key("//tests", "e-1"), STRUCTURED_HEADERS)
