"""What every adapter of the stream port promises, asked of the real broker and of the embedded file alike."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conformance.stream_sources import PARTITIONS, EmbeddedSource, KafkaSource, Source, start_all
from usageaudit.errors import ConfigurationError, RetentionOvertook
from usageaudit.streams import fetching, kafka
from usageaudit.streams.opening import open_stream
from usageaudit.streams.port import Batch, BatchLimits, Partition, Record, Stream

QUICK = BatchLimits(seconds=0.02)
PATIENCE = 20.0


KINDS = [
    "embedded",
    pytest.param("kafka", marks=pytest.mark.kafka),
    pytest.param("kafka by the client alone", marks=pytest.mark.kafka),
]


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    """Yield an empty topic of three partitions; the third kind is what an unknown version of kafka-python gets."""
    with ExitStack() as stack:
        if request.param == "embedded":
            yield EmbeddedSource(tmp_path, stack)
            return
        if request.param != "kafka":
            monkeypatch.setattr(fetching, "WRITTEN_FOR", "another version")
        yield KafkaSource(request.getfixturevalue("kafka"), stack)


def next_batch(stream: Stream, reached: dict[int, int] | None = None) -> Batch:
    """Return the next batch, which has to come.

    A partition with an offset that was `reached` goes on from there when the group takes it and gives it back.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for partition in stream.assigned():
            if reached is not None and partition.number in reached:
                stream.start(partition, reached[partition.number])
        if (batch := stream.poll(0.2)) is not None:
            return batch
    raise AssertionError(f"no batch came within {PATIENCE} s")


def read(stream: Stream, count: int, started: Iterable[int] = range(PARTITIONS)) -> list[Batch]:
    """Return batches with exactly so many records in all, from partitions that were started at 0."""
    batches: list[Batch] = []
    reached = dict.fromkeys(started, 0)
    while sum(len(batch.records) for batch in batches) < count:
        batches.append(batch := next_batch(stream, reached))
        reached[batch.partition.number] = batch.next_offset
    assert sum(len(batch.records) for batch in batches) == count
    return batches


def by_partition(batches: list[Batch]) -> dict[int, list[Record]]:
    """Return the records of batches by partition, in the order in which they came."""
    found: dict[int, list[Record]] = defaultdict(list)
    for batch in batches:
        found[batch.partition.number] += batch.records
    return found


def numbered(count: int, first: int = 0) -> list[bytes | None]:
    """Return values that say their offset."""
    return [b"%d" % n for n in range(first, first + count)]


@given(data=st.data())
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],  # shrinking would take minutes with the broker
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_record_is_delivered_once_in_order(source: Source, data: st.DataObject) -> None:
    """Whatever was published is delivered once, in the order of its partition, in batches within all limits."""
    limits = BatchLimits(data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4_000)), 0.02)
    value = st.none() | st.integers(0, 2_000).map(bytes)
    published = data.draw(st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.lists(value, max_size=60)), max_size=5))
    topic = source.another()
    expected: dict[int, list[bytes | None]] = defaultdict(list)
    for number, values in published:
        topic.publish(number, values)
        expected[number] += values
    stream = topic.open(limits)
    start_all(stream)
    batches = read(stream, sum(map(len, expected.values())))
    found = by_partition(batches)
    stream.close()

    assert {number: [record.value for record in records] for number, records in found.items()} == {
        number: values for number, values in expected.items() if values
    }
    for records in found.values():
        assert [record.offset for record in records] == list(range(len(records)))
    for batch in batches:
        assert len(batch.records) <= limits.records
        assert len(batch.records) == 1 or sum(len(record.value or b"") for record in batch.records) <= limits.bytes


def test_batches_join_without_gap_or_overlap(source: Source) -> None:
    """The next offset of a batch is where the next batch of its partition begins."""
    source.publish(1, numbered(100))
    stream = source.open(BatchLimits(records=7, seconds=0.02))
    start_all(stream)
    batches = read(stream, 100)
    reached = 0
    for batch in batches:
        assert batch.records[0].offset == reached
        reached = batch.next_offset
        assert reached == batch.records[-1].offset + 1
    assert reached == 100 == stream.end(batches[-1].partition)


def test_headers_null_values_and_times_arrive(source: Source) -> None:
    """Headers keep their order and repetitions, values may be null, times are kept."""
    headers = [("content-type", b"application/cloudevents+json"), ("x", b"1"), ("x", b""), ("ключ", b"\xff")]
    source.publish(0, [None, b"", b"\x00\xff"], headers, timestamp=1_700_000_000_123)
    source.publish(0, [b"plain"])
    before = time.time() * 1000
    stream = source.open(QUICK)
    start_all(stream)
    records = by_partition(read(stream, 4))[0]
    assert [record.value for record in records] == [None, b"", b"\x00\xff", b"plain"]
    assert [list(record.headers) for record in records] == [headers, headers, headers, []]
    assert [record.timestamp for record in records[:3]] == [1_700_000_000_123] * 3
    assert records[3].timestamp == pytest.approx(before, abs=60_000)


