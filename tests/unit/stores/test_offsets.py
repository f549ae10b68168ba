"""Offsets kept as ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usageaudit.stores.offsets import Offsets

offsets = st.sets(st.integers(0, 60))


def _ranges(numbers: set[int]) -> list[tuple[int, int]]:
    firsts = sorted(number for number in numbers if number - 1 not in numbers)
    lasts = sorted(number for number in numbers if number + 1 not in numbers)
    return list(zip(firsts, lasts, strict=True))


@given(numbers=offsets, data=st.data())
def test_ranges_behave_as_the_set_of_their_offsets(numbers: set[int], data: st.DataObject) -> None:
    """Membership, size, truth and the highest offset are those of the plain set; the order given does not matter."""
    ranges = data.draw(st.permutations(_ranges(numbers)))
    held = Offsets(ranges)
    assert {number for number in range(-1, 62) if number in held} == numbers
    assert (len(held), bool(held)) == (len(numbers), bool(numbers))
    assert held.ranges == tuple(_ranges(numbers))
    if numbers:
        assert held.last == max(numbers)


def test_no_offsets_have_no_last_one() -> None:
    """Asking for the highest of no offsets raises IndexError."""
    with pytest.raises(IndexError):
        _ = Offsets().last
