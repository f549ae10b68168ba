"""Raising a partition's epoch, and the condition that refuses inserts of a lower one: on one server, and in Keeper."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from usageaudit.errors import StoreUnavailable
from usageaudit.stores.port import Replicated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usageaudit.stores.port import Parameters, Store
    from usageaudit.streams.port import Partition

TRIES = 100
_UNCHANGED = 3
"""So many refusals in a row without another owner's epoch in between: Keeper refuses for another reason."""

_OF_PARTITION = "stream = {stream:String} AND topic = {topic:String} AND partition = {partition:UInt32}"
_TAKE = f"""INSERT INTO fence (stream, topic, partition, epoch, owner, taken_at)
SELECT {{stream:String}}, {{topic:String}}, {{partition:UInt32}}, max(epoch) + 1, {{owner:String}}, now64(3, 'UTC')
FROM fence WHERE {_OF_PARTITION}"""
_OWNERS = (
    f"SELECT epoch, groupUniqArray(owner) FROM fence WHERE {_OF_PARTITION} GROUP BY epoch ORDER BY epoch DESC LIMIT 2"
)
_TAKEN_OVER = f"SELECT max(epoch) != {{epoch:UInt64}} FROM fence WHERE {_OF_PARTITION}"

_OF_KEY = "partition_key = {key:String}"
_CREATE_KEY = """INSERT INTO fence (partition_key, stream, topic, partition, epoch, owner, taken_at)
SELECT {key:String}, {stream:String}, {topic:String}, {partition:UInt32}, 1, {owner:String}, now64(3, 'UTC')"""
_RAISE_KEY = f"""ALTER TABLE fence UPDATE epoch = {{next:UInt64}}, owner = {{owner:String}}, taken_at = now64(3, 'UTC')
WHERE {_OF_KEY} AND epoch < {{next:UInt64}}"""
_OWNER_OF_KEY = f"SELECT epoch, owner FROM fence WHERE {_OF_KEY}"
_KEY_TAKEN_OVER = f"SELECT max(epoch) != {{epoch:UInt64}} FROM fence WHERE {_OF_KEY}"


class Fence(Protocol):
    """Where the epochs of partitions are; `taken_over` is true where a partition's is not `epoch` any more."""

    taken_over: str

    @abstractmethod
    def parameters(self, partition: Partition, epoch: int) -> Parameters:
        """Return the parameters of `taken_over`."""

    @abstractmethod
    def raise_epoch(self, partition: Partition, owner: str) -> int:
        """Write a higher epoch that is nobody else's and return it; `owner` is a name that nobody else has."""


class TableFence:
    """Epochs as rows of a table of one server, one row each time that a partition was taken over."""

    taken_over = _TAKEN_OVER

    def __init__(self, store: Store) -> None:
        self._store = store

    def parameters(self, partition: Partition, epoch: int) -> Parameters:
        """Return the parameters of `taken_over`."""
        return {**named(partition), "epoch": epoch}

    def raise_epoch(self, partition: Partition, owner: str) -> int:
        """Write a higher epoch, again until it is nobody else's, too: two owners may take one over at once.

        Of two that wrote the same epoch the one that looks second sees both, and goes on to the next.
        """
        for _ in range(TRIES):
            self._store.execute(_TAKE, {**named(partition), "owner": owner})
            for epoch, owners in self._store.execute(_OWNERS, named(partition)).rows:
                if list(owners) == [owner]:
                    return int(epoch)
        raise _contended(partition)


class KeeperFence:
    """Epochs in Keeper, one key a partition, whose value is replaced in one step or not at all.

    Keeper refuses to change what was changed since it was read. That, and an answer that was lost, look alike here, so
    what is there is read again after every try: the owner in it has the epoch.
    """

    taken_over = _KEY_TAKEN_OVER

    def __init__(self, store: Store) -> None:
        self._store = store

    def parameters(self, partition: Partition, epoch: int) -> Parameters:
        """Return the parameters of `taken_over`."""
        return {"key": query_prefix(partition), "epoch": epoch}

    def raise_epoch(self, partition: Partition, owner: str) -> int:
        """Write a higher epoch, again until it was written in one step, without another owner's in between."""
        key, refused = {"key": query_prefix(partition)}, ""
        before: Sequence[tuple[object, ...]] = ()
        unchanged = 0
        for _ in range(TRIES):
            found = self._store.execute(_OWNER_OF_KEY, key).rows
            if found and found[0][1] == owner:
                return int(found[0][0])
            unchanged = unchanged + 1 if refused and found == before else 0
            if unchanged == _UNCHANGED:
                raise StoreUnavailable(f"the epoch of {partition} can't be raised: {refused}")
            before = found
            try:
                if found:
                    self._store.execute(_RAISE_KEY, {**key, "owner": owner, "next": int(found[0][0]) + 1})
                else:
                    self._store.execute(_CREATE_KEY, {**key, **named(partition), "owner": owner})
            except StoreUnavailable as error:
                refused = str(error)
        raise _contended(partition, refused)


def fence_of(store: Store) -> Fence:
    """Return the fence that a store has."""
    return KeeperFence(store) if isinstance(store, Replicated) else TableFence(store)


def named(partition: Partition) -> Mapping[str, str | int]:
    """Return a partition as the values of columns."""
    return {"stream": partition.stream, "topic": partition.topic, "partition": partition.number}


def query_prefix(partition: Partition) -> str:
    """Return how the ids of a partition's inserts begin; never also how those of another partition do."""
    return f"ingest/{quote(partition.stream, safe='')}/{quote(partition.topic, safe='')}/{partition.number}/"


def _contended(partition: Partition, refused: str = "") -> StoreUnavailable:
    why = f" ({refused})" if refused else ""
    return StoreUnavailable(f"{partition} is being taken over by others all the time; give it to one consumer{why}")
