"""The store as a ClickHouse server: the one file that knows clickhouse-driver, which ships no types."""

from __future__ import annotations

import datetime as dt
import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from clickhouse_driver import Client, errors
from clickhouse_driver.block import ColumnOrientedBlock
from clickhouse_driver.protocol import ServerPacketTypes

from usageaudit.errors import OutcomeUnknown, QueryError, StoreUnavailable
from usageaudit.stores import dialect, given, refusals
from usageaudit.stores.parameters import parameter_text
from usageaudit.stores.port import Limits, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from usageaudit.errors import UsageAuditError
    from usageaudit.stores.address import ClickHouseAddress
    from usageaudit.stores.native import NativeBlock
    from usageaudit.stores.port import Insert, Parameters

# It logs every failed connection with a traceback; our errors say what it says.
logging.getLogger("clickhouse_driver").setLevel(logging.ERROR)

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 60
_GREETING_SECONDS = 10
_WITHOUT_ZONE = re.compile(r"DateTime(64\(\d\)|(?![6(]))")
_LARGE = 64 * 1024
_PREFIX = "p_"
_NETWORK_ERRORS = (errors.NetworkError, errors.SocketTimeoutError, OSError, EOFError)
_PROTOCOL_ERRORS = (errors.UnexpectedPacketFromServerError, errors.UnknownPacketFromServerError)
# src/Common/ErrorCodes.cpp: UNKNOWN_DATABASE; WRONG_PASSWORD, REQUIRED_PASSWORD, UNKNOWN_USER, AUTHENTICATION_FAILED
_UNKNOWN_DATABASE = 81
_WRONG_LOGIN = frozenset({192, 193, 194, 516})


class _Parameter:
    """A parameter in the form that the protocol has for settings: a quoted string.

    clickhouse-driver puts quotes around the text of an object that it does not know, and changes nothing inside.
    """

    def __init__(self, value: Any) -> None:
        self._text = parameter_text(value).replace("\\", "\\\\").replace("'", "\\'")

    def __str__(self) -> str:
        return self._text


class _Table:
    """A block on its way to the server, in the place of one of clickhouse-driver's own."""

    def __init__(self, block: NativeBlock) -> None:
        self.block = block


class _BlockOutput:
    """Writes our blocks straight to the connection, and the driver's own as the driver does."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._own = connection, connection.block_out

    def write(self, block: Any) -> None:
        if not isinstance(block, _Table):
            self._own.write(block)
            return
        block.block.write_to(self._write, protocol=True)
        self._connection.fout.flush()

    def _write(self, data: bytes | bytearray) -> None:
        if len(data) < _LARGE:
            self._connection.fout.write(bytes(data))
        else:
            # Without another copy of what may be tens of megabytes.
            self._connection.fout.flush()
            self._connection.socket.sendall(data)


# In the form that FORMAT_SQL gives a statement these are all the places where a brace may stand.
_QUOTED_OR_PLACEHOLDER = re.compile(r"'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|\{(\w+):", re.DOTALL)


def _own_names(statement: str, parameters: Parameters) -> str:
    """Rename a person's placeholders: the native protocol takes one named like a setting, such as `limit`, for that."""

    def renamed(found: re.Match[str]) -> str:
        return f"{{{_PREFIX}{found[1]}:" if found[1] in parameters else found[0]

    return _QUOTED_OR_PLACEHOLDER.sub(renamed, statement)


def _prefixed(parameters: Parameters) -> Parameters:
    return {_PREFIX + name: value for name, value in parameters.items()}


