"""What every adapter of the store does alike: one suite, run against a ClickHouse server and the embedded engine."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
import uuid
from contextlib import contextmanager
from decimal import Decimal
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger_rows import EMBEDDED, LATEST, SERVER, empty_store
from tests.native_values import samples
from usageaudit.errors import Fenced, OutcomeUnknown, QueryError, QueryRefused, StoreUnavailable, UsageAuditError
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.port import Insert, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.native_values import Sample
    from usageaudit.stores.port import Store

DEADLINE_S = 30
ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PROPERTY = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER, LATEST])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an empty store of each engine, shared by the tests: use tables of your own."""
    with empty_store(request, tmp_path_factory) as opened:
        yield opened


@pytest.fixture
def table(store: Store) -> Iterator[str]:
    """Yield the name of an empty table of numbers, in parts by month."""
    name = f"numbers_{uuid.uuid4().hex}"
    store.execute(
        f"CREATE TABLE {name} (number UInt64, at DateTime DEFAULT 0) ENGINE = MergeTree "
        "PARTITION BY toYYYYMM(at) ORDER BY number"
    )
    yield name
    store.execute(f"DROP TABLE {name} SYNC")


def _numbers(count: int, start: int = 0) -> NativeBlock:
    block = NativeBlock([("number", "UInt64")])
    block.add_rows([(number,) for number in range(start, start + count)])
    return block


def _total(store: Store, table: str) -> tuple[int, int]:
    ((count, total),) = store.execute(f"SELECT count(), sum(number) FROM {table}").rows
    return count, total


def _parts(store: Store, table: str) -> list[int]:
    sql = "SELECT rows FROM system.parts WHERE table = {table:String} AND active ORDER BY rows"
    return [rows for (rows,) in store.execute(sql, {"table": table}).rows]


@contextmanager
def _in_thread(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run something in a thread; the list gets its result, or the error that it raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except UsageAuditError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield outcome
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def _await_running(store: Store, mark: str) -> None:
    """Wait until a statement with `mark` in its text runs."""
    running = "SELECT count() FROM system.processes WHERE position(query, {mark:String}) > 0"
    give_up = time.monotonic() + DEADLINE_S
    while store.execute(running, {"mark": mark}).rows == [(0,)]:
        assert time.monotonic() < give_up


VALUES: list[tuple[str, Any]] = [
    ("1::UInt8", 1),
    ("-9223372036854775808::Int64", -(2**63)),
    ("18446744073709551615::UInt64", 2**64 - 1),
    ("170141183460469231731687303715884105727::Int128", 2**127 - 1),
    ("0.1::Float32", 0.10000000149011612),
    ("0.1::Float64", 0.1),
    ("-inf", float("-inf")),
    ("'-1.5'::Decimal(18, 9)", Decimal("-1.5")),
    ("'12345678901234567890.123456789'::Decimal(38, 9)", Decimal("12345678901234567890.123456789")),
    ("true", True),
    ("NULL", None),
    ("'é\\0\\n\\t\\'\\\\\u2028\U0001f600'", "é\0\n\t'\\\u2028\U0001f600"),
    ("unhex('ff00')", b"\xff\x00"),
    ("[unhex('ff'), 'a']", [b"\xff", "a"]),
    ("'x'::LowCardinality(Nullable(String))", "x"),
    ("'ab'::FixedString(4)", "ab"),
    ("'b'::Enum8('a' = 1, 'b' = 2)", "b"),
    ("toDate('2026-11-23')", dt.date(2026, 11, 23)),
    ("toDate32('1950-01-02')", dt.date(1950, 1, 2)),
    ("toDateTime('2026-11-23 01:02:03', 'UTC')", dt.datetime(2026, 11, 23, 1, 2, 3, tzinfo=dt.UTC)),
    ("toDateTime('2026-11-23 01:02:03', 'Asia/Tokyo')", dt.datetime(2026, 11, 22, 16, 2, 3, tzinfo=dt.UTC)),
    ("fromUnixTimestamp64Micro(1700000000000001, 'UTC')", dt.datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=dt.UTC)),
    ("toDateTime(1700000000)", dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)),
    ("toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')", uuid.UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0")),
    ("toIPv4('1.2.3.4')", IPv4Address("1.2.3.4")),
    ("[1, NULL]", [1, None]),
    ("[[toDate('2026-11-23')], []]", [[dt.date(2026, 11, 23)], []]),
    ("(1, 'a', 0.5::Decimal(9, 1))", (1, "a", Decimal("0.5"))),
    ("tuple(1, 'a')::Tuple(`a b` UInt8, c String)", (1, "a")),
    ("map('k', [toDate('2026-11-23')])", {"k": [dt.date(2026, 11, 23)]}),
    ("map(1, 'a')", {1: "a"}),
    ("[]::Array(Tuple(String, String))", []),
]


