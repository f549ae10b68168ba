"""What the codes of the engine's errors mean: what may be repeated, what has to be read back, what stays wrong."""

from __future__ import annotations

import pytest

from usageaudit.errors import QueryError, QueryRefused, StoreUnavailable
from usageaudit.stores import dialect

# src/Common/ErrorCodes.cpp of ClickHouse: time-outs, networks, Keeper, cancelled and aborted statements, resources.
PASSING = [159, 160, 202, 203, 209, 210, 216, 225, 236, 241, 242, 243, 252, 279, 319, 394, 425, 439, 745]
PASSING += [999, 1001, 1002]
# SYNTAX_ERROR, UNKNOWN_TABLE, UNKNOWN_IDENTIFIER, TYPE_MISMATCH, ACCESS_DENIED
STAYING = [47, 53, 60, 62, 497]


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
