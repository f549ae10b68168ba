"""Texts that fit."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.alerts.targets.alerts import TEXT
from usageaudit.alerts.targets.text import ELLIPSIS, fit

# The texts are large on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

ESCAPES = {"&": "&amp;", "<": "&lt;"}


def _escape(character: str) -> str:
    return ESCAPES.get(character, character)


@given(TEXT, st.integers(0, 300), st.booleans())
def test_a_text_never_is_longer_than_allowed(text: str, most: int, lines: bool) -> None:
    """As it is written, with its escapes, a text has at most so many UTF-16 code units, and can be encoded."""
    found = fit(text, most, lines=lines, written=_escape)
    assert len(found.encode("utf-16-le")) <= 2 * most
    assert "\n" not in found or lines


@given(TEXT, st.integers(1, 300))
def test_nothing_but_text_is_left(text: str, most: int) -> None:
    """No control character and no mark of direction is left, and no half of a character or of an escape."""
    found = fit(text, most, written=_escape)
    assert not {unicodedata.category(one) for one in found} & {"Cc", "Cs"}
    assert not set(found) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    assert "&" not in found.replace("&amp;", "").replace("&lt;", "")


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=40))
def test_a_plain_text_that_fits_stays_as_it_is(text: str) -> None:
    """Where nothing has to be cut or taken out, nothing is."""
    assert fit(text, 40) == text


@given(st.text(st.sampled_from("ab&<\U0001f600"), min_size=1, max_size=30), st.integers(1, 40))
def test_what_is_cut_says_so(text: str, most: int) -> None:
    """A text ends with an ellipsis exactly where it had to be cut, and otherwise begins as it did."""
    found, whole = fit(text, most, written=_escape), "".join(map(_escape, text))
    assert found == whole or (found.endswith(ELLIPSIS) and whole.startswith(found[:-1]))
