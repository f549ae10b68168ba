"""What both adapters say to the engine in the same words: the fenced insert, its settings, limits, error codes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usageaudit.errors import Fenced, OutcomeUnknown, QueryError, QueryRefused, StoreUnavailable
from usageaudit.stores.native.block import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usageaudit.errors import UsageAuditError
    from usageaudit.stores.port import Insert, Limits, Store

_HUGE_ROWS, _HUGE_BYTES = 10**9, 10**12

INSERT_SETTINGS: Mapping[str, int | float | str] = {
    "async_insert": 0,
    "insert_deduplicate": 0,
    "max_insert_threads": 1,
    "min_insert_block_size_rows": _HUGE_ROWS,
    "min_insert_block_size_bytes": _HUGE_BYTES,
    "max_insert_block_size": _HUGE_ROWS,
    "max_partitions_per_insert_block": 1,
    "receive_timeout": 5,
    "poll_interval": 1,
}
"""One block stays one data part; and KILL gets hold of an insert whose client went silent within seconds."""

LONG_TEXT_SETTINGS: Mapping[str, int | float | str] = {
    "max_query_size": 16 * 1024 * 1024,
    "max_ast_elements": 5_000_000,
    "max_expanded_ast_elements": 5_000_000,
    # The same text with other constants comes again and again, and compiling it anew costs more than it saves.
    "compile_expressions": 0,
}
"""What the engine needs to take SQL that was generated from policies, which is longer than what anybody types."""

_ORDINARY_TEXT = 64 * 1024
"""So many characters are below what the engine takes by default, 256 KiB, whatever their encoding."""


def text_settings(sql: str) -> Mapping[str, int | float | str]:
    """Return the settings without which the engine would not take a statement of usageaudit's own for its length."""
    return LONG_TEXT_SETTINGS if len(sql) > _ORDINARY_TEXT else {}


# Names and numbers: src/Common/ErrorCodes.cpp of ClickHouse.
_FENCED = 395  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
_FENCE_MESSAGE = "fenced"
_TOO_MANY_PARTS = 252
_UNREADY = {
    159: "it took too long",
    160: "it was too slow",
    202: "it runs as many queries as it may",
    203: "it has no connection left to a shard",
    209: "its network was too slow",
    210: "its network failed",
    216: "an earlier statement with the same id is still running",
    225: "it has no Keeper",
    236: "it broke the statement off",
    242: "the table is read-only there",
    243: "its disk is full",
    285: "too few of its replicas are there",
    286: "an earlier block is not on enough replicas yet",
    _TOO_MANY_PARTS: "it has too many data parts to merge",
    279: "none of its shards answers",
    319: "it does not know what became of the statement",
    394: "the statement was ended",
    425: "it has an error of its system",
    439: "it can't start a thread",
    517: "it has not made an earlier change of the table yet",
    745: "it is overloaded",
    999: "its Keeper failed",
    1001: "it failed",
    1002: "it failed",
}
_TWO_PARTS = "partitions for single INSERT block"  # has the code of too many parts, and no waiting helps
_BEYOND_MEMORY = {241: "it has too little memory free"}
# What no waiting helps with, so that an insert ends with it and is not made again before the ledger was read back:
# its text, its columns, values that don't fit, tables that aren't there, and what the user may not do.
_WRONG_INSERT = frozenset(
    {6, 8, 9, 10, 15, 16, 20, 27, 36, 42, 43, 44, 46, 47, 48, 50, 53, 60, 62, 70, 81, 115, 117, 164}
    | {349, 407, 456, 457, 469, 497, 691}
)
_LIMITS = {158, 159, 160, 191, 241, 307, 396}
_NOT_READING = {164, 392, 497}
_LONGEST_MESSAGE = 600
_PREFIX = re.compile(r"((Code: \d+\. )?DB::(Net)?Exception: )+")
_TAIL = re.compile(
    r"\s*Stack trace:.*|(:|\.)? In scope SELECT formatQuerySingleLine\(.*"
    r"|(\s*\((version [^()]*(\([^()]*\))?|[A-Z_]+)\)\.?)+\s*\Z",
    re.DOTALL,
)


