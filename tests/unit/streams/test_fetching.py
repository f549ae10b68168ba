"""Unpacking whole record batches: the client's own reading of the same bytes is the oracle."""

import random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.codec import has_lz4, has_snappy, has_zstd
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, KafkaError, UnsupportedCodecError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.util import calc_crc32c
from kafka.structs import TopicPartition

from usageaudit.streams.fetching import UnpackedRecords, fits, record_of, unpack
from usageaudit.streams.port import Record

PARTITION = TopicPartition("usage-events", 3)
CODECS = [0, 1] + [code for code, there in ((2, has_snappy()), (3, has_lz4()), (4, has_zstd())) if there]
PLAIN, TRANSACTIONAL, CONTROL, LOG_APPEND_TIME = 0, 0x10, 0x30, 0x08

sizes = st.integers(0, 40) | st.sampled_from([63, 64, 127, 128, 8_191, 8_192, 20_000])
data = st.none() | sizes.map(lambda size: bytes(range(256)) * (size // 256) + bytes(size % 256))
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=200)), max_size=3)
moments = st.integers(0, 2**41) | st.just(1_700_000_000_000)


class Written(NamedTuple):
    """A record to be written: milliseconds, key, value and headers."""

    moment: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Batch(NamedTuple):
    """A batch to be written."""

    records: list[Written]
    codec: int
    attributes: int
    producer: int
    gap: int


records = st.builds(Written, moments, data, data, headers)
batches = st.builds(
    Batch,
    st.lists(records, min_size=1, max_size=6),
    st.sampled_from(CODECS),
    st.sampled_from([PLAIN, PLAIN, TRANSACTIONAL, LOG_APPEND_TIME]),
    st.integers(-1, 2),
    st.integers(0, 3),
)


def batch_bytes(base: int, written: Batch, control: int | None = None) -> bytes:
    """Return the bytes of a batch that begins at an offset, as a broker stores it; `control` 0 aborts, 1 commits."""
    transactional = bool(written.attributes & TRANSACTIONAL) and written.producer >= 0
    producer = written.producer if transactional else -1
    builder: Any = DefaultRecordBatchBuilder(2, written.codec, transactional, producer, producer, producer, 1 << 30)
    for place, record in enumerate(written.records):
        builder.append(place, record.moment, record.key, record.value, record.headers)
    built = bytearray(builder.build())
    header = list(DefaultRecordBatch.HEADER_STRUCT.unpack_from(built))
    header[0], header[2] = base, 7
    header[5] |= (written.attributes & LOG_APPEND_TIME) | (0x30 if control is not None else 0)
    header[6] += written.gap  # offsets that compaction took from the end
    DefaultRecordBatch.HEADER_STRUCT.pack_into(built, 0, *header)
    header[4] = calc_crc32c(memoryview(built)[DefaultRecordBatch.ATTRIBUTES_OFFSET :])
    DefaultRecordBatch.HEADER_STRUCT.pack_into(built, 0, *header)
    return bytes(built)


def marker(base: int, producer: int, commit: bool) -> bytes:
    """Return a control batch that ends a producer's transaction."""
    key = b"\x00\x00" + (b"\x00\x01" if commit else b"\x00\x00")
    return batch_bytes(base, Batch([Written(1, key, b"\x00" * 6, [])], 0, TRANSACTIONAL, producer, 0), int(commit))


class Aborted(NamedTuple):
    """What a fetch says of an aborted transaction."""

    producer_id: int
    first_offset: int


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[Aborted]]:
    """Return batches one after the other, transactions among them, and the list of the aborted ones."""
    log, offset = b"", 100
    aborted: list[Aborted] = []
    open_since: dict[int, int] = {}
    for written in draw(st.lists(batches, max_size=5)):
        log += batch_bytes(offset, written)
        if written.attributes & TRANSACTIONAL and written.producer >= 0:
            open_since.setdefault(written.producer, offset)
        offset += len(written.records) + written.gap
        if draw(st.booleans()) and open_since:
            ending = draw(st.sampled_from(sorted(open_since)))
            first = open_since.pop(ending)
            if draw(st.booleans()):
                aborted.append(Aborted(ending, first))
            log += marker(offset, ending, commit=not aborted or aborted[-1] != (ending, first))
            offset += 1
    return log, aborted


