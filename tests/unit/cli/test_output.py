"""Rows as tables, JSON, lines of JSON and CSV: values keep their meaning and can not drive the terminal."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.cli.output import Format, print_rows
from usageaudit.cli.table import format_table
from usageaudit.cli.text import printable
from usageaudit.cli.values import jsonable, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

texts = st.text(max_size=30)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def _printed(capsys: pytest.CaptureFixture[str], rows: Sequence[Sequence[Any]], form: Format) -> str:
    capsys.readouterr()
    print_rows([f"c{i}" for i in range(len(rows[0]))], rows, form)
    return capsys.readouterr().out


@given(st.text())
def test_printable_text_has_no_control_characters(text: str) -> None:
    """Whatever is printed holds no control, format or unassigned character, joiners aside."""
    left = {one for one in printable(text) if one not in "\u200c\u200d"}
    assert not [one for one in left if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")]


@pytest.mark.parametrize(
    "sequence", ["\x1b[31m", "\x9b31m", "\x1b]0;title\x07", "a\rb", "\u202e", "\x7f", "\x1b]8;;x\x1b\\"]
)
@pytest.mark.parametrize("form", list(Format))
def test_escape_sequences_stay_off_the_terminal(
    sequence: str, form: Format, capsys: pytest.CaptureFixture[str]
) -> None:
    """An escape sequence in data never appears in a table or in JSON; CSV, which is for programs, keeps the text."""
    printed = _printed(capsys, [[sequence]], form)
    if form is Format.csv:
        assert next(csv.reader(io.StringIO(printed.partition("\n")[2], newline="")))[0] == sequence
    else:
        assert not [one for one in printed if unicodedata.category(one) in ("Cc", "Cf") and one != "\n"]


@pytest.mark.parametrize("form", [Format.json, Format.ndjson])
@given(rows=st.lists(st.tuples(values, values), min_size=1, max_size=3))
def test_both_json_forms_say_the_same_values(form: Format, rows: list[tuple[Any, Any]]) -> None:
    """What is printed is JSON, for any values, and reads back as their JSON form."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        print_rows(("a", "b"), rows, form)
    text = out.getvalue()
    found = json.loads(text) if form is Format.json else [json.loads(line) for line in text.splitlines()]
    assert found == [{"a": jsonable(a), "b": jsonable(b)} for a, b in rows]


@pytest.mark.parametrize(
    ("value", "json_form"),
    [
        (datetime(2024, 5, 1, 9, 30, tzinfo=UTC), "2024-05-01T09:30:00Z"),
        (datetime(2024, 5, 1, 9, 30, 0, 125000, tzinfo=timezone(timedelta(hours=2))), "2024-05-01T07:30:00.125000Z"),
        (datetime(2024, 5, 1, 9, 30), "2024-05-01T09:30:00Z"),  # noqa: DTZ001  the store's times are UTC
        (date(2024, 5, 1), "2024-05-01"),
        (Decimal("0.000000001"), "0.000000001"),
        (Decimal("1E+3"), "1000"),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (float("nan"), None),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"\xff", "\ufffd"),
        ("a\udc80", "a\ufffd"),
        ((1, "x"), [1, "x"]),
        ({1: Decimal(2)}, {"1": "2"}),
        (True, True),
    ],
)
def test_values_in_json(value: object, json_form: object) -> None:
    """Times are RFC 3339 in UTC with Z, decimals strings, 64-bit integers numbers."""
    assert jsonable(value) == json_form


def test_csv_is_what_other_programs_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields with commas, quotes and line ends survive; null is empty, lists are JSON."""
    printed = _printed(capsys, [['a,"b"\nc', None, [1, "x"], Decimal("1.50")]], Format.csv)
    assert list(csv.reader(io.StringIO(printed, newline="")))[1] == ['a,"b"\nc', "", '[1,"x"]', "1.50"]


def test_no_rows_are_still_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """Without rows JSON is an empty array, lines of JSON are nothing, CSV and table only name the columns."""
    outputs = {}
    for form in Format:
        print_rows(("a", "b"), [], form)
        outputs[form] = capsys.readouterr().out
    assert json.loads(outputs[Format.json]) == []
    assert outputs[Format.ndjson] == ""
    assert outputs[Format.csv] == "a,b\n"
    assert outputs[Format.table].split() == ["a", "b", "─", "─"]


cells = st.text(st.characters(codec="ascii"), max_size=80) | st.integers(0, 10**12) | st.none()


@given(
    rows=st.integers(1, 12).flatmap(
        lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=4)
    ),
    width=st.integers(40, 160),
)
def test_a_table_fits_its_width(rows: list[list[Any]], width: int) -> None:
    """No line is wider than the terminal, however many columns there are."""
    columns = [f"column_{i}" for i in range(len(rows[0]))]
    assert max(len(line.rstrip("\n")) for line in format_table(columns, rows, width=width)) <= width


def test_rows_too_wide_for_a_table_lose_nothing() -> None:
    """Where columns do not fit, every value is printed whole in a block of its own."""
    row = ["x" * 70, *range(30)]
    text = "".join(format_table([f"column_{i}" for i in range(31)], [row], width=80))
    assert "".join(text.split()).count("x" * 70) == 1
    assert all(f"column_{i}" in text for i in range(31))


def test_wide_characters_are_aligned() -> None:
    """Characters that take two columns are counted as two."""
    lines = list(format_table(["a", "b"], [["日本", 1], ["xxxx", 2]]))
    assert [line.rstrip("\n") for line in lines[2:]] == ["日本  1", "xxxx  2"]


def test_text_of_null_is_empty() -> None:
    """Null is printed as nothing, and an empty list as one."""
    assert (text_of(None), text_of([]), text_of(False)) == ("", "[]", "false")
