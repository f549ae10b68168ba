"""The publisher with a real broker: that which is away, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.leftovers import leftovers_collected
from tests.strategies import MINIMAL
from tests.topics import stored
from usageaudit.cloudevents import STRUCTURED_HEADERS, decode, partition_key
from usageaudit.embedded_log import NewRecord
from usageaudit.errors import NotAcknowledged, PublishError
from usageaudit.partitioning import partition_of
from usageaudit.publisher import Publisher, RecordPublisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.kafka import Kafka

# kafka-python leaves the sockets on which it was refused to the garbage collector, which may come at any time.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

PREAMBLE = """
import os, sys, threading, time
from usageaudit.publisher import Publisher
EVENT = {"operation": "chat", "model": {"provider": "openai", "name": "gpt-4o"}, "actor": {"id": "u"},
         "application": {"name": "claims"}}
publisher = Publisher(sys.argv[1], source="/s", max_queued=100_000)
"""


# ru_maxrss would not do: a child inherits it from the process that started it.
PEAK = """
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
"""


@pytest.fixture(autouse=True)
def _no_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let publishers here, and those of child processes, keep events in memory alone."""
    monkeypatch.setenv("USAGEAUDIT_SPOOL", "")


@pytest.fixture(autouse=True)
def _leftovers() -> Iterator[None]:
    with leftovers_collected():
        yield


def _url(kafka: Kafka, topic: str) -> str:
    return f"{kafka.url}?topic={topic}"


def _ids(records: list[Any]) -> list[str]:
    return [decode(record.value, record.headers).id for record in records]


def _is_in_order(records: list[Any]) -> bool:
    """Tell whether each partition has the numbers of each publisher in order."""
    numbers = defaultdict(list)
    for record in records:
        stamp = decode(record.value, record.headers).data.publisher
        numbers[record.partition, stamp.instance].append(stamp.sequence)
    return all(found == sorted(set(found)) for found in numbers.values())


def test_events_arrive_whole_and_in_order(kafka: Kafka, topic: str) -> None:
    """Everything emitted is in the topic once, with key, headers and partition as the format says, in order."""
    with Publisher(_url(kafka, topic), source="/s") as publisher:
        ids = [publisher.emit(MINIMAL) for _ in range(3_000)]
        assert publisher.flush(60) == 0
        assert publisher.stats.acknowledged == 3_000
    records = stored(kafka, topic)
    assert sorted(_ids(records)) == sorted(str(one) for one in ids)
    assert _is_in_order(records)
    for record in records:
        assert record.key == partition_key("/s", decode(record.value).id)
        assert list(record.headers) == STRUCTURED_HEADERS
        assert record.partition == partition_of(record.key, 4)


def test_a_durable_event_is_in_the_topic(kafka: Kafka, topic: str) -> None:
    """When a durable emit returns, the broker has the event."""
    with Publisher(_url(kafka, topic), source="/s", linger=3_600) as publisher:
        event_id = publisher.emit(MINIMAL, durable=True, timeout=30)
        assert _ids(stored(kafka, topic)) == [event_id]


def test_a_broker_that_stops_and_comes_back(start_kafka: Callable[..., Kafka]) -> None:
    """A broker that is killed and started again in mid-stream loses, doubles and reorders nothing."""
    kafka = start_kafka()
    kafka.create_topic("t", partitions=2)
    with Publisher(_url(kafka, "t"), source="/s", on_full="block", max_queued=500, timeout=60) as publisher:
        ids: list[str | None] = []
        emitting = threading.Thread(target=lambda: ids.extend(publisher.emit(MINIMAL) for _ in range(6_000)))
        emitting.start()
        for seen in (500, 2_500):
            while publisher.stats.acknowledged < seen:
                time.sleep(0.01)
            kafka.kill()
            kafka.start()
        emitting.join(120)
        assert publisher.flush(60) == 0
        assert publisher.stats.failed == publisher.stats.dropped == 0
    records = stored(kafka, "t")
    assert sorted(_ids(records)) == sorted(str(one) for one in ids)
    assert _is_in_order(records)


def test_a_broker_that_is_away_from_the_start(start_kafka: Callable[..., Kafka], caplog: Any) -> None:
    """Emits go on without a broker, a durable one says why it failed, and all arrive once when the broker is there."""
    kafka = start_kafka()
    kafka.create_topic("t")
    kafka.kill()
    publisher = Publisher(_url(kafka, "t"), source="/s")
    ids = [publisher.emit(MINIMAL) for _ in range(100)]
    with pytest.raises(NotAcknowledged, match="is it running"):
        publisher.emit(MINIMAL, id="durable", durable=True, timeout=12)
    assert any("events not sent yet, trying again" in message for message in caplog.messages)
    kafka.start()
    assert publisher.flush(60) == 0
    assert publisher.close(30) == 0
    assert _ids(stored(kafka, "t")) == [*ids, "durable"]


