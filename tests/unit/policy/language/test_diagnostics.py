"""Errors and warnings: where they point, what they say, and that all of a condition come at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.language.generator import RANDOM, Generator
from tests.unit.policy.language.reference import Evaluator
from tests.unit.policy.language.schema import LISTS, SCHEMA, condition, event
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.policy.language import (
    BOOL,
    STRING,
    Condition,
    Diagnostic,
    InvalidCondition,
    Origin,
    Schema,
    check,
    equalities,
    fields_read,
    lists_read,
    parse,
)

if TYPE_CHECKING:
    import random

EVENT = Schema.of(EVENT_FIELDS)


def problems(text: str, *, schema: Schema = SCHEMA, lets: dict[str, Condition] | None = None) -> tuple[Diagnostic, ...]:
    """Return the errors of a condition."""
    with pytest.raises(InvalidCondition) as refused:
        condition(text, schema=schema, lets=lets)
    return refused.value.diagnostics


def test_an_error_shows_the_place_and_what_to_do() -> None:
    """An error names file, line and column, shows the line, and underlines the fault with a suggestion beside it."""
    lines = ("",) * 13 + ('  when: actor.sectr == "law_enforcement"',)
    origin = Origin("policies/face.yaml", 14, 9, lines=lines)
    expr = parse('actor.sectr == "law_enforcement"', origin=origin)
    with pytest.raises(InvalidCondition) as refused:
        check(expr, EVENT, lists={}, lets={})
    assert str(refused.value) == (
        "policies/face.yaml:14:9: unknown field actor.sectr\n"
        '    when: actor.sectr == "law_enforcement"\n'
        "          ^^^^^^^^^^^ did you mean actor.sector?"
    )


def test_all_errors_of_a_condition_come_at_once() -> None:
    """A second fault is not hidden by the first, and they stand in the order of the text."""
    found = problems("text.q == 'a' && (number.i == 'a' || text.a.matches('(')) && lists.nothing == null")
    assert [d.column for d in found] == sorted(d.column for d in found)
    assert [d.message.split(":")[0] for d in found] == [
        "unknown field text.q",
        "no operator == for int and string",
        "bad regular expression",
        "unknown list lists.nothing",
        "null is unknown, so no test of it is ever true",
    ]


ERRORS = [
    ("text.q == 'a'", 1, 6, "unknown field text.q", ""),
    ("true && sector == 'a'", 9, 6, "unknown field sector", ""),
    ("text.aa == 'a'", 1, 7, "unknown field text.aa", "did you mean text.a?"),
    ("text == 'a'", 1, 4, "text is an object", "such as text.id"),
    ("text.a.b == 'a'", 1, 8, "text.a is a string and has no field b", ""),
    ("list.items.score > 1.0", 1, 16, "list.items is a list(object) and has no field score", "exists"),
    ("list.items.exists(s, s.scor > 1.0)", 22, 6, "unknown field s.scor", "did you mean s.score?"),
    ("list.items.exists(s, t.score > 1.0)", 22, 7, "unknown field t.score", "did you mean s.score?"),
    ("list.items.exists(s, list.words.exists(w, x.word == w))", 43, 6, "unknown field x.word", "did you mean s.word?"),
    ("textt == 'a'", 1, 5, "unknown field textt", "text has text.id"),
    ("list.items.exists(s, s == 'a')", 22, 1, "s is an object", "s.count"),
    ("list.words.exists(w, w.x == 'a')", 22, 3, "w is a string and has no field x", ""),
    ("text.a in lists.word", 11, 10, "unknown list lists.word", "did you mean lists.words?"),
    ("text.a == 1", 1, 11, "no operator == for string and int", 'in quotes: "1"'),
    ("event.time > '2024-01-01T00:00:00Z'", 1, 35, "no operator > for timestamp and string", 'timestamp("2024'),
    ("number.i + 1.5 > 1.0", 1, 14, "no operator + for int and double", "double(..)"),
    ("number.x * 2 > 1.0", 1, 12, "no operator * for double and int", "write 2.0"),
    ("list.words == ['a']", 1, 19, "no operator == for list(string) and list(string)", "exists"),
    ("text.a == ['a']", 1, 15, "no operator == for string and list(string)", "x in [..]"),
    ("'a' in text.a", 1, 13, "no operator in for string and string", "x.contains(..)"),
    ("'a' in list.items", 1, 17, "no operator in for string and list(object)", "exists"),
    ("text.a", 1, 6, "a condition must be true or false, this is a string", ""),
    ("text.a && truth.p", 1, 17, "an operand of && must be true or false, this is a string", "compare it"),
    ("!list.words", 1, 11, "an operand of ! must be true or false, this is a list(string)", "has()"),
    ("(truth.p ? 1 : 2.0) > 1", 2, 17, "both results of ? : must be of one type, not int and double", "write 1.0"),
    ("'a' in (truth.p ? list.words : list.more)", 9, 32, "the results of ? : are single values", "around the tests"),
    ("text.a.matches('[')", 16, 3, "bad regular expression: missing ]: [", "RE2"),
    ("text.a.matches(text.b)", 16, 6, "the pattern must be written as a string", ""),
    ("text.a.matches('((a{1000}){1000})')", 16, 19, "bad regular expression", "RE2"),
    ("event.time.getHours('Mars/Base') > 1", 21, 11, "unknown time zone", "Europe/Paris"),
    ("event.time.getHours('localtime') > 1", 21, 11, "unknown time zone", "Europe/Paris"),
    ("event.time > timestamp('2024-13-01T00:00:00Z')", 24, 22, "this is no timestamp", "2024-05-01"),
    ("event.time - record.time > duration('1d')", 37, 4, "this is no duration", "36h"),
    ("now() > event.time", 1, 5, "now() is no part of the language", "event.time"),
    ("string(number.i) == '1'", 1, 16, "string() is no part of the language", ""),
    ("text.a.startWith('a')", 1, 21, "unknown function startWith", "did you mean startsWith?"),
    ("text.a.startsWith('a', 'b')", 1, 27, "startsWith is not called like this", "string.startsWith(string)"),
    ("startsWith(text.a, 'b')", 1, 23, "startsWith is not called like this", "string.startsWith(string)"),
    ("labels[text.a] == 'b'", 8, 6, "a key is written as a string", "labels["),
    ("text['a'] == 'b'", 1, 4, "text is an object", ""),
    ("list.words['a'] == 'b'", 1, 15, "a list(string) has no entries by key", "exists or all"),
    ("has(lists.words)", 5, 11, "has takes a field", ""),
    ("text.a in ['a', 1]", 11, 8, "the elements of a list are scalars of one type, not string, int", ""),
    ("text.a.exists(x, x == 'a')", 1, 6, "exists goes over a list, this is a string", ""),
    ("list.words.all(x, x)", 19, 1, "the condition of all must be true or false, not a string", ""),
    ("exists(list.words, truth.p)", 1, 27, "exists goes over a list", "list.exists(x, condition)"),
    ("'é😀' == text.q", 9, 6, "unknown field text.q", ""),
    ("text.a == 'a' and truth.p", 15, 3, "unexpected and", "&&"),
    ("not truth.p", 5, 5, "unexpected truth", "!(..)"),
    ("text.a == police", 11, 6, "unknown field police", 'in quotes: "police"'),
    ("text.a == None", 11, 4, "unknown field None", "!has(..)"),
    ("text.a in words", 11, 5, "unknown field words", "did you mean lists.words?"),
    ("text.a in ('a', 'b')", 15, 1, "expected ) before ,", "[a, b]"),
    ("text.a in ['a' 'b']", 16, 3, "expected ] before a string", "comma"),
    ("number.i > '100'", 1, 16, "no operator > for int and string", "without quotes: 100"),
    ("truth.p == 'true'", 1, 17, "no operator == for bool and string", "without quotes: true"),
    ("truth.p == 1", 1, 12, "no operator == for bool and int", "write true or false"),
    ("event.time - record.time > 5", 1, 28, "no operator > for duration and int", 'duration("36h")'),
    ("event.time.hour > 22", 1, 15, "event.time is a timestamp and has no field hour", "getHours()"),
    ("list.words.size > 3", 1, 15, "list.words is a list(string) and has no field size", "list.words.size()"),
    ("list.words.any(w, w == 'a')", 1, 27, "unknown function any", "did you mean exists?"),
    ("list.words.contains('a')", 1, 24, "no operator contains for list(string) and string", "x in list"),
    ("!text.a == 'a'", 1, 7, "an operand of ! must be true or false", "!(a == b)"),
    ("text.a + 'x' == 'ax'", 1, 12, "no operator + for string and string", "not put together"),
    ("text.a == \u201cx", 11, 1, "unexpected character", "straight quotes"),
]


@pytest.mark.parametrize(("text", "column", "width", "message", "hint"), ERRORS, ids=[text for text, *_ in ERRORS])
def test_an_error_points_at_its_part(text: str, column: int, width: int, message: str, hint: str) -> None:
    """Each fault is underlined exactly, said in the author's words, and comes with a way out where there is one."""
    (found,) = problems(text)
    assert (found.column, found.width) == (column, width)
    assert message in found.message
    assert hint in found.hint


