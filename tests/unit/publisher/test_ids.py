from __future__ import annotations

import itertools
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from usageaudit.publisher.ids import EventIds

if TYPE_CHECKING:
    import pytest


def test_an_id_is_a_uuid_of_version_7() -> None:
    """Version, variant and the milliseconds of RFC 9562 are in their places, and the text is the usual one."""
    before = time.time_ns() // 1_000_000
    text = EventIds().next()
    after = time.time_ns() // 1_000_000
    made = uuid.UUID(text)
    assert (str(made), made.version, made.variant) == (text, 7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_ids_grow() -> None:
    """Each id is greater than the one before, as text and as a number."""
    ids = EventIds()
    made = [ids.next() for _ in range(20_000)]
    assert all(one < other for one, other in itertools.pairwise(made))


def test_threads_share_ids() -> None:
    """Ids that threads draw at once are all different, and grow within each thread."""
    ids = EventIds()
    start = threading.Barrier(4)

    def draw(_: int) -> list[str]:
        start.wait()
        return [ids.next() for _ in range(5_000)]

    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, range(4)))
    assert len({one for many in drawn for one in many}) == 20_000
    assert all(many == sorted(many) for many in drawn)


def test_ids_grow_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back, or stands still, does not make an id smaller or repeat it."""
    now = 1_700_000_000_000
    ticks = iter([now, now, now - 5_000, now - 4_000, now + 1])
    monkeypatch.setattr("usageaudit.publisher.ids.time.time_ns", lambda: next(ticks) * 1_000_000)
    ids = EventIds()
    made = [ids.next() for _ in range(5)]
    assert made == sorted(set(made))


def test_a_full_counter_borrows_from_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a millisecond has no number left, the next millisecond's are used."""
    monkeypatch.setattr("usageaudit.publisher.ids.time.time_ns", lambda: 1_700_000_000_000_000_000)
    monkeypatch.setattr("usageaudit.publisher.ids._COUNTER_MASK", 3)
    ids = EventIds()
    made = [ids.next() for _ in range(12)]
    assert made == sorted(set(made))
    assert uuid.UUID(made[-1]).int >> 80 > 1_700_000_000_000
