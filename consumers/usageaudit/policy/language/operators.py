"""The operators of the language: one row of one table for each operator, or each overload of it.

A row says what an operator takes, what it gives, what it means, and how a back end evaluates it, so that an operator
can't exist in part. The checker picks rows by the types of the operands; a back end reads its column of the row.
"""

from __future__ import annotations

from usageaudit.policy.language.signatures import Logic, Operator, Parameter, Sort, Sql, Strict
from usageaudit.policy.language.types import (
    BOOL,
    DOUBLE,
    DURATION,
    INT,
    MAP,
    STRING,
    STRINGS,
    TIMESTAMP,
    list_of,
)

_NUMBERS = (Sort.NUMBER, Sort.NUMBER)
_INTS = (INT, INT)
_DOUBLES = (DOUBLE, DOUBLE)
_LONGEST = 10**7
"""More characters, or elements, than an event of 1,000,000 bytes can hold."""


def _comparisons() -> tuple[Operator, ...]:
    equal = "Equal. Strings by code points, int and double by value."
    unequal = "Not equal."
    ordered: list[tuple[Parameter, ...]] = [_NUMBERS, *((kind, kind) for kind in (STRING, TIMESTAMP, DURATION))]
    same = [*ordered, (BOOL, BOOL)]
    rows = [
        Operator("==", p, BOOL, "infix", Strict("{0} == {1}", on_none=False), Sql("({0} = {1})"), equal) for p in same
    ]
    rows += [
        Operator("!=", p, BOOL, "infix", Strict("{0} != {1}", on_none=True), Sql("({0} != {1})"), unequal) for p in same
    ]
    order = {"<": "Less, or earlier.", "<=": "Not greater.", ">": "Greater, or later.", ">=": "Not less."}
    rows += [
        Operator(name, p, BOOL, "infix", Strict(f"{{0}} {name} {{1}}"), Sql(f"({{0}} {name} {{1}})"), doc)
        for name, doc in order.items()
        for p in ordered
    ]
    return tuple(rows)


def _in_64_bits(sql: str) -> str:
    return f"accurateCastOrNull({sql}, 'Int64')"


_OVERFLOW = "Unknown where the result does not fit into 64 bits."
_INFINITE = "Unknown where the result is not finite."


def _arithmetic() -> tuple[Operator, ...]:
    return (*_of_ints(), *_of_doubles())


def _of_ints() -> tuple[Operator, ...]:
    def infix(name: str, python: str, sql: Sql, doc: str) -> Operator:
        return Operator(name, _INTS, INT, "infix", Strict(f"{python}({{0}}, {{1}})", partial=True), sql, doc)

    quotient = _in_64_bits("intDivOrZero(toInt128({0}), nullIf(toInt128({1}), 0))")
    cut = "Quotient, cut off towards zero: `7 / 2` is 3, `-7 / 2` is -3. Unknown for `x / 0`."
    left = "Remainder of the quotient, with the sign of the left operand. Unknown for `x % 0`."
    negated, negative = Strict("op_negate_int({0})", partial=True), Sql(_in_64_bits("-toInt128({0})"))
    nearest = "The nearest double of an integer."
    return (
        infix("+", "op_add_int", Sql(_in_64_bits("toInt128({0}) + toInt128({1})")), f"Sum. {_OVERFLOW}"),
        infix("-", "op_subtract_int", Sql(_in_64_bits("toInt128({0}) - toInt128({1})")), f"Difference. {_OVERFLOW}"),
        infix("*", "op_multiply_int", Sql(_in_64_bits("toInt128({0}) * toInt128({1})")), f"Product. {_OVERFLOW}"),
        infix("/", "op_divide_int", Sql(quotient), f"{cut} {_OVERFLOW}"),
        infix("%", "op_remainder", Sql(composed="remainder"), left),
        Operator("-", (INT,), INT, "prefix", negated, negative, f"Negative. {_OVERFLOW}"),
        Operator("double", (INT,), DOUBLE, "function", Strict("float({0})"), Sql("toFloat64({0})"), nearest),
    )


