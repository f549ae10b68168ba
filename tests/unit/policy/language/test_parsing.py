"""Reading conditions: any text gives a tree or says what is wrong with it, and a tree can be written as text again."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.policy.language.schema import condition
from usageaudit.policy.language import (
    BOOL,
    DOUBLE,
    INT,
    MAX_DEPTH,
    MAX_LENGTH,
    STRING,
    InvalidCondition,
    Origin,
    Source,
    Span,
    parse,
    unparse,
)
from usageaudit.policy.language.syntax import Call, Has, Ident, Index, ListLiteral, Literal, Macro, Select, Syntax

ORIGIN = Origin("policy.yaml")
SPAN = Span(Source("", ORIGIN), 0, 0)
NAMES = st.sampled_from(["a", "b", "actor", "x1", "_u", "size", "exist"])
INFIX = ["==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"]


def tree(text: str) -> Syntax:
    """Return the tree of a text."""
    return parse(text, origin=ORIGIN).tree


def literals() -> st.SearchStrategy[Syntax]:
    """Return literals, of any value that can be written."""
    ints = st.integers(-(2**63), 2**63 - 1).map(lambda v: Literal(v, INT, span=SPAN))
    doubles = st.floats(allow_nan=False, allow_infinity=False).map(lambda v: Literal(v, DOUBLE, span=SPAN))
    strings = st.text(st.characters(exclude_categories=["Cs"])).map(lambda v: Literal(v, STRING, span=SPAN))
    words = st.sampled_from([Literal(True, BOOL, span=SPAN), Literal(None, None, span=SPAN)])
    return st.one_of(ints, doubles, strings, words)


def above(below: st.SearchStrategy[Syntax]) -> st.SearchStrategy[Syntax]:
    """Return nodes over other nodes."""
    several = st.lists(below, max_size=3).map(tuple)
    return st.one_of(
        st.builds(lambda o, n: Select(o, n, span=SPAN), below, NAMES),
        st.builds(lambda o, k: Index(o, k, span=SPAN), below, below),
        st.builds(lambda items: ListLiteral(items, span=SPAN), several),
        st.builds(lambda o, n: Has(Select(o, n, span=SPAN), span=SPAN), below, NAMES),
        st.builds(lambda n, a: Call(n, a, span=SPAN), NAMES, several),
        st.builds(lambda n, o, a: Call(n, (o, *a), method=True, span=SPAN), NAMES, below, several),
        st.builds(
            lambda n, o, a: Call(n, (o, *a), span=SPAN),
            st.sampled_from(["&&", "||"]),
            below,
            st.lists(below, min_size=1, max_size=3),
        ),
        st.builds(lambda n, o, p: Call(n, (o, p), span=SPAN), st.sampled_from(INFIX), below, below),
        st.builds(lambda n, o: Call(n, (o,), span=SPAN), st.sampled_from(["!", "-"]), below),
        st.builds(lambda a, b, c: Call("?:", (a, b, c), span=SPAN), below, below, below),
        st.builds(
            lambda n, o, v, p: Macro(n, o, v, p, span=SPAN),
            st.sampled_from(["exists", "all", "exists_one"]),
            below,
            NAMES,
            below,
        ),
    )


TREES = st.recursive(literals() | NAMES.map(lambda n: Ident(n, span=SPAN)), above, max_leaves=15)


@settings(max_examples=600, deadline=None)
@given(TREES)
def test_a_tree_written_as_text_parses_to_the_same_tree(whole: Syntax) -> None:
    """What `unparse` writes means what it was written from, brackets, signs, escapes and all."""
    assert tree(unparse(whole)) == whole


WORDS = (
    "actor . sector == 'a' \" ' ( ) [ ] { } && || ! - 1 0x 1.5e , ? : in has( .exists(e, lists.words text.a list.items"
)
MORE = "e. score u \\ r' // 0 null true labels[ timestamp( \ud800 \x00 é = matches("
PIECES = st.sampled_from([*WORDS.split(" "), *MORE.split(" "), " ", "\n"])


@settings(max_examples=1500, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
@example("\ud800")
@example("'\ud800'")
@example("text.a.matches('(')")
@example("1" * 5000)
@example("1e" + "9" * 5000)
def test_any_text_is_a_condition_or_says_why_not(text: str) -> None:
    """No text makes the parser or the checker fail in another way than with diagnostics that can be shown."""
    try:
        ok = condition(text)
    except InvalidCondition as refused:
        found = refused.diagnostics
    else:
        found = ok.warnings
        assert ok.type == BOOL
    for diagnostic in found:
        assert 1 <= diagnostic.line <= text.count("\n") + 1
        assert "\x00" not in diagnostic.render()


LONG = MAX_LENGTH - 16
HOSTILE = [
    "(" * LONG,
    "[" * LONG,
    "!" * LONG,
    "-" * LONG,
    "a." * (LONG // 2),
    "a?b:" * (LONG // 4),
    '"' * LONG,
    "'\n" * (LONG // 2),
    "1+" * (LONG // 2) + "1",
    "a==" * (LONG // 3),
    "a&&" * (LONG // 3) + "a",
    "x.exists(x," * (LONG // 11),
    "f(" * (LONG // 2),
    "\\" * LONG,
    '"' + "\\" * LONG,
    "1" * LONG,
    "0." + "1" * LONG,
    "$" * LONG,
    "a" * LONG,
    "[" + "'a'," * (LONG // 4) + "]",
    "//" * (LONG // 2),
    " " * LONG,
    "a[" * (LONG // 2),
    "has(" * (LONG // 4),
    "r'''" * (LONG // 4),
]


@pytest.mark.parametrize("text", HOSTILE, ids=[text[:8].strip() or "blank" for text in HOSTILE])
def test_long_texts_are_read_in_bounded_time(text: str) -> None:
    """A text of the greatest length, made to be slow or deep, is read or refused within seconds."""
    start = time.monotonic()
    message = ""
    try:
        condition(text)
    except InvalidCondition as refused:
        message = str(refused)
    assert len(message) < 20_000
    assert time.monotonic() - start < 20


def test_a_condition_has_a_greatest_length() -> None:
    """One character more than allowed is refused by its length, not read."""
    with pytest.raises(InvalidCondition, match="at most 65536 characters"):
        tree(" " * MAX_LENGTH + "1")


@pytest.mark.parametrize(
    "wrap", ["({})", "!{}", "[{}]", "f({})", "a[{}]", "x.all(x, {})", "a ? b : {}", "{} + 1", "a == ({})"]
)
def test_nesting_has_a_limit_that_is_told(wrap: str) -> None:
    """A condition nested just below the limit is read; one nested too deep is refused with a message, not a crash."""
    fine = deep = "a"
    for _ in range(MAX_DEPTH - 4):
        fine = wrap.format(fine)
    tree(fine)
    for _ in range(MAX_DEPTH + 1):
        deep = wrap.format(deep)
    with pytest.raises(InvalidCondition, match="nested more than 64 levels deep"):
        tree(deep)


def test_lists_and_conjunctions_may_be_long() -> None:
    """Length is no depth: thousands of alternatives in a row are fine."""
    tree(" || ".join(["a"] * 10_000))
    tree("[" + ", ".join(["1"] * 10_000) + "]")


SAME_MEANING = [
    ("a || b && c", "a || (b && c)"),
    ("a && b || c", "(a && b) || c"),
    ("a ? b : c ? d : e", "a ? b : (c ? d : e)"),
    ("a ? b || c : d", "a ? (b || c) : d"),
    ("!a == b", "(!a) == b"),
    ("-a + b * c", "(-a) + (b * c)"),
    ("a - b - c", "(a - b) - c"),
    ("a / b * c % d", "((a / b) * c) % d"),
    ("a < b == c", "(a < b) == c"),
    ("!a.b", "!(a.b)"),
    ("-1", "-  1"),
    ("[1, 2,]", "[1, 2]"),
    ("a // said\n && b", "a && b"),
    ("0x10", "16"),
    ("'a'", '"a"'),
    ("'''a'''", '"a"'),
    (r"r'\d'", r"'\\d'"),
    (r"'\x41\u00e9\U0001F600\101\n\?\`'", "'Aé😀A\\n?`'"),
    ("1.0", "10e-1"),
    (".5", "0.5"),
]


@pytest.mark.parametrize(("left", "right"), SAME_MEANING)
def test_precedence_and_spelling_are_those_of_cel(left: str, right: str) -> None:
    """Operators bind as in CEL, and literals can be spelt in all its ways."""
    assert tree(left) == tree(right)


def test_smallest_integer_can_be_written() -> None:
    """The sign belongs to the number, so that -2^63 is in range although 2^63 is not."""
    assert tree("-9223372036854775808") == Literal(-(2**63), INT, span=SPAN)
    with pytest.raises(InvalidCondition, match="number out of range"):
        tree("9223372036854775808")


REFUSED = [
    ("1u", "unsigned integers are no part of the language", "write 1"),
    ("b'a'", "bytes are no part of the language", "write a string"),
    ("rb'a'", "bytes are no part of the language", "write a string"),
    ("{'a': 1}", "expected a value before {", "maps can't be written"),
    ("A{x: 1}", "objects can't be made in a condition", "compare the fields"),
    ("a.map(x, x)", "map is no part of the language", "exists, all and exists_one"),
    ("a.filter(x, x)", "filter is no part of the language", "exists, all and exists_one"),
    ("a = 1", "unexpected character '='", "write =="),
    ("a & b", "unexpected character '&'", "&&"),
    ("a | b", "unexpected character '|'", "||"),
    ("'abc", "string without an end", "add '"),
    (r"'\q'", r"\q is no escape", r"r"),
    (r"'\ud800'", r"\ud800 is no escape", ""),
    ("1x", "1x is no number", ""),
    ("1e999", "number out of range", "1.8e308"),
    ("", "expected a value before the end", ""),
    ("(a", "expected ) before the end", ""),
    ("a b", "unexpected b", "&&"),
    ("a.", "expected a field's name before the end", ""),
    ("has(1)", "has takes one field", "has(actor.sector)"),
    ("a.exists(x)", "exists takes a name", "exists(x"),
    ("if(a)", "if is a reserved word", ""),
    (".a", "expected a value before .", "no dot"),
    ("f(a,)", "expected an argument", ""),
]


@pytest.mark.parametrize(("text", "message", "hint"), REFUSED, ids=[text for text, *_ in REFUSED])
def test_what_is_left_out_is_named(text: str, message: str, hint: str) -> None:
    """What CEL has and the language has not, and what is wrong, is said by name with what to do instead."""
    with pytest.raises(InvalidCondition) as refused:
        tree(text)
    assert message in refused.value.diagnostics[0].message
    assert hint in refused.value.diagnostics[0].hint
