"""The ledger's protocol over each engine: epochs, reading back, batches, and what is kept beside them."""

from __future__ import annotations

import re
import threading
import uuid
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ledger_blocks import START_US, key, ledger_block
from tests.ledger_rows import EMBEDDED, SERVER, migrated_store
from usageaudit.errors import Fenced
from usageaudit.policy import Approval
from usageaudit.policy.approvals import Recorded
from usageaudit.stores.ledger import Ledger
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usageaudit.stores.port import Parameters, Rows, Store

BUNDLE_HASH = "b" * 64
ROWS, GRANULE = 50_000, 8192
PROPERTY = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=[EMBEDDED, SERVER])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with the ledger's tables, shared by the tests: use partitions of your own."""
    with migrated_store(request, tmp_path_factory) as opened:
        yield opened


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """Return the ledger of the store."""
    return Ledger(store)


@pytest.fixture
def partition() -> Partition:
    """Return a partition of a stream that nobody else has."""
    return _partition()


def _partition(number: int = 1) -> Partition:
    return Partition(uuid.uuid4().hex, "usage-events", number)


@dataclass(frozen=True)
class Bundle:
    """A bundle to keep, with any bytes as its archive."""

    data: bytes = b"{}"
    hash: str = BUNDLE_HASH
    name: str = "code-of-conduct"
    commit: str | None = None

    def archive(self) -> bytes:
        """Return the bytes."""
        return self.data


def test_each_takeover_raises_the_epoch_of_its_partition_alone(ledger: Ledger, partition: Partition) -> None:
    """Epochs of a partition go up one by one from 1; other partitions, topics and streams have their own."""
    assert [ledger.fence(partition, "owner") for _ in range(3)] == [1, 2, 3]
    others = [
        Partition(partition.stream, partition.topic, 11),
        Partition(partition.stream, f"{partition.topic}'/1", 1),
        Partition(f"{partition.stream}\\", partition.topic, 1),
    ]
    assert [ledger.fence(other, "owner") for other in others] == [1, 1, 1]


def test_owners_that_take_over_at_once_get_different_epochs(store: Store, partition: Partition) -> None:
    """Of several that raise the epoch at the same moment no two hold the same one, even under the same name."""
    epochs: list[int] = []
    everybody = threading.Barrier(4)

    def take_over(own: Store) -> None:
        for _ in range(5):
            everybody.wait(60)
            epochs.append(Ledger(own).fence(partition, "same name"))
        own.close()

    owners = [threading.Thread(target=take_over, args=[store.another()]) for _ in range(4)]
    for owner in owners:
        owner.start()
    for owner in owners:
        owner.join(120)
    assert len(epochs) == 20
    assert len(set(epochs)) == 20


def test_a_batch_of_an_earlier_epoch_is_refused(ledger: Ledger, partition: Partition) -> None:
    """After a takeover the former owner's batch raises Fenced and writes nothing; the new owner's is written."""
    old = ledger.fence(partition, "old")
    ledger.record(ledger_block(range(5)), partition, old, 1, bundle=BUNDLE_HASH)
    new = ledger.fence(partition, "new")
    with pytest.raises(Fenced):
        ledger.record(ledger_block(range(5, 10)), partition, old, 2, bundle=BUNDLE_HASH)
    assert ledger.end(partition) == 5
    ledger.record(ledger_block(range(5, 10)), partition, new, 1, bundle=BUNDLE_HASH)
    assert ledger.end(partition) == 10


def test_an_epoch_that_was_never_taken_is_refused(ledger: Ledger, partition: Partition) -> None:
    """A batch of an epoch that the store does not know, as after a restore from a backup, raises Fenced."""
    for epoch in (1, 7):
        with pytest.raises(Fenced):
            ledger.record(ledger_block([1]), partition, epoch, 1, bundle=BUNDLE_HASH)
    assert ledger.end(partition) is None


def test_a_batch_says_where_it_comes_from(store: Store, ledger: Ledger, partition: Partition) -> None:
    """Every row of a batch has its partition, epoch, number and bundle, and all have one time."""
    epoch = ledger.fence(partition, "owner")
    ledger.record(ledger_block(range(3)), partition, epoch, 7, bundle=BUNDLE_HASH)
    sql = (
        "SELECT topic, partition, epoch, batch, bundle, count(), uniqExact(ingest_time), abs(dateDiff('second', "
        "max(ingest_time), now('UTC'))) < 60 FROM ledger WHERE stream = {s:String} GROUP BY ALL"
    )
    expected = (partition.topic, partition.number, epoch, 7, BUNDLE_HASH, 3, 1, 1)
    assert store.execute(sql, {"s": partition.stream}).rows == [expected]


