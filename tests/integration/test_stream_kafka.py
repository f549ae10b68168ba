"""What only a broker can do to a reader: rebalances, transactions, restarts, wrong logins, topics that come and go."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from tests.conformance.stream_sources import KafkaSource, start_all
from tests.servers.kafka import Kafka
from tests.servers.process import free_ports
from usageaudit.errors import Fenced, StreamUnavailable
from usageaudit.streams import kafka as kafka_stream
from usageaudit.streams import kafka_client, kafka_connecting
from usageaudit.streams.opening import create_topic, open_stream
from usageaudit.streams.port import Batch, BatchLimits, Partition, Record, Stream

pytestmark = pytest.mark.kafka
QUICK = BatchLimits(seconds=0.02)
PATIENCE = 30.0
IMPATIENT = "&session_timeout_ms=1000"


@pytest.fixture(autouse=True)
def leftovers(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Collect the sockets on which kafka-python was refused: it leaves them, and logs errors that hold them."""
    yield
    caplog.get_records("call").clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Yield what closes everything that a test opens."""
    with ExitStack() as stack:
        yield stack


def until(done: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"


def next_batch(stream: Stream) -> Batch:
    """Return the next batch, which has to come."""
    found: list[Batch] = []

    def poll() -> bool:
        if (batch := stream.poll(0.2)) is not None:
            found.append(batch)
        return bool(found)

    until(poll, "a batch")
    return found[0]


def read(stream: Stream, count: int) -> list[Record]:
    """Return so many records of any partitions."""
    records: list[Record] = []
    while len(records) < count:
        records += next_batch(stream).records
    return records


def numbers(partitions: list[Partition]) -> list[int]:
    """Return the numbers of partitions."""
    return [partition.number for partition in partitions]


@dataclass
class SharedLedger:
    """What a store does for the members of a group: one epoch for each partition, and no row of an older one."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    epochs: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    rows: dict[int, dict[int, bytes | None]] = field(default_factory=lambda: defaultdict(dict))
    written_twice: list[tuple[int, int]] = field(default_factory=list)

    def fence(self, number: int) -> tuple[int, set[int]]:
        """Take a partition over; return the epoch and the offsets that are there."""
        with self.lock:
            self.epochs[number] += 1
            return self.epochs[number], set(self.rows[number])

    def record(self, number: int, epoch: int, records: list[Record]) -> None:
        """Write rows, unless somebody else has taken the partition over."""
        with self.lock:
            if epoch < self.epochs[number]:
                raise Fenced("fenced")
            for record in records:
                if record.offset in self.rows[number]:
                    self.written_twice.append((number, record.offset))
                self.rows[number][record.offset] = record.value

    @property
    def count(self) -> int:
        """Rows of all partitions."""
        with self.lock:
            return sum(map(len, self.rows.values()))


class Member(threading.Thread):
    """A consumer as the pipeline writes it: take over, poll, record, acknowledge."""

    def __init__(self, stream: Stream, ledger: SharedLedger) -> None:
        super().__init__(daemon=True)
        self.stream, self.ledger = stream, ledger
        self.ended = threading.Event()
        self.takeovers = self.disowned = 0
        self.error: BaseException | None = None
        self.tenures: dict[int, tuple[int, set[int]]] = {}

    def run(self) -> None:
        """Consume until told to end, then leave the group."""
        try:
            while not self.ended.is_set():
                self._step()
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.stream.close()

    def leave(self) -> None:
        """End, and see that nothing went wrong."""
        self.ended.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        assert self.error is None

    def _step(self) -> None:
        for partition in self.stream.assigned():
            self._take_over(partition)
        batch = self.stream.poll(0.1)
        if batch is None:
            return
        number = batch.partition.number
        epoch, present = self.tenures[number]
        if not self.stream.owns(batch.partition):
            self.disowned += 1
            return
        try:
            self.ledger.record(number, epoch, [record for record in batch.records if record.offset not in present])
        except Fenced:
            self.stream.release(batch.partition)
        else:
            time.sleep(0.002)
            self.stream.acknowledge(batch.partition, batch.next_offset)

    def _take_over(self, partition: Partition) -> None:
        self.takeovers += 1
        self.tenures[partition.number] = self.ledger.fence(partition.number)
        committed = self.stream.committed(partition)
        self.stream.start(partition, self.stream.beginning(partition) if committed is None else committed)


