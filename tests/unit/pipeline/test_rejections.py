"""A window in which too much is refused is an alarm and one finding, whoever counts and however often."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from usageaudit.pipeline.rejections import FEWEST_RECORDS, RejectionLimit, Rejections
from usageaudit.pipeline.setback import LONGEST_PAUSE, Setback
from usageaudit.streams.port import Partition

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTITION = Partition("stream-1", "usage-events", 3)
WINDOW, SHARE = 60.0, 0.25
_BATCH = st.tuples(st.integers(0, 90), st.integers(1, 150), st.integers(0, 150))
BATCHES = st.lists(_BATCH.map(lambda one: (one[0], one[1], min(one[1:]))), max_size=30)
"""Seconds since the batch before, records, and how many of them were refused."""


def _windows(batches: Sequence[tuple[int, int, int]]) -> dict[float, list[tuple[int, int]]]:
    """Return records and refused of the batches of each window, in order."""
    found: dict[float, list[tuple[int, int]]] = {}
    for at, (_, records, rejected) in zip(accumulate(b[0] for b in batches), batches, strict=True):
        found.setdefault(at // WINDOW, []).append((records, rejected))
    return found


def _is_over(batches: list[tuple[int, int]]) -> bool:
    """Tell whether a window is over the limit after any of its batches."""
    sums = zip(accumulate(b[0] for b in batches), accumulate(b[1] for b in batches), strict=True)
    return any(records >= FEWEST_RECORDS and rejected > SHARE * records for records, rejected in sums)


def _count(batches: Sequence[tuple[int, int, int]]) -> Rejections:
    rejections = Rejections(RejectionLimit(SHARE, WINDOW))
    for at, (_, records, rejected) in zip(accumulate(b[0] for b in batches), batches, strict=True):
        rejections.add(PARTITION, records, rejected, now=1_800_000_000.0 + at)
    return rejections


@settings(deadline=None)
@given(BATCHES)
def test_each_window_that_is_over_is_one_finding(batches: list[tuple[int, int, int]]) -> None:
    """There is a finding for each window that went over the limit, and the same one for whoever counted the same."""
    found = _count(batches).unreported
    assert len(found) == sum(map(_is_over, _windows(batches).values()))
    assert len({finding.finding_id for finding in found}) == len(found)
    assert [one.finding_id for one in found] == [one.finding_id for one in _count(batches).unreported]
    assert all((one.window_end - one.window_start).total_seconds() == WINDOW for one in found)


def test_an_alarm_lasts_until_a_whole_window_is_well() -> None:
    """The alarm holds for the window that raised it and the one after it, and the share is that of the present one."""
    rejections = Rejections(RejectionLimit(SHARE, WINDOW))
    assert (rejections.share(now=0), rejections.alarmed(now=0)) == (0.0, False)
    rejections.add(PARTITION, 200, 100, now=10)
    assert (rejections.share(now=59), rejections.alarmed(now=59)) == (0.5, True)
    assert (rejections.share(now=60), rejections.alarmed(now=119)) == (0.0, True)
    assert not rejections.alarmed(now=120)


def test_a_clock_that_is_set_back_ends_the_alarm() -> None:
    """The alarm of a window that has not begun by the clock of now is over, and so it does not last until then."""
    rejections = Rejections(RejectionLimit(SHARE, WINDOW))
    rejections.add(PARTITION, 200, 100, now=10_000)
    assert rejections.alarmed(now=10_000)
    assert not rejections.alarmed(now=5_000)


def test_a_few_records_are_no_alarm() -> None:
    """A share of very few records says nothing."""
    rejections = Rejections(RejectionLimit(SHARE, WINDOW))
    rejections.add(PARTITION, FEWEST_RECORDS - 1, FEWEST_RECORDS - 1, now=10)
    assert rejections.unreported == []


def test_waits_grow_to_a_limit_however_long_it_fails() -> None:
    """A server that is away for days is asked again every quarter of a minute."""
    setback = Setback()
    pauses = [setback.grow() for _ in range(3_000)]
    assert pauses[0] < 0.5
    assert all(LONGEST_PAUSE / 2 <= pause <= LONGEST_PAUSE for pause in pauses[100:])
