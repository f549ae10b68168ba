"""How long the tests of this folder are: a few seconds each in every run of all tests, minutes to hours when asked for.

USAGEAUDIT_TEST_ENDURANCE is the share of the long form that is run: 1 for all of it, 0.1 for a tenth; `make endurance`
sets it. Without it the short form is run; the soak has none. Either form ends by itself.
"""

from __future__ import annotations

import os

_GIVEN = os.environ.get("USAGEAUDIT_TEST_ENDURANCE", "")
SHARE = float(_GIVEN) if _GIVEN else 0.0
"""The share of the long form; 0 for the short one."""


def length(short: float, long: float) -> float:
    """Return how long or how much of something to do: `short`, or the share of `long`, which is never less."""
    return max(short, long * SHARE) if SHARE else short


def form() -> str:
    """Return which form is run, as figures name it."""
    return "short" if not SHARE else "long" if SHARE >= 1 else f"{SHARE:g} of long"
