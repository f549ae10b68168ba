"""The consumer as a service: opens stream and store by their URLs, consumes, and stops cleanly when told to."""

from __future__ import annotations

import gc
import os
import signal
import socket
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usageaudit.pipeline.activity import Activity
from usageaudit.pipeline.consume import Consumer
from usageaudit.pipeline.rejections import RejectionLimit, Rejections
from usageaudit.stores.ledger import Ledger
from usageaudit.streams.opening import open_stream
from usageaudit.streams.port import BatchLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from usageaudit.pipeline.activity import Counts
    from usageaudit.pipeline.policies import Policies
    from usageaudit.stores.port import Store


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """Where and how a consumer reads; without a group, as a member of the one that the URL names."""

    stream_url: str
    group: str | None = None
    limits: BatchLimits = field(default_factory=BatchLimits)
    until_caught_up: bool = False
    rejections: RejectionLimit = field(default_factory=RejectionLimit)


def run_consumer(
    config: ConsumerConfig, store: Store, policies: Policies, stop: Event, activity: Activity | None = None
) -> Counts:
    """Consume until `stop` is set, or until caught up where the configuration says so.

    What it does can be watched in `activity`. The store's tables have to be up to date. Raises StreamUnavailable and
    StoreUnavailable where a server can't be reached at the start; later on the consumer waits for them.
    """
    stream = open_stream(config.stream_url, group=config.group, limits=config.limits)
    try:
        owner = f"{socket.gethostname()}/{os.getpid()}"
        rejections = Rejections(config.rejections)
        consumer = Consumer(stream, Ledger(store), policies, owner, stop, activity or Activity(), rejections)
        with collecting_between_batches():
            return consumer.run_until_caught_up() if config.until_caught_up else consumer.run()
    finally:
        stream.close()


@contextmanager
def collecting_between_batches() -> Iterator[None]:
    """Keep the garbage collector out of the hot path; the consumer collects between batches.

    Scanning the tens of thousands of objects of a batch again and again costs more than judging them.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def stopping_on_signals(stop: Event, reload: Callable[[], object]) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT and call `reload` on SIGHUP, while the block runs; main thread only."""
    handlers = {
        signal.SIGTERM: lambda *_: stop.set(),
        signal.SIGINT: lambda *_: stop.set(),
        signal.SIGHUP: lambda *_: reload(),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
