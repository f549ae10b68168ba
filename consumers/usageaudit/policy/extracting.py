"""Writes the code that reads fields of an event into local names: each parent once, each missing parent one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.policy.python import local
from usageaudit.policy.schema import DECIMALS, EVENT_ID, EVENT_TIME, RECORD_TIME, SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.policy.language import Path

PARAMETERS: dict[Path, str] = {EVENT_TIME: "time", RECORD_TIME: "record_time", SOURCE: "source", EVENT_ID: "event_id"}
"""What the generated function is given beside the data."""
APPLICATION: Path = ("application", "name")
_NEVER_NONE = frozenset(leaf.path[:end] for leaf in EVENT_FIELDS if leaf.required for end in range(1, len(leaf.path)))


def extraction(paths: Iterable[Path]) -> list[str]:
    """Return the lines that give each path its local name, from `data` and the parameters of the function.

    The lines also use `registered`, a function from an application's name to its registry entry.
    """
    wanted = sorted(set(paths))
    fields = [path for path in wanted if path not in PARAMETERS and path[0] != "registry"]
    entries = [path for path in wanted if path[0] == "registry"]
    lines = [f"{local(path)} = {name}" for path, name in PARAMETERS.items() if path in wanted]
    lines += _object((), "data", fields)
    if entries:
        lines.append(f"entry = registered(data.{'.'.join(APPLICATION)}, not_registered)")
        lines += [f"{local(path)} = entry.{path[1]}" for path in entries]
    return lines


def _object(prefix: Path, name: str, paths: list[Path]) -> list[str]:
    """Return the lines for everything below an object that is there, under a local name."""
    lines: list[str] = []
    depth = len(prefix)
    for path in paths:
        if len(path) == depth + 1:
            lines += _leaf(path, f"{name}.{path[-1]}")
    for child in dict.fromkeys(path[: depth + 1] for path in paths if len(path) > depth + 1):
        below = [path for path in paths if path[: depth + 1] == child and len(path) > depth + 1]
        inner = "o_" + "_".join(child)
        lines.append(f"{inner} = {name}.{child[-1]}")
        code = _object(child, inner, below)
        if child in _NEVER_NONE:
            lines += code
        else:
            lines.append(f"if {inner} is None:")
            lines.append("    " + " = ".join(map(local, below)) + " = None")
            lines.append("else:")
            lines += [f"    {line}" for line in code]
    return lines


def _leaf(path: Path, code: str) -> list[str]:
    lines = [f"{local(path)} = {code}"]
    if path in DECIMALS:
        lines.append(f"if {local(path)} is not None: {local(path)} = float({local(path)})")
    return lines
