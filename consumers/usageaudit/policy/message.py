"""The message and the evidence of a violation, filled in from the event."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from usageaudit.policy.schema import shown_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usageaudit.policy.language import Path
    from usageaudit.policy.schema import Occurrence

UNKNOWN = "unknown"
MAX_VALUE = 200
"""How much of a value a message shows, in characters."""
MAX_EVIDENCE = 2_000
"""How much of a text evidence keeps, in characters, and how many elements of a list."""

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
"""`{{` and `}}` stand for braces; a brace alone is a mistake."""


@dataclass(frozen=True, slots=True)
class Message:
    """A text with placeholders: `parts` are texts and paths in turn."""

    parts: tuple[str | Path, ...]

    def fill(self, values: Mapping[Path, Any]) -> str:
        """Return the text with values, `unknown` for those that are not there."""
        return "".join(part if isinstance(part, str) else _text(values.get(part)) for part in self.parts)

    @property
    def text(self) -> str:
        """The text with placeholders, as it was written."""
        return "".join(
            part.replace("{", "{{").replace("}", "}}") if isinstance(part, str) else f"{{{'.'.join(part)}}}"
            for part in self.parts
        )


class EventMessage:
    """A message about one event."""

    def __init__(self, message: Message) -> None:
        self._parts = [part if isinstance(part, str) else shown_of(part) for part in message.parts]

    def of(self, event: Occurrence) -> str:
        """Return the text with the event's values, `unknown` for those it does not have."""
        return "".join([part if isinstance(part, str) else _text(part(event)) for part in self._parts])


class Evidence:
    """The fields of an event that a violation keeps."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._readers = [(".".join(path), shown_of(path)) for path in paths]

    def of(self, event: Occurrence) -> str:
        """Return a JSON object of dotted paths and their values, null for those that the event does not have."""
        if not self._readers:
            return "{}"
        return orjson.dumps({name: _bounded(read(event)) for name, read in self._readers}).decode()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value if len(value) <= MAX_VALUE else value[: MAX_VALUE - 1] + "…"
    if value is None:
        return UNKNOWN
    if isinstance(value, list | tuple):
        text = ", ".join(map(str, value)) or "none"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def _bounded(value: Any) -> Any:
    """Cut what is long, so that one event can't fill the ledger once for every policy it violates."""
    if isinstance(value, str):
        return value if len(value) <= MAX_EVIDENCE else value[: MAX_EVIDENCE - 1] + "…"
    if isinstance(value, list | tuple):
        return [_bounded(one) for one in value[:MAX_EVIDENCE]]
    if isinstance(value, dict):
        return {key: _bounded(one) for key, one in list(value.items())[:MAX_EVIDENCE]}
    return value
