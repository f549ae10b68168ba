"""Faster fetching through kafka-python: whole record batches are unpacked at once, sockets are read in large pieces.

kafka-python builds several objects for each record and calls a function for each of its numbers; here one loop reads
the same format. The client offers no public way to do so: both hooks are put in for the versions they were written
for, and only into the consumer that asks for them; any other version runs as it is. Records of the older formats are
read by the client's own code, which is also asked which batches are control records or belong to aborted transactions.

Source of the format: https://kafka.apache.org/documentation/#recordbatch
"""

# pyright brings stubs of an older kafka-python.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

import kafka
from kafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, KafkaConnectionError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import IsolationLevel
from kafka.record.default_records import DefaultRecordBatch

from usageaudit.streams.port import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WRITTEN_FOR = "3.0."
RECEIVE_BYTES = 256 * 1024
MOST_HEADERS_KEPT = 1_000
LOG_APPEND_TIME = 1
LATEST_TIME = 253_402_300_799_999
"""The end of the year 9999 in milliseconds: a time beyond it, or before 1970, is taken for none."""
V2 = 2
_DECODERS = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}
_HEADER_BYTES: int = DefaultRecordBatch.HEADER_STRUCT.size

Headers = list[tuple[str, bytes | None]]


def fits() -> bool:
    """Tell whether this is a version of kafka-python whose inner parts are known here."""
    return bool(kafka.__version__.startswith(WRITTEN_FOR))


def fetch_faster(consumer: Any) -> bool:
    """Let a consumer return `Record`s, unpacked a batch at a time, if its version is known; tell whether it does."""
    if fits():
        consumer._fetcher.PartitionRecords = UnpackedRecords  # noqa: SLF001
    return fits()


class Clients:
    """Makes a consumer's network client and remembers it, since it knows the metadata of the cluster."""

    client: Any = None
    hopeless: Callable[[], bool] = staticmethod(lambda: False)
    """Asked before each attempt to connect to the first broker; the client gives up when it says so."""

    def close(self) -> None:
        """Close the client, where its owner failed to be made."""
        if self.client is not None:
            self.client.close()

    def __call__(self, **settings: Any) -> Any:
        """Return a new client, as a consumer's setting `kafka_client` wants it."""
        if fits():
            net = NetworkSelector(**settings)
            self.client = KafkaNetClient(net=net, manager=_Connections(net, self, settings))
        else:
            self.client = KafkaNetClient(**settings)
        return self.client


