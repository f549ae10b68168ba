"""Alive is who gives signs of life, ready is who does its work now; each reason is said in a sentence."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from usageaudit.operating.health import Health
from usageaudit.operating.watching import Seen
from usageaudit.pipeline.activity import Activity


class Watched:
    """What a watch saw, without the thread."""

    def __init__(self, seen: Seen, *, reachable: bool = True) -> None:
        self.seen = seen
        self._reachable = reachable

    def reachable(self) -> bool:
        """Tell what was given."""
        return self._reachable


WELL = Seen(reachable=True, migrated=True)


def _health(**changes: Any) -> Health:
    activity = Activity(connected=True)
    activity.live()
    for name, value in changes.items():
        setattr(activity, name, value)
    return Health(activity, threading.Event(), hung_seconds=60)


def _reasons(health: Health, watched: Watched | None = None) -> list[str]:
    watch: Any = watched or Watched(WELL)
    return health.reasons(watch)


def test_a_service_that_does_its_work_is_ready() -> None:
    """With or without partitions of its own: waiting for the group is no defect."""
    assert _reasons(_health()) == []
    assert _reasons(_health(owned=1)) == []


@pytest.mark.parametrize(
    ("changes", "watch", "reason"),
    [
        ({"beat": None}, Watched(WELL), "starting"),
        ({}, Watched(WELL, reachable=False), "the store does not answer"),
        ({}, Watched(Seen(reachable=True)), "the store lacks migrations: run `usageaudit migrate`"),
        ({"connected": False}, Watched(WELL), "the stream does not answer"),
        ({"waiting": 2, "owned": 1}, Watched(WELL), "2 of 3 partitions are not taken over"),
        ({"beat": time.monotonic() - 10_000}, Watched(WELL), "the main loop has given no sign of life for "),
    ],
)
def test_each_reason_is_said(changes: dict[str, Any], watch: Watched, reason: str) -> None:
    """What keeps a service from its work is named."""
    [found] = _reasons(_health(**changes), watch)
    assert found.startswith(reason)


def test_who_stops_is_not_ready() -> None:
    """From the signal on, whatever else is so."""
    health = _health()
    health.stop.set()
    assert _reasons(health) == ["stopping"]


def test_a_silent_loop_hangs_and_a_starting_one_does_not() -> None:
    """Silence counts from the first sign of life on."""
    assert not _health().hung()
    assert not _health(beat=None).hung()
    assert _health(beat=time.monotonic() - 61).hung()