@pytest.mark.parametrize(("expression", "value"), VALUES)
def test_a_value_of_any_type_is_the_same_from_both_engines(store: Store, expression: str, value: object) -> None:
    """A result has the Python value that belongs to the column's type, alone, nullable and in an array."""
    rows = store.execute(f"SELECT {expression} AS value, [value], 'after'").rows
    assert rows == [(value, [value], "after")]
    assert type(rows[0][0]) is type(value)


def test_a_result_names_its_columns(store: Store) -> None:
    """A result has the names and types of its columns without rows, too; a statement without one has none."""
    result = store.execute("SELECT 1::UInt8 AS `a b`, 'x' AS `é`, number FROM numbers(0)")
    assert (result.columns, result.types) == (("a b", "é", "number"), ("UInt8", "String", "UInt64"))
    assert list(result.rows) == []
    assert list(store.execute("CREATE TEMPORARY TABLE nothing_comes_back (x UInt8)").rows) == []


@given(sample=samples())
@PROPERTY
def test_a_block_is_looked_up_as_it_was_made(store: Store, sample: Sample) -> None:
    """A block that goes along with a read arrives with every value, of any types."""
    assert list(store.look_up("SELECT * FROM given ORDER BY row", "given", sample.block()).rows) == sample.read


@given(sample=samples())
@PROPERTY
def test_a_block_is_inserted_as_it_was_made(store: Store, sample: Sample) -> None:
    """A block that is inserted into a table is read back with every value, of any types."""
    name = f"sample_{uuid.uuid4().hex}"
    block = sample.block()
    store.execute(f"CREATE TABLE {name} ({block.structure}) ENGINE = MergeTree ORDER BY row")
    store.insert(Insert(name, block, f"sample/{name}"))
    assert list(store.execute(f"SELECT * FROM {name} ORDER BY row").rows) == sample.read
    store.execute(f"DROP TABLE {name} SYNC")


@given(text=TEXTS, texts=st.lists(st.none() | TEXTS), data=st.binary(), number=st.integers(0, 2**64 - 1))
@PROPERTY
def test_parameters_arrive_as_they_are(
    store: Store, text: str, texts: list[str | None], data: bytes, number: int
) -> None:
    """Strings with any characters, lists of them, bytes and numbers are bound, not pasted."""
    sql = (
        "SELECT {text:String} AS a, {texts:Array(Nullable(String))} AS b, hex({data:String}) AS c, {number:UInt64} AS d"
    )
    parameters = {"text": text, "texts": texts, "data": data, "number": number}
    expected = (text, texts, data.hex().upper(), number)
    assert store.execute(sql, parameters).rows == [expected]
    assert store.query(sql, parameters).rows == [expected]


@pytest.mark.parametrize(
    "text", ["'", "\\", "\\N", "NULL", "{x:String}", "'; DROP TABLE x; --", "%(x)s", "\0", "\r\n\u2028"]
)
def test_text_that_means_something_in_sql_arrives_as_text(store: Store, text: str) -> None:
    """Quotes, escapes, placeholders and statements in a parameter are nothing but text."""
    assert store.execute("SELECT {x:Nullable(String)} AS x", {"x": text}).rows == [(text,)]


def test_a_parameter_may_have_any_name(store: Store) -> None:
    """A parameter of a person's query may be called like a setting, and text that looks like one stays text."""
    sql = "SELECT {limit:UInt8} AS `{limit:UInt8}`, '{limit:UInt8}' AS text, {offset:String} AS offset /* {limit:X} */"
    assert store.query(sql, {"limit": 5, "offset": "o"}).rows == [(5, "{limit:UInt8}", "o")]


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("Nullable(String)", None),
        ("Bool", True),
        ("Float64", 1e-300),
        ("Decimal(18, 9)", Decimal("-0.000000001")),
        ("Date", dt.date(2026, 11, 23)),
        ("DateTime64(6, 'UTC')", dt.datetime(2026, 11, 23, 1, 2, 3, 4, tzinfo=dt.UTC)),
        ("DateTime('UTC')", dt.datetime(2026, 11, 23, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=9)))),
        ("Array(DateTime64(3, 'UTC'))", [dt.datetime(2026, 11, 23, 1, 2, 3, 4000, tzinfo=dt.UTC)]),
        ("Array(Tuple(String, UInt8))", [("a'b", 1)]),
        ("Map(String, Array(String))", {"a'": ["\\"]}),
        ("UUID", uuid.UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0")),
    ],
)
def test_parameters_of_other_types_arrive(store: Store, type_name: str, value: object) -> None:
    """A parameter of each kind is read back as it was given."""
    assert store.execute(f"SELECT {{x:{type_name}}} AS x", {"x": value}).rows == [(value,)]