def test_a_position_goes_through_the_forms_of_yaml() -> None:
    """In a block scalar the column counts from the file's line, and in a quoted one escapes count as they stand."""
    lines = ("when: |", "    text.a == 'a'", "      && text.q == 'b'")
    block = Origin("p.yaml", 2, 5, pieces=((0, 2, 5), (14, 3, 5)), lines=lines)
    with pytest.raises(InvalidCondition) as refused:
        check(parse("text.a == 'a'\n  && text.q == 'b'\n", origin=block), SCHEMA, lists={}, lets={})
    assert str(refused.value).splitlines()[0] == "p.yaml:3:10: unknown field text.q"
    quoted = Origin("p.yaml", 1, 8, pieces=((0, 1, 8), (10, 1, 19)), lines=(r'when: "text.a == \"a\" && text.q"',))
    assert quoted.position(3) == (1, 11)
    assert quoted.position(11) == (1, 20)


def test_a_diagnostic_is_safe_to_print() -> None:
    """Control characters of a file do not reach the terminal, and the carets stay under the fault behind wide ones."""
    text = Diagnostic("error", "bad \x1b[31m", "p\x1b.yaml", 1, 4, "\x1b漢字 x", 1, "\x07").render()
    assert "\x1b" not in text
    assert "\x07" not in text
    line, carets = text.splitlines()[1:]
    assert line == "    \N{REPLACEMENT CHARACTER}漢字 x"
    assert carets.startswith("         ^")


