"""A second meaning of the language, written apart from it: evaluates a syntax tree over an event of nested objects.

Slow and plain. None is unknown. It knows nothing of types, operators' rows or generated code, only of the
language's description; what it shares with the product is the parser, which has its own oracle.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import re2

from usageaudit.policy.language.syntax import Call, Has, Ident, Index, ListLiteral, Literal, Macro, Select, Syntax

if TYPE_CHECKING:
    from usageaudit.policy.language import Schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Time(int):
    """Microseconds since 1970."""


class Length(int):
    """Microseconds."""


class Evaluator:
    """Evaluates conditions over one event, with the bundle's lists and the schema's lists of names."""

    def __init__(self, schema: Schema, lists: Any, event: Any) -> None:
        self.schema, self.lists, self.event = schema, lists, event
        self.bound: dict[str, Any] = {}

    def eval(self, tree: Syntax) -> Any:
        match tree:
            case Literal(value=v):
                return v
            case ListLiteral(items):
                values = [self.eval(item) for item in items]
                return None if any(v is None for v in values) else values
            case Ident() | Select() | Index():
                return self.look_up(tree)
            case Has(operand):
                return self.present(operand)
            case Macro():
                return self.macro(tree)
            case Call(name=name, arguments=arguments):
                return self.call(name, arguments)

    def look_up(self, tree: Syntax) -> Any:
        if isinstance(tree, Ident):
            if tree.name in self.bound:
                return self.bound[tree.name]
            return self.lists if tree.name == "lists" else self.event.get(tree.name)
        if isinstance(tree, Select):
            return self.get(self.look_up(tree.operand), tree.field, self.path(tree))
        if isinstance(tree, Index):
            return self.get(self.look_up(tree.operand), self.eval(tree.key), None)
        return self.eval(tree)

    def path(self, tree: Syntax) -> Any:
        parts: list[str] = []
        while isinstance(tree, Select):
            parts.append(tree.field)
            tree = tree.operand
        return (tree.name, *reversed(parts)) if isinstance(tree, Ident) else ()

    def get(self, owner: Any, name: str, path: Any) -> Any:
        found = None if owner is None else owner.get(name)
        if found is not None and path in (("event", "time"), ("record", "time")):
            return Time(found)
        return found

    def present(self, operand: Syntax) -> bool:
        return holds_anything(self.look_up(operand))

    def macro(self, tree: Macro) -> bool | None:
        elements = self.eval(tree.operand)
        if elements is None:
            return None
        outer = dict(self.bound)
        results = []
        for element in elements:
            self.bound[tree.variable] = element
            results.append(self.eval(tree.predicate))
            self.bound = dict(outer)
        if tree.name == "exists":
            return kleene_or(results)
        if tree.name == "all":
            return kleene_not(kleene_or([kleene_not(r) for r in results]))
        return None if None in results else results.count(True) == 1

    def call(self, name: str, arguments: tuple[Syntax, ...]) -> Any:
        if name == "||":
            return kleene_or([self.eval(a) for a in arguments])
        if name == "&&":
            return kleene_not(kleene_or([kleene_not(self.eval(a)) for a in arguments]))
        if name == "?:":
            condition = self.eval(arguments[0])
            return None if condition is None else self.eval(arguments[1 if condition else 2])
        values = [self.eval(a) for a in arguments]
        if name == "in" and values[1] == {}:
            return None
        if any(v is None for v in values):
            return None
        return strict(name, values)


def holds_anything(found: Any) -> bool:
    """Whether an object has a scalar or a list anywhere below it; a scalar and a list are there when not null."""
    if isinstance(found, dict):
        return any(holds_anything(inner) for inner in found.values())
    return found is not None


def kleene_or(values: list[bool | None]) -> bool | None:
    """Return whether one value is true, with three values."""
    if any(v is True for v in values):
        return True
    return None if any(v is None for v in values) else False


def kleene_not(value: bool | None) -> bool | None:
    """Return the opposite, with three values."""
    return {True: False, False: True, None: None}[value]


def strict(name: str, values: list[Any]) -> Any:
    """Return the value of an operator whose operands are all known."""
    if name.startswith("get"):
        return part(name, *values)
    if len(values) == 1:
        return unary(name, values[0])
    left, right = values
    if name in ("==", "!=", "<", "<=", ">", ">="):
        return compare(name, left, right)
    if name == "in":
        return any(compare("==", left, item) for item in right)
    if name in ("startsWith", "endsWith", "contains", "matches"):
        return text(name, left, right)
    return arithmetic(name, left, right)


def unary(name: str, value: Any) -> Any:
    """Return the value of an operator with one operand."""
    match name:
        case "!":
            return not value
        case "-":
            return -value if isinstance(value, float) else within(-value)
        case "size":
            return len(value)
        case "lowerAscii":
            return "".join(c.lower() if "A" <= c <= "Z" else c for c in value)
        case "double":
            return float(value)
        case "timestamp":
            return moment(value)
        case "duration":
            return length(value)
    raise AssertionError(name)


def exact(value: Any) -> Any:
    """Return a number as a fraction, a string as its code points: what comparisons go by."""
    if isinstance(value, str):
        return [ord(c) for c in value]
    return value if isinstance(value, bool) else Fraction(value)


def compare(name: str, left: Any, right: Any) -> bool:
    """Compare two values of one type, or two numbers."""
    left, right = exact(left), exact(right)
    less, equal = bool(left < right), bool(left == right)
    truths = {"==": equal, "!=": not equal, "<": less, "<=": less or equal, ">=": not less}
    return truths.get(name, not less and not equal)


def text(name: str, left: str, right: str) -> bool:
    """Return the truth of a test of a string."""
    if name == "matches":
        # (?s-s) would be an error: the dot's flag is off by default, and must stay off.
        return re2.search(right, left) is not None
    starts = range(len(left) - len(right) + 1)
    found = [i for i in starts if left[i : i + len(right)] == right]
    at = {"startsWith": 0, "endsWith": len(left) - len(right)}
    return bool(found) if name == "contains" else at[name] in found


def within(value: int) -> int | None:
    """Return an integer of 64 bits, None for any other."""
    return value if -(2**63) <= value < 2**63 else None


def arithmetic(name: str, left: Any, right: Any) -> Any:
    """Return a sum, difference, product, quotient or remainder."""
    if isinstance(left, Time) or isinstance(right, Time):
        total = int(left) + int(right) if name == "+" else int(left) - int(right)
        if isinstance(left, Time) and isinstance(right, Time):
            return Length(total)
        return Time(total) if datetime_of(total) else None
    if name in ("/", "%") and right == 0:
        return None
    if isinstance(left, float):
        return double(name, Fraction(left), Fraction(right))
    quotient = int(Fraction(left, right)) if name in ("/", "%") else 0
    results = {"+": left + right, "-": left - right, "*": left * right, "/": quotient}
    if name == "%":
        return None if within(quotient) is None else left - right * quotient
    return within(results[name])


def double(name: str, left: Fraction, right: Fraction) -> float | None:
    """Return the nearest double of an exact result."""
    operations = {"+": left + right, "-": left - right, "*": left * right}
    try:
        return float(operations[name] if name in operations else left / right)
    except OverflowError:
        return None


def datetime_of(micros: int) -> datetime | None:
    """Return the date and time, None outside of the years 1 to 9999."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return None


