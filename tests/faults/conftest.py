"""A broker whose groups notice a silent member after a second and a half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import running
from tests.servers.kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def quick_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Yield a broker that allows short session time-outs."""
    with running(Kafka(tmp_path_factory.mktemp("quick-kafka"), {"group.min.session.timeout.ms": "500"})) as server:
        yield server