def reader(kind: Any, log: bytes, aborted: list[Aborted], start: int, committed: bool) -> Any:
    """Return a reader of what was fetched from an offset on."""
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    return kind(start, PARTITION, MemoryRecords(log), isolation_level=level, aborted_transactions=aborted)


@given(logs(), st.integers(90, 140), st.booleans(), st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_unpacking_equals_the_clients_own(
    fetched: tuple[bytes, list[Aborted]], start: int, committed: bool, takes: list[int]
) -> None:
    """Records, positions between them, leader epoch and the end are those of the client, in pieces of any size."""
    log, aborted = fetched
    theirs = reader(Fetcher.PartitionRecords, log, aborted, start, committed)
    ours = reader(UnpackedRecords, log, aborted, start, committed)
    place = 0
    while theirs:
        count = takes[place % len(takes)]
        place += 1
        assert ours.take(count) == [record_of(record) for record in theirs.take(count)]
        assert ours.next_fetch_offset == theirs.next_fetch_offset
        assert ours.leader_epoch == theirs.leader_epoch
        assert bool(ours) == bool(theirs)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, 1])
def test_older_formats_are_read_by_the_client(magic: int, codec: int) -> None:
    """Records of message formats 0 and 1, compressed or not, come out as well; format 0 has no time."""
    builder: Any = LegacyRecordBatchBuilder(magic, codec, 1 << 20)
    for place in range(3):
        builder.append(place, 1_000 + place, b"key", b"value %d" % place)
    log = bytes(builder.build())
    theirs = reader(Fetcher.PartitionRecords, log, [], 0, committed=True).take(10)
    ours = reader(UnpackedRecords, log, [], 0, committed=True).take(10)
    assert ours == [record_of(record) for record in theirs]
    assert [record.value for record in ours] == [b"value 0", b"value 1", b"value 2"]
    assert [record.timestamp for record in ours] == ([None] * 3 if magic == 0 else [1_000, 1_001, 1_002])


@given(batches, st.randoms(use_true_random=False))
def test_a_wrong_checksum_is_found(written: Batch, chance: random.Random) -> None:
    """A batch of which a bit fell over behind the checksum is refused."""
    log = bytearray(batch_bytes(5, written))
    at = chance.randrange(DefaultRecordBatch.ATTRIBUTES_OFFSET, len(log))
    log[at] ^= 1 << chance.randrange(8)
    unpacked = reader(UnpackedRecords, bytes(log), [], 0, committed=True)
    with pytest.raises(CorruptRecordError, match="wrong checksum"):
        unpacked.take()
    assert not unpacked, "the client would ask it for the next record for ever"


def _damaged(written: list[Written], chance: random.Random) -> bytearray:
    """Return a batch of which some bytes of the records are others, cut or doubled; its checksum is not looked at."""
    log = bytearray(batch_bytes(5, Batch(written, 0, PLAIN, -1, 0)))
    first = DefaultRecordBatch.HEADER_STRUCT.size
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(first, len(log))
        match chance.randrange(8):
            case 0 if len(log) > first + 1:
                del log[at]
            case 1:
                log[at:at] = bytes([chance.choice([0, 1, 0x7F, 0x80, 0xFF])]) * chance.randrange(1, 12)
            case 2:
                log[at] ^= 1 << chance.randrange(8)
            case _:
                log[at] = chance.randrange(256)
    return log