@pytest.mark.parametrize(
    ("type_name", "text", "message"),
    [
        ("Date", "2024-13-01", "parameter x: 2024-13-01 is no date that exists; write YYYY-MM-DD"),
        ("Nullable( Date )", "2024-02-31", "no date that exists"),
        ("Date", "2149-06-07", "outside of Date"),
        ("Date32", "2023-02-29", "no date that exists"),
        ("Date32", "2300-01-01", "outside of Date32"),
        ("DateTime", "2024-02-31 00:00:00", "no time that exists"),
        ("DateTime", "2024-13-01", "no time that exists"),
        ("DateTime('Asia/Tokyo')", "2024-05-01T25:00:00Z", "no time that exists"),
        ("DateTime", "2106-02-07T06:28:16Z", "outside of DateTime"),
        ("DateTime", "2024-05-01T00:00:00.5Z", "finer than DateTime"),
        ("DateTime64(6, 'UTC')", "2024-02-30T00:00:00.5", "no time that exists"),
        ("DateTime64(6)", "1969-12-31T23:59:59.250Z", "last second before 1970"),
        ("DateTime64(9)", "2263-01-01T00:00:00Z", "outside of DateTime64"),
        ("Int64", "9223372036854775808", "no Int64"),
        ("LowCardinality(Nullable(Int8))", "-129", "no Int8"),
        ("UInt8", "256", "from 0 to 255"),
        ("UInt256", "9" * 5000, "no UInt256"),
        ("bigint unsigned", "18446744073709551616", "no UInt64"),
    ],
)
def test_a_text_that_is_no_value_of_its_type_is_refused(store: Store, type_name: str, text: str, message: str) -> None:
    """A text that the engine would turn into another date, time or number raises QueryError, which names it."""
    with pytest.raises(QueryError, match=f"parameter x: .*{re.escape(message.removeprefix('parameter x: '))}"):
        store.query(f"SELECT '{{x:String}}' AS text, {{x:{type_name}}} AS x", {"x": text})


OFFSETS = st.integers(-14 * 60, 14 * 60)
MOMENT = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [
        ("DateTime64(6)", "2024-05-01T00:00:00Z", MOMENT),
        ("DateTime64(6)", "2024-05-01 02:00:00.123456+02:00", MOMENT.replace(microsecond=123456)),
        ("DateTime64(6, 'Asia/Tokyo')", "2024-04-30t19:00:00.5-05:00", MOMENT.replace(microsecond=500000)),
        ("Nullable(DateTime64(3, 'Asia/Tokyo'))", "2024-05-01 09:00:00.25", MOMENT.replace(microsecond=250000)),
        ("DateTime64(6)", "1969-12-31T23:59:58.25Z", dt.datetime(1969, 12, 31, 23, 59, 58, 250000, tzinfo=dt.UTC)),
        ("DateTime64(3)", "1970-01-01T00:33:44Z", dt.datetime(1970, 1, 1, 0, 33, 44, tzinfo=dt.UTC)),
        ("DateTime64(6, 'UTC')", "2024-05-01", MOMENT),
        ("DateTime", "2024-05-01T02:00:00.000+02:00", MOMENT),
        ("DateTime('Asia/Tokyo')", "2024-05-01T00:00:00Z", MOMENT),
        ("DateTime('Asia/Tokyo')", "2024-05-01T09:00:00", MOMENT),
        ("DateTime('Asia/Tokyo')", "2024-05-01", MOMENT - dt.timedelta(hours=9)),
        ("DateTime", "1970-01-01T00:00:01Z", dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)),
        ("DateTime", "1714521600", MOMENT),
        ("TIMESTAMP", "2106-02-07T06:28:15Z", dt.datetime(2106, 2, 7, 6, 28, 15, tzinfo=dt.UTC)),
        ("Date", "2024-05-01", dt.date(2024, 5, 1)),
        ("Nullable(Date32)", "1900-01-01", dt.date(1900, 1, 1)),
        ("Int64", "-9223372036854775808", -(2**63)),
        ("Nullable(UInt8)", "255", 255),
        ("String", "2024-13-01", "2024-13-01"),
    ],
)
def test_a_text_that_is_a_value_of_its_type_arrives(store: Store, type_name: str, text: str, value: object) -> None:
    """A date, a time of RFC 3339 with or without a zone and a number are read as what they say."""
    assert store.query(f"SELECT {{x:{type_name}}} AS x", {"x": text}).rows == [(value,)]