def moment(value: str) -> Time | None:
    """Return the time that an RFC 3339 text means."""
    match = re.fullmatch(
        r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?(Z|([+-])([0-9]{2}):([0-9]{2}))",
        value,
    )
    if not match:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    if not (1 <= month <= 12 and hour < 24 and minute < 60 and second < 60 and year):
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    days = (datetime(year, month, day, tzinfo=UTC) - EPOCH).days
    micros = ((days * 24 + hour) * 60 + minute) * 60 + second
    micros = micros * 1_000_000 + int(Fraction(match[7] or "0") * 1_000_000)
    if match[9]:
        offset = (int(match[10]) * 60 + int(match[11])) * 60_000_000
        micros -= offset if match[9] == "+" else -offset
    return Time(micros) if datetime_of(micros) else None


def length(value: str) -> Length | None:
    """Return the length of time that a text means."""
    match = re.fullmatch(r"([+-]?)((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:h|m|s|ms|us|ns))+", value)
    if not match:
        return Length(0) if value in ("0", "+0", "-0") else None
    micro = Fraction(1, 10**6)
    units = {"h": Fraction(3600), "m": Fraction(60), "s": Fraction(1)}
    units |= {"ms": 1000 * micro, "us": micro, "ns": micro / 1000}
    parts = re.findall(r"([0-9]*\.?[0-9]*)(h|ms|us|ns|m|s)", value)
    total = sum(Fraction(number) * units[unit] for number, unit in parts)
    micros = int(total * 1_000_000)
    return Length(-micros if match[1] == "-" else micros)


def part(name: str, time: int, zone: str = "UTC") -> int | None:
    """Return a part of a time, in a zone."""
    offset = re.fullmatch(r"([+-]?)([0-9]{2}):([0-9]{2})", zone)
    there: Any = ZoneInfo("UTC")
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3])
        there = timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    elif zone != "UTC":
        there = ZoneInfo(zone)
        if not 1970 <= (EPOCH + timedelta(microseconds=time)).year < 2100:
            return None
    try:
        local = (EPOCH + timedelta(microseconds=time)).astimezone(there)
    except (OverflowError, ValueError):
        return None
    parts = {
        "getFullYear": local.year,
        "getMonth": local.month - 1,
        "getDate": local.day,
        "getDayOfMonth": local.day - 1,
        "getDayOfWeek": local.isoweekday() % 7,
        "getDayOfYear": local.timetuple().tm_yday - 1,
        "getHours": local.hour,
        "getMinutes": local.minute,
        "getSeconds": local.second,
        "getMilliseconds": local.microsecond // 1000,
    }
    return parts[name]