@given(batches=st.lists(st.sets(st.integers(0, 40)), max_size=4), start=st.integers(0, 45))
@PROPERTY
def test_reading_back_gives_the_offsets_that_are_there(ledger: Ledger, batches: list[set[int]], start: int) -> None:
    """Whatever offsets were recorded, those from the start on are read back, and the end is right."""
    partition = _partition()
    epoch = ledger.fence(partition, "owner")
    recorded: set[int] = set()
    for number, batch in enumerate(batches):
        if batch:
            ledger.record(ledger_block(sorted(batch)), partition, epoch, number, bundle=BUNDLE_HASH)
            recorded |= batch
    present = ledger.present(partition, start)
    assert {offset for offset in range(50) if offset in present} == {offset for offset in recorded if offset >= start}
    assert len(present) == sum(offset >= start for offset in recorded)
    assert ledger.end(partition) == (max(recorded) + 1 if recorded else None)


@given(offsets=st.sets(st.integers(0, 40), max_size=5), near=st.integers(-2, 45))
@PROPERTY
def test_the_end_is_the_same_from_wherever_it_is_looked_for(ledger: Ledger, offsets: set[int], near: int) -> None:
    """Whatever offset the end is supposed to be near, before, at or behind it, the answer is that of a whole look."""
    partition = _partition()
    epoch = ledger.fence(partition, "owner")
    if offsets:
        ledger.record(ledger_block(sorted(offsets)), partition, epoch, 1, bundle=BUNDLE_HASH)
    assert ledger.end(partition, near) == ledger.end(partition) == (max(offsets) + 1 if offsets else None)