@given(micros=st.integers(-2208900000 * 10**6, -(10**6)) | st.integers(0, 10413700000 * 10**6), minutes=OFFSETS)
@PROPERTY
def test_a_time_that_was_printed_can_be_given_back(store: Store, micros: int, minutes: int) -> None:
    """A moment written with any offset arrives as that moment, whatever zone the type has."""
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)
    text = moment.astimezone(dt.timezone(dt.timedelta(minutes=minutes))).isoformat()
    for type_name in ("DateTime64(6)", "DateTime64(6, 'Europe/Paris')"):
        found = store.query(f"SELECT toUnixTimestamp64Micro({{x:{type_name}}}) AS x", {"x": text}).rows
        assert found == [(micros,)]


@pytest.mark.parametrize(
    "condition",
    [
        "at >= '2024-05-01 00:00:00'",
        "at = '2024-05-01T00:00:00'",
        "at BETWEEN '2024-05-01' AND '2024-05-01 00:00:00.5'",
        "at IN ('2024-05-01 00:00:00')",
        "at = parseDateTime64BestEffort('2024-05-01T00:00:00Z', 6)",
        "at IN (parseDateTime64BestEffort('2024-05-01T02:00:00.000000+02:00', 6))",
    ],
)
def test_a_literal_of_a_time_is_one_of_its_columns_zone(store: Store, condition: str) -> None:
    """Times in a person's SQL are written without a zone, or in the function that reads one, in every engine."""
    given_time = "WITH toDateTime64('2024-05-01 00:00:00', 6, 'UTC') AS at"
    assert store.query(f"{given_time} SELECT {condition} AS holds").rows == [(1,)]


def test_one_text_of_two_types_that_read_it_differently_is_refused(store: Store) -> None:
    """A parameter is not rewritten for one of its placeholders under the eyes of another."""
    with pytest.raises(QueryError, match="parameter x has several types"):
        store.query("SELECT {x:DateTime}, {x:String}", {"x": "2024-05-01T00:00:00Z"})


@pytest.mark.parametrize("parameters", [{}, {"x": "1"}])
def test_a_statement_may_speak_of_bytes_that_are_not_utf_8(store: Store, parameters: dict[str, str]) -> None:
    """An escape for any byte means that byte, with parameters beside it, too."""
    number = "{x:UInt8}" if parameters else "1"
    assert store.query(f"SELECT hex('a\\xff\\\\xff') AS s, {number} AS n", parameters).rows == [("61FF5C786666", 1)]


@pytest.mark.parametrize(("sql", "parameters"), [("SELECT '\udcff'", {}), ("SELECT {x:String}", {"x": "\udcff"})])
def test_a_statement_that_is_not_utf_8_is_refused(store: Store, sql: str, parameters: dict[str, str]) -> None:
    """Text of a command line that was no UTF-8 raises QueryError, in the statement as in a parameter."""
    with pytest.raises(QueryError, match="is not UTF-8"):
        store.query(sql, parameters)


def test_names_and_values_may_hold_any_characters(store: Store) -> None:
    """Tables, columns and strings outside of ASCII work everywhere, in statements, parameters and blocks."""
    store.execute("CREATE TABLE `tä'ble 表` (`cölumn ``x\\\\` String) ENGINE = MergeTree ORDER BY tuple()")
    block = NativeBlock([("cölumn `x\\", "String")])
    block.add_rows([("😀\u2028",)])
    store.insert(Insert("`tä'ble 表`", block, "ünicode/'1\\", "SELECT {x:String} != 'ä'", {"x": "ä"}))
    assert store.query("SELECT * FROM `tä'ble 表`").rows == [("😀\u2028",)]
    store.execute("DROP TABLE `tä'ble 表` SYNC")


