"""What a person's SQL may not do, seen in the form in which the engine writes a statement."""

from __future__ import annotations

import pytest

from usageaudit.errors import QueryRefused
from usageaudit.stores.refusals import check_read_only

TABLE_FUNCTIONS = ["url", "file", "numbers", "format", "remoteSecure", "values"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "SHOW TABLES",
        "DESCRIBE TABLE ledger",
        "EXISTS TABLE ledger",
        "EXPLAIN SELECT 1",
        "SELECT * FROM numbers(3)",
        "SELECT format('{}', 1), file, url FROM t",
        "SELECT 'INTO OUTFILE', 'file(', `INTO`, `a\\`b` FROM t",
        "SELECT 'it''s', 'a\\'b file(' AS `url` FROM t",
    ],
)
def test_reading_is_let_through(statement: str) -> None:
    """What reads is not refused for words in its strings, or for columns named like functions."""
    check_read_only(statement, TABLE_FUNCTIONS)


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "INSERT INTO t FORMAT Values",
        "KILL QUERY WHERE 1 ASYNC",
        "SYSTEM STOP MERGES",
        "SET max_threads = 1",
        "USE system",
        "CHECK TABLE t",
        "SELECT file('/etc/passwd')",
        "SELECT FILE('/etc/passwd')",
        "SELECT * FROM url('http://host/')",
        "SELECT * FROM `url`('http://host/')",
        "SELECT 'a\\'', * FROM remoteSecure('host', db.t)",
        "DESCRIBE TABLE url('http://host/')",
        "SELECT aiGenerate('x')",
        "SELECT 1 INTO OUTFILE 'x' FORMAT CSV",
        "(SELECT 1) INTO OUTFILE 'x'",
        "SHOW TABLES INTO OUTFILE 'x'",
    ],
)
def test_what_does_more_is_refused(statement: str) -> None:
    """Whatever is no reading, or reaches outside of the store, raises QueryRefused."""
    with pytest.raises(QueryRefused):
        check_read_only(statement, TABLE_FUNCTIONS)