class _Connections(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python has no types
    """Connections that take 256 kB from a socket at once instead of 4, and are not tried for ever in vain."""

    def __init__(self, net: Any, owner: Clients, settings: dict[str, Any]) -> None:
        super().__init__(net, **settings)
        self._owner = owner

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> Any:
        if self._owner.hopeless():
            raise KafkaTimeoutError("the same refusal again and again")
        return super().get_connection(node_id, *arguments, **options)

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        transport = await super()._build_transport(node, timeout_at=timeout_at)
        transport._sock_recv = partial(_receive, transport)  # noqa: SLF001
        return transport


def _receive(transport: Any) -> tuple[bytes, Exception | None]:
    """Read what has arrived, as the transport's own method does.

    Unlike that one it hands out what came before the other side hung up: a refused login is answered that way.
    """
    received: list[bytes] = []
    failure: Exception | None = None
    while failure is None:
        try:
            data = transport._sock.recv(RECEIVE_BYTES)  # noqa: SLF001
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            break
        except (OSError, AttributeError) as error:  # there is no socket any more once the connection is closed
            failure = KafkaConnectionError(error)
        else:
            received.append(data)
            failure = None if data else KafkaConnectionError("socket disconnected")
    whole = b"".join(received)
    return whole, None if whole else failure


class UnpackedRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # kafka-python has no types
    """What one fetch brought of one partition, as `Record`s instead of the client's own."""

    def _unpack_records(
        self, tp: Any, records: Any, key_deserializer: Any, value_deserializer: Any
    ) -> Iterator[Record]:
        try:
            yield from self._unpack_batches(tp, records)
        finally:
            self.drain()  # after an error too, or the client would ask for the next record for ever

    def _unpack_batches(self, tp: Any, records: Any) -> Iterator[Record]:
        known: dict[bytes, Headers] = {}
        while (batch := records.next_batch()) is not None:
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(f"wrong checksum at offset {batch.base_offset} of {tp.topic}[{tp.partition}]")
            if batch.magic != V2:
                yield from self._older(batch)
                continue
            self.leader_epoch = batch.leader_epoch
            if not self._is_withheld(batch):
                self.bytes_read += batch.size_in_bytes
                for record in unpack(batch, known):
                    self.next_fetch_offset = record[0] + 1
                    yield record
            self.next_fetch_offset = batch.next_offset

    def _older(self, batch: Any) -> Iterator[Record]:
        for record in batch:
            if self.check_crcs and not record.validate_crc():
                raise CorruptRecordError(f"wrong checksum at offset {record.offset}")
            self.bytes_read += record.size_in_bytes
            self.next_fetch_offset = record.offset + 1
            yield record_of(record)

    def _is_withheld(self, batch: Any) -> bool:
        """Tell whether a batch is of control records or of an aborted transaction, in the order of the log."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def record_of(record: Any) -> Record:
    """Return a record of kafka-python as ours; format 0 has no times."""
    moment = record.timestamp
    moment = moment if moment is not None and 0 <= moment <= LATEST_TIME else None
    return Record(record.offset, moment, record.value, record.headers)


def unpack(batch: Any, known: dict[bytes, Headers]) -> list[Record]:
    """Return the records of a batch of format v2.

    `known` keeps headers by their bytes: most records have the same, and share one object. Raises CorruptRecordError.
    """
    try:
        return _unpack(_payload(batch), batch, known)
    except (IndexError, ValueError) as error:
        raise CorruptRecordError(f"invalid record in the batch at offset {batch.base_offset}: {error!r}") from error


def _payload(batch: Any) -> bytes:
    compressed = bytes(memoryview(batch._buffer)[_HEADER_BYTES:])  # noqa: SLF001
    if not batch.compression_type:
        return compressed
    batch._assert_has_codec(batch.compression_type)  # noqa: SLF001
    return bytes(_DECODERS[batch.compression_type](compressed))


def _unpack(data: bytes, batch: Any, known: dict[bytes, Headers]) -> list[Record]:  # noqa: C901  one hot loop
    """Read the records; the first two bytes of each number are read in place, since a call costs more than they."""
    base, first = batch.base_offset, batch.first_timestamp
    appended = batch.max_timestamp if batch.timestamp_type == LOG_APPEND_TIME else None
    records: list[Record] = []
    new, add, latest = tuple.__new__, records.append, LATEST_TIME
    at = 0
    for _ in range(batch.records_count):
        number = data[at]
        at += 1
        if number > 0x7F:
            number, at = _rest(data, at, number)
        if number & 1:
            raise ValueError("a record of negative length")
        end = at + (number >> 1)
        number = data[at]  # attributes, of which none is in use: a byte, which the client takes for a number, too
        at += 1
        if number > 0x7F:
            _, at = _rest(data, at, number)
        number = data[at]
        at += 1
        if number > 0x7F:
            number, at = _rest(data, at, number)
        moment = first + ((number >> 1) ^ -(number & 1)) if appended is None else appended
        number = data[at]
        at += 1
        if number > 0x7F:
            number, at = _rest(data, at, number)
        offset = base + ((number >> 1) ^ -(number & 1))
        number = data[at]
        at += 1
        if number > 0x7F:
            number, at = _rest(data, at, number)
        if not number & 1:  # an odd number is a negative length: there is no key
            at += number >> 1
        number = data[at]
        at += 1
        if number > 0x7F:
            number, at = _rest(data, at, number)
        if number & 1:
            value = None
        else:
            start = at
            at += number >> 1
            value = data[start:at]
        raw = data[at:end]
        headers = known.get(raw)
        if headers is None:
            headers = _headers(raw, known)
        at = end
        add(new(Record, (offset, moment if 0 <= moment <= latest else None, value, headers)))
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the last record")
    return records


def _rest(data: bytes, at: int, number: int) -> tuple[int, int]:
    """Return a varint of which the first byte has been read, and where it ends, within ten bytes as in the client."""
    number &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift >= 64:
            raise ValueError("a number of more than ten bytes")


def _headers(raw: bytes, known: dict[bytes, Headers]) -> Headers:
    """Return the headers of a record and keep them; a name that is not UTF-8 must not stop the partition."""
    count, at = _varint(raw, 0)
    headers: Headers = []
    for _ in range(count):
        length, at = _varint(raw, at)
        if length < 0:
            raise ValueError("a header's name of negative length")
        name = raw[at : at + length].decode("utf-8", "replace")
        at += length
        length, at = _varint(raw, at)
        headers.append((name, raw[at : at + length] if length >= 0 else None))
        at += max(length, 0)
    if at != len(raw) or count < 0:
        raise ValueError("the headers do not end where the record does")
    if len(known) >= MOST_HEADERS_KEPT:
        known.clear()
    known[raw] = headers
    return headers


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number, at = _rest(data, at + 1, data[at]) if data[at] > 0x7F else (data[at], at + 1)
    return (number >> 1) ^ -(number & 1), at