def _of_doubles() -> tuple[Operator, ...]:
    def infix(name: str, python: str, sql: str, doc: str) -> Operator:
        return Operator(name, _DOUBLES, DOUBLE, "infix", Strict(python, partial=True), Sql(composed=sql), doc)

    quotient = f"Quotient. Unknown for `x / 0.0`. {_INFINITE}"
    return (
        infix("+", "op_finite({0} + {1})", "add_double", f"Sum. {_INFINITE}"),
        infix("-", "op_finite({0} - {1})", "subtract_double", f"Difference. {_INFINITE}"),
        infix("*", "op_finite({0} * {1})", "multiply_double", f"Product. {_INFINITE}"),
        infix("/", "op_divide_double({0}, {1})", "divide_double", quotient),
        Operator("-", (DOUBLE,), DOUBLE, "prefix", Strict("-{0}"), Sql("(-({0}))"), "Negative."),
    )


def _times() -> tuple[Operator, ...]:
    outside = "Unknown outside of the years 1 to 9999."
    moment, span = (TIMESTAMP, DURATION), (DURATION, TIMESTAMP)
    return (
        Operator(
            "timestamp",
            (STRING,),
            TIMESTAMP,
            "function",
            Strict("op_timestamp({0})", partial=True),
            Sql(composed="timestamp"),
            "The time of an RFC 3339 text with a zone, to the microsecond. Unknown for any other text.",
        ),
        Operator(
            "duration",
            (STRING,),
            DURATION,
            "function",
            Strict("op_duration({0})", partial=True),
            Sql(composed="duration"),
            'A length of time such as "90s", "1h30m" or "1.5s" (h, m, s, ms, us, ns), to the microsecond. '
            "Unknown for any other text.",
        ),
        Operator(
            "-",
            (TIMESTAMP, TIMESTAMP),
            DURATION,
            "infix",
            Strict("{0} - {1}"),
            Sql("({0} - {1})"),
            "From right to left.",
        ),
        Operator(
            "+",
            moment,
            TIMESTAMP,
            "infix",
            Strict("op_moment({0} + {1})", partial=True),
            Sql(composed="later"),
            f"Later. {outside}",
        ),
        Operator(
            "+",
            span,
            TIMESTAMP,
            "infix",
            Strict("op_moment({0} + {1})", partial=True),
            Sql(composed="later"),
            f"Later. {outside}",
        ),
        Operator(
            "-",
            moment,
            TIMESTAMP,
            "infix",
            Strict("op_moment({0} - {1})", partial=True),
            Sql(composed="earlier"),
            f"Earlier. {outside}",
        ),
    )


_PARTS = (
    ("getFullYear", "The year.", (1, 9999), "op_date({0}).year", "year"),
    ("getMonth", "The month, January is 0.", (0, 11), "op_date({0}).month - 1", "month"),
    ("getDate", "The day of the month, the first is 1.", (1, 31), "op_date({0}).day", "day"),
    ("getDayOfMonth", "The day of the month, the first is 0.", (0, 30), "op_date({0}).day - 1", "day_from_0"),
    ("getDayOfWeek", "The day of the week, Sunday is 0.", (0, 6), "({0} // 86400000000 + 4) % 7", "weekday"),
    ("getDayOfYear", "The day of the year, the first is 0.", (0, 365), "op_yearday({0})", "yearday"),
    ("getHours", "The hour.", (0, 23), "{0} // 3600000000 % 24", "hours"),
    ("getMinutes", "The minute.", (0, 59), "{0} // 60000000 % 60", "minutes"),
    ("getSeconds", "The second.", (0, 59), "{0} // 1000000 % 60", "seconds"),
    ("getMilliseconds", "The millisecond.", (0, 999), "{0} // 1000 % 1000", "milliseconds"),
)
"""Name, meaning, bounds, Python over microseconds since 1970 of the date and time asked for, and what composes SQL."""