def test_memory_is_bounded_without_a_broker(start_kafka: Callable[..., Kafka]) -> None:
    """With the broker away, the memory of the process does not grow by more than the queue was given.

    Negative control: kafka-python's own producer, given as many records, takes far more.
    """
    kafka = start_kafka()
    kafka.create_topic("t")
    script = """
def emit_many(publisher):
    event = {**EVENT, "labels": {"padding": "x" * 500}}
    publisher.emit(event, durable=True, timeout=60)
    print("ready", flush=True)
    sys.stdin.readline()
    before = peak()
    for _ in range(60_000):
        publisher.emit(event)
    print(peak() - before, publisher.stats.dropped, flush=True)
    os._exit(0)
emit_many(Publisher(sys.argv[1], source="/s", max_queued_bytes=8_000_000))
"""
    grown, dropped = _run_without_broker(kafka, PREAMBLE + PEAK + script)
    assert dropped > 40_000
    assert grown < 20_000_000
    kafka.start()
    control = """
import os, sys
from kafka import KafkaProducer
producer = KafkaProducer(bootstrap_servers=sys.argv[1].split("//")[1].split("?")[0], linger_ms=10)
producer.send("t", b"x").get(30)
print("ready", flush=True)
sys.stdin.readline()
before = peak()
for _ in range(60_000): producer.send("t", b"x" * 900)
print(peak() - before, 0, flush=True)
os._exit(0)
"""
    assert _run_without_broker(kafka, PEAK + control)[0] > 40_000_000


def _run_without_broker(kafka: Kafka, script: str) -> list[float]:
    """Run a script, kill the broker when it says `ready`, and return the numbers that it prints then."""
    command = [sys.executable, "-c", script, _url(kafka, "t")]
    errors = subprocess.DEVNULL
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        kafka.kill()
        child.stdin.write("go\n")
        child.stdin.flush()
        return [float(number) for number in child.stdout.readline().split()]


def test_what_a_durable_emit_returned_outlives_a_kill(kafka: Kafka, topic: str) -> None:
    """Every event whose durable emit returned before kill -9 is in the topic."""
    script = "while True: print(publisher.emit(EVENT, durable=True, timeout=30), flush=True)"
    command = [sys.executable, "-c", PREAMBLE + script, _url(kafka, topic)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline().strip() for _ in range(100)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read().split("\n")[:-1]
    assert set(said) <= set(_ids(stored(kafka, topic)))


def test_a_process_that_ends_sends_what_it_has(kafka: Kafka, topic: str) -> None:
    """At the end of the process the queue is flushed before kafka-python's own second is over."""
    script = "for _ in range(4_000): publisher.emit(EVENT)"
    command = [sys.executable, "-c", PREAMBLE + script, _url(kafka, topic)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr == ""
    assert len(set(_ids(stored(kafka, topic)))) == 4_000


def test_a_fork_with_a_producer_that_is_connected(kafka: Kafka, topic: str) -> None:
    """A child of a process whose producer is connected publishes with one of its own, and disturbs the parent's not."""
    script = """
publisher.emit(EVENT, durable=True, timeout=30)
child = os.fork()
name = "parent" if child else "child"
for n in range(200): publisher.emit(EVENT, id=f"{name}-{n}")
publisher.emit(EVENT, id=f"{name}-last", durable=True, timeout=30)
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert publisher.emit(EVENT, durable=True, timeout=30)
"""
    command = [sys.executable, "-c", PREAMBLE + script, _url(kafka, topic)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = _ids(stored(kafka, topic))
    assert len(found) == len(set(found)) == 2 * 201 + 2


@pytest.mark.parametrize("place", [0, 60, 119])
def test_a_record_that_the_broker_refuses(kafka: Kafka, place: int) -> None:
    """A record that is too large for the broker is given up and named, and all of those around it arrive."""
    name = f"small-{place}-{time.time_ns()}"
    kafka.create_topic(name, configs={"max.message.bytes": "20000"})
    values = [os.urandom(50_000 if n == place else 500) for n in range(120)]
    told: list[PublishError | None] = []
    with RecordPublisher(_url(kafka, name)) as records:
        for value in values:
            records.put(NewRecord(b"k", value, STRUCTURED_HEADERS), told.append)
        assert records.flush(60) == 0
        assert (records.counts.acknowledged, records.counts.failed) == (119, 1)
    assert [one for one in map(str, filter(None, told)) if "MessageSizeTooLarge" not in one] == []
    assert len(told) == 120
    assert sorted(one.value for one in stored(kafka, name)) == sorted(values[:place] + values[place + 1 :])


def test_a_topic_that_is_not_there_yet(kafka: Kafka) -> None:
    """Events for a topic that does not exist wait until it is created."""
    name = f"later-{time.time_ns()}"
    publisher = Publisher(_url(kafka, name), source="/s")
    with pytest.raises(NotAcknowledged, match=f"is there a topic {name}"):
        publisher.emit(MINIMAL, durable=True, timeout=8)
    kafka.create_topic(name)
    assert publisher.close(60) == 0
    assert len(stored(kafka, name)) == 1


def test_a_wrong_password(start_kafka: Callable[..., Kafka]) -> None:
    """A login that the broker refuses is named as a likely cause, and its password nowhere."""
    kafka = start_kafka(users={"audit": "right-password"})
    kafka.create_topic("t")
    login = "security=SASL_PLAINTEXT&sasl_mechanism=SCRAM-SHA-256&topic=t"
    publisher = Publisher(f"kafka://audit:wrong-password@{kafka.sasl_bootstrap}?{login}", source="/s")
    with pytest.raises(NotAcknowledged, match="login") as caught:
        publisher.emit(MINIMAL, durable=True, timeout=12)
    publisher.close(0)
    assert "wrong-password" not in str(caught.value)
    with Publisher(f"kafka://audit:right-password@{kafka.sasl_bootstrap}?{login}", source="/s") as right:
        assert right.emit(MINIMAL, durable=True, timeout=30)
