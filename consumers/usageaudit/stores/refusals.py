"""What a person's SQL may not do, beyond what `readonly = 1` of the engine stops.

`readonly = 1` stops every change of data, tables and settings, and most table functions. It lets through, as tried on
25.8 and 26.9: KILL QUERY, SYSTEM START and STOP, `SELECT … INTO OUTFILE`, `DESCRIBE url(…)`, the function `file(…)`,
which reads the disk, several statements at once in the embedded engine, and table functions that touch files before
they are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usageaudit.errors import QueryRefused
from usageaudit.stores.dialect import LONG_TEXT_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usageaudit.stores.port import Limits

FORMAT_SQL = (
    "SELECT formatQuerySingleLine({query:String}) AS statement,"
    " (SELECT groupArray(name) FROM system.table_functions) AS table_functions"
)
"""Has the engine's own parser write a statement in one form: no comments, no heredocs, names quoted one way."""

_LONG_TEXT = f" SETTINGS max_query_size = {LONG_TEXT_SETTINGS['max_query_size']}"

_STATEMENTS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXISTS", "EXPLAIN"})
_TABLE_FUNCTIONS_THAT_STAY_INSIDE = frozenset(
    {
        "format",
        "generate_series",
        "generaterandom",
        "generateseries",
        "merge",
        "null",
        "numbers",
        "numbers_mt",
        "primes",
        "values",
        "view",
        "viewexplain",
        "zeros",
        "zeros_mt",
    }
)
_FUNCTIONS_THAT_REACH_OUT = frozenset(
    {
        "aiclassify",
        "aiembed",
        "aiextract",
        "aifilter",
        "aigenerate",
        "airedact",
        "aisimilarity",
        "aitranslate",
        "catboostevaluate",
        "file",
        "reversednsquery",
    }
)
_OPENING = frozenset("(")
_TOKEN = re.compile(r"'(?:[^'\\]|\\.|'')*'|`((?:[^`\\]|\\.)*)`|([A-Za-z_]\w*)|\S", re.DOTALL)


def format_sql(limits: Limits) -> str:
    """Return FORMAT_SQL for statements within these limits."""
    return FORMAT_SQL + (_LONG_TEXT if limits.long_text else "")


def check_read_only(statement: str, table_functions: Iterable[str]) -> None:
    """Raise QueryRefused for a statement that does more than read tables.

    `statement` is in the form that FORMAT_SQL gives it, `table_functions` are all that the engine has.
    """
    denied = {name.lower() for name in table_functions} - _TABLE_FUNCTIONS_THAT_STAY_INSIDE | _FUNCTIONS_THAT_REACH_OUT
    tokens = [match.group(1) or match.group(2) or match.group(0) for match in _TOKEN.finditer(statement)]
    first = next((token.upper() for token in tokens if token not in _OPENING), "")
    if first not in _STATEMENTS:
        raise QueryRefused(f"{first or 'an empty text'} does not read: only SELECT, SHOW, DESCRIBE, EXISTS, EXPLAIN do")
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if following == "(" and token.lower() in denied:
            raise QueryRefused(f"{token}(…) reads or writes outside of the store, which queries must not")
        if (token.upper(), following.upper()) == ("INTO", "OUTFILE"):
            raise QueryRefused("INTO OUTFILE writes a file; ask for the rows and write them yourself")
