"""The store over the network: what a server that is away, silent, killed or closed to us makes of each call."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import UnexpectedPacketFromServerError

from usageaudit.errors import OutcomeUnknown, StoreUnavailable
from usageaudit.stores.address import open_store
from usageaudit.stores.native import NativeBlock
from usageaudit.stores.port import Insert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.clickhouse import ClickHouse
    from usageaudit.stores.port import Store

SAYS_NO_WITHIN_S = 12
KILLED_WITHIN_S = 14  # the server waits 5 s for data, looks once a second, and does so again before it lets go
TABLE = "CREATE TABLE numbers (number UInt64) ENGINE = MergeTree ORDER BY number"


@pytest.fixture
def store(clickhouse_database: str) -> Iterator[Store]:
    """Yield a store over an empty database of the shared server."""
    opened = open_store(clickhouse_database)
    yield opened
    opened.close()


@pytest.fixture
def own_server(start_clickhouse: Callable[..., ClickHouse]) -> Iterator[tuple[ClickHouse, Store]]:
    """Yield a server that may be killed and paused, and a store over it with a table."""
    server = start_clickhouse()
    opened = open_store(f"{server.url}?timeout=15")
    opened.execute(TABLE)
    yield server, opened
    opened.close()


class Held(NativeBlock):
    """A block that stops on its way, as its sender would if it were paused, until it is let go."""

    def __init__(self) -> None:
        super().__init__([("number", "UInt64")])
        self.add_rows([(number,) for number in range(1000)])
        self.under_way, self.let_go = threading.Event(), threading.Event()

    def write_to(self, write: Callable[[bytes | bytearray], object], *, protocol: bool = False) -> None:
        """Write half of the block, then wait."""
        parts: list[bytes] = []
        super().write_to(lambda data: parts.append(bytes(data)), protocol=protocol)
        whole = b"".join(parts)
        write(whole[: len(whole) // 2])
        self.under_way.set()
        assert self.let_go.wait(60)
        write(whole[len(whole) // 2 :])


def _numbers(count: int = 10) -> NativeBlock:
    block = NativeBlock([("number", "UInt64")])
    block.add_rows([(number,) for number in range(count)])
    return block


def _calls(store: Store) -> list[Callable[[], object]]:
    block = _numbers()
    return [
        lambda: store.execute("SELECT 1"),
        lambda: store.query("SELECT 1"),
        lambda: store.look_up("SELECT 1 FROM given", "given", block),
        lambda: store.insert(Insert("numbers", block, "away")),
        lambda: store.kill("away"),
    ]


def test_nobody_listening_is_said_with_the_address_and_likely_causes(unused_port: int) -> None:
    """Every call to a port without a server raises StoreUnavailable, which names host, port and what to look at."""
    store = open_store(f"clickhouse://default:s3cret@127.0.0.1:{unused_port}/default")
    for call in _calls(store):
        with pytest.raises(StoreUnavailable, match=rf"127\.0\.0\.1:{unused_port} .* running") as error:
            call()
        assert "s3cret" not in str(error.value)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """Yield a port that is taken and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_server_that_never_answers_is_given_up_soon() -> None:
    """A server that accepts the connection and says nothing is StoreUnavailable within seconds, not minutes."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = open_store(f"clickhouse://127.0.0.1:{silent.getsockname()[1]}/default")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="can't be reached"):
            store.execute("SELECT 1")
        assert time.monotonic() - started < SAYS_NO_WITHIN_S


def test_a_name_without_address_is_said() -> None:
    """A host name that can't be resolved is StoreUnavailable with the name."""
    with pytest.raises(StoreUnavailable, match=r"no-such-host\.invalid:9000"):
        open_store("clickhouse://no-such-host.invalid/default").execute("SELECT 1")


def test_another_protocol_is_said(clickhouse: ClickHouse) -> None:
    """The HTTP port, or TLS spoken to a port without it, is StoreUnavailable and names the native port."""
    for url in (
        f"clickhouse://127.0.0.1:{clickhouse.http_port}/default",
        f"clickhouse://127.0.0.1:{clickhouse.port}/default?secure=1",
    ):
        with pytest.raises(StoreUnavailable, match="native protocol"):
            open_store(url).execute("SELECT 1")


@pytest.mark.parametrize("user", ["default:wr0ng", "nobody:wr0ng"])
def test_a_wrong_login_is_said_without_the_password(clickhouse: ClickHouse, user: str) -> None:
    """A wrong password or user is StoreUnavailable, says so, and does not show the password."""
    with pytest.raises(StoreUnavailable, match="name or password is wrong") as error:
        open_store(f"clickhouse://{user}@127.0.0.1:{clickhouse.port}/default").execute("SELECT 1")
    assert "wr0ng" not in str(error.value)


