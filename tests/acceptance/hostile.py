"""A corpus of hostile records, the same for the same seed: of each class some, each with what has to become of it."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.strategies import MINIMAL, envelope
from usageaudit.events import EVENT_TYPE
from usageaudit.events.fields import EVENT_FIELDS, EventField

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Headers = list[tuple[str, bytes]]
BOMB_BYTES = 16 * 1024 * 1024
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202e"
"""What would set a terminal's title, clear it, colour it and turn its writing around."""
_STRUCTURED: Headers = [("content-type", b"application/cloudevents+json")]
_ATTRIBUTES = ("specversion", "id", "source", "type", "time")


@dataclass(frozen=True, slots=True)
class Hostile:
    """A record; `status` is what it has to become, `path` how the path of its error begins."""

    kind: str
    value: bytes | None
    status: str = "rejected"
    path: str = ""
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def is_bomb(self) -> bool:
        """Whether it is small only as long as it is compressed."""
        return self.kind == "bomb"


def corpus(count: int, seed: int = 5) -> Iterator[Hostile]:
    """Yield so many records, class after class; the ones that are large come rarely."""
    rnd = random.Random(seed)
    for number in range(count):
        makers = _LARGE if number % 50 == 49 else _SMALL
        make = makers[(number // 50 if makers is _LARGE else number - number // 50) % len(makers)]
        yield make(rnd, f"h-{seed}-{number}")


def _event(name: str, data: dict[str, Any] | None = None, **attributes: object) -> dict[str, Any]:
    return envelope(data or MINIMAL, **{"id": name, "source": "//hostile", **attributes})


def _bytes(event: object) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _at(path: Sequence[str], value: object) -> dict[str, Any]:
    """Return the smallest data with any value at a path."""
    data = copy.deepcopy(MINIMAL)
    owner = data
    for step in path[:-1]:
        owner = owner.setdefault(step, {})
    owner[path[-1]] = value
    return data


def _of_kind(rnd: random.Random, *kinds: str) -> EventField:
    return rnd.choice([field for field in EVENT_FIELDS if field.kind in kinds])


def _wrong_type(rnd: random.Random, name: str) -> Hostile:
    field = rnd.choice(EVENT_FIELDS)
    wrong: dict[str, list[object]] = {
        "string": [1, True, [], {}, [ESCAPE]],
        "int": ["1", 1.5, True, [], {}],
        "double": ["1.0", True, [], {}, ESCAPE],
        "bool": [0, 1, "true", []],
        "decimal": [1, 1.5, True, {}],
        "strings": ["text", {}, 1, [1], [None], [[]]],
        "objects": ["text", {}, [1], [None], [[]], [{"category": ESCAPE, "categories": 1}]],
        "map": [[], "text", {"key": 1}, {ESCAPE: None}, {"key": {}}],
    }
    value = rnd.choice(wrong[field.kind])
    return Hostile("wrong type", _bytes(_event(name, _at(field.path, value))), path=f"data.{field.name}")


def _wrong_parent(rnd: random.Random, name: str) -> Hostile:
    path = rnd.choice([field.path[:-1] for field in EVENT_FIELDS if len(field.path) > 1])
    value = rnd.choice([1, "text", True, [], [{}], 1.5])
    return Hostile("wrong parent", _bytes(_event(name, _at(path, value))), path="data." + ".".join(path))


def _missing(rnd: random.Random, name: str) -> Hostile:
    path = rnd.choice([field.path for field in EVENT_FIELDS if field.required])
    return Hostile("missing", _bytes(_event(name, _at(path, None))), path="data." + ".".join(path))


def _big_integer(rnd: random.Random, name: str) -> Hostile:
    field = _of_kind(rnd, "int")
    digits = rnd.choice([str(2**63), str(2**64), str(-(2**63)), "-1", "1" + "0" * 40, "9" * 4000])
    text = _bytes(_event(name, _at(field.path, 424242))).replace(b"424242", digits.encode())
    return Hostile("big integer", text, path=f"data.{field.name}" if len(digits) < 300 else "")


def _not_finite(rnd: random.Random, name: str) -> Hostile:
    field = _of_kind(rnd, "double")
    text = _bytes(_event(name, _at(field.path, 424242)))
    return Hostile("not finite", text.replace(b"424242", rnd.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999"])))


def _amount(rnd: random.Random, name: str) -> Hostile:
    value = rnd.choice(["NaN", "1e5", "1,5", "0x1", "1.0000000001", "12345678901", "", " 1", "1\n", "١"])  # noqa: RUF001
    return Hostile("amount", _bytes(_event(name, _at(("cost", "amount"), value))), path="data.cost.amount")


def _nested(rnd: random.Random, name: str) -> Hostile:
    depth = rnd.choice([65, 100, 1_000, 10_000])
    opened, closed = rnd.choice([("[", "]"), ('{"a":', "}")])
    text = _bytes(_event(name, {**MINIMAL, "x": 424242}))
    middle = b"1" if opened != "[" else b""
    return Hostile("nested", text.replace(b"424242", opened.encode() * depth + middle + closed.encode() * depth))


def _invalid_utf8(rnd: random.Random, name: str) -> Hostile:
    text = _bytes(_event(name, {**MINIMAL, "labels": {"note": "424242"}}))
    wrong = rnd.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf", b"\x9b31m"])
    return Hostile("invalid UTF-8", text.replace(b"424242", wrong))


def _surrogate(rnd: random.Random, name: str) -> Hostile:
    text = _bytes(_event(name, {**MINIMAL, "labels": {"note": "424242"}}))
    return Hostile("surrogate", text.replace(b"424242", rnd.choice([b"\\ud800", b"\\udc00x", b"\\ud800\\ud800"])))


def _raw_control(rnd: random.Random, name: str) -> Hostile:
    text = _bytes(_event(name, {**MINIMAL, "labels": {"note": "424242"}}))
    return Hostile(
        "control character", text.replace(b"424242", bytes([rnd.choice([0, 7, 8, 10, 13, 27, 31])]) + b"[2J")
    )


def _escaped_control(rnd: random.Random, name: str) -> Hostile:
    place = rnd.choice(["actor", "labels", "application"])
    data = {**MINIMAL, "labels": {ESCAPE: ESCAPE}} if place == "labels" else _at((place, "id"), ESCAPE)
    data["application"] = {"name": f"app{ESCAPE}"}
    return Hostile("escape sequence", json.dumps(_event(name, data)).encode(), "accepted")


def _version(rnd: random.Random, name: str) -> Hostile:
    kind = rnd.choice(["io.usageaudit.model_usage.v2", "", "IO.USAGEAUDIT.MODEL_USAGE.V1", EVENT_TYPE + " ", ESCAPE])
    if rnd.random() < 0.3:
        version = rnd.choice(["0.3", "1.0.2", "2.0", ESCAPE])
        return Hostile("unknown version", _bytes(_event(name, specversion=version)), path="specversion")
    return Hostile("unknown version", _bytes(_event(name, type=kind)), path="type")


def _no_event(rnd: random.Random, name: str) -> Hostile:
    del name
    values = [None, b"", b" ", b"null", b"[]", b"{}", b'""', b"1", b"true", b"{", b"\xef\xbb\xbf{}", b"\x00" * 100]
    values += [rnd.randbytes(200), ESCAPE.encode(), b'{"specversion"', b"\x1f\x8b\x08\x00" + rnd.randbytes(60)]
    return Hostile("no event", rnd.choice(values))


def _cut_off(rnd: random.Random, name: str) -> Hostile:
    text = _bytes(_event(name))
    return Hostile("cut off", text[: rnd.randrange(1, len(text))])


def _content_type(rnd: random.Random, name: str) -> Hostile:
    kinds = [
        b"application/cloudevents+avro",
        b"application/cloudevents-batch+json",
        b"application/cloudevents+protobuf",
    ]
    return Hostile(
        "content type", _bytes(_event(name)), path="content-type", headers=[("content-type", rnd.choice(kinds))]
    )


def _binary(event: dict[str, Any]) -> Headers:
    return [(f"ce_{name}", str(event[name]).encode()) for name in _ATTRIBUTES]


def _mixed_modes(rnd: random.Random, name: str) -> Hostile:
    event = _event(name)
    headers, data = _binary(event), _bytes(event["data"])
    lacking = rnd.randrange(len(headers))
    wrong = ("ce_id", b"\xff\xfe")
    return rnd.choice(
        [
            Hostile("modes", data, path=_ATTRIBUTES[lacking], headers=headers[:lacking] + headers[lacking + 1 :]),
            Hostile("modes", data, path="header ce_id", headers=[wrong, *headers[:1], *headers[2:]]),
            Hostile("modes", _bytes(event), path="data.", headers=headers),
            Hostile("modes", data, path="datacontenttype", headers=[*headers, ("content-type", b"text/xml")]),
            Hostile("modes", data, path="specversion", headers=_STRUCTURED + headers),
            Hostile("modes", None, headers=headers),
            Hostile("modes", data, "accepted", headers=headers),
            Hostile("modes", _bytes(event), "accepted", headers=_STRUCTURED + _binary(_event("another"))),
        ]
    )


def _repeated_keys(rnd: random.Random, name: str) -> Hostile:
    text = _bytes(_event(name))
    again = rnd.choice([b'"source": "//hostile"', b'"type": "other"', b'"data": []', b'"id": 1'])
    wins = again.startswith(b'"source"')
    return Hostile("repeated keys", text[:-1] + b", " + again + b"}", "accepted" if wins else "rejected")


def _time(rnd: random.Random, name: str) -> Hostile:
    times = [
        *("1969-12-31T23:59:59Z", "2106-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2016-12-31T23:59:60Z"),
        *("2024-02-30T00:00:00Z", "2023-02-29T00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00+25:00"),
        *("2024-01-01T00:00:00", "2024-01-01 00:00:00Z", "yesterday", "", "1714555800", "2024-01-01", ESCAPE),
        *("٢٠٢٤-01-01T00:00:00Z", "2024-01-01T00:00:00.Z", "1970-01-01T00:00:00+00:01"),
    ]
    return Hostile("time", _bytes(_event(name, time=rnd.choice(times))), path="time")


def _odd_but_true(rnd: random.Random, name: str) -> Hostile:
    events = [
        _event(name, time="2024-01-01T00:00:00." + "1" * 5000 + "+23:59"),
        _event(name, {**MINIMAL, "x": 0, "y": [[]], "": {"": ""}}),
        _event(name, {**MINIMAL, "usage": None, "labels": {"": "", "\x00": "\x00"}}),
        _event(name, source="/" * 5000, partitionkey=""),
        _event(name, {**MINIMAL, "constructor": {"__proto__": 1}, "$ref": "file:///etc/passwd"}),
    ]
    return Hostile("odd but true", json.dumps(rnd.choice(events)).encode(), "accepted")


def _too_large(rnd: random.Random, name: str) -> Hostile:
    text = _bytes(_event(name, {**MINIMAL, "labels": {"note": ""}}))
    filling = b"x" * (rnd.choice([1_000_001, 1_040_000]) - len(text))
    return Hostile("1 MiB", text.replace(b'"note": ""', b'"note": "' + filling + b'"'))


def _long(rnd: random.Random, name: str) -> Hostile:
    data: dict[str, Any] = {**MINIMAL, "labels": {"note": "é" * 300_000}}
    if rnd.random() < 0.6:
        data = {**MINIMAL, "tools": ["t"] * 100_000, "labels": {str(n): "" for n in range(20_000)}}
    if rnd.random() < 0.5:
        data["content"] = {"signals": [{"category": "c", "score": 0.5}] * 5_000 + [{"category": "c"}]}
        return Hostile("long", _bytes(_event(name, data)), path="data.content.signals[5000].score")
    return Hostile("long", _bytes(_event(name, data)), "accepted")


def _huge_headers(rnd: random.Random, name: str) -> Hostile:
    many = [(f"x-{number}{ESCAPE}", ESCAPE.encode()) for number in range(2_000)]
    headers = rnd.choice(
        [many, [("x", b"y" * 900_000)], [("x" * 100_000, b"")], [("traceparent", b"\xff" * 1000)] * 300]
    )
    if rnd.random() < 0.5:
        return Hostile("huge headers", b"{}", path="specversion", headers=headers)
    return Hostile("huge headers", _bytes(_event(name)), "accepted", headers=[*_STRUCTURED, *headers])


def _bomb(rnd: random.Random, name: str) -> Hostile:
    del name
    return Hostile("bomb", rnd.choice([b" ", b"[", b"\x00"]) * BOMB_BYTES)


_SMALL: tuple[Callable[[random.Random, str], Hostile], ...] = (
    *(_wrong_type, _wrong_parent, _missing, _big_integer, _not_finite, _amount, _nested, _invalid_utf8, _surrogate),
    *(_raw_control, _escaped_control, _version, _no_event, _cut_off, _content_type, _mixed_modes, _repeated_keys),
    *(_time, _odd_but_true, _wrong_type, _wrong_type),
)
_LARGE: tuple[Callable[[random.Random, str], Hostile], ...] = (_too_large, _long, _huge_headers, _bomb, _long)
