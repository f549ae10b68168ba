"""The conformance data of cel-spec: each case passes, is left out for a reason, or deviates as docs/cel.md says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.conformance.cel.cases import Expected
from tests.conformance.cel.deviations import HERE, REFUSED
from tests.conformance.cel.in_sql import in_sql
from tests.conformance.cel.page import PAGE, inserted
from tests.conformance.cel.reasons import REASONS, reasons
from tests.conformance.cel.running import accepted, applicable, disagreements, expected, in_python
from tests.ledger_rows import EMBEDDED, LATEST, SERVER, empty_store
from usageaudit.policy.language import OPERATORS, Operator, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.cel.cases import Case
    from tests.conformance.cel.running import Form
    from usageaudit.stores.port import Store

UNREACHED = {
    "has(field) -> bool",
    "has(map) -> bool",
    "string in map -> bool",
    "bool in list(bool) -> bool",
    "timestamp in list(timestamp) -> bool",
    "duration in list(duration) -> bool",
    "timestamp.getMilliseconds(zone) -> int",
}
"""What CEL's cases show only with messages, with maps written out, or not at all."""


@pytest.fixture(scope="module")
def all_forms(conformance: tuple[Case, ...]) -> tuple[Form, ...]:
    """Return the forms of all cases that are not left out."""
    return applicable(conformance)


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER, LATEST])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an empty store of each engine."""
    with empty_store(request, tmp_path_factory) as opened:
        yield opened


def test_python_agrees(all_forms: tuple[Form, ...]) -> None:
    """Python gives what CEL says for every case, with constants and with fields of the same values."""
    assert disagreements(all_forms, in_python(all_forms)) == []


def test_sql_agrees(all_forms: tuple[Form, ...], store: Store) -> None:
    """ClickHouse gives what CEL says for every case, with constants and with columns of the same values."""
    assert disagreements(all_forms, in_sql(all_forms, store)) == []


def test_another_value_is_noticed(all_forms: tuple[Form, ...]) -> None:
    """Whatever else a case expected would be reported: what passes, passes because the values are those."""
    found = in_python(all_forms)
    others = [
        replace(form, case=replace(form.case, name="", expected=Expected(value=f"not {expected(form.case)}")))
        for form in all_forms
    ]
    assert len(disagreements(others, found)) == len(all_forms)
    unknown = [replace(form, case=replace(form.case, name="", expected=Expected(error=True))) for form in all_forms]
    known = [value for value in found if value is not None and value is not REFUSED]
    assert len(disagreements(unknown, found)) == len(known) > 800


def test_types_agree(all_forms: tuple[Form, ...]) -> None:
    """The type of a condition is the one that cel-go finds, where that knows one."""
    differing = {
        form.case.text
        for form in all_forms
        if form.condition and form.case.type and "dyn(" not in form.case.text and form.case.name not in HERE
        if str(form.condition.type) != form.case.type
    }
    assert differing == {"[]"}, "an empty list is one of strings"


def test_nothing_of_the_language_is_left_out(conformance: tuple[Case, ...]) -> None:
    """No reason to leave something out applies to a case that the language takes, whatever the case gives."""
    taken = [case for case in conformance if accepted(case)]
    assert [(case.name, reason.what) for case in taken for reason in reasons(case)] == []
    assert len(taken) > 450


def test_every_reason_is_needed(conformance: tuple[Case, ...]) -> None:
    """Each reason explains cases that no reason before it explains, and no two have the same name."""
    first = {found[0].what for case in conformance if (found := reasons(case))}
    assert first == {reason.what for reason in REASONS}
    assert len({reason.what for reason in REASONS}) == len(REASONS)


def test_deviations_deviate(conformance: tuple[Case, ...]) -> None:
    """Each case of the list of deviations exists, is not left out, and gives something else than CEL says."""
    listed = [case for case in conformance if case.name in HERE]
    assert {case.name for case in listed} == set(HERE)
    assert [case.name for case in listed if reasons(case)] == []
    assert [case.name for case in listed if expected(case) == case.expected.value and not case.expected.error] == []


def test_every_operator_is_reached(all_forms: tuple[Form, ...]) -> None:
    """Each operator of the language is in a case that is evaluated, but for those that CEL's data can't show."""
    conditions = (form.condition for form in all_forms if form.condition)
    nodes = (node for condition in conditions for node in walk(condition.root))
    reached = {row for node in nodes if isinstance(row := getattr(node, "operator", None), Operator)}
    assert {row.signature for row in OPERATORS if row not in reached} == UNREACHED


def test_the_page_is_up_to_date(conformance: tuple[Case, ...]) -> None:
    """The tables of docs/cel.md are those that the cases make."""
    text = PAGE.read_text(encoding="utf-8")
    assert inserted(text, conformance) == text
