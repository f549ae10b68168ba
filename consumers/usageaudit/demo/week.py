"""Makes the events of the simulated week: the one in which the code of conduct changed, always the same ones."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from usageaudit.demo.services import SERVICES
from usageaudit.demo.traffic import cost_of, draw_tokens, week_weights
from usageaudit.events.times import to_micros

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from usageaudit.demo.services import Service, Use

SEED = 20240501
WEEK_START = datetime(2024, 4, 29, tzinfo=UTC)
"""A Monday; the change of the first of May falls on the Wednesday."""
_HOUR = 3_600_000_000
_OUTAGE_SERVICE = "support-chat"
_OUTAGE_HOUR = 3 * 24 + 14
"""On Thursday from 14:00 a third of the requests of one service fail."""
_ERRORS = (("rate_limit", "error"), ("timeout", "error"), ("content_filter", "filtered"))


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """An event before it is serialised; `time` in microseconds since 1970."""

    time: int
    source: str
    id: str
    data: dict[str, Any]


def events_of_week(seed: int = SEED) -> list[SimulatedEvent]:
    """Return the events of the week in the order of their times; equal seeds give equal events."""
    events = [event for service in SERVICES for event in _events_of(service, random.Random(f"{seed}/{service.name}"))]  # noqa: S311
    return sorted(events, key=lambda event: (event.time, event.id))


def _events_of(service: Service, rng: Random) -> list[SimulatedEvent]:
    hours = rng.choices(range(168), week_weights(service.rhythm), k=service.events)
    times = sorted(to_micros(WEEK_START) + hour * _HOUR + rng.randrange(_HOUR) for hour in hours)
    sequences = [0] * service.instances
    uses = rng.choices(service.uses, [use.weight for use in service.uses], k=len(times))
    events = []
    for time, use in zip(times, uses, strict=True):
        instance = rng.randrange(service.instances)
        sequences[instance] += 1
        data = _data(service, use, time, rng)
        boot = _uuid7(times[0], random.Random(f"{service.name}/{instance}"))  # noqa: S311  not for secrets
        data["publisher"] = {"instance": boot, "sequence": sequences[instance], "version": "0.1.0"}
        events.append(SimulatedEvent(time, f"//meridian/{service.name}", _uuid7(time, rng), data))
    return events


def _data(service: Service, use: Use, time: int, rng: Random) -> dict[str, Any]:
    data: dict[str, Any] = {
        "operation": use.operation,
        "model": {"provider": use.provider, "name": use.model},
        "actor": {"id": _actor(service, rng), "type": "service" if service.actors == 1 else "user"},
        "application": {"name": service.name, "environment": "production", "team": service.team},
    }
    for path, value in (*service.facts.items(), *use.facts.items()):
        _put(data, path, value)
    data |= _amounts(use, rng)
    data["outcome"] = _outcome(service, time, data["usage"].get("output_tokens", 0), rng)
    if data["outcome"]["status"] != "ok":
        data["usage"].pop("output_tokens", None)
        data.pop("cost")
    data["capture"] = "full"
    return data


def _put(data: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
    data[last] = value


def _actor(service: Service, rng: Random) -> str:
    """Draw who it was: a few use a service much more than the others do."""
    rank = int(service.actors * rng.random() ** 2.2)
    return "u-" + hashlib.sha256(f"{service.name}/{rank}".encode()).hexdigest()[:10]


def _amounts(use: Use, rng: Random) -> dict[str, Any]:
    usage: dict[str, int | float] = {}
    if use.tokens is not None:
        usage["input_tokens"], output = draw_tokens(rng, use.tokens)
        if use.operation != "embeddings":
            usage["output_tokens"] = output
    if use.images:
        usage["images"] = use.images
    if use.audio:
        usage["audio_seconds"] = round(rng.lognormvariate(6.6, 0.7), 1)
    return {"usage": usage, "cost": {"amount": _cost(use.model, usage), "currency": "USD", "source": "local"}}


def _cost(model: str, usage: Mapping[str, int | float]) -> str:
    tokens = int(usage.get("input_tokens", 0)), int(usage.get("output_tokens", 0))
    return cost_of(model, *tokens, int(usage.get("images", 0)), float(usage.get("audio_seconds", 0.0)))


def _outcome(service: Service, time: int, output_tokens: int, rng: Random) -> dict[str, Any]:
    in_outage = service.name == _OUTAGE_SERVICE and (time - to_micros(WEEK_START)) // _HOUR == _OUTAGE_HOUR
    if rng.random() < (0.34 if in_outage else service.failures):
        error, status = ("timeout", "error") if in_outage else rng.choice(_ERRORS)
        return {"status": status, "error_type": error, "latency_ms": round(rng.lognormvariate(8.5, 0.5))}
    latency = 180 + 22 * output_tokens * rng.lognormvariate(0, 0.25) + rng.lognormvariate(4.5, 0.6)
    return {"status": "ok", "finish_reasons": ["stop"], "latency_ms": round(latency)}


def _uuid7(micros: int, rng: Random) -> str:
    """Return a UUIDv7 (RFC 9562) of that time, its random bits drawn from `rng`."""
    bits = (micros // 1000) << 80 | 0x7 << 76 | rng.getrandbits(12) << 64 | 0b10 << 62 | rng.getrandbits(62)
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
