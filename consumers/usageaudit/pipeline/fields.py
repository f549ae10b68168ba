"""What a line of the log says of a partition and a batch: always the same fields, and never content."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usageaudit.streams.port import Batch, Partition

    Fields = dict[str, object]


def of_partition(partition: Partition) -> Fields:
    """Return the fields that name a partition."""
    return {"topic": partition.topic, "partition": partition.number}


def of_batch(batch: Batch) -> Fields:
    """Return the fields that name a batch: its partition, and its first and last offset where it has records."""
    found = of_partition(batch.partition)
    if batch.records:
        found |= {"first": batch.records[0].offset, "last": batch.records[-1].offset}
    return found
