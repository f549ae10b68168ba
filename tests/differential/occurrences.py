"""Random usage events, as records of a stream: valid ones, with whatever may be missing, null or empty sometimes so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.differential import pools
from usageaudit.cloudevents import decode, encode_structured
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.events.times import MAX_TIME
from usageaudit.streams.port import Record

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from usageaudit.events.fields import EventField

_LATEST_MS = MAX_TIME // 1000 - 1


@dataclass(frozen=True, slots=True)
class Sample:
    """An event before it is encoded: its data as JSON, its time in microseconds, that of its record in milliseconds."""

    data: Mapping[str, Any]
    time: int
    record_time: int | None
    source: str
    event_id: str

    def record(self, offset: int) -> Record:
        """Return the stream record of the event; the decoder takes it."""
        data = json.dumps(self.data, ensure_ascii=False).encode()
        value = encode_structured(event_id=self.event_id, source=self.source, time=self.time, data=data)
        decode(value)
        return Record(offset, self.record_time, value, ())


def samples(rnd: random.Random, count: int) -> list[Sample]:
    """Return events that differ in their ids; the last fifth of them say little, as most events of a real ledger do."""
    return [_sample(rnd, f"{_text(rnd)}#{number}", 0.2 if number < count * 0.8 else 0.95) for number in range(count)]


def _sample(rnd: random.Random, event_id: str, missing: float) -> Sample:
    time = _time(rnd)
    close = max(0, min(_LATEST_MS, time // 1000 + rnd.choice((-3_600_001, -3_600_000, 0, 1, 3_600_000, 90_000_000))))
    record_time = rnd.choice((None, close, close, close, rnd.choice(pools.RECORD_TIMES)))
    data = _object(rnd, EVENT_FIELDS, missing)
    if rnd.random() < 0.1:
        data["unheard_of"] = {"by": ["the definition", None]}
    return Sample(data, time, record_time, _text(rnd) or "//s", event_id)


def _time(rnd: random.Random) -> int:
    near = rnd.choice(pools.MOMENTS) + rnd.choice((0, 0, -1, 1, 1_000, -60_000_000, 3_600_000_000))
    return max(0, min(MAX_TIME - 1, rnd.choice((near, near, near, rnd.randrange(MAX_TIME)))))


def _object(rnd: random.Random, fields: Sequence[EventField], missing: float, depth: int = 0) -> dict[str, Any]:
    """Return an object with all that is required; of the rest a share is missing, or null."""
    whole: dict[str, Any] = {}
    for name in dict.fromkeys(field.path[depth] for field in fields):
        below = [field for field in fields if field.path[depth] == name]
        if not any(field.required for field in below) and rnd.random() < missing:
            if rnd.random() < 0.4:
                whole[name] = None
            continue
        if len(below[0].path) == depth + 1:
            whole[name] = _value(rnd, below[0])
        else:
            # An object may be there and say nothing.
            required = [field for field in below if field.required]
            whole[name] = _object(rnd, below if rnd.random() < 0.9 else required, missing, depth + 1)
    return whole


def _text(rnd: random.Random) -> str:
    drawn = rnd.random()
    if drawn < 0.62:
        return rnd.choice(pools.WORDS)
    if drawn < 0.66:
        return pools.any_text(rnd)
    if drawn < 0.8:
        return rnd.choice(pools.ODD_TEXTS)
    return rnd.choice(pools.TIME_TEXTS if drawn < 0.9 else pools.DURATION_TEXTS)


def _number(rnd: random.Random, values: Sequence[float], field: EventField) -> float:
    """Return a double, sometimes written as a whole number."""
    value = rnd.choice(values) if field.required or rnd.random() < 0.7 else pools.any_double(rnd)
    return int(value) if value.is_integer() and rnd.random() < 0.3 else value


def _value(rnd: random.Random, field: EventField) -> Any:
    match field.kind:
        case "string":
            return _text(rnd) or ("a" if field.required else "")
        case "int":
            return rnd.choice((rnd.choice(pools.INTS), rnd.choice(pools.INTS), pools.any_int(rnd)))
        case "double":
            return _number(rnd, (*pools.SCORES, rnd.random()) if field.required else pools.MEASURES, field)
        case "bool":
            return rnd.random() < 0.5
        case "decimal":
            return rnd.choice((rnd.choice(pools.AMOUNTS), pools.any_amount(rnd)))
        case "strings":
            return [_text(rnd) for _ in range(rnd.choice((0, 1, 1, 2, 3)))]
        case "map":
            return {rnd.choice(pools.KEYS): _text(rnd) for _ in range(rnd.choice((0, 1, 2, 3)))}
        case "objects":
            return [_object(rnd, field.members, 0.2) for _ in range(rnd.choice((0, 1, 2, 2, 3)))]
