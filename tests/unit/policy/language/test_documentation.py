"""docs/policy-language.md: complete, and true."""

from __future__ import annotations

import re

import pytest

from tests.unit.policy.language.operator_table import PAGE, inserted
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.policy.language import MAX_DEPTH, MAX_LENGTH, MAX_NODES, OPERATORS, Origin, Schema, check, parse
from usageaudit.policy.language.patterns import MAX_PROGRAM

TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```cel\n(.*?)```", TEXT, re.DOTALL)


def test_every_operator_is_in_the_page() -> None:
    """The table of the page is the one that the operators make, so none is left out or told wrong."""
    assert inserted(TEXT) == TEXT
    assert all(row.doc for row in OPERATORS)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_condition(example: str) -> None:
    """What the page shows can be copied: it is checked against the event, and brings no warning."""
    lists = {"mobile_cameras": ["body_worn_camera"]}
    expr = parse(example, origin=Origin("page"))
    assert check(expr, Schema.of(EVENT_FIELDS), lists=lists, lets={}).warnings == ()


@pytest.mark.parametrize("limit", [MAX_LENGTH, MAX_NODES, MAX_PROGRAM, MAX_DEPTH])
def test_limits_are_told(limit: int) -> None:
    """Each limit that an author may meet stands in the page."""
    assert f"{limit:,}" in TEXT
