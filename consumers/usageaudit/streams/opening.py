"""Opens the stream that a URL names; only what the URL needs is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usageaudit.stream_url import EmbeddedStreamAddress, parse_stream_url
from usageaudit.streams.port import BatchLimits

if TYPE_CHECKING:
    from usageaudit.streams.port import Stream


def open_stream(url: str, *, group: str | None = None, limits: BatchLimits | None = None) -> Stream:
    """Return the reading side of a stream as a member of a group, by default the one that the URL names.

    Raises ConfigurationError for a wrong URL, StreamUnavailable where the stream can't be reached, does not exist, or
    is read by another process already (embedded).
    """
    address = parse_stream_url(url)
    if isinstance(address, EmbeddedStreamAddress):
        from usageaudit.streams.embedded import EmbeddedStream

        return EmbeddedStream(address, limits or BatchLimits(), group)
    from usageaudit.streams.kafka import KafkaStream

    return KafkaStream(address, limits or BatchLimits(), group)


def create_topic(url: str, *, partitions: int = 4, replication: int = 1) -> bool:
    """Create the topic that a URL names where it does not exist; tell whether it had to.

    An embedded topic needs no creation. Raises ConfigurationError and StreamUnavailable.
    """
    address = parse_stream_url(url)
    if isinstance(address, EmbeddedStreamAddress):
        return False
    from usageaudit.streams.kafka_topics import KafkaTopics, TopicPlan

    topics = KafkaTopics(address)
    try:
        return topics.create(TopicPlan(partitions, replication))
    finally:
        topics.close()
