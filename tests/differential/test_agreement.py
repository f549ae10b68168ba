"""Both back ends give every condition the same value for every event.

A case is one condition on one event. `USAGEAUDIT_TEST_DIFFERENTIAL_CASES` says how many there are on each store;
`make differential` runs the long form.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.differential.batches import Batch
from tests.differential.worlds import rows_applied
from usageaudit.policy.language import OPERATORS

if TYPE_CHECKING:
    from usageaudit.stores.port import Store

CASES = int(os.environ.get("USAGEAUDIT_TEST_DIFFERENTIAL_CASES", "20000"))
EVENTS = 250
BATCHES = -(-CASES // (EVENTS * len(OPERATORS)))
"""A batch has a condition for each operator, on each of its events."""


@settings(max_examples=BATCHES, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(seed=st.integers(0, 2**32))
def test_back_ends_agree(store: Store, seed: int) -> None:
    """Whatever the conditions and the events, Python, the stream's judge and SQL say the same: true, false or unknown.

    Every operator of the language is applied, and each of the three comes out for many cases.
    """
    batch = Batch.of(seed, store, EVENTS)
    conditions = batch.draw()
    assert rows_applied(conditions) == set(OPERATORS)
    answers = batch.check()
    for at in range(seed % 10, len(conditions), 10):
        batch.check_filter(conditions[at], answers[at])
    found = Counter(truth for truths in answers for truth in truths)
    assert min(found[truth] for truth in (True, False, None)) > sum(found.values()) // 20
