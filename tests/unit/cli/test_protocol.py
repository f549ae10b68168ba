"""Values and frames cross the socket unchanged, and what is no frame is refused."""

from __future__ import annotations

import math
import socket
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.cli.remote import endpoint
from usageaudit.cli.remote.protocol import (
    ConnectionEnded,
    error_frame,
    pack,
    raise_error,
    receive,
    send,
    unpack,
)
from usageaudit.errors import ConfigurationError, Fenced, QueryError, QueryRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**255), 2**256)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.uuids()
    | st.ip_addresses()
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield two connected sockets."""
    one, other = socket.socketpair()
    one.settimeout(5)
    other.settimeout(5)
    with one, other:
        yield one, other


@given(values)
def test_values_cross_with_their_types(value: Any) -> None:
    """Whatever a store may answer comes back equal and of the same type."""
    back = unpack(orjson.loads(orjson.dumps(pack(value))))
    assert back == value
    assert type(back) is type(value)


def test_values_that_compare_unlike_themselves_cross_too() -> None:
    """NaN stays NaN, and bytes that are no text stay what they were in a string."""
    assert math.isnan(unpack(pack(float("nan"))))
    assert unpack(pack("a\udcff")) == "a\udcff"
    assert isinstance(unpack(pack(datetime(2024, 5, 1, tzinfo=UTC))), datetime)
    assert type(unpack(pack(date(2024, 5, 1)))) is date
    assert (unpack(pack(IPv4Address(1))), unpack(pack(IPv6Address(1)))) == (IPv4Address(1), IPv6Address(1))
    assert unpack(pack(Decimal("1.10"))).as_tuple() == Decimal("1.10").as_tuple()


@pytest.mark.parametrize("value", [{}, {"z": 1}, {"b": "AA==", "n": "1"}])
def test_unknown_kinds_of_values_are_refused(value: Any) -> None:
    """An object that is no packed value ends the connection instead of becoming one."""
    with pytest.raises(ConnectionEnded):
        unpack(value)


def test_frames_cross(ends: tuple[socket.socket, socket.socket]) -> None:
    """Frames arrive whole and in order."""
    one, other = ends
    for number in range(3):
        send(one, {"n": number, "text": "x" * 10_000})
    assert [receive(other)["n"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x00\x00", struct.pack(">I", 5) + b"{}", struct.pack(">I", 2**31) + b"{}", struct.pack(">I", 3) + b"nul"],
)
def test_what_is_no_frame_ends_the_connection(sent: bytes, ends: tuple[socket.socket, socket.socket]) -> None:
    """A short, oversized or garbled frame raises, and nothing of its length is waited for or kept."""
    one, other = ends
    one.sendall(sent)
    one.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionEnded):
        receive(other, 1000)


def test_too_long_a_frame_is_refused_before_it_is_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    """What would be too long is an error on the sending side."""
    with pytest.raises(QueryRefused):
        send(ends[0], {"text": "x" * 100}, longest=50)


@pytest.mark.parametrize("kind", [QueryError, QueryRefused, StoreUnavailable, ConfigurationError])
def test_errors_cross_as_their_kinds(kind: type[Exception]) -> None:
    """An error arrives as the error that it was."""
    with pytest.raises(kind, match="what, where") as caught:
        raise_error(error_frame(kind("what, where")))  # type: ignore[arg-type]
    assert type(caught.value) is kind


def test_other_errors_cross_as_failed_queries() -> None:
    """An error of a kind that does not travel is still an error."""
    with pytest.raises(QueryError):
        raise_error(error_frame(Fenced("x")))


def test_long_paths_of_sockets_work(tmp_path: Path) -> None:
    """A folder whose path is longer than a socket's may be is reached all the same, and the socket lies in it."""
    folder = tmp_path / ("d" * 90) / ("e" * 90)
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with endpoint.short_path(folder) as path:
            server.bind(path)
        assert (folder / endpoint.NAME).is_socket()
        assert not Path(path).parent.exists()
        server.listen()
        with endpoint.short_path(folder) as path:
            client.connect(path)
        assert endpoint.may_answer(client)
