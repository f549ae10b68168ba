"""What a service publishes usage events with.

`client` is the publisher of events and stands on `records`, which queues finished records and ships them; `encoder`
makes the one of the other. `kafka` and `embedded` are the two adapters of `port`, the writing side of the stream.
"""

from usageaudit.publisher.client import Publisher
from usageaudit.publisher.protocol import EventPublisher, PublisherStats
from usageaudit.publisher.records import RecordPublisher

__all__ = ["EventPublisher", "Publisher", "PublisherStats", "RecordPublisher"]