def test_rebalances_under_load_record_everything_once(kafka: Kafka, stack: ExitStack) -> None:
    """While members join and leave, every record is recorded by an owner exactly once and all of it gets committed."""
    source = KafkaSource(kafka, stack, partitions=6)
    ledger = SharedLedger()
    limits = BatchLimits(records=50, seconds=0.02)
    members: list[Member] = []

    def join() -> Member:
        member = Member(source.open(limits, options=IMPATIENT), ledger)
        members.append(member)
        member.start()
        return member

    def publish(rounds: range) -> None:
        for round_ in rounds:
            for number in range(6):
                source.publish(number, [b"%d" % n for n in range(round_ * 100, round_ * 100 + 100)])

    first, second = join(), join()
    publish(range(3))
    third = join()
    publish(range(3, 5))
    first.leave()
    publish(range(5, 6))
    fourth = join()
    publish(range(6, 7))
    third.leave()
    publish(range(7, 8))
    until(lambda: ledger.count >= 8 * 600, "all records in the ledger")
    second.leave()
    fourth.leave()

    assert ledger.written_twice == []
    assert {number: list(rows) for number, rows in ledger.rows.items()} == {n: list(range(800)) for n in range(6)}
    assert all(value == b"%d" % offset for rows in ledger.rows.values() for offset, value in rows.items())
    assert sum(member.takeovers for member in members) > 6
    last = source.open(limits)
    assert [last.committed(partition) for partition in start_all(last, 6)] == [800] * 6


ZOMBIE = """
import sys
from usageaudit.streams.opening import open_stream
from usageaudit.streams.port import BatchLimits
from tests.conformance.stream_sources import start_all

stream = open_stream(sys.argv[1], group=sys.argv[2], limits=BatchLimits(records=5, seconds=0.02))
start_all(stream)
batch = None
while batch is None:
    batch = stream.poll(0.2)
print("holds a batch", flush=True)
sys.stdin.readline()
stream.acknowledge(batch.partition, batch.next_offset)
stream.poll(0.5)
print("owns" if stream.owns(batch.partition) and batch.partition not in stream.assigned() else "lost", flush=True)
stream.close()
"""


def test_a_paused_process_loses_its_partitions(kafka: Kafka, stack: ExitStack) -> None:
    """A process that sleeps past the session's time-out is replaced, and on waking up it moves no commit back."""
    source = KafkaSource(kafka, stack)
    source.publish(0, [b"%d" % n for n in range(20)])
    command = [sys.executable, "-c", ZOMBIE, source.url + IMPATIENT, f"audit-{source.topic}"]
    zombie = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    )
    stack.callback(zombie.kill)
    assert zombie.stdin is not None
    assert zombie.stdout is not None
    assert _line(zombie) == "holds a batch"
    os.kill(zombie.pid, signal.SIGSTOP)

    successor = source.open(QUICK, options=IMPATIENT)
    partition = start_all(successor)[0]
    assert [record.offset for record in read(successor, 20)] == list(range(20))
    successor.acknowledge(partition, 20)
    os.kill(zombie.pid, signal.SIGCONT)
    zombie.stdin.write("go on\n")

    said: list[str] = []
    listener = threading.Thread(target=lambda: said.append(_line(zombie)), daemon=True)
    listener.start()

    def woken() -> bool:
        successor.poll(0.1)
        return not listener.is_alive()

    until(woken, "the zombie to wake up")
    assert said == ["lost"]
    assert successor.committed(partition) == 20


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() in ("holds a batch", "owns", "lost"):
            return line.strip()
    return "ended"


@pytest.fixture
def transactional(kafka: Kafka, stack: ExitStack) -> Any:
    """Return a producer of transactions."""
    producer: Any = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=f"t-{os.getpid()}-{time.time_ns()}"
    )
    stack.callback(producer.close)
    producer.init_transactions()
    return producer


def send(producer: Any, topic: str, values: list[bytes]) -> None:
    """Send to partition 0 within the transaction."""
    for value in values:
        producer.send(topic, value, partition=0)
    producer.flush()


