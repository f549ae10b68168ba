"""Takes a YAML mapping apart by the names it may have, reporting whatever is missing, unknown or of the wrong type."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from usageaudit.events.times import to_micros
from usageaudit.policy.report import did_you_mean
from usageaudit.policy.yamltree import Mapping, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.policy.report import Report
    from usageaudit.policy.yamltree import Node

S = TypeVar("S", bound=str)
Number = int | float

_LISTED = 30
"""How many known names a hint lists."""
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})", re.ASCII)
_FLOAT = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_SHORT_FLOAT = re.compile(r"([-+]?[0-9]+)(?:\.([0-9]*))?[eE]([-+]?)([0-9]{1,3})", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)
_MEANT = {
    "bool": "YAML reads it as true or false: put it in quotes",
    "int": "YAML reads it as a number: put it in quotes",
    "float": "YAML reads it as a number: put it in quotes",
    "null": "YAML reads it as nothing: put it in quotes",
}


class Fields:
    """The entries of a mapping, read one by one; what is wrong is reported, and reading goes on with a default."""

    def __init__(self, node: Node | None, what: str, known: Iterable[str], report: Report) -> None:
        self.report = report
        self.node = node
        self._what = what
        self._entries = dict(self._checked(node, frozenset(known)))

    def _checked(self, node: Node | None, known: frozenset[str]) -> Iterable[tuple[str, Node]]:
        if not isinstance(node, Mapping):
            if node is not None:
                of = f", of {', '.join(sorted(known))}" if len(known) <= _LISTED else ""
                self.report.error(node.place, f"{self._what} is a mapping{of}")
            return
        for key, value in node.entries:
            if key.text in known:
                yield key.text, value
            else:
                there = f"there are {', '.join(sorted(known))}" if len(known) <= _LISTED else ""
                hint = did_you_mean(key.text, known) or there
                self.report.error(key.place, f"unknown key {key.text[:60]} in {self._what}", hint)

    def names(self) -> Iterable[str]:
        """Return the keys that are there and known."""
        return self._entries

    def node_of(self, name: str, *, required: bool = False) -> Node | None:
        """Return the value of a key, None where it is absent or null."""
        node = self._entries.get(name)
        if isinstance(node, Scalar) and node.tag == "null":
            node = None
        if node is None and required and isinstance(self.node, Mapping):
            self.report.error(self.node.place, f"{self._what} needs {name}")
        return node

    def text(self, name: str, *, required: bool = False) -> str:
        """Return a text, empty where it is absent."""
        return text_of(self.node_of(name, required=required), name, self.report) or ""

    def scalar(self, name: str, *, required: bool = False) -> Scalar | None:
        """Return a text with its place, as conditions need it."""
        node = self.node_of(name, required=required)
        text = text_of(node, name, self.report)  # reports a list or a mapping, too, which would vanish otherwise
        return node if isinstance(node, Scalar) and text is not None else None

    def choice(self, name: str, choices: Iterable[S], default: S, *, required: bool = False) -> S:
        """Return one of a few words."""
        node = self.node_of(name, required=required)
        text = text_of(node, name, self.report)
        found = next((choice for choice in choices if choice == text), None)
        if text is not None and found is None and node is not None:
            hint = did_you_mean(text, choices)
            self.report.error(node.place, f"{name} is one of {', '.join(choices)}", hint)
        return default if found is None else found

    def flag(self, name: str) -> bool:
        """Return true or false, false where it is absent."""
        node = self.node_of(name)
        if node is not None and not (isinstance(node, Scalar) and node.text in ("true", "false") and not node.style):
            self.report.error(node.place, f"{name} is true or false")
        return isinstance(node, Scalar) and node.text == "true"

    def integer(self, name: str, default: int, *, least: int) -> int:
        """Return an integer."""
        node = self.node_of(name)
        value = number_of(node, name, self.report) if node is not None else default
        if node is not None and value is not None and (not isinstance(value, int) or not least <= value < 2**31):
            self.report.error(node.place, f"{name} is a whole number from {least} on")
            return default
        return value if isinstance(value, int) else default

    def time(self, name: str, *, required: bool = False, end_of_day: bool = False) -> int | None:
        """Return a time in microseconds since 1970; a bare date is its beginning in UTC, or its end."""
        node = self.node_of(name, required=required)
        text = text_of(node, name, self.report)
        if node is None or text is None:
            return None
        try:
            return parse_moment(text, end_of_day=end_of_day)
        except ValueError as error:
            self.report.error(node.place, f"{name} {error}")
            return None

    def items(self, name: str, *, required: bool = False) -> tuple[Node, ...]:
        """Return the elements of a list, none where it is absent."""
        node = self.node_of(name, required=required)
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            self.report.error(node.place, f"{name} is a list", f"write - before each entry of {name}")
            return ()
        return node.items

    def texts(self, name: str, *, required: bool = False) -> tuple[Scalar, ...]:
        """Return the texts of a list with their places."""
        return texts_of(self.items(name, required=required), name, self.report)

    def duration(self, name: str, *, required: bool = False) -> int:
        """Return a duration such as 24h or 1d12h in microseconds, 0 where it is absent."""
        node = self.node_of(name, required=required)
        text = text_of(node, name, self.report)
        if node is None or text is None:
            return 0
        micros = span(text)
        if micros is None:
            self.report.error(node.place, f"{name} is a duration such as 30m, 24h or 7d")
        return micros or 0


def span(text: str) -> int | None:
    """Return the microseconds of a text such as 24h or 1d12h, None for any other text."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in found.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000