def insert_sql(insert: Insert, source: str, settings: str = "") -> str:
    """Return the INSERT of a block that is read from `source`, a table function.

    A fence that gives no answer (NULL) refuses, too: `WHERE NULL` would write nothing and say nothing.
    """
    names = ", ".join(quoted(name) for name, _ in insert.block.columns)
    fence = f" WHERE throwIf(ifNull(({insert.unless}), 1), '{_FENCE_MESSAGE}') = 0" if insert.unless else ""
    return f"INSERT INTO {insert.table} ({names}){settings} SELECT {names} FROM {source}{fence}"


def kill(store: Store, id_column: str, prefix: str) -> None:
    """End every statement whose id, an expression over `system.processes`, starts so.

    SYNC waits until they are gone, for as long as a silent client of theirs is waited for. Raises StoreUnavailable
    where one is still there.
    """
    chosen = f"startsWith({id_column}, {{prefix:String}}) AND query_id != queryID()"
    store.execute(f"KILL QUERY WHERE {chosen} SYNC", {"prefix": prefix})
    ((left,),) = store.execute(f"SELECT count() FROM system.processes WHERE {chosen}", {"prefix": prefix}).rows
    if left:
        raise StoreUnavailable(f"{left} statements {prefix}… could not be ended; what they write may still land")


def literal(text: str) -> str:
    """Return a string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def limit_settings(limits: Limits) -> dict[str, int | float | str]:
    """Return the settings of a query of a person."""
    return {
        "max_execution_time": limits.seconds,
        "timeout_overflow_mode": "throw",
        "max_memory_usage": limits.memory_bytes,
        "max_result_rows": limits.result_rows,
        "max_result_bytes": limits.memory_bytes,
        "result_overflow_mode": "throw",
        **(LONG_TEXT_SETTINGS if limits.long_text else {}),
    }


def insert_failure(code: int, message: str, insert: Insert) -> UsageAuditError:
    """Return what an error of the engine means for an insert whose data was on its way.

    That nothing was written has to be certain, or the outcome is unknown: most errors may also come after the part was
    committed, from a replica, from Keeper or from a view behind the table.
    """
    if is_fence(code, message):
        return fenced(insert.query_id)
    if code in _WRONG_INSERT or _TWO_PARTS in message or _full(code, message, insert.table):
        return failure(code, message)
    return OutcomeUnknown(f"insert {insert.query_id}: the store said {brief(message)}; read back what it holds")


def _full(code: int, message: str, table: str) -> bool:
    """Tell whether the table itself had too many parts: that is looked at before the first part is written only.

    See onStart in src/Storages/MergeTree/MergeTreeSink.cpp and ReplicatedMergeTreeSink.cpp of ClickHouse.
    """
    return code == _TOO_MANY_PARTS and re.search(rf"in table '([^' ]+\.)?{re.escape(table)}[' ]", message) is not None


def fenced(query_id: str) -> Fenced:
    """Return the error of an insert that the fence stopped."""
    return Fenced(f"insert {query_id}: another owner has taken over; nothing was written")


def is_fence(code: int, message: str) -> bool:
    """Tell whether an error of the engine comes from the fence of an insert."""
    return code == _FENCED and _FENCE_MESSAGE in message


def failure(code: int, message: str) -> UsageAuditError:
    """Return the error for a statement of usageaudit's own: StoreUnavailable where the same one may succeed later."""
    reason = {**_UNREADY, **_BEYOND_MEMORY}.get(code)
    if reason and _TWO_PARTS not in message:
        return StoreUnavailable(f"the store can't do it now: {reason} ({brief(message)})")
    return QueryError(f"the store refused the statement: {brief(message)} (code {code})")


def query_failure(code: int, message: str) -> UsageAuditError:
    """Return the error for a statement of a person that the engine refused."""
    if code in _NOT_READING:
        return QueryRefused(f"only reading is allowed here: {brief(message)}")
    if code in _LIMITS:
        return QueryRefused(f"the query went over a limit: {brief(message)}; narrow it, or raise the limit")
    return failure(code, message)


def brief(message: str) -> str:
    """Return an error message of the engine without stack trace, version, class names and long lists of keywords."""
    text = _PREFIX.sub("", _TAIL.sub("", message.strip())).removesuffix(".")
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"
