"""What the codes of the engine's errors mean: what may be repeated, what has to be read back, what stays wrong."""

from __future__ import annotations

import pytest

from usageaudit.errors import Fenced, OutcomeUnknown, QueryError, QueryRefused, StoreUnavailable
from usageaudit.stores import dialect
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.port import Insert

# src/Common/ErrorCodes.cpp of ClickHouse: time-outs, networks, Keeper, cancelled and aborted statements, resources.
PASSING = [159, 160, 202, 203, 209, 210, 216, 225, 236, 241, 242, 243, 252, 279, 319, 394, 425, 439, 745]
PASSING += [999, 1001, 1002]
# SYNTAX_ERROR, UNKNOWN_TABLE, UNKNOWN_IDENTIFIER, TYPE_MISMATCH, ACCESS_DENIED
STAYING = [47, 53, 60, 62, 497]
INSERT = Insert("ledger", NativeBlock([("offset", "UInt64")]), "ingest/1")


@pytest.mark.parametrize("code", PASSING)
def test_what_passes_may_be_repeated(code: int) -> None:
    """An error that says nothing against the statement is StoreUnavailable, so that the consumer waits and repeats."""
    assert isinstance(dialect.failure(code, "why"), StoreUnavailable)


@pytest.mark.parametrize("code", STAYING)
def test_what_stays_wrong_is_a_query_error(code: int) -> None:
    """Control: what no waiting helps is QueryError."""
    assert isinstance(dialect.failure(code, "why"), QueryError)


@pytest.mark.parametrize("code", [159, 160, 241])
def test_limits_of_a_persons_query_are_refusals(code: int) -> None:
    """Time and memory are limits where a person asks: QueryRefused, and no reason to wait."""
    assert isinstance(dialect.query_failure(code, "why"), QueryRefused)


@pytest.mark.parametrize("code", [*PASSING, 12345])
def test_with_data_on_its_way_the_outcome_is_unknown(code: int) -> None:
    """Whatever is not known to come before the part is committed is OutcomeUnknown; a new code is, too."""
    assert isinstance(dialect.insert_failure(code, "why", INSERT), OutcomeUnknown)


@pytest.mark.parametrize("code", STAYING)
def test_an_insert_that_stays_wrong_is_a_query_error(code: int) -> None:
    """What no waiting helps is QueryError with data on its way, too, so that it is not repeated for ever."""
    assert isinstance(dialect.insert_failure(code, "why", INSERT), QueryError)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (395, "fenced: while executing", Fenced),
        (395, "a view's own words", OutcomeUnknown),
        (252, "Too many partitions for single INSERT block (more than 1)", QueryError),
        (
            252,
            "Too many parts (300 with average size of 1.00 KiB) in table 'default.ledger (a-b)'. M",
            StoreUnavailable,
        ),
        (252, "Too many parts (300 with average size of 1.00 KiB) in table 'default.ledger'. M", StoreUnavailable),
        (
            252,
            "Too many parts (300 with average size of 1.00 KiB) in table 'default.ledger_by_day (a-b)'",
            OutcomeUnknown,
        ),
        (252, "Too many parts (300 with average size of 1.00 KiB) in table 'default.my_ledger (a-b)'", OutcomeUnknown),
    ],
)
def test_what_is_certain_with_data_on_its_way_is_said(code: int, message: str, kind: type[Exception]) -> None:
    """The fence, a block of two parts and too many parts of this very table come before anything is written."""
    assert type(dialect.insert_failure(code, message, INSERT)) is kind