@pytest.mark.parametrize("hooked", [True, False])
def test_only_committed_transactions_are_delivered(
    kafka: Kafka, stack: ExitStack, transactional: Any, hooked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aborted records are never delivered; batches step over the markers and reach the end of the partition."""
    if not hooked:
        monkeypatch.setattr("usageaudit.streams.fetching.WRITTEN_FOR", "another version")
    source = KafkaSource(kafka, stack)
    for values in ([b"a", b"b"], [b"no"] * 5, [b"c"], [b"no"] * 2):
        transactional.begin_transaction()
        send(transactional, source.topic, values)
        if b"no" in values:
            transactional.abort_transaction()
        else:
            transactional.commit_transaction()
    stream = source.open(QUICK)
    partition = start_all(stream)[0]
    end = stream.end(partition)
    assert end == 2 + 1 + 5 + 1 + 1 + 1 + 2 + 1
    batches = [next_batch(stream)]
    while batches[-1].next_offset < end:
        batches.append(next_batch(stream))
    assert [record.value for batch in batches for record in batch.records] == [b"a", b"b", b"c"]
    assert [record.offset for batch in batches for record in batch.records] == [0, 1, 9]
    stream.acknowledge(partition, batches[-1].next_offset)
    assert stream.committed(partition) == end


def test_a_partition_of_markers_alone_goes_on(kafka: Kafka, stack: ExitStack, transactional: Any) -> None:
    """Where nothing but aborted records is left, a batch without records says how far the partition went."""
    source = KafkaSource(kafka, stack)
    stream = source.open(QUICK)
    partition = start_all(stream)[0]
    transactional.begin_transaction()
    send(transactional, source.topic, [b"no"] * 3)
    transactional.abort_transaction()
    batch = next_batch(stream)
    while batch.next_offset < 4:
        batch = next_batch(stream)
    assert (batch.partition, batch.records, batch.next_offset) == (partition, [], 4)


def test_open_transactions_hold_the_stream_back(kafka: Kafka, stack: ExitStack, transactional: Any) -> None:
    """Records behind an open transaction wait for its outcome, and the end of the partition lies before it."""
    source = KafkaSource(kafka, stack)
    source.publish(0, [b"before"])
    transactional.begin_transaction()
    send(transactional, source.topic, [b"within"])
    source.publish(0, [b"after"])
    stream = source.open(QUICK)
    partition = start_all(stream)[0]
    assert [record.value for record in read(stream, 1)] == [b"before"]
    assert stream.poll(0.5) is None
    assert stream.end(partition) == 1
    transactional.commit_transaction()
    assert [record.value for record in read(stream, 2)] == [b"within", b"after"]


def test_two_members_share_and_take_over(kafka: Kafka, stack: ExitStack) -> None:
    """Partitions move one by one: those that stay go on being delivered, those that go are not owned any more."""
    source = KafkaSource(kafka, stack, partitions=4)
    first = source.open(QUICK)
    mine = start_all(first, 4)
    second = source.open(QUICK)

    def shared() -> bool:
        first.poll(0.05)
        second.poll(0.05)
        return len(second.assigned()) == 2

    until(shared, "two partitions to move")
    theirs = second.assigned()
    kept = [partition for partition in mine if first.owns(partition)]
    assert sorted(numbers(kept) + numbers(theirs)) == [0, 1, 2, 3]
    assert first.assigned() == []
    for number in range(4):
        source.publish(number, [b"x"])
    delivered: set[int] = set()

    def kept_delivered() -> bool:
        batch = first.poll(0.05)
        second.poll(0.05)
        delivered.update([batch.partition.number] if batch is not None else [])
        return delivered == set(numbers(kept))

    until(kept_delivered, "the partitions that stayed")
    first.acknowledge(theirs[0], 1)
    assert second.committed(theirs[0]) is None

    first.close()
    until(lambda: second.poll(0.05) is None and len(second.assigned()) == 4, "the others to move")


def test_a_static_member_comes_back_to_its_partitions(kafka: Kafka, stack: ExitStack) -> None:
    """With ?instance= a restart moves no partition: the other member keeps its own and the same ones come back."""
    source = KafkaSource(kafka, stack, partitions=4)
    first, second = source.open(QUICK, options="&instance=a"), source.open(QUICK, options="&instance=b")

    def shared() -> bool:
        first.poll(0.05)
        second.poll(0.05)
        return len(first.assigned()) == len(second.assigned()) == 2

    until(shared, "two partitions each")
    mine, theirs = first.assigned(), second.assigned()
    for partition in theirs:
        second.start(partition, 0)
    first.close()
    again = source.open(QUICK, options="&instance=a")

    def back() -> bool:
        second.poll(0.05)
        again.poll(0.05)
        return len(again.assigned()) == 2

    until(back, "the member to come back")
    assert again.assigned() == mine
    assert second.assigned() == []
    assert all(second.owns(partition) for partition in theirs)


def test_two_processes_as_one_instance_are_told(kafka: Kafka, stack: ExitStack) -> None:
    """Of two readers with the same ?instance= the older one is told so when it acknowledges."""
    source = KafkaSource(kafka, stack)
    older = source.open(QUICK, options="&instance=a")
    partition = start_all(older)[0]
    newer = source.open(QUICK, options="&instance=a")
    until(lambda: newer.poll(0.1) is None and len(newer.assigned()) == 3, "the newer one to be assigned")
    with pytest.raises(StreamUnavailable, match="instance=a; give each its own"):
        older.acknowledge(partition, 0)


def test_a_broker_that_restarts(
    start_kafka: Callable[[], Kafka], stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the broker is away poll returns None and burns no processor; afterwards reading goes on where it was."""
    monkeypatch.setattr(kafka_stream, "COMMIT_SECONDS", 1.0)
    kafka = start_kafka()
    source = KafkaSource(kafka, stack)
    source.publish(0, [b"%d" % n for n in range(10)])
    stream = source.open(BatchLimits(records=5, seconds=0.02))
    partition = start_all(stream)[0]
    first = next_batch(stream)
    stream.acknowledge(partition, first.next_offset)
    kafka.kill()
    second = next_batch(stream)  # was fetched already
    with pytest.raises(StreamUnavailable, match="committing"):
        stream.acknowledge(partition, second.next_offset)
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < 3:
        polled = time.monotonic()
        assert stream.poll(0.5) is None
        assert time.monotonic() - polled < 2
    stream.rest(0.5)
    assert time.process_time() - used < 1.5
    kafka.start()
    source.publish(0, [b"%d" % n for n in range(10, 15)])
    assert [record.offset for record in read(stream, 5)] == list(range(10, 15))
    until(lambda: stream.poll(0.1) is None and stream.committed(partition) == 10, "the commit that failed")


def test_a_broker_that_hangs(start_kafka: Callable[[], Kafka], stack: ExitStack) -> None:
    """While the broker takes connections and answers nothing, poll keeps to its time; afterwards reading goes on."""
    kafka = start_kafka()
    source = KafkaSource(kafka, stack)
    stream = source.open(QUICK)
    partition = start_all(stream)[0]
    source.publish(0, [b"1"])
    stream.acknowledge(partition, next_batch(stream).next_offset)
    kafka.pause()
    try:
        for _ in range(4):
            began = time.monotonic()
            assert stream.poll(0.5) is None
            assert time.monotonic() - began < 2
    finally:
        kafka.resume()
    source.publish(0, [b"2"])
    assert [record.value for record in read(stream, 1)] == [b"2"]
    stream.acknowledge(partition, 2)
    assert stream.committed(partition) == 2


def test_no_broker_is_said_with_the_likely_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing answers, opening fails in bounded time and names the servers and what to look at."""
    monkeypatch.setattr(kafka_connecting, "CONNECT_SECONDS", 2.0)
    (port,) = free_ports(1)
    began = time.monotonic()
    with pytest.raises(StreamUnavailable, match=f"127.0.0.1:{port}.*security=PLAINTEXT.*is it running.*ECONNREFUSED"):
        open_stream(f"kafka://127.0.0.1:{port}")
    assert time.monotonic() - began < 10
    assert kafka_connecting.CONNECT_SECONDS < 15


def test_wrong_security_and_wrong_password_are_said(
    start_kafka: Callable[..., Kafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login at a port without one, and a wrong password, fail with the setting named and the password kept."""
    monkeypatch.setattr(kafka_connecting, "CONNECT_SECONDS", 4.0)
    kafka = start_kafka(users={"audit": "right"})
    login = "security=SASL_PLAINTEXT&sasl_mechanism=SCRAM-SHA-256&username=audit&password="
    with pytest.raises(StreamUnavailable, match="security=SASL_PLAINTEXT"):
        open_stream(f"{kafka.url}?{login}right")
    with pytest.raises(StreamUnavailable, match=r"(?i)authentication") as caught:
        open_stream(f"kafka://{kafka.sasl_bootstrap}?{login}wrong-secret")
    assert "wrong-secret" not in str(caught.value)
    monkeypatch.undo()
    create_topic(f"kafka://{kafka.sasl_bootstrap}?{login}right")
    open_stream(f"kafka://{kafka.sasl_bootstrap}?{login}right").close()


def test_a_missing_topic_is_named_and_can_be_created(kafka: Kafka) -> None:
    """Opening a topic that does not exist says how to create it; creating it twice is no error."""
    url = f"{kafka.url}?topic=missing-{time.time_ns()}"
    with pytest.raises(StreamUnavailable, match=r"has no topic missing-.*usageaudit topic create"):
        open_stream(url)
    assert create_topic(url, partitions=2)
    assert not create_topic(url, partitions=2)
    stream = open_stream(url, limits=QUICK)
    until(lambda: stream.poll(0.1) is None and numbers(stream.assigned()) == [0, 1], "two partitions")
    stream.close()


def test_a_recreated_topic_is_another_stream(kafka: Kafka, stack: ExitStack) -> None:
    """When a topic is deleted and created again its partitions come anew, under another identity, without an offset."""
    source = KafkaSource(kafka, stack)
    source.publish(0, [b"%d" % n for n in range(5)])
    stream = source.open(QUICK)
    before = start_all(stream)[0]
    read(stream, 5)
    stream.acknowledge(before, 5)
    admin: Any = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    admin.delete_topics([source.topic])
    admin.close()
    kafka.create_topic(source.topic, partitions=3)

    def recreated() -> bool:
        stream.poll(0.1)
        return len(stream.assigned()) == 3

    until(recreated, "the partitions of the new topic")
    assert not stream.owns(before)
    after = start_all(stream)[0]
    assert after.stream != before.stream
    assert (stream.committed(before), stream.committed(after)) == (None, None)
    source.publish(0, [b"new"])
    found: list[bytes | None] = []

    def reads() -> bool:
        for partition in stream.assigned():  # the group may move them once more while the topic settles
            stream.start(partition, 0)
        batch = stream.poll(0.2)
        if batch is not None:
            found.extend(record.value for record in batch.records)
        return bool(found)

    until(reads, "the new topic's record")
    assert found == [b"new"]


def test_batches_grow_with_the_load(kafka: Kafka, stack: ExitStack) -> None:
    """Behind by many records, nearly all of them come in full batches, however short each poll is."""
    source = KafkaSource(kafka, stack, partitions=4)
    for number in range(4):
        source.publish(number, [bytes(100)] * 6_000)
    stream = source.open(BatchLimits(records=2_000, seconds=0.1))
    start_all(stream, 4)
    sizes: list[int] = []
    while sum(sizes) < 24_000:
        if (batch := stream.poll(0.0)) is not None:
            sizes.append(len(batch.records))
    assert sum(size for size in sizes if size == 2_000) >= 20_000


@pytest.mark.parametrize("held_back", [True, False])
def test_memory_stays_bounded(kafka: Kafka, stack: ExitStack, held_back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With much more behind than a batch may hold, a few batches are fetched ahead; without pausing it is far more."""
    if not held_back:
        monkeypatch.setattr(kafka_client.GroupConsumer, "pause", lambda *_: None)
    source = KafkaSource(kafka, stack, partitions=12)
    payload = os.urandom(10_000)
    for number in range(12):
        source.publish(number, [payload] * 400)  # 48 MB in all
    limits = BatchLimits(bytes=2_000_000, seconds=0.02)
    stream = source.open(limits)
    start_all(stream, 12)
    tracemalloc.start()
    try:
        for _ in range(12):
            next_batch(stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (peak < 6 * limits.bytes) == held_back