@given(st.lists(records, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_damaged_records_are_refused_or_read_like_the_client_does(
    written: list[Written], chance: random.Random
) -> None:
    """What the client refuses is refused, never with a crash, and what it reads is read the same.

    Names of headers that are not UTF-8 are the exception: the client refuses them, and here they are read.
    """
    log = _damaged(written, chance)
    refusal = ""
    try:
        theirs = [record_of(record) for record in DefaultRecordBatch(log)]
    except KafkaError as error:
        theirs, refusal = [], str(error) or type(error).__name__
    try:
        ours = unpack(DefaultRecordBatch(log), {})
    except CorruptRecordError:
        assert refusal
    else:
        assert "UnicodeDecodeError" in refusal or (refusal, ours) == ("", theirs)


@pytest.mark.parametrize(
    ("broken", "replacement"),
    [
        (b"\x1c\x00", b"\x1d\x00"),
        (b"\x08name", b"\x07name"),
        (b"\x1c\x00\x00", b"\x9c" + b"\x80" * 10 + b"\x00\x00\x00"),
    ],
    ids=["record of negative length", "name of negative length", "number of eleven bytes"],
)
def test_lengths_that_can_not_be_are_refused(broken: bytes, replacement: bytes) -> None:
    """Negative lengths and endless numbers are refused at once, as the client refuses them."""
    whole = batch_bytes(0, Batch([Written(1, None, b"v", [("name", b"x")])], 0, PLAIN, -1, 0))
    head, records = whole[: DefaultRecordBatch.HEADER_STRUCT.size], whole[DefaultRecordBatch.HEADER_STRUCT.size :]
    damaged = head + records.replace(broken, replacement, 1)
    assert damaged != whole
    with pytest.raises(CorruptRecordError):
        list(DefaultRecordBatch(damaged))
    with pytest.raises(CorruptRecordError):
        unpack(DefaultRecordBatch(damaged), {})


def test_records_before_a_damaged_batch_are_delivered() -> None:
    """A damaged batch does not keep back the batches before it."""
    whole = batch_bytes(0, Batch([Written(1, None, b"v", [])], 0, PLAIN, -1, 0))
    unpacked = reader(UnpackedRecords, whole + whole[:-1] + b"x", [], 0, committed=True)
    assert [record.value for record in unpacked.take()] == [b"v"]
    assert not unpacked


@pytest.mark.skipif(has_snappy(), reason="python-snappy is installed")
def test_a_codec_that_is_not_installed_is_an_error() -> None:
    """Records that can't be decompressed here raise the client's error instead of being taken for plain."""
    log = bytearray(batch_bytes(0, Batch([Written(1, None, b"v", [])], 0, PLAIN, -1, 0)))
    log[DefaultRecordBatch.ATTRIBUTES_OFFSET + 1] |= 2
    with pytest.raises(UnsupportedCodecError, match="snappy"):
        unpack(DefaultRecordBatch(log), {})


def test_a_header_name_that_is_no_text_does_not_stop_the_partition() -> None:
    """Bytes that are not UTF-8 in the name of a header are replaced, since nobody could ever get past such a record."""
    log = batch_bytes(0, Batch([Written(1, None, b"v", [("name", b"x")])], 0, PLAIN, -1, 0)).replace(
        b"name", b"n\xff\xfee"
    )
    assert unpack(DefaultRecordBatch(log), {}) == [Record(0, 1, b"v", [("n\ufffd\ufffde", b"x")])]


@pytest.mark.parametrize("moment", [-1, -(2**62), 2**62])
def test_impossible_times_are_none(moment: int) -> None:
    """The time -1, by which the format says that there is none, and times that no clock shows become None."""
    log = bytearray(batch_bytes(0, Batch([Written(0, None, b"v", [])], 0, PLAIN, -1, 0)))
    header = list(DefaultRecordBatch.HEADER_STRUCT.unpack_from(log))
    header[7] = header[8] = moment
    DefaultRecordBatch.HEADER_STRUCT.pack_into(log, 0, *header)
    assert unpack(DefaultRecordBatch(log), {}) == [Record(0, None, b"v", [])]


def test_the_hooks_fit_the_version_that_is_installed() -> None:
    """The version of kafka-python that the project asks for is the one whose inner parts are known."""
    assert fits()