@pytest.mark.parametrize("rows", [1, 70_000])
def test_an_insert_is_one_part(store: Store, table: str, rows: int) -> None:
    """A block becomes one data part, however many rows it has, so it lands whole or not at all."""
    store.insert(Insert(table, _numbers(rows), "one/part"))
    assert _parts(store, table) == [rows]
    assert _total(store, table) == (rows, rows * (rows - 1) // 2)


def test_an_insert_into_two_months_is_refused(store: Store, table: str) -> None:
    """A block that would become two parts writes nothing."""
    block = NativeBlock([("number", "UInt64"), ("at", "DateTime")])
    block.add_rows([(1, 0), (2, 40 * 86400)])
    with pytest.raises(QueryError):
        store.insert(Insert(table, block, "two/parts"))
    assert _total(store, table) == (0, 0)


def test_the_same_block_may_be_inserted_twice(store: Store, table: str) -> None:
    """The engine drops no block because it has seen it: what is written again is meant to be."""
    for number in range(2):
        store.insert(Insert(table, _numbers(5), f"again/{number}"))
    assert _total(store, table) == (10, 20)


def test_an_insert_is_refused_where_its_condition_holds(store: Store, table: str) -> None:
    """`unless` stops an insert as Fenced and writes nothing; where it is false, the insert goes through."""
    unless = f"SELECT max(number) > {{mine:UInt64}} FROM {table}"
    store.insert(Insert(table, _numbers(10), "fence/1", unless, {"mine": 3}))
    with pytest.raises(Fenced, match="fence/2"):
        store.insert(Insert(table, _numbers(10), "fence/2", unless, {"mine": 3}))
    assert _total(store, table) == (10, 45)
    store.insert(Insert(table, _numbers(10), "fence/3", unless, {"mine": 9}))
    assert _total(store, table) == (20, 90)


@pytest.mark.parametrize("unless", ["SELECT NULL", "SELECT number > 5 FROM numbers(0)"])
def test_a_condition_without_an_answer_refuses(store: Store, table: str, unless: str) -> None:
    """A fence that says neither yes nor no writes nothing and says so, instead of dropping the rows in silence."""
    with pytest.raises(Fenced):
        store.insert(Insert(table, _numbers(10), "fence/null", unless))
    assert _total(store, table) == (0, 0)


def test_a_missing_table_is_named(store: Store) -> None:
    """Every way to use a table that is not there raises QueryError with its name, and the store goes on working."""
    block = _numbers(1)
    uses: list[Callable[[], object]] = [
        lambda: store.execute("SELECT * FROM not_there"),
        lambda: store.query("SELECT * FROM not_there"),
        lambda: store.look_up("SELECT * FROM not_there, given", "given", block),
        lambda: store.insert(Insert("not_there", block, "not/there")),
    ]
    for use in uses:
        with pytest.raises(QueryError, match="not_there"):
            use()
        assert store.execute("SELECT 1").rows == [(1,)]


REFUSED = [
    "INSERT INTO {table} (number) VALUES (1)",
    "INSERT INTO {table} (number) SELECT 1",
    "CREATE TABLE made (x UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE made (x UInt8)",
    "CREATE FUNCTION made AS x -> x",
    "DROP TABLE {table}",
    "TRUNCATE TABLE {table}",
    "ALTER TABLE {table} DELETE WHERE 1",
    "DELETE FROM {table} WHERE 1",
    "OPTIMIZE TABLE {table}",
    "DETACH TABLE {table}",
    "RENAME TABLE {table} TO taken",
    "SYSTEM STOP MERGES",
    "SYSTEM FLUSH LOGS",
    "KILL QUERY WHERE 1",
    "SET max_threads = 1",
    "USE system",
    "GRANT SELECT ON *.* TO default",
    "BACKUP TABLE {table} TO File('{folder}/backup')",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "SELECT 1 SETTINGS max_result_rows = 0",
    "SELECT file('{folder}/secret')",
    "SELECT * FROM file('{folder}/secret', 'LineAsString')",
    "DESCRIBE TABLE file('{folder}/secret', 'CSV')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
    "DESCRIBE TABLE url('http://127.0.0.1:1/', 'CSV')",
    "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
    "SELECT * FROM remote('127.0.0.1:1', system.one)",
    "SELECT * FROM (SELECT * FROM remote('127.0.0.1:1', system.one))",
    "SELECT (SELECT count() FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd'))",
    "SELECT * FROM sqlite('{folder}/made.db', 'x')",
    "SELECT * FROM executable('cat', 'CSV', 'a String')",
    "SELECT 1 INTO OUTFILE '{folder}/made.csv'",
    "SELECT 1 INTO OUTFILE '{folder}/made.csv' TRUNCATE FORMAT CSV",
    "SELECT 1 /* */ INTO /* */ outfile '{folder}/made.csv'",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_a_person_can_only_read(store: Store, table: str, tmp_path: Path, statement: str) -> None:
    """A statement of a person that writes, reaches out of the store or lifts its limits raises QueryRefused."""
    (tmp_path / "secret").write_text("secret")
    store.insert(Insert(table, _numbers(3), "kept"))
    with pytest.raises(QueryRefused):
        store.query(statement.format(table=table, folder=tmp_path))
    assert _total(store, table) == (3, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE {table}",
        "SELECT 1) INTO OUTFILE '{folder}/made.csv'; SELECT (1",
        "SELECT * FROM executable('",
        "",
        "exit",
    ],
)
def test_what_is_not_one_statement_is_not_run(store: Store, table: str, tmp_path: Path, statement: str) -> None:
    """Several statements at once, or none, raise QueryError, and none of them is run."""
    with pytest.raises(QueryError):
        store.query(statement.format(table=table, folder=tmp_path))
    assert _total(store, table) == (0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count() FROM {table}",
        "SELECT count() FROM {table};",
        "-- how many\nSELECT count() FROM {table} -- there are",
        "WITH x AS (SELECT * FROM {table}) SELECT count() FROM x",
        "FROM {table} SELECT count()",
        "(SELECT count() FROM {table})",
        "SELECT number - 3 FROM numbers(3, 1)",
    ],
)
def test_a_person_can_read(store: Store, table: str, statement: str) -> None:
    """Whatever reads is run, comments and a semicolon at its end included."""
    assert store.query(statement.format(table=table)).rows == [(0,)]