def _parts_of_times() -> tuple[Operator, ...]:
    rows: list[Operator] = []
    for name, doc, bounds, python, sql in _PARTS:
        local = "None if ({t} := op_local({0}, {1})) is None else " + python.replace("{0}", "{t}")
        either = f"{doc[:-1]}; in UTC, or in a time zone (unknown outside of the years 1970 to 2099)."
        rows.append(Operator(name, (TIMESTAMP,), INT, "method", Strict(python), Sql(composed=sql), either, bounds))
        there = (TIMESTAMP, Sort.ZONE)
        rows.append(
            Operator(name, there, INT, "method", Strict(local, partial=True), Sql(composed=sql), either, bounds)
        )
    return tuple(rows)


def _strings() -> tuple[Operator, ...]:
    pair = (STRING, STRING)
    return (
        Operator(
            "startsWith",
            pair,
            BOOL,
            "method",
            Strict("{0}.startswith({1})"),
            Sql("startsWith({0}, {1})"),
            "Begins with.",
        ),
        Operator(
            "endsWith", pair, BOOL, "method", Strict("{0}.endswith({1})"), Sql("endsWith({0}, {1})"), "Ends with."
        ),
        Operator(
            "contains", pair, BOOL, "method", Strict("{1} in {0}"), Sql("(position({0}, {1}) > 0)"), "Has within it."
        ),
        Operator(
            "matches",
            (STRING, Sort.PATTERN),
            BOOL,
            "either",
            Strict("op_matches({1}, {0})", partial=True),
            Sql("match({0}, {1})"),
            "Some part matches the regular expression; `^` and `$` anchor it, the dot matches no line break.",
        ),
        Operator(
            "lowerAscii",
            (STRING,),
            STRING,
            "method",
            Strict("op_lower_ascii({0})"),
            Sql("lower({0})"),
            "A to Z in lower case.",
        ),
        Operator(
            "size",
            (STRING,),
            INT,
            "either",
            Strict("len({0})"),
            Sql("toInt64(lengthUTF8({0}))"),
            "Length in code points.",
            (0, _LONGEST),
        ),
    )


def _lists() -> tuple[Operator, ...]:
    doc = "Is an element."
    within, contained = Strict("{0} in {1}", on_none=False), Sql("has({1}, {0})", guarded=True)
    return (
        Operator("in", (STRING, STRINGS), BOOL, "infix", within, contained, doc),
        Operator("in", (Sort.NUMBER, list_of(INT)), BOOL, "infix", within, contained, doc),
        Operator("in", (Sort.NUMBER, list_of(DOUBLE)), BOOL, "infix", within, contained, doc),
        Operator("in", (BOOL, list_of(BOOL)), BOOL, "infix", within, contained, doc),
        Operator("in", (TIMESTAMP, list_of(TIMESTAMP)), BOOL, "infix", within, contained, doc),
        Operator("in", (DURATION, list_of(DURATION)), BOOL, "infix", within, contained, doc),
        Operator(
            "in",
            (STRING, MAP),
            BOOL,
            "infix",
            Strict("{0} in {1}"),
            Sql("mapContains({1}, {0})", guarded=True),
            "Is a key.",
        ),
        Operator(
            "size",
            (Sort.LIST,),
            INT,
            "either",
            Strict("len({0})"),
            Sql("toInt64(length({0}))"),
            "Number of elements.",
            (0, _LONGEST),
        ),
        Operator(
            "[]",
            (MAP, Sort.KEY),
            STRING,
            "index",
            Strict("{0}.get({1})", partial=True),
            Sql("if(mapContains({0}, {1}), {0}[{1}], NULL)"),
            'The entry of a key, unknown where there is none; `labels.team` is `labels["team"]`.',
        ),
    )


