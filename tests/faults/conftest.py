"""A broker whose groups notice a silent member after a second and a half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import running
from tests.servers.kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def quick_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Yield a broker that allows short session time-outs."""
    # It is never killed, so its own controller may be patient with it when the machine has much to do.
    properties = {"group.min.session.timeout.ms": "500", "broker.session.timeout.ms": "60000"}
    with running(Kafka(tmp_path_factory.mktemp("quick-kafka"), properties)) as server:
        yield server