@pytest.mark.parametrize(
    "statement", ["SHOW TABLES", "DESCRIBE {table}", "EXPLAIN SELECT * FROM {table}", "EXISTS {table}"]
)
def test_a_person_can_look_around(store: Store, table: str, statement: str) -> None:
    """Statements that tell what there is give rows."""
    assert store.query(statement.format(table=table)).rows


@pytest.mark.parametrize(
    ("statement", "limits"),
    [
        ("SELECT number FROM numbers(11)", Limits(result_rows=10)),
        (ENDLESS, Limits(seconds=0.3)),
        ("SELECT groupArray(number) FROM numbers(100000000)", Limits(memory_bytes=50_000_000)),
    ],
)
def test_a_query_over_a_limit_is_stopped(store: Store, statement: str, limits: Limits) -> None:
    """A query that gives too many rows, runs too long or takes too much memory raises QueryRefused, which says so."""
    with pytest.raises(QueryRefused, match="limit"):
        store.query(statement, limits=limits)
    assert store.query("SELECT number FROM numbers(10)", limits=Limits(result_rows=10)).rows == [
        (n,) for n in range(10)
    ]


def test_a_statement_of_our_own_that_ran_out_of_time_may_be_repeated(store: Store) -> None:
    """A limit of time of the engine's own profile is nothing against a statement: StoreUnavailable, not QueryError."""
    with pytest.raises(StoreUnavailable, match="took too long"):
        store.execute(f"{ENDLESS} SETTINGS max_execution_time = 0.2, timeout_overflow_mode = 'throw'")
    assert store.execute("SELECT 1").rows == [(1,)]


def test_what_a_persons_query_set_does_not_stay(store: Store, table: str) -> None:
    """After a read-only query the same store still writes."""
    store.query("SELECT 1", limits=Limits(result_rows=1))
    store.execute(f"INSERT INTO {table} (number) SELECT number FROM numbers(5)")
    assert len(store.execute(f"SELECT * FROM {table}").rows) == 5


def test_a_table_to_look_up_is_gone_afterwards(store: Store) -> None:
    """The rows that go along with one read are not there for the next, and another block may take their name."""
    assert store.look_up("SELECT sum(number) FROM given", "given", _numbers(3)).rows == [(3,)]
    assert store.look_up("SELECT sum(number) FROM given", "given", _numbers(4)).rows == [(6,)]
    with pytest.raises(QueryError):
        store.execute("SELECT * FROM given")