def test_a_long_line_is_cut_around_the_fault() -> None:
    """A line of thousands of characters is shown in part, with the fault in view."""
    text = "truth.p && " * 400 + "text.q == 'a'" + " && truth.p" * 400
    (found,) = problems(text)
    shown = found.render().splitlines()
    assert all(len(line) < 140 for line in shown)
    assert shown[1][shown[2].index("^") :].startswith("text.q")


def test_a_pattern_that_is_too_large_is_refused() -> None:
    """RE2 itself would take it, and could then run out of memory while matching."""
    (found,) = problems(r"text.a.matches(r'\pL{100}')")
    assert "too large" in found.message


WARNINGS = [
    ("text.id == 'a' && text.id == 'b'", "this is never true", "did you mean ||?"),
    ("text.id != 'a' || text.id != 'b'", "this is always true", "did you mean &&?"),
    ("text.id in lists.words && text.id == 'zz'", "this is never true", ""),
    ("text.id in []", "this is never true", ""),
    ("event.time.getMonth() == 12", "this is never true", "getMonth() gives 0 to 11"),
    ("event.time.getHours() < 24", "this is always true", "0 to 23"),
    ("event.time.getHours('Europe/Paris') < 24", "this is true wherever it is known", "0 to 23"),
    ("has(text.a) || text.a == 'a'", "this is true wherever it is known", ""),
    ("text.a == text.a", "this is true wherever it is known", ""),
    ("text.id == text.id || truth.p", "this is always true", ""),
    ("list.words.all(w, w != 'a' || w != 'b')", "true", "did you mean &&?"),
    ("size(text.id) < 0", "this is never true", ""),
    ("text.id == text.id", "this is always true", ""),
    ("text.id < text.id", "this is never true", ""),
    ("number.i > 5 && number.i < 6", "this is never true", ""),
    ("number.x > 5 && number.x <= 5", "this is never true", ""),
    ("event.time > timestamp('2024-01-02T00:00:00Z') && event.time < timestamp('2024-01-01T00:00:00Z')", "never", ""),
    ("text.id > 'b' && text.id < 'a'", "this is never true", ""),
    ("truth.p && !(truth.p)", "this is never true", ""),
    ("has(text.id) && truth.p", "this is always true", "text.id is required"),
    ("1 == 1", "this is always true", ""),
    ("true", "this is always true", "write a condition"),
    ("false", "this is never true", "write a condition"),
    ("true || truth.p", "this is always true", ""),
    ("list.words.exists(w, w == 'a' && w == 'b')", "this is never true", ""),
    ("text.a != 'a'", "text.a may be missing", "has(text.a) &&"),
    ("!(text.a in lists.words)", "text.a may be missing", ""),
    ("!(text.id == 'a' || text.a == 'b')", "text.a may be missing", ""),
    ("!truth.p", "truth.p may be missing", ""),
    ("labels['k'] != 'v'", 'labels["k"] may be missing', 'has(labels["k"])'),
    ("list.items.exists(s, s.word != 'a')", "s.word may be missing", ""),
    ("!list.words.exists(w, w == 'a')", "list.words may be missing", ""),
    ("record.time != event.time", "record.time may be missing", ""),
    ("!truth.p && has(truth)", "truth.p may be missing", "has(truth.p)"),
    ("!has(text) || text.a != 'a'", "text.a may be missing", "has(text.a)"),
]


