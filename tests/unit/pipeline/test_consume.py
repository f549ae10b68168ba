"""The consumer's story on the embedded pair: what it does when things go wrong between two of its steps."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from tests.strategies import MINIMAL, envelope
from usageaudit.cloudevents import STRUCTURED_HEADERS
from usageaudit.embedded_log import EmbeddedLog, NewRecord
from usageaudit.errors import Fenced, OutcomeUnknown, StoreUnavailable, StreamUnavailable
from usageaudit.pipeline import consume, setback
from usageaudit.pipeline.consume import Consumer
from usageaudit.pipeline.policies import Policies
from usageaudit.stores.address import open_store
from usageaudit.stores.ledger import Ledger
from usageaudit.stores.migrate import migrate
from usageaudit.stream_url import DEFAULT_GROUP, DEFAULT_TOPIC
from usageaudit.streams.opening import open_stream
from usageaudit.streams.port import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from usageaudit.stores.port import Store
    from usageaudit.streams.port import Partition

PACK = "azure-openai-code-of-conduct"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield an embedded store; opening one takes a second, so the tests share it."""
    store = open_store(f"embedded:{tmp_path_factory.mktemp('store')}")
    migrate(store)
    yield store
    store.close()


@pytest.fixture
def store(opened: Store) -> Store:
    """Return the store with empty tables."""
    for table in ("ledger", "fence", "findings_log"):
        opened.execute(f"TRUNCATE TABLE {table}")
    return opened


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EmbeddedLog]:
    """Yield the file of an embedded stream."""
    opened = EmbeddedLog.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the waits after a failure be short."""
    monkeypatch.setattr(setback, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(setback, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(consume, "RECLAIM_SECONDS", 0.01)


@dataclass
class Faults:
    """Errors to raise, by the name of the call and the how-manieth call of it, from 1."""

    planned: dict[tuple[str, int], Exception | bool]
    calls: dict[str, int] = field(default_factory=dict)

    def at(self, call: str) -> bool:
        """Count a call; raise what is planned for it, or tell whether something else was."""
        self.calls[call] = self.calls.get(call, 0) + 1
        planned = self.planned.get((call, self.calls[call]))
        if isinstance(planned, Exception):
            raise planned
        return bool(planned)


class FaultyLedger(Ledger):
    """The ledger, with faults before and after its calls."""

    faults: Faults

    def fence(self, partition: Partition, owner: str) -> int:
        """Fail before fencing."""
        self.faults.at("fence")
        return super().fence(partition, owner)

    def record(self, *arguments: Any, **others: Any) -> None:
        """Fail before the insert, or after it as if the answer was lost."""
        self.faults.at("before record")
        super().record(*arguments, **others)
        self.faults.at("after record")

    def add_finding(self, finding: Any) -> None:
        """Fail before the finding."""
        self.faults.at("finding")
        super().add_finding(finding)


class FaultyStream:
    """The embedded stream, with faults in some of its calls."""

    def __init__(self, stream: Any, faults: Faults) -> None:
        self._stream, self._faults = stream, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def owns(self, partition: Partition) -> bool:
        """Doubt the ownership once, as a client does in the middle of a rebalance."""
        return not self._faults.at("owns") and self._stream.owns(partition)

    def assigned(self) -> Any:
        """Fail to tell what is assigned."""
        self._faults.at("assigned")
        return self._stream.assigned()

    def poll(self, seconds: float) -> Any:
        """Fail to poll."""
        self._faults.at("poll")
        return self._stream.poll(seconds)

    def acknowledge(self, partition: Partition, next_offset: int) -> None:
        """Fail to acknowledge."""
        self._faults.at("acknowledge")
        self._stream.acknowledge(partition, next_offset)


def _publish(log: EmbeddedLog, first: int, last: int) -> None:
    events = (orjson.dumps(envelope(MINIMAL, id=f"e-{number}")) for number in range(first, last))
    log.append(DEFAULT_TOPIC, [NewRecord(b"k", event, STRUCTURED_HEADERS) for event in events])


def _consume(store: Store, folder: Path, faults: Faults | None = None, records: int = 10) -> Faults:
    """Consume until caught up, with faults on the way."""
    faults = faults or Faults({})
    ledger = FaultyLedger(store)
    ledger.faults = faults
    stream: Any = FaultyStream(open_stream(f"embedded:{folder}", limits=BatchLimits(records=records)), faults)
    try:
        Consumer(stream, ledger, Policies([PACK]), "test", threading.Event()).run_until_caught_up()
    finally:
        stream.close()
    return faults


def _offsets(store: Store) -> list[int]:
    rows = store.execute("SELECT offset FROM ledger WHERE status = 'accepted' ORDER BY offset").rows
    return [offset for (offset,) in rows]


def _gaps(store: Store) -> list[tuple[str, str]]:
    rows = store.execute("SELECT splitByChar('/', group_key) AS place, severity FROM findings ORDER BY group_key").rows
    return [("-".join(place[-2:]), severity) for place, severity in rows]


@pytest.mark.parametrize(
    "planned",
    [
        {("before record", 2): StoreUnavailable("away"), ("before record", 3): StoreUnavailable("still away")},
        {("before record", 2): OutcomeUnknown("nothing was written")},
        {("after record", 2): OutcomeUnknown("it was written")},
        {("after record", 2): OutcomeUnknown("it was written"), ("fence", 2): StoreUnavailable("away")},
        {("before record", 2): Fenced("by another")},
        {("acknowledge", 1): StreamUnavailable("away"), ("after record", 2): OutcomeUnknown("it was written")},
        {("poll", 2): StreamUnavailable("away"), ("poll", 3): StreamUnavailable("still away")},
        {("assigned", 1): StreamUnavailable("away"), ("assigned", 3): StreamUnavailable("away")},
        {("fence", 1): OutcomeUnknown("who knows"), ("fence", 2): StreamUnavailable("away")},
        *({("owns", nth): True} for nth in range(1, 9)),
    ],
    ids=str,
)
def test_whatever_fails_every_record_is_there_once(
    planned: dict[tuple[str, int], Exception | bool], store: Store, log: EmbeddedLog, tmp_path: Path
) -> None:
    """A fault at any step is waited for or read back from: nothing is lost, nothing is there twice."""
    _publish(log, 0, 50)
    faults = _consume(store, tmp_path, Faults(planned))
    assert _offsets(store) == list(range(50))
    assert all(faults.calls[call] >= nth for call, nth in planned), "a fault did not come"


def test_what_was_committed_but_is_not_recorded_is_read_again(store: Store, log: EmbeddedLog, tmp_path: Path) -> None:
    """A store that was restored from yesterday is filled up from where its ledger ends."""
    _publish(log, 0, 30)
    _consume(store, tmp_path)
    store.execute("ALTER TABLE ledger DELETE WHERE offset >= 20 SETTINGS mutations_sync = 2")
    _publish(log, 30, 40)
    _consume(store, tmp_path)
    assert _offsets(store) == list(range(40))
    assert _gaps(store) == []


def test_what_the_stream_dropped_unread_is_a_finding(store: Store, log: EmbeddedLog, tmp_path: Path) -> None:
    """Records that were gone before they were read are named as a range, and the rest is recorded."""
    _publish(log, 0, 10)
    _consume(store, tmp_path)
    _publish(log, 10, 40)
    log.trim(DEFAULT_TOPIC, 0, 25)
    _consume(store, tmp_path, Faults({("finding", 1): StoreUnavailable("away")}))
    assert _offsets(store) == [*range(10), *range(25, 40)]
    assert _gaps(store) == [("10-25", "critical")]


def test_a_group_that_was_forgotten_does_not_hide_a_gap(store: Store, log: EmbeddedLog, tmp_path: Path) -> None:
    """Without a committed offset the ledger's end says what is missing."""
    _publish(log, 0, 10)
    _consume(store, tmp_path)
    _publish(log, 10, 40)
    log.trim(DEFAULT_TOPIC, 0, 25)
    _consume_as(store, tmp_path, "another-group")
    assert _offsets(store) == [*range(10), *range(25, 40)]
    assert _gaps(store) == [("10-25", "critical")]


