"""Says what is wrong with an event, and where.

pydantic is the authority on validity; it is asked when msgspec refuses an event.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from usageaudit.errors import Problem
from usageaudit.events.model import UsageEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import TypeAdapter

MAX_DEPTH = 64
MAX_PROBLEMS = 20


@cache
def adapter(owner: type) -> TypeAdapter[Any]:
    """Return pydantic's strict reading of a dataclass of the event.

    Imported here because a service that only publishes well-formed events never needs it.
    """
    from pydantic import ConfigDict, TypeAdapter

    _configure(owner, ConfigDict(strict=True, extra="ignore", allow_inf_nan=False))
    return TypeAdapter(owner)


def _configure(owner: Any, config: Mapping[str, Any]) -> None:
    owner.__pydantic_config__ = config
    for hint in get_type_hints(owner).values():
        for part in (hint, *get_args(hint), *(inner for outer in get_args(hint) for inner in get_args(outer))):
            if isinstance(part, type) and dataclasses.is_dataclass(part):
                _configure(part, config)


def problems_in(owner: type, json: bytes, prefix: str = "") -> tuple[Problem, ...]:
    """Return every problem of a JSON text as `owner`, in the order of its fields; none where it is valid."""
    from pydantic import ValidationError

    try:
        adapter(owner).validate_json(json)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = (Problem(_path(prefix, one["loc"]), _message(one["type"], one["msg"])) for one in found)
        return tuple(islice(dict.fromkeys(problems), MAX_PROBLEMS))
    return ()


def _path(prefix: str, location: Sequence[int | str]) -> str:
    """Return a problem's path without keys that the sender chose, since one may be a person's name."""
    path = prefix
    for place, step in enumerate(location, 1):
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
            if step in _keyed_by_sender():
                return path if place == len(location) else f"{path}[…]"
    return path


@cache
def _keyed_by_sender() -> frozenset[str]:
    """Return the names of the event's fields that are objects with any keys."""
    return frozenset(
        field.name
        for field, hint in _hints(UsageEvent)
        if any(get_origin(part) is dict for part in (hint, *get_args(hint)))
    )


def _message(kind: str, text: str) -> str:
    return "is required" if kind == "missing" else text[:1].lower() + text[1:]


def depth_exceeds(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Tell whether JSON that was read nests deeper than `limit` levels of objects and lists."""
    level = [value]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def count_unknown(value: Any, owner: type = UsageEvent) -> int:
    """Return how many fields of a valid event's data the definition does not know."""
    parts = {field.name: _dataclass_in(hint) for field, hint in _hints(owner)}
    unknown = 0
    for name, child in value.items():
        if name not in parts:
            unknown += 1
        elif (part := parts[name]) is not None:
            children = child if isinstance(child, list) else [child]
            unknown += sum(count_unknown(one, part) for one in children if isinstance(one, dict))
    return unknown


@cache
def _hints(owner: type) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    hints = get_type_hints(owner)
    return tuple((field, hints[field.name]) for field in dataclasses.fields(owner))


def _dataclass_in(hint: Any) -> type | None:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    return next((found for part in get_args(hint) if (found := _dataclass_in(part))), None)