@pytest.mark.parametrize(("text", "message", "hint"), WARNINGS, ids=[text for text, *_ in WARNINGS])
def test_a_doubtful_condition_is_warned_of(text: str, message: str, hint: str) -> None:
    """A condition that can't be meant as it stands is taken, with a warning that says why."""
    found = condition(text).warnings
    assert any(message in d.message and hint in d.hint and d.severity == "warning" for d in found), found


@pytest.mark.parametrize(
    "text",
    [
        "has(text.a) ? text.a == 'x' : true",
        "text.id != 'a'",
        "text.a == 'a'",
        "has(text.a) && text.a != 'a'",
        "!has(text.a) || !(text.a in lists.words)",
        "!has(text.deep) || text.deep.c != 'a'",
        "has(labels['k']) && labels.k != 'v'",
        "number.x > 1 && number.x < 2",
        "number.i > 5 && number.i <= 6",
        "text.id > 'a' && text.id < 'b'",
        "text.id > 'a' && text.id < 'a\\u0000a'",
        "list.items.exists(s, has(s.word) && s.word != 'a')",
        "event.time.getMonth() == 11",
        "has(text.a) && has(text.b)",
        "text.a == 'a' || text.a == 'b'",
        "text.id != 'a' && text.id != 'b'",
        "text.id in lists.empty",
    ],
)
def test_a_sound_condition_is_not_warned_of(text: str) -> None:
    """Warnings mean something: what is fine brings none."""
    assert condition(text).warnings == ()


@settings(max_examples=300, deadline=None)
@given(RANDOM, st.integers(1, 4))
def test_always_and_never_are_certain(rnd: random.Random, depth: int) -> None:
    """Never true is true for no event, always true for every one, and true wherever it is known false for none."""
    text = Generator(rnd).of(BOOL, depth)
    said = {d.message for d in condition(text).warnings if d.column == 1 and d.width == len(text)}
    tree = parse(text, origin=Origin("reference")).tree
    for _ in range(10):
        truth = Evaluator(SCHEMA, LISTS, event(rnd)).eval(tree)
        assert truth is not True or "this is never true" not in said
        assert truth is True or "this is always true" not in said
        assert truth is not False or "this is true wherever it is known" not in said


def test_a_sub_condition_is_checked_where_it_is_defined() -> None:
    """A sub-condition takes the place of its name; its own warnings are not told again, and it has no fields."""
    police = condition("text.a == 'p' && text.a == 'q'")
    assert len(police.warnings) == 1
    assert condition("police && truth.p", lets={"police": police}).warnings == ()
    (found,) = problems("police.x", lets={"police": police})
    assert found.message == "police is a sub-condition and has no fields"
    (found,) = problems("polise && truth.p", lets={"police": police})
    assert found.hint == "did you mean police?"


def test_a_sub_condition_may_be_of_any_type() -> None:
    """Where no type is demanded, a sub-condition may be a number that conditions compare."""
    total = condition("number.i + number.j", expected=None)
    assert condition("total > 7", lets={"total": total}).type == BOOL
    with pytest.raises(InvalidCondition, match="a condition must be a string, this is a int"):
        condition("number.i", expected=STRING)


def test_sub_conditions_put_together_have_a_limit() -> None:
    """Sub-conditions that double at each step are refused by their size, in no time."""
    lets = {"l0": condition("truth.p && truth.q")}
    for n in range(1, 12):
        lets[f"l{n}"] = condition(f"l{n - 1} || !l{n - 1}", lets=lets)
    with pytest.raises(InvalidCondition, match="more than 20000 operands"):
        condition("l11 || !l11", lets=lets)


def test_what_a_condition_reads_can_be_asked() -> None:
    """Fields, lists and the equality tests that must hold are known, through sub-conditions and either way round."""
    face = condition("text.a in lists.words && 'x' == text.b")
    found = condition("face && number.i == 7 && (text.id == 'a' || truth.p) && labels.k == 'v'", lets={"face": face})
    assert fields_read(found) == (
        ("labels",),
        ("number", "i"),
        ("text", "a"),
        ("text", "b"),
        ("text", "id"),
        ("truth", "p"),
    )
    assert lists_read(found) == ("words",)
    assert equalities(found) == [
        (("text", "a"), frozenset(LISTS["words"])),
        (("text", "b"), frozenset(["x"])),
        (("number", "i"), frozenset([7])),
    ]


def test_the_schema_has_the_event_its_times_and_the_registry() -> None:
    """Every field of the event can be named in a condition, as can its times and its registry entry."""
    for field in EVENT_FIELDS:
        condition(f"has({field.name})", schema=EVENT)
    condition("event.time > record.time && 'chat' in registry.approved_use_cases", schema=EVENT)
    assert EVENT.is_object(("actor", "on_behalf_of"))
    assert not EVENT.is_object(("actor", "sector"))
