"""A schema with every type, events for it, and the local values that generated code reads."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from usageaudit.policy.language import (
    BOOL,
    DOUBLE,
    INT,
    MAP,
    OBJECTS,
    STRING,
    STRINGS,
    TIMESTAMP,
    Condition,
    Leaf,
    Origin,
    Schema,
    Type,
    check,
    parse,
)
from usageaudit.policy.python import local

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

MEMBERS = {"name": (STRING, True), "score": (DOUBLE, True), "count": (INT, False), "ok": (BOOL, False)} | {
    "word": (STRING, False),
    "tags": (STRINGS, False),
}
TYPES: dict[str, tuple[Type, bool]] = {
    "text.id": (STRING, True),
    "text.a": (STRING, False),
    "text.b": (STRING, False),
    "text.deep.c": (STRING, False),
    "number.i": (INT, False),
    "number.j": (INT, False),
    "number.x": (DOUBLE, False),
    "number.y": (DOUBLE, False),
    "truth.p": (BOOL, False),
    "truth.q": (BOOL, False),
    "list.words": (STRINGS, False),
    "list.more": (STRINGS, False),
    "list.items": (OBJECTS, False),
    "labels": (MAP, False),
    "event.time": (TIMESTAMP, True),
    "record.time": (TIMESTAMP, False),
}


def _leaf(name: str, kind: Type, *, required: bool) -> Leaf:
    members = {n: Leaf(t, r) for n, (t, r) in MEMBERS.items()} if kind == OBJECTS else {}
    return Leaf(kind, required, name, MappingProxyType(members))


SCHEMA = Schema({tuple(name.split(".")): _leaf(name, kind, required=r) for name, (kind, r) in TYPES.items()})
LISTS: Mapping[str, Sequence[bool | int | float | str]] = {
    "words": ["a", "é", "real_time"],
    "numbers": [1, -7, 2**53 + 1],
    "halves": [0.5, 1.0],
    "empty": [],
}

PLAIN = ["", "a", "A", "b", "é", "É", "aé", "a\nb", "İ", "😀", "real_time", "labels", "\x00", "x" * 40]
TIMELIKE = ["2024-05-01T00:00:00Z", "2024-02-30T00:00:00Z", "0001-01-01T00:00:00+01:00", "1h30m", "-1.5s", "1d"]
STRINGS_ = [*PLAIN, *TIMELIKE, "2024-05-01T00:00:00.123456789+05:30"]
INTS = [0, 1, -1, 2, 7, -7, 60, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
DOUBLES = [0.0, -0.0, 0.5, 1.0, -1.5, 7.0, 2.0**53, 1e308, -1e308, 5e-324]
TIMES = [
    0,
    1,
    951_782_399_999_999,
    1_714_521_600_000_000,
    1_711_846_800_000_000,
    1_735_689_599_999_999,
    4_291_747_199_999_999,
]


def condition(
    text: str,
    *,
    schema: Schema = SCHEMA,
    lets: Mapping[str, Condition] | None = None,
    expected: Type | None = BOOL,
) -> Condition:
    """Parse and check a condition against the test's schema."""
    origin = Origin("policy.yaml", 1, 1)
    return check(parse(text, origin=origin), schema, lists=LISTS, lets=lets or {}, expected=expected)


def value(rnd: random.Random, kind: Type, *, missing: float = 0.3) -> Any:
    """Return a random value of a type, None for a missing one."""
    if rnd.random() < missing:
        return None
    choices: dict[Type, list[Any]] = {
        STRING: STRINGS_,
        INT: INTS,
        DOUBLE: DOUBLES,
        BOOL: [True, False],
        TIMESTAMP: TIMES,
    }
    if kind in choices:
        return rnd.choice(choices[kind])
    if kind == STRINGS:
        return [rnd.choice(STRINGS_) for _ in range(rnd.choice([0, 0, 1, 2, 3]))]
    if kind == MAP:
        return {rnd.choice(STRINGS_): rnd.choice(STRINGS_) for _ in range(rnd.choice([0, 1, 2]))}
    return [element(rnd) for _ in range(rnd.choice([0, 1, 1, 2, 3]))]


def element(rnd: random.Random) -> dict[str, Any]:
    """Return a random object of the list `list.items`; a missing member is absent or null."""
    found = {name: value(rnd, kind, missing=0.0 if required else 0.4) for name, (kind, required) in MEMBERS.items()}
    return {name: v for name, v in found.items() if v is not None or rnd.random() < 0.5}


def event(rnd: random.Random) -> dict[str, Any]:
    """Return a random event as nested objects: members absent, null, or below an empty object."""
    whole: dict[str, Any] = {}
    for name, (kind, required) in TYPES.items():
        found = value(rnd, kind, missing=0.0 if required else 0.3)
        if found is None and rnd.random() < 0.5:
            continue
        *parents, last = name.split(".")
        below = whole
        for parent in parents:
            below = below.setdefault(parent, {})
        below[last] = found
    return whole


def locals_of(whole: Mapping[str, Any]) -> dict[str, object]:
    """Return the values of an event as generated code reads them: by local name, objects of lists with attributes."""
    found: dict[str, object] = {}
    for name, (kind, _) in TYPES.items():
        path = tuple(name.split("."))
        below: Any = whole
        for part in path:
            below = None if below is None else below.get(part)
        if kind == OBJECTS and below is not None:
            below = [SimpleNamespace(**{**dict.fromkeys(MEMBERS), **item}) for item in below]
        found[local(path)] = below
    return found
