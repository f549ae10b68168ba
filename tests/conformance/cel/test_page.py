"""docs/cel.md: what its examples say of conditions here is true of both back ends."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cel.cases import Case, Expected
from tests.conformance.cel.deviations import REFUSED
from tests.conformance.cel.in_sql import in_sql
from tests.conformance.cel.page import PAGE
from tests.conformance.cel.running import Form, in_python
from tests.ledger_rows import EMBEDDED, empty_store
from usageaudit.events.fields import EVENT_FIELDS
from usageaudit.policy.language import Condition, InvalidCondition, Origin, Schema, check, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usageaudit.policy.language import Path
    from usageaudit.stores.port import Store

TEXT = PAGE.read_text(encoding="utf-8")
TABLES = re.findall(r"<!-- examples: begin -->\n(.*?)<!-- examples: end -->", TEXT, re.DOTALL)
LINES = [line for table in TABLES for line in table.splitlines()[2:]]
EXAMPLES = [re.fullmatch(r"\| `(.+)` \| `(.+)` \| (.+) \| (.+) \|", line) for line in LINES]
OUTCOMES = {"true": True, "false": False, "unknown": None, "refused": REFUSED}


@pytest.fixture(scope="module", params=[EMBEDDED])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an empty store."""
    with empty_store(request, tmp_path_factory) as opened:
        yield opened


def test_examples_are_true(store: Store) -> None:
    """Each example gives what its line says, in Python and in SQL."""
    examples = [example.groups() for example in EXAMPLES if example]
    assert len(examples) == len(EXAMPLES) > 15
    forms = [_form(text, json.loads(event)) for text, event, _, _ in examples]
    said = [OUTCOMES[here] for *_, here in examples]
    assert in_python(forms) == said
    assert in_sql(forms, store) == said


def test_examples_deviate_and_agree() -> None:
    """An example says something else of CEL than of us, but for one, which is there to show a limit of another."""
    same = [example.group(1) for example in EXAMPLES if example and example.group(3) == example.group(4)]
    assert same == ["usage.input_tokens in []"]


def _form(text: str, event: Mapping[str, Any]) -> Form:
    case = Case(text, text, "", (), Expected(), "", "", "", "", "")
    return Form(case, "example", _condition(text), dict(_values(event, ())))


def _condition(text: str) -> Condition | None:
    try:
        return check(parse(text, origin=Origin("page")), Schema.of(EVENT_FIELDS), lists={}, lets={})
    except InvalidCondition:
        return None


def _values(event: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for name, value in event.items():
        if isinstance(value, dict) and name != "labels":
            yield from _values(value, (*path, name))
        else:
            yield (*path, name), value