def test_what_was_recorded_and_not_acknowledged_is_no_gap(store: Store, log: EmbeddedLog, tmp_path: Path) -> None:
    """Offsets that the ledger has are not missed, however far the commits lag behind."""
    _publish(log, 0, 40)
    _consume(store, tmp_path)
    log.commit(DEFAULT_GROUP, DEFAULT_TOPIC, 0, 10)
    log.trim(DEFAULT_TOPIC, 0, 30)
    _consume(store, tmp_path)
    assert _offsets(store) == list(range(40))
    assert _gaps(store) == []


def test_what_was_acknowledged_and_is_nowhere_is_told_apart(store: Store, log: EmbeddedLog, tmp_path: Path) -> None:
    """Offsets that were acknowledged and are neither recorded nor in the stream are a finding, but no sure loss."""
    _publish(log, 0, 40)
    _consume(store, tmp_path)
    store.execute("ALTER TABLE ledger DELETE WHERE offset >= 20 SETTINGS mutations_sync = 2")
    log.trim(DEFAULT_TOPIC, 0, 30)
    _consume(store, tmp_path)
    assert _offsets(store) == [*range(20), *range(30, 40)]
    assert _gaps(store) == [("20-30", "medium")]


def test_catching_up_ends_where_nothing_is_assigned(
    store: Store, log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer whose group gives it no partition does not wait for ever."""
    monkeypatch.setattr(consume, "UNASSIGNED_SECONDS", 0.5)
    _publish(log, 0, 10)
    stream: Any = FaultyStream(open_stream(f"embedded:{tmp_path}"), Faults({}))
    stream.assigned = list
    counts = Consumer(stream, Ledger(store), Policies([PACK]), "test", threading.Event()).run_until_caught_up()
    stream.close()
    assert counts.consumed == 0


def test_the_log_says_now_and_then_what_was_done(
    store: Store, log: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Summaries add up to what was recorded, and say what is left."""
    monkeypatch.setattr(consume, "SUMMARY_SECONDS", 0.0)
    _publish(log, 0, 25)
    log.append(DEFAULT_TOPIC, [NewRecord(None, b"no event", STRUCTURED_HEADERS)])
    with capture_logs() as lines:
        _consume(store, tmp_path, records=10)
    said = [line for line in lines if line["event"] == "summary"]
    assert [sum(line[name] for line in said) for name in ("accepted", "duplicates", "rejected")] == [25, 0, 1]
    assert sum(line["batches"] for line in said) == 3
    assert {line["lag"] for line in said} >= {16, 6, 0}
    assert all(line["partitions"] == 1 for line in said)
    assert {line["log_level"] for line in said} == {"info"}


def _consume_as(store: Store, folder: Path, group: str) -> None:
    stream = open_stream(f"embedded:{folder}", group=group)
    Consumer(stream, Ledger(store), Policies([PACK]), "test", threading.Event()).run_until_caught_up()
    stream.close()


def test_lag_is_known_of_a_partition_that_can_not_be_taken_over(store: Store, log: EmbeddedLog, tmp_path: Path) -> None:
    """While the store is away the lag is counted from where the partition was left, at the start from the commit."""
    _publish(log, 0, 10)
    _consume(store, tmp_path)
    _publish(log, 10, 25)
    stream = open_stream(f"embedded:{tmp_path}")
    ledger = FaultyLedger(store)
    ledger.faults = Faults({("fence", 1): StoreUnavailable("away")})
    consumer = Consumer(stream, ledger, Policies([PACK]), "test", threading.Event())
    consumer.step()
    assert [(one.reached, one.lag) for one in consumer.activity.positions] == [(10, 15)]
    assert (consumer.activity.owned, consumer.activity.waiting) == (0, 1)
    consumer.run_until_caught_up()
    assert [(one.reached, one.lag) for one in consumer.activity.positions] == [(25, 0)]
    assert (consumer.activity.owned, consumer.activity.waiting) == (1, 0)
    assert consumer.activity.given_up["takeover_failed"] == 1
    stream.close()


@pytest.mark.parametrize("planned", [{}, {("finding", 1): StoreUnavailable("away")}], ids=["there", "away"])
def test_a_large_share_of_refused_records_is_a_finding(
    planned: dict[tuple[str, int], Exception | bool], store: Store, log: EmbeddedLog, tmp_path: Path
) -> None:
    """One finding, also where the store was away for a moment, and nothing keeps the records from being recorded."""
    log.append(DEFAULT_TOPIC, [NewRecord(None, b"no event", STRUCTURED_HEADERS)] * 300)
    _consume(store, tmp_path, Faults(planned), records=150)
    assert store.execute("SELECT count() FROM ledger WHERE status = 'rejected'").rows == [(300,)]
    assert store.execute("SELECT kind, count() FROM findings_log GROUP BY kind").rows == [("rejected_share", 1)]