def text_of(node: Node | None, name: str, report: Report) -> str | None:
    """Return the text of a scalar; None, and reported, for anything else. A date without quotes is its own text."""
    if node is None:
        return None
    if not isinstance(node, Scalar):
        report.error(node.place, f"{name} is a text, not a {_called(node)}")
        return None
    if node.tag in _MEANT:
        report.error(node.place, f"{name} is a text, and {node.text[:60] or 'nothing'} is none", _MEANT[node.tag])
        return None
    if not node.text.strip():
        report.error(node.place, f"{name} is empty")
        return None
    return node.text


def texts_of(nodes: Iterable[Node], name: str, report: Report) -> tuple[Scalar, ...]:
    """Return those nodes that are texts; others are reported."""
    texts = ((node, text_of(node, f"an entry of {name}", report)) for node in nodes)
    return tuple(node for node, text in texts if text is not None and isinstance(node, Scalar))


def number_of(node: Node, name: str, report: Report) -> Number | None:
    """Return a number in decimal notation; None, and reported, for anything else."""
    if isinstance(node, Scalar) and node.tag in ("int", "float"):
        if _INT.fullmatch(node.text) and -(2**63) <= int(node.text) < 2**63:
            return int(node.text)
        if node.tag == "float" and _FLOAT.fullmatch(node.text) and abs(float(node.text)) < float("inf"):
            return float(node.text)
        report.error(node.place, f"{node.text[:60]} is no number in decimal notation", "a text needs quotes here")
        return None
    report.error(node.place, f"{name} is a number")
    return None


def as_number(node: Node) -> str:
    """Return how to write a number that YAML 1.1 takes for a text, such as 1e-9; an empty string for anything else."""
    plain = isinstance(node, Scalar) and node.tag == "str" and not node.style
    found = _SHORT_FLOAT.fullmatch(node.text) if isinstance(node, Scalar) and plain else None
    if found is None:
        return ""
    digits, fraction, sign, exponent = found.groups()
    return f"{digits}.{fraction or '0'}e{sign or '+'}{exponent}"


def json_of(node: Node, report: Report) -> Any:
    """Return what a node is in JSON, as the event of a test needs it: null stays null, dates stay texts."""
    if isinstance(node, Mapping):
        return {key.text: json_of(value, report) for key, value in node.entries}
    if isinstance(node, Sequence):
        return [json_of(item, report) for item in node.items]
    if node.tag == "null":
        return None
    if node.tag == "bool":
        if node.text not in ("true", "false"):
            report.error(
                node.place, f"{node.text} is read as a truth value", "write true or false, or put it in quotes"
            )
        return node.text == "true"
    return number_of(node, "this", report) if node.tag in ("int", "float") else node.text


def parse_moment(text: str, *, end_of_day: bool = False) -> int:
    """Return the microseconds since 1970 of an RFC 3339 time with a zone, or of the beginning or end of a date in UTC.

    Raises ValueError for any other text.
    """
    text = text.strip()
    try:
        moment = datetime.fromisoformat(text.upper())
        if _DATE.fullmatch(text):
            moment = datetime.combine(moment, time(), UTC) + timedelta(days=end_of_day)
        return to_micros(moment)
    except (ValueError, OverflowError):
        example = "a date such as 2024-05-01, or a time with a zone such as 2024-05-01T09:30:00Z"
        raise ValueError(f"is {example}") from None


def _called(node: Node) -> str:
    return "list" if isinstance(node, Sequence) else "mapping"