def test_little_load_leaves_quickly(source: Source) -> None:
    """A record alone is delivered after the limits' seconds, long before there are as many records as allowed."""
    stream = source.open(BatchLimits(records=1_000_000, seconds=0.1))
    start_all(stream)
    source.publish(0, numbered(1))
    began = time.monotonic()
    assert len(next_batch(stream).records) == 1
    assert time.monotonic() - began < 5


def test_a_record_waits_for_company(source: Source) -> None:
    """Before the limits' seconds have passed a batch below the other limits is not delivered."""
    stream = source.open(BatchLimits(seconds=30))
    start_all(stream)
    source.publish(0, numbered(1))
    source.publish(0, numbered(1, first=1))
    assert stream.poll(1.0) is None


def test_poll_waits_no_longer_than_it_may(source: Source) -> None:
    """Polling a stream without records returns None when the time is over, not before and not much later."""
    stream = source.open(QUICK)
    start_all(stream)
    stream.poll(0.3)
    began = time.monotonic()
    assert stream.poll(0.3) is None
    assert 0.25 < time.monotonic() - began < 3


def test_start_anywhere(source: Source) -> None:
    """A partition delivers from the offset it was started at, forwards and backwards, whatever was fetched before."""
    source.publish(2, numbered(50))
    stream = source.open(BatchLimits(records=10, seconds=0.02))
    partition = start_all(stream)[2]
    assert next_batch(stream).records[0].offset == 0
    for offset in (33, 5, 49, 0):
        stream.start(partition, offset)
        assert next_batch(stream).records[0].offset == offset


def test_nothing_is_delivered_before_start(source: Source) -> None:
    """An assigned partition delivers nothing until it is started, and the others are not held up by it."""
    for number in range(PARTITIONS):
        source.publish(number, numbered(3))
    stream = source.open(QUICK)
    waiting = assigned(stream)
    assert [partition.number for partition in waiting] == [0, 1, 2]
    stream.start(waiting[1], 0)
    assert {batch.partition.number for batch in read(stream, 3, started=[1])} == {1}
    assert stream.poll(0.3) is None
    assert [partition.number for partition in stream.assigned()] == [0, 2]
    assert all(stream.owns(partition) for partition in waiting)


def assigned(stream: Stream) -> list[Partition]:
    """Return all partitions, none of them started, once they are assigned."""
    until = time.monotonic() + PATIENCE
    while len(stream.assigned()) < PARTITIONS and time.monotonic() < until:
        assert stream.poll(0.2) is None
    return stream.assigned()


def test_partitions_name_their_stream(source: Source) -> None:
    """The identity of a stream survives reopening, differs between streams, and one of another stream is not owned."""
    first = source.open(QUICK)
    mine = assigned(first)[0]
    first.close()
    again = source.open(QUICK)
    assert assigned(again)[0] == mine
    other = assigned(source.another().open(QUICK))[0]
    assert other.stream != mine.stream
    assert not again.owns(other)
    assert not again.owns(Partition(other.stream, mine.topic, mine.number))


def test_acknowledged_offsets_survive(source: Source) -> None:
    """What was acknowledged is committed at once, for its partition and group alone, and found when opened again."""
    source.publish(0, numbered(10))
    stream = source.open(BatchLimits(records=4, seconds=0.02))
    partition, untouched, _ = start_all(stream)
    assert stream.committed(partition) is None
    batch = next_batch(stream)
    stream.acknowledge(partition, batch.next_offset)
    assert stream.committed(partition) == 4
    stream.close()

    again = source.open(QUICK)
    start_all(again)
    assert again.committed(partition) == 4
    assert again.committed(untouched) is None
    assert [record.offset for record in by_partition(read(again, 6))[0]] == list(range(4, 10))
    other = source.open(QUICK, group="other")
    assert other.committed(assigned(other)[0]) is None


def test_close_without_acknowledging_delivers_again(source: Source) -> None:
    """Records that were delivered and not acknowledged are delivered to the next reader."""
    source.publish(0, numbered(5))
    first = source.open(QUICK)
    start_all(first)
    read(first, 5)
    first.close()
    second = source.open(QUICK)
    start_all(second)
    read(second, 5)


def test_close_lets_the_next_one_in_at_once(source: Source) -> None:
    """After close another reader of the group gets every partition without waiting for a time-out."""
    first = source.open(QUICK)
    start_all(first)
    first.close()
    began = time.monotonic()
    second = source.open(QUICK)
    start_all(second)
    assert time.monotonic() - began < 5