def test_kill_ends_the_statements_of_a_prefix_and_no_others(store: Store) -> None:
    """A statement is ended by the beginning of its id, and the store that ran it goes on; others are left alone."""
    mark, prefix = f"mark_{uuid.uuid4().hex}", f"kill/{uuid.uuid4().hex}"
    running = store.another()
    with _in_thread(lambda: running.execute(f"{ENDLESS} /* {mark} */", query_id=f"{prefix}/1/x")) as outcome:
        _await_running(store, mark)
        store.kill(f"{prefix}/11")
        store.kill(f"{prefix}/1/x'")
        assert store.execute(
            "SELECT count() FROM system.processes WHERE position(query, {m:String}) > 0", {"m": mark}
        ).rows
        assert not outcome
        store.kill(f"{prefix}/1")
    assert isinstance(outcome[0], StoreUnavailable)
    assert running.execute("SELECT 1").rows == [(1,)]
    running.close()


def test_a_killed_insert_writes_nothing_and_says_that_it_may_have(store: Store, table: str) -> None:
    """An insert that is killed while it works raises OutcomeUnknown or StoreUnavailable, never success."""
    prefix = f"kill/{uuid.uuid4().hex}"
    writing = store.another()
    insert = Insert(table, _numbers(5), f"{prefix}/1", f"{ENDLESS} /* {prefix} */")
    with _in_thread(lambda: writing.insert(insert)) as outcome:
        _await_running(store, prefix)
        store.kill(prefix)
    assert isinstance(outcome[0], OutcomeUnknown | StoreUnavailable)
    assert _total(store, table) == (0, 0)
    writing.close()


FULL = "SETTINGS parts_to_throw_insert = 1, parts_to_delay_insert = 1, max_bytes_to_merge_at_max_space_in_pool = 1"


def test_a_full_table_is_to_be_waited_for(store: Store) -> None:
    """Where the table itself has too many parts an insert raises StoreUnavailable: nothing was written, try later."""
    name = f"full_{uuid.uuid4().hex}"
    store.execute(f"CREATE TABLE {name} (number UInt64) ENGINE = MergeTree ORDER BY number {FULL}")
    store.insert(Insert(name, _numbers(10), f"{name}/1"))
    with pytest.raises(StoreUnavailable, match="too many data parts"):
        store.insert(Insert(name, _numbers(10), f"{name}/2"))
    assert _total(store, name) == (10, 45)
    store.execute(f"DROP TABLE {name} SYNC")


def test_a_full_view_behind_the_table_leaves_the_outcome_unknown(store: Store, table: str) -> None:
    """Where a view's table has too many parts the block may be in the ledger: OutcomeUnknown."""
    name = f"view_{uuid.uuid4().hex}"
    store.execute(
        f"CREATE MATERIALIZED VIEW {name} ENGINE = MergeTree ORDER BY number {FULL} AS SELECT number FROM {table}"
    )
    store.insert(Insert(table, _numbers(10), f"{name}/1"))
    with pytest.raises(OutcomeUnknown):
        store.insert(Insert(table, _numbers(10), f"{name}/2"))
    store.execute(f"DROP TABLE {name} SYNC")


def test_kill_of_nothing_returns(store: Store) -> None:
    """Killing a prefix that nobody has does nothing."""
    store.kill(f"nobody/{uuid.uuid4().hex}")


def test_stores_of_one_address_work_side_by_side(store: Store, table: str) -> None:
    """Each thread with a store of its own can write at the same time, and all see what was written."""

    def write(number: int) -> Callable[[], None]:
        own = store.another()

        def work() -> None:
            for batch in range(5):
                own.insert(
                    Insert(table, _numbers(100, 1000 * number + 100 * batch), f"beside/{table}/{number}/{batch}")
                )
            own.close()

        return work

    with _in_thread(write(0)), _in_thread(write(1)), _in_thread(write(2)):
        pass
    assert _total(store, table) == (1500, sum(1000 * n + m for n in range(3) for m in range(500)))


def test_a_closed_store_opens_again(store: Store) -> None:
    """A store that was closed connects anew when it is used again; closing twice does no harm."""
    other = store.another()
    assert other.execute("SELECT 1").rows == [(1,)]
    other.close()
    other.close()
    assert other.execute("SELECT 2").rows == [(2,)]
    other.close()