class Listening:
    """A store that notes what it is asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[tuple[str, Parameters | None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def execute(self, sql: str, parameters: Parameters | None = None, *, query_id: str | None = None) -> Rows:
        """Note the statement and run it."""
        self.asked.append((sql, parameters))
        return self._store.execute(sql, parameters, query_id=query_id)


def _granules_read(store: Store, partition: Partition, near: int | None) -> int:
    """Return how many granules of rows the statements that look for the end read, by their plans."""
    listening = Listening(store)
    assert Ledger(cast("Store", listening)).end(partition, near) == ROWS
    read = 0
    for sql, values in listening.asked:
        plan = "\n".join(str(line) for (line,) in store.execute(f"EXPLAIN indexes = 1 {sql}", values).rows)
        # Each index narrows what the one before has left.
        read += int(re.findall(r"Granules: (\d+)/\d+", plan)[-1])
    return read


def test_the_end_near_an_offset_is_found_by_the_index(store: Store, ledger: Ledger, partition: Partition) -> None:
    """Where an offset near the end is known, what lies before is passed over. Control: without it all is read."""
    epoch = ledger.fence(partition, "owner")
    ledger.record(ledger_block(range(ROWS)), partition, epoch, 1, bundle=BUNDLE_HASH)
    assert _granules_read(store, partition, None) >= ROWS // GRANULE
    assert _granules_read(store, partition, ROWS - 1) < ROWS // GRANULE


def test_high_offsets_are_read_back(ledger: Ledger, partition: Partition) -> None:
    """Offsets of a stream that has run for long are exact."""
    epoch = ledger.fence(partition, "owner")
    high = 2**62
    ledger.record(ledger_block([high, high + 1, high + 3], event_time=0), partition, epoch, 1, bundle=BUNDLE_HASH)
    assert ledger.present(partition, high + 1).ranges == ((high + 1, high + 1), (high + 3, high + 3))
    assert ledger.end(partition) == high + 4


def test_accepted_events_are_found_wherever_they_are(store: Store, ledger: Ledger) -> None:
    """An event is known by time, source and id, in any partition; a rejected row or a duplicate does not count."""
    source = f"//svc/{uuid.uuid4().hex}"
    first, second = _partition(), _partition()
    for partition, status, offsets in ((first, "accepted", range(10)), (second, "duplicate", range(10, 20))):
        epoch = ledger.fence(partition, "owner")
        block = ledger_block(offsets, status, event_source=source)
        ledger.record(block, partition, epoch, 1, bundle=BUNDLE_HASH)
    keys = {(key(number)[0], source, key(number)[2]) for number in range(30)}
    others = {(time + 1, source, name) for time, _, name in keys} | {(time, "other", name) for time, _, name in keys}
    assert ledger.accepted(keys | others) == {found for found in keys if found[0] < START_US + 10 * 1_000_000}
    assert ledger.accepted(set()) == set()


@given(texts=st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.text("a'\\\0é")), max_size=5))
@PROPERTY
def test_ids_may_hold_any_characters(ledger: Ledger, texts: list[tuple[str, str]]) -> None:
    """Sources and ids with quotes, NUL or any Unicode are looked up as they are."""
    partition = _partition()
    epoch = ledger.fence(partition, "owner")
    stamp = uuid.uuid4().int % 10**15
    keys = {(stamp, source, event_id) for source, event_id in texts}
    for number, (time, source, event_id) in enumerate(keys):
        block = ledger_block([number], event_time=time, event_source=source, event_id=event_id)
        ledger.record(block, partition, epoch, number, bundle=BUNDLE_HASH)
    assert ledger.accepted(keys | {(stamp, "nobody's", "x")}) == keys


def test_rejected_bytes_are_kept_and_read_once(store: Store, ledger: Ledger, partition: Partition) -> None:
    """Payloads of any bytes are kept by offset; keeping them again, as a retry does, does not double them."""
    payloads = [
        (3, b"\xff\x00'\\", ["ce_id", "ce_id", "n\ufffd'"], [b"\xff\x00", b"", b"2"]),
        (5, b"", [], []),
        (9, b"{" * 100_000, ["x"], [b"y" * 100_000]),
    ]
    for _ in range(2):
        ledger.keep_rejected(partition, payloads)
    sql = (
        "SELECT offset, hex(payload), header_names, arrayMap(value -> hex(value), header_values)"
        " FROM rejected_payloads FINAL WHERE stream = {s:String} ORDER BY offset"
    )
    rows = store.execute(sql, {"s": partition.stream}).rows
    assert [
        (offset, bytes.fromhex(data), list(names), [bytes.fromhex(value) for value in values])
        for offset, data, names, values in rows
    ] == payloads


@pytest.mark.parametrize("archive", [b"", b'{"a": "\xc3\xa9\\n\\u0000"}', bytes(range(256)) * 1000])
def test_a_bundle_is_kept_once_and_given_back_as_it_was(store: Store, ledger: Ledger, archive: bytes) -> None:
    """The archive of a bundle is read back byte for byte; keeping it again changes nothing."""
    name = uuid.uuid4().hex
    for who in ("first", "second"):
        ledger.keep_bundle(Bundle(archive, hash=name), loaded_by=who)
    assert ledger.bundle_archive(name) == archive
    kept = store.execute("SELECT loaded_by, git_commit FROM bundles_log WHERE hash = {h:String}", {"h": name}).rows
    assert kept == [("first", "")]


def test_a_bundle_that_was_never_kept_has_no_archive(ledger: Ledger) -> None:
    """Asking for the archive of an unknown bundle gives None."""
    assert ledger.bundle_archive("unknown") is None


def test_approvals_are_kept_once_with_their_bundle(store: Store, ledger: Ledger) -> None:
    """All approvals of a bundle are rows with any text in them; keeping them again changes nothing."""
    name, why = uuid.uuid4().hex, 'it\'s \\ "so"\n\té\N{GRINNING FACE}'
    first = Approval("acme/a", 1, "0" * 64, "C. Officer", why, 1_715_000_000_123_456)
    second = Approval("acme/a", 2, "f" * 64, "D. Puty", "revised", 0)
    kept = [Recorded(first, current=False), Recorded(second, current=True)]
    ledger.keep_approvals(name, [])
    for _ in range(2):
        ledger.keep_approvals(name, kept)
    sql = """SELECT policy_id, policy_version, digest, approved_by, reason, toUnixTimestamp64Micro(approved_at), current
    FROM policy_approvals WHERE bundle = {b:String} ORDER BY policy_version"""
    rows = store.execute(sql, {"b": name}).rows
    assert rows == [(*astuple(first), 0), (*astuple(second), 1)]
    assert store.execute("SELECT count() FROM policy_approvals_log WHERE bundle = {b:String}", {"b": name}).rows == [
        (2,)
    ]


def test_an_offset_gap_is_one_finding(store: Store, ledger: Ledger, partition: Partition) -> None:
    """The same gap reported twice is one finding, which names the offsets; another gap is another one."""
    for first, last in ((10, 20), (10, 20), (30, 31)):
        ledger.add_offset_gap(partition, first, last)
    sql = "SELECT kind, effect, message FROM findings_log WHERE startsWith(group_key, {s:String}) ORDER BY group_key"
    found = store.execute(sql, {"s": partition.stream}).rows
    place = f"{partition.topic}[{partition.number}]"
    assert found == [
        ("offset_gap", "notice", f"{place}: offsets 10 to 19 were dropped by the stream before they were read"),
        ("offset_gap", "notice", f"{place}: offsets 30 to 30 were dropped by the stream before they were read"),
    ]