def test_the_end_is_known_without_asking(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a partition is that of the last answer, keeps up while nothing is taken in, and is None for others."""
    monkeypatch.setattr(kafka, "ENDS_EVERY", 0.1)
    source.publish(0, numbered(7))
    stream = source.open(QUICK)
    partition, empty, _ = start_all(stream)
    read(stream, 7)
    assert stream.highwater(partition) == 7
    assert stream.highwater(Partition("another", partition.topic, 0)) is None
    source.publish(0, numbered(3, first=7))
    until = time.monotonic() + PATIENCE
    while stream.highwater(partition) != 10 and time.monotonic() < until:
        stream.rest(0.2)
    assert (stream.highwater(partition), stream.highwater(empty)) == (10, 0)


def test_rest_keeps_the_partitions_and_takes_nothing_in(source: Source) -> None:
    """While resting nothing is delivered or lost; afterwards every record is there."""
    stream = source.open(QUICK)
    partitions = start_all(stream)
    source.publish(0, numbered(20))
    stream.rest(0.5)
    assert all(stream.owns(partition) for partition in partitions)
    assert stream.assigned() == []
    assert [record.offset for record in by_partition(read(stream, 20))[0]] == list(range(20))


def test_release_takes_a_partition_back(source: Source) -> None:
    """A released partition delivers nothing, is listed as assigned, takes no acknowledgement, and can be started."""
    source.publish(0, numbered(5))
    stream = source.open(QUICK)
    partition = start_all(stream)[0]
    next_batch(stream)
    stream.release(partition)
    assert stream.assigned() == [partition]
    assert stream.owns(partition)
    stream.acknowledge(partition, 5)
    assert stream.committed(partition) is None
    assert stream.poll(0.3) is None
    stream.start(partition, 3)
    assert [record.offset for record in by_partition(read(stream, 2))[0]] == [3, 4]


def test_retention_that_overtook_is_told_with_its_range(source: Source) -> None:
    """Starting before the first record that is left raises the exact range, again until it is started behind it."""
    source.publish(0, numbered(10))
    source.trim(0, 6)
    stream = source.open(QUICK)
    partition = start_all(stream)[0]
    assert (stream.beginning(partition), stream.end(partition)) == (6, 10)
    stream.start(partition, 2)
    for _ in range(2):
        gap = gap_of(stream)
        assert (gap.topic, gap.partition, gap.first, gap.last) == (partition.topic, 0, 2, 6)
    source.publish(1, numbered(1))
    stream.start(partition, 6)
    assert {
        number: [record.offset for record in records] for number, records in by_partition(read(stream, 5)).items()
    } == {0: [6, 7, 8, 9], 1: [0]}


def gap_of(stream: Stream) -> RetentionOvertook:
    """Return the gap that the next batch runs into."""
    with pytest.raises(RetentionOvertook) as caught:
        next_batch(stream)
    return caught.value


def test_retention_that_took_everything(source: Source) -> None:
    """Where no record is left the range ends at the end of the partition."""
    source.publish(0, numbered(4))
    source.trim(0, 4)
    stream = source.open(QUICK)
    partition = start_all(stream)[0]
    assert (stream.beginning(partition), stream.end(partition)) == (4, 4)
    stream.start(partition, 1)
    with pytest.raises(RetentionOvertook, match="offsets 1 to 3 are gone"):
        next_batch(stream)


def test_an_empty_partition_begins_and_ends_at_nought(source: Source) -> None:
    """A partition without records has both bounds at 0, can be started and takes records later."""
    stream = source.open(QUICK)
    partition = start_all(stream)[1]
    assert (stream.beginning(partition), stream.end(partition)) == (0, 0)
    source.publish(1, numbered(2))
    assert stream.end(partition) == 2
    read(stream, 2)


def test_a_large_record_is_delivered(source: Source) -> None:
    """A record of nearly a megabyte is delivered although it is larger than the limit of a batch's bytes."""
    source.publish(0, [b"a", bytes(1_000_000), b"c"])
    stream = source.open(BatchLimits(bytes=10_000, seconds=0.02))
    start_all(stream)
    assert [len(record.value or b"") for record in by_partition(read(stream, 3))[0]] == [1, 1_000_000, 1]


def test_load_is_shared_among_partitions(source: Source) -> None:
    """A partition with a long backlog does not keep the others waiting until it is through."""
    source.publish(0, numbered(3_000))
    source.publish(1, numbered(1))
    stream = source.open(BatchLimits(records=50, seconds=0.0))
    start_all(stream)
    order = [batch.partition.number for batch in read(stream, 3_001)]
    assert order.index(1) < len(order) / 2


@pytest.mark.parametrize("url", ["embedded:", "kafka:/x", "http://localhost", ""])
def test_a_wrong_url_is_a_configuration_error(url: str) -> None:
    """What names no stream is refused before anything is opened."""
    with pytest.raises(ConfigurationError):
        open_stream(url)
