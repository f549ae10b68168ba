"""What the tests of the publisher share: an embedded stream, and one that is away until it is let back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from usageaudit.cloudevents import DecodedEvent, decode
from usageaudit.dropped import read_dropped
from usageaudit.embedded_log import EmbeddedLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Published = list[DecodedEvent]


class AwayStream:
    """An embedded stream that can't be opened, since a file lies where its folder should be, until `come_back`."""

    def __init__(self, folder: Path) -> None:
        self._obstacle = folder / "mount"
        self._obstacle.touch()
        self.folder = self._obstacle / "data"
        self.url = f"embedded:{self.folder}"

    def come_back(self) -> None:
        """Take the obstacle away."""
        self._obstacle.unlink()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a new embedded stream."""
    return f"embedded:{tmp_path / 'data'}"


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., Published]:
    """Return a function that reads the events that were published, decoded as the consumer does."""

    def read(folder: Path = tmp_path / "data") -> Published:
        log = EmbeddedLog.open(folder)
        records = log.read("usage-events", 0, 0, 1_000_000, 1 << 40)
        log.close()
        return [decode(record.value, record.headers) for record in records if read_dropped(record.value) is None]

    return read


@pytest.fixture
def away(tmp_path: Path) -> AwayStream:
    """Return a stream that is away."""
    return AwayStream(tmp_path)
