"""Cutting what was fetched into batches."""

from hypothesis import given
from hypothesis import strategies as st

from usageaudit.streams.buffers import Buffer, record_bytes, total_bytes
from usageaudit.streams.port import BatchLimits, Record

SHARED: list[tuple[str, bytes | None]] = [("content-type", b"application/json")]
headers = st.just(SHARED) | st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=9)), max_size=2)
values = st.none() | st.integers(0, 50).map(bytes)
limits = st.builds(BatchLimits, st.integers(1, 8), st.integers(1, 120), st.just(1.0))


@st.composite
def fetches(draw: st.DrawFn) -> list[list[Record]]:
    """Return what fetches brought, one after the other, with holes between the offsets."""
    offset, fetched = draw(st.integers(0, 5)), []
    for count in draw(st.lists(st.integers(1, 7), max_size=6)):
        fetch = []
        for _ in range(count):
            offset += draw(st.integers(1, 3))
            fetch.append(Record(offset, None, draw(values), draw(headers)))
        fetched.append(fetch)
    return fetched


@given(fetches(), limits, st.integers(0, 4))
def test_batches_hold_everything_in_order_within_the_limits(
    fetched: list[list[Record]], limits: BatchLimits, behind: int
) -> None:
    """All records come out in order; no batch but one of a single record exceeds a limit; the bounds join."""
    buffer = Buffer(covered=0, position=0)
    for fetch in fetched:
        buffer.add(fetch, now=1.0)
    end = buffer.position + behind
    buffer.advance(end, now=2.0)
    reached, out = 0, []
    while buffer.pending:
        records, reached_next = buffer.cut(limits, now=3.0)
        assert len(records) <= limits.records
        assert len(records) <= 1 or total_bytes(records) <= limits.bytes
        assert all(reached <= record.offset < reached_next for record in records)
        reached = reached_next
        out += records
    assert out == [record for fetch in fetched for record in fetch]
    assert reached == end
    assert (buffer.bytes, buffer.memory) == (0, 0)


@given(fetches(), limits)
def test_a_full_buffer_gives_a_batch_that_can_grow_no_more(fetched: list[list[Record]], limits: BatchLimits) -> None:
    """What a buffer that calls itself full gives has the most records, or the next record would exceed the bytes."""
    buffer = Buffer(covered=0, position=0)
    for fetch in fetched:
        buffer.add(fetch, now=1.0)
    if not buffer.full(limits):
        return
    records, _ = buffer.cut(limits, now=1.0)
    following = buffer.records[:1]
    assert len(records) == limits.records or total_bytes(records) + total_bytes(following) >= limits.bytes


@given(fetches())
def test_bytes_are_those_of_values_and_headers(fetched: list[list[Record]]) -> None:
    """Records that share their headers are measured like those that do not."""
    for fetch in fetched:
        assert total_bytes(fetch) == sum(map(record_bytes, fetch))
        assert record_bytes(fetch[0]) == len(fetch[0].value or b"") + sum(
            len(name) + len(value or b"") for name, value in fetch[0].headers
        )


def test_the_wait_begins_with_the_first_record() -> None:
    """`since` is when the first undelivered record came, and stays while more come."""
    buffer = Buffer(covered=0, position=0)
    buffer.add([Record(0, None, b"", [])], now=5.0)
    buffer.add([Record(1, None, b"", [])], now=6.0)
    assert buffer.since == 5.0
    buffer.cut(BatchLimits(), now=7.0)
    buffer.advance(3, now=8.0)
    assert (buffer.since, buffer.pending) == (8.0, True)
    assert buffer.cut(BatchLimits(), now=9.0) == ([], 3)
    assert not buffer.pending
