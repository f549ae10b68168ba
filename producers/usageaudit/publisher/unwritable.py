"""Finds what can't be written as JSON in an event, once writing it has failed: names the places, never the values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

from usageaudit.errors import Problem
from usageaudit.events.validation import MAX_DEPTH, MAX_PROBLEMS

SET = "must be a list, not a set, whose order is arbitrary"
_KEYED_BY_SENDER = "labels"


def unwritable(event: Any) -> tuple[Problem, ...]:
    """Return the problems of an event, given as a mapping or a dataclass, with paths such as `data.cost.amount`."""
    return tuple(islice(_walk(event, "data", 0), MAX_PROBLEMS))


def _walk(value: Any, path: str, depth: int) -> Iterator[Problem]:
    if value is None or isinstance(value, bool | int | float):
        return
    if isinstance(value, str):
        if not _is_unicode(value):
            yield Problem(path, "is not valid Unicode text")
    elif depth > MAX_DEPTH:
        yield Problem(path.partition(".")[0], f"nests deeper than {MAX_DEPTH} levels")
    elif children := _children(value, path):
        for name, child in children:
            yield from _walk(child, name, depth + 1)
    elif not isinstance(value, Mapping | list | tuple):
        yield Problem(path, _reason(value))


def _children(value: Any, path: str) -> list[tuple[str, Any]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f"{path}.{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [one for name, child in value.items() for one in _member(path, name, child)]
    if isinstance(value, list | tuple):
        return [(f"{path}[{place}]", child) for place, child in enumerate(value)]
    return []


def _member(path: str, name: Any, child: Any) -> Iterable[tuple[str, Any]]:
    """Return a key that is no proper text, or the value with its path, which holds no key that the sender chose."""
    if isinstance(name, str) and not _is_unicode(name):
        return [(f"{path}[…]", name)]
    if path == f"data.{_KEYED_BY_SENDER}" or not isinstance(name, str):
        return [(f"{path}[…]", child)]
    return [(f"{path}.{name}", child)]


def _reason(value: object) -> str:
    if isinstance(value, Decimal):
        return "must be a decimal number as text, such as '1.5', not a Decimal"
    if isinstance(value, set | frozenset):
        return SET
    return f"can't be written as JSON: {type(value).__name__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