def _logic() -> tuple[Operator, ...]:
    both = Logic("{0.may_be_true} and {1.may_be_true}", "{0.may_be_false} or {1.may_be_false}", "op_all(({values}))")
    either = Logic("{0.may_be_true} or {1.may_be_true}", "{0.may_be_false} and {1.may_be_false}", "op_any(({values}))")
    negation = Logic("{0.may_be_false}", "{0.may_be_true}", "op_negation({0.value})")
    both_doc = "Both. False as soon as one operand is false, even if the other is unknown."
    either_doc = "Either. True as soon as one operand is true, even if the other is unknown."
    choice_doc = "The second operand where the first is true, the third where it is false; unknown where it is unknown."
    choice = Logic(
        "{1.may_be_true} if ({t} := {0.value}) else {2.may_be_true} if {t} is False else True",
        "{1.may_be_false} if ({t} := {0.value}) else {2.may_be_false} if {t} is False else True",
        "{1.value} if ({t} := {0.value}) else {2.value} if {t} is False else None",
    )
    chosen = Sql("multiIf(isNull({0}), NULL, {0}, {1}, {2})")
    return (
        Operator("&&", (BOOL, BOOL), BOOL, "infix", both, Sql("and({values})"), both_doc),
        Operator("||", (BOOL, BOOL), BOOL, "infix", either, Sql("or({values})"), either_doc),
        Operator("!", (BOOL,), BOOL, "prefix", negation, Sql("(NOT ({0}))"), "Not."),
        Operator("?:", (BOOL, Sort.SAME, Sort.SAME), Sort.SAME, "ternary", choice, chosen, choice_doc),
        *_presence(),
    )


def _presence() -> tuple[Operator, ...]:
    field_doc = "The field is there and not null; an object, where any field of it is. Never unknown."
    field, map_ = Strict("{0} is not None"), Strict("bool({0})")
    return (
        Operator("has", (Sort.FIELD,), BOOL, "function", field, Sql("isNotNull({0})"), field_doc),
        Operator("has", (MAP,), BOOL, "function", map_, Sql("notEmpty({0})"), "The map has an entry. Never unknown."),
    )


def _macros() -> tuple[Operator, ...]:
    over = (Sort.LIST, Sort.PREDICATE)
    return (
        Operator(
            "exists",
            over,
            BOOL,
            "macro",
            Logic(
                "True in [{1.may_be_true} for {x} in {0}]",
                "False not in [{1.may_be_false} for {x} in {0}]",
                "op_any([{1.value} for {x} in {0}])",
            ),
            Sql("[0, NULL, 1][1 + arrayMax({x} -> materialize(ifNull({1} * 2, 1)), {0})]"),
            "The condition holds for an element. True as soon as it holds for one, even if it is unknown for others.",
        ),
        Operator(
            "all",
            over,
            BOOL,
            "macro",
            Logic(
                "False not in [{1.may_be_true} for {x} in {0}]",
                "True in [{1.may_be_false} for {x} in {0}]",
                "op_all([{1.value} for {x} in {0}])",
            ),
            Sql("[1, NULL, 0][1 + arrayMax({x} -> materialize(ifNull(2 - {1} * 2, 1)), {0})]"),
            "The condition holds for each element. False as soon as it is false for one.",
        ),
        Operator(
            "exists_one",
            over,
            BOOL,
            "macro",
            Logic(
                "op_one([{1.value} for {x} in {0}]) is not False",
                "op_one([{1.value} for {x} in {0}]) is not True",
                "op_one([{1.value} for {x} in {0}])",
            ),
            Sql(composed="exactly_one"),
            "The condition holds for exactly one element. Unknown as soon as it is unknown for one.",
        ),
    )


OPERATORS: tuple[Operator, ...] = (
    *_logic(),
    *_comparisons(),
    *_lists(),
    *_macros(),
    *_strings(),
    *_arithmetic(),
    *_times(),
    *_parts_of_times(),
)
"""Every operator of the language."""

_BY_NAME: dict[str, tuple[Operator, ...]] = {
    name: tuple(row for row in OPERATORS if row.name == name) for name in {row.name for row in OPERATORS}
}


def overloads(name: str) -> tuple[Operator, ...]:
    """Return the rows of a name, none where the language has no such operator."""
    return _BY_NAME.get(name, ())


def names() -> frozenset[str]:
    """Return the names of all operators."""
    return frozenset(_BY_NAME)
