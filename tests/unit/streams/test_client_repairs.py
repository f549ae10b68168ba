"""The repairs of kafka-python reach into the inner parts of the version that they were written for, and of no other."""

from types import SimpleNamespace

import pytest

from usageaudit.streams import fetching
from usageaudit.streams.client_repairs import make_good


@pytest.mark.parametrize(("version", "left"), [(fetching.WRITTEN_FOR, None), ("another", [])])
def test_another_version_is_left_alone(version: str, left: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of another version keeps what a part of the same name holds there."""
    monkeypatch.setattr(fetching, "WRITTEN_FOR", version)
    fetcher = SimpleNamespace(_next_partition_records=[])
    make_good(SimpleNamespace(_fetcher=fetcher))
    assert fetcher._next_partition_records == left