class ClickHouseStore:
    """A server behind the port `Store`. It connects when it is first used, and anew after any failure.

    Requires a server of 23.3 or later: older ones know no parameters in the native protocol. `settings` go with every
    statement of usageaudit's own. `greeting` is the statements that each new connection begins with, each within
    `_GREETING_SECONDS`; `refusals` is what the server refused of it for good, such as for want of a grant.
    """

    def __init__(
        self,
        address: ClickHouseAddress,
        settings: Mapping[str, int | float | str] | None = None,
        greeting: Sequence[str] = (),
    ) -> None:
        self._address, self._settings, self._greeting = address, settings or {}, greeting
        self.refusals: Sequence[QueryError] = ()
        self._client = self._new_client()

    def _new_client(self) -> Any:
        options = self._address.options
        tls = {
            name: options[name] for name in ("ca_certs", "certfile", "keyfile", "server_hostname") if name in options
        }
        return Client(
            host=self._address.host,
            port=self._address.port,
            user=self._address.user,
            password=self._address.password,
            database=self._address.database,
            client_name="usageaudit",
            connect_timeout=int(options.get("connect_timeout", _CONNECT_SECONDS)),
            send_receive_timeout=_CONNECT_SECONDS,
            secure=self._address.secure,
            verify=options.get("verify", "1").lower() not in ("0", "false", "no"),
            settings={"server_side_params": True, "namedtuple_as_json": False},
            **tls,
        )

    def __str__(self) -> str:
        return str(self._address)

    def connect(self) -> None:
        """Have a connection. Raises StoreUnavailable where there can be none."""
        with self._connected(self._settings):
            # The driver takes a connection that was asked for to be waiting for an answer.
            self._client.connection.is_query_executing = False

    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Rows:
        """Run a statement; see the port."""
        with self._connected({**self._settings, **dialect.text_settings(sql)}), self._failing(dialect.failure):
            return self._run(sql, parameters, query_id)

    def look_up(self, sql: str, name: str, block: NativeBlock) -> Rows:
        """Run a read that may join the rows of a block as the temporary table `name`."""
        with self._connected(self._settings), self._failing(dialect.failure):
            return self._run(sql, None, None, (name, block))

    def query(self, sql: str, parameters: Parameters | None = None, limits: Limits | None = None) -> Rows:
        """Run one statement of a person, read-only and within limits; see the port."""
        given.check_text(sql, parameters)
        limits = limits or Limits()
        with self._connected({}), self._failing(dialect.query_failure):
            formatted, table_functions = self._run(refusals.format_sql(limits), {"query": sql}, None).rows[0]
        statement = given.statement_text(formatted)
        refusals.check_read_only(statement, table_functions)
        parameters = given.checked(statement, parameters)
        settings = {**dialect.limit_settings(limits), "readonly": 1}
        with self._connected(settings), self._failing(dialect.query_failure):
            if not parameters:
                return self._run(sql, None, None)
            return self._run(_own_names(statement, parameters), _prefixed(parameters), None)

    def insert(self, insert: Insert) -> None:
        """Write a block as one data part; see the port."""
        sql = dialect.insert_sql(insert, f"input({dialect.literal(insert.block.structure)})")
        with self._connected({**self._settings, **dialect.INSERT_SETTINGS}):
            with self._failing(_before_data(insert.query_id)):
                self._send_query(f"{sql} FORMAT Native", insert.parameters, insert.query_id)
                self._await_header()
            with self._failing(_with_data(insert), lost=_answer_lost(insert.query_id)):
                self._client.connection.send_data(_Table(insert.block))
                self._client.connection.send_data(ColumnOrientedBlock())
                self._await_end()

    def kill(self, query_id_prefix: str) -> None:
        """End the statements whose id starts so; see the port."""
        dialect.kill(self, "query_id", query_id_prefix)

    def another(self) -> ClickHouseStore:
        """Return a store of the same address for another thread."""
        return ClickHouseStore(self._address, self._settings, self._greeting)

    def close(self) -> None:
        """Close the connection; the next call would open another."""
        self._client.disconnect()

    @contextmanager
    def _connected(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Have a connection with settings for the next statement; drop it when anything goes wrong."""
        try:
            self._connect(settings)
            yield
        except BaseException:
            self._client.disconnect()
            raise

    def _connect(self, settings: Mapping[str, Any]) -> None:
        connection = self._client.connection
        connection.send_receive_timeout = _CONNECT_SECONDS
        try:
            self._client.establish_connection({**settings})
            self._client.connection.server_info.session_timezone = None
        except errors.ServerException as error:
            raise self._login_failure(error) from None
        except (*_NETWORK_ERRORS, *_PROTOCOL_ERRORS) as error:
            raise self._unreachable(error) from None
        connection.socket.settimeout(float(self._address.options.get("timeout", _ANSWER_SECONDS)))
        if not isinstance(connection.block_out, _BlockOutput):
            connection.block_out = _BlockOutput(connection)
            self._greet()

    def _greet(self) -> None:
        context, refused = self._client.connection.context, list[QueryError]()
        # Those of the statement that the connection is for may forbid it.
        settings, context.settings = context.settings, {"receive_timeout": _GREETING_SECONDS}
        for statement in self._greeting:
            try:
                with self._failing(dialect.failure):
                    self._send_query(statement, None, None)
                    self._await_end()
            except QueryError as error:
                refused.append(error)
        self.refusals, context.settings = refused, settings

    def _unreachable(self, error: BaseException) -> StoreUnavailable:
        tls = "is TLS spoken on this port" if self._address.secure else "does the port speak TLS only"
        return StoreUnavailable(
            f"ClickHouse at {self._address} can't be reached: {str(error) or type(error).__name__}. Is it running, are "
            f"host and port those of its native protocol (9000, or 9440 with ?secure=1), {tls}, is a firewall between?"
        )

    def _login_failure(self, error: Any) -> UsageAuditError:
        where = f"ClickHouse at {self._address}"
        if error.code in _WRONG_LOGIN:
            return StoreUnavailable(
                f"{where} refused the user {self._address.user}: name or password is wrong, or the user may not "
                "connect from this host; in the URL the characters @ / : # of a password are written %40 %2F %3A %23"
            )
        if error.code == _UNKNOWN_DATABASE:
            return StoreUnavailable(
                f"{where} has no database {self._address.database}: create it with CREATE DATABASE, or name another "
                "at the end of the URL"
            )
        return StoreUnavailable(f"{where} refused the connection: {dialect.brief(error.message)} (code {error.code})")

    @contextmanager
    def _failing(
        self, refused: Callable[[int, str], UsageAuditError], lost: Callable[[str], UsageAuditError] | None = None
    ) -> Iterator[None]:
        """Turn the driver's errors into ours: `refused` for the server's, `lost` for a connection that broke."""
        try:
            yield
        except errors.ServerException as error:
            raise refused(int(error.code or 0), str(error.message)) from None
        except (*_NETWORK_ERRORS, *_PROTOCOL_ERRORS) as error:
            reason = str(error) or type(error).__name__
            if lost:
                raise lost(reason) from None
            raise StoreUnavailable(f"ClickHouse at {self._address}: the connection broke: {reason}") from None

    def _send_query(
        self,
        sql: str,
        parameters: Parameters | None,
        query_id: str | None,
        table: tuple[str, NativeBlock] | None = None,
    ) -> None:
        connection = self._client.connection
        bound = {name: _Parameter(value) for name, value in (parameters or {}).items()}
        connection.send_query(sql, query_id=query_id, params=bound)
        if table:
            connection.send_data(_Table(table[1]), table_name=table[0])
        connection.send_external_tables(())

    def _run(
        self,
        sql: str,
        parameters: Parameters | None,
        query_id: str | None,
        table: tuple[str, NativeBlock] | None = None,
    ) -> Rows:
        self._send_query(sql, parameters, query_id, table)
        try:
            rows, columns = self._client.receive_result(with_column_types=True)
        except (errors.UnknownTypeError, ValueError) as error:
            # Types that clickhouse-driver does not know, or reads wrongly; names that are not UTF-8.
            raise QueryError(
                f"the result can't be read: {error}; give its columns names (AS) and CAST them to plain types"
            ) from None
        names, types = zip(*columns, strict=True) if columns else ((), ())
        return Rows(names, types, self._with_zones(cast("list[tuple[Any, ...]]", rows), types))

    def _with_zones(self, rows: list[tuple[Any, ...]], types: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """Give times without a zone that of the server, in which the driver reads them."""
        indices = {index for index, name in enumerate(types) if _WITHOUT_ZONE.search(name)}
        if not indices:
            return rows
        zone = self._server_zone()
        return [
            tuple(_in_zone(value, zone) if place in indices else value for place, value in enumerate(row))
            for row in rows
        ]

    def _server_zone(self) -> dt.tzinfo:
        try:
            return ZoneInfo(self._client.connection.server_info.get_timezone())
        except (ZoneInfoNotFoundError, ValueError):
            return dt.UTC

    def _await_header(self) -> None:
        """Wait for the block that says which columns the server expects.

        With a subquery in the INSERT the server sends progress and profile events before, which the driver's own
        receive_sample_block refuses.
        """
        while (packet := self._client.connection.receive_packet()).type != ServerPacketTypes.DATA:
            if packet.type == ServerPacketTypes.EXCEPTION:
                raise packet.exception

    def _await_end(self) -> None:
        while (packet := self._client.connection.receive_packet()).type != ServerPacketTypes.END_OF_STREAM:
            if packet.type == ServerPacketTypes.EXCEPTION:
                raise packet.exception


def _in_zone(value: Any, zone: dt.tzinfo) -> Any:
    match value:
        case dt.datetime() if value.tzinfo is None:
            return value.replace(tzinfo=zone)
        case list() | tuple():
            return type(value)(_in_zone(item, zone) for item in value)
        case dict():
            return {_in_zone(key, zone): _in_zone(item, zone) for key, item in value.items()}
    return value


def _before_data(query_id: str) -> Callable[[int, str], UsageAuditError]:
    def refused(code: int, message: str) -> UsageAuditError:
        return dialect.fenced(query_id) if dialect.is_fence(code, message) else dialect.failure(code, message)

    return refused


def _with_data(insert: Insert) -> Callable[[int, str], UsageAuditError]:
    return lambda code, message: dialect.insert_failure(code, message, insert)


def _answer_lost(query_id: str) -> Callable[[str], UsageAuditError]:
    return lambda reason: OutcomeUnknown(
        f"insert {query_id}: the connection broke before the store answered: {reason}; read back what it holds"
    )