def test_a_missing_database_is_said(clickhouse: ClickHouse) -> None:
    """A database that is not there is StoreUnavailable with its name and the statement that creates it."""
    with pytest.raises(StoreUnavailable, match="no database not_there: create it with CREATE DATABASE"):
        open_store(clickhouse.database_url("not_there")).execute("SELECT 1")


def test_a_store_goes_on_after_the_server_was_restarted(own_server: tuple[ClickHouse, Store]) -> None:
    """While the server is down each call raises StoreUnavailable; once it is back the same store works."""
    server, store = own_server
    store.insert(Insert("numbers", _numbers(), "before"))
    server.kill()
    for call in _calls(store):
        with pytest.raises(StoreUnavailable):
            call()
    server.start()
    store.insert(Insert("numbers", _numbers(), "after"))
    assert store.execute("SELECT count() FROM numbers").rows == [(20,)]


def test_a_server_killed_during_an_insert_leaves_its_outcome_unknown(own_server: tuple[ClickHouse, Store]) -> None:
    """An insert whose data was under way when the server died raises OutcomeUnknown, and nothing half is there."""
    server, store = own_server
    block = Held()
    outcome = _insert_in_thread(store, Insert("numbers", block, "killed"))
    assert block.under_way.wait(30)
    server.kill()
    block.let_go.set()
    assert isinstance(outcome(), OutcomeUnknown)
    server.start()
    assert store.execute("SELECT count() FROM numbers").rows == [(0,)]


def test_a_paused_server_leaves_the_outcome_unknown_and_may_still_write(own_server: tuple[ClickHouse, Store]) -> None:
    """No answer in time is OutcomeUnknown and not a failure: what was sent whole lands when the server goes on."""
    server, store = own_server
    block = Held()
    outcome = _insert_in_thread(store, Insert("numbers", block, "paused"))
    assert block.under_way.wait(30)
    server.pause()
    block.let_go.set()
    assert isinstance(outcome(), OutcomeUnknown)
    server.resume()
    give_up = time.monotonic() + 30
    while store.execute("SELECT count() FROM numbers").rows != [(1000,)]:
        assert time.monotonic() < give_up


def test_a_silent_sender_holds_up_a_kill_for_seconds_only(store: Store) -> None:
    """An insert whose sender went silent is ended by KILL in twice its receive timeout, and nothing of it lands."""
    store.execute(TABLE)
    block = Held()
    outcome = _insert_in_thread(store.another(), Insert("numbers", block, "silent/1"))
    assert block.under_way.wait(30)
    started = time.monotonic()
    store.kill("silent/")
    waited = time.monotonic() - started
    block.let_go.set()
    assert waited < KILLED_WITHIN_S
    assert isinstance(outcome(), OutcomeUnknown)
    assert store.execute("SELECT count() FROM numbers").rows == [(0,)]


def test_the_tls_options_of_the_url_are_used(clickhouse: ClickHouse) -> None:
    """A certificate file that is not there is found missing: the options reach the connection."""
    url = f"clickhouse://127.0.0.1:{clickhouse.port}/default?secure=1&ca_certs=/not/there.pem"
    with pytest.raises(StoreUnavailable, match="No such file"):
        open_store(url).execute("SELECT 1")


def test_progress_may_come_before_the_header_of_an_insert(clickhouse_latest: ClickHouse) -> None:
    """The newest engine reports on the fence before it asks for data. Control: the driver's own insert gives up."""
    store = open_store(clickhouse_latest.url)
    store.execute(TABLE)
    fence = "SELECT max(number) > 5 FROM numbers(3)"
    store.insert(Insert("numbers", _numbers(), "progress", fence))
    assert store.execute("SELECT count() FROM numbers").rows == [(10,)]
    source = f"input('number UInt64') WHERE throwIf(ifNull(({fence}), 1), 'fenced') = 0"
    with Client.from_url(clickhouse_latest.url) as client, pytest.raises(UnexpectedPacketFromServerError):
        client.execute(f"INSERT INTO numbers SELECT number FROM {source} FORMAT Native", [(1,)])
    store.execute("DROP TABLE numbers SYNC")
    store.close()


def _insert_in_thread(store: Store, insert: Insert) -> Callable[[], Any]:
    """Insert in a thread; the function returned waits for its end and gives the error, or None."""
    errors: list[Any] = [None]

    def work() -> None:
        try:
            store.insert(insert)
        except (OutcomeUnknown, StoreUnavailable) as error:
            errors.append(error)
        finally:
            store.close()

    thread = threading.Thread(target=work)
    thread.start()

    def outcome() -> Any:
        thread.join(60)
        assert not thread.is_alive()
        return errors[-1]

    return outcome
